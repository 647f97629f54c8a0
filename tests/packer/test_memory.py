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

file, root, out = sys.argv[1:]
report = pack(AudioList(file), out, split="train", media_root=root, shard_size=2_000_000)
with open("/proc/self/status") as status:
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
print(report.packed, report.shards, peak)
"""

MEL = (16, 80)
"""A quarter of a second; 5 kB."""


def peak_bytes(folder: Path, count: int) -> int:
    """Pack this many sounds in a process of its own; return the most memory that it had."""
    annotation = folder / f"{count}.txt"
    annotation.write_text("".join(f"{n:05d}.npy 10 {n % 7}\n" for n in range(count)))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, annotation, folder / "mel", folder / f"out{count}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    packed, shards, peak_kb = map(int, done.stdout.split())
    assert packed == count
    # More than one shard each, so that what a shard takes does not count.
    assert shards >= 3
    return peak_kb * 1024


def test_packing_six_times_the_sounds_takes_memory_for_their_records_only(tmp_path: Path) -> None:
    (tmp_path / "mel").mkdir()
    stream = io.BytesIO()
    np.save(stream, np.zeros(MEL, np.float32))
    data = stream.getvalue()
    for number in range(6000):
        (tmp_path / "mel" / f"{number:05d}.npy").write_bytes(data)
    few, many = peak_bytes(tmp_path, 1000), peak_bytes(tmp_path, 6000)
    # One of these sounds has 5,248 bytes.
    assert (many - few) / 5000 < 1500
