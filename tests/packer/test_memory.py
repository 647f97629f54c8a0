"""What packing takes of memory grows by the records alone, not by what is packed."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np

# Prints the samples packed and the peak of the process in kB. That is the kernel's VmHWM: what
# getrusage tells of a process may be its parent's, from before it was one of its own.
CHILD = """
import sys

from clipshards.packer import AudioList, pack

file, root, out, size = sys.argv[1:]
report = pack(AudioList(file), out, split="train", media_root=root, shard_size=int(size))
with open("/proc/self/status") as status:
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
print(report.packed, report.shards, peak)
"""

MEL = (16, 80)
"""A quarter of a second; 5 kB."""


def peak_bytes(folder: Path, count: int, *, shard_size: int = 2_000_000) -> tuple[int, int]:
    """Pack this many sounds in a process; return the most memory that it had, and the shards."""
    annotation = folder / f"{count}.txt"
    annotation.write_text("".join(f"{n:05d}.npy 10 {n % 7}\n" for n in range(count)))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CHILD,
            annotation,
            folder / "mel",
            folder / f"out{count}-{shard_size}",
            str(shard_size),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    packed, shards, peak_kb = map(int, done.stdout.split())
    assert packed == count
    return peak_kb * 1024, shards


def write_sounds(folder: Path, count: int, shape: tuple[int, int]) -> None:
    folder.mkdir()
    stream = io.BytesIO()
    np.save(stream, np.zeros(shape, np.float32))
    for number in range(count):
        (folder / f"{number:05d}.npy").write_bytes(stream.getvalue())


def test_packing_six_times_the_sounds_takes_memory_for_their_records_only(tmp_path: Path) -> None:
    write_sounds(tmp_path / "mel", 6000, MEL)
    few, shards = peak_bytes(tmp_path, 1000)
    many, _ = peak_bytes(tmp_path, 6000)
    # More than one shard each, so that what a shard takes does not count.
    assert shards >= 3
    # One of these sounds has 5,248 bytes.
    assert (many - few) / 5000 < 1500


def test_a_large_shard_takes_no_more_memory_than_small_ones(tmp_path: Path) -> None:
    write_sounds(tmp_path / "mel", 100, (4000, 80))
    small, many = peak_bytes(tmp_path, 100, shard_size=2_000_000)
    large, one = peak_bytes(tmp_path, 100, shard_size=1_000_000_000)
    assert (many > 30, one) == (True, 1)
    # The shard has 128 MB, each sound 1.3.
    assert abs(large - small) < 10_000_000
