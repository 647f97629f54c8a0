"""Little shared memory: said before it is full, and with what to do about it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pack_inputs import skeletons

from clipshards.packer import pack
from clipshards.packer.format.errors import WorkerError
from clipshards.readers.shared_memory import check_room, tensor_bytes

# Reads an epoch in a machine with 1 MB of shared memory; says how it ended.
PROGRAM = """
import json, os, signal, sys
import numpy as np
from clipshards.packer.format.errors import WorkerError
from clipshards.readers import ShardDataset, makers, open_dataset

location, guard, what, way, batch_size = sys.argv[1:]
signal.alarm(60)
room = os.statvfs("/dev/shm")
assert room.f_blocks * room.f_frsize == 2**20
if guard == "off":
    makers.check_room = lambda *args, **more: None

def transform(item):
    return item

def collate(items):
    import torch
    if what == "view":
        return {"few": torch.zeros(2**19)[: 2**15]}
    from clipshards.readers.collate import collate_items
    return collate_items(items)

def main():
    dataset = ShardDataset(
        open_dataset(location), batch_size=int(batch_size), transform=transform, collate=collate
    )
    name, count = way.split("=")
    try:
        for batch in dataset.loader(**{name: int(count)}, timeout_s=8):
            pass
        print(json.dumps(["read", ""]))
    except WorkerError as exc:
        print(json.dumps(["WorkerError", str(exc)]))

main()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 samples of 8 kB."""
    out = tmp_path_factory.mktemp("set")
    pack(skeletons(200, shape=(60, 17, 2), dtype=np.float32), out, split="train")
    return out


@pytest.fixture(scope="module")
def _own_mounts() -> None:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    try:
        allowed = not subprocess.run(command, capture_output=True, check=False).returncode
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("needs the right to mount")


def run(place: Path, *arguments: str) -> tuple[str, str]:
    """Return how the program ended, and what it said."""
    script = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    program = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(place), *arguments]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *program],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    how, said = json.loads(done.stdout)
    return how, said


@pytest.mark.deep
@pytest.mark.usefixtures("_own_mounts")
def test_without_the_guard_a_full_memory_is_not_named(place: Path) -> None:
    how, said = run(place, "off", "whole", "workers=2", "100")
    assert how == "WorkerError"
    # The one or the other, by the release of torch.
    assert "Bus error" in said or "exited unexpectedly" in said or "did not come" in said
    assert "threads=" not in said


@pytest.mark.usefixtures("_own_mounts")
@pytest.mark.parametrize("what", ["whole", "view"])
def test_batches_that_do_not_fit_are_refused_in_words(place: Path, what: str) -> None:
    how, said = run(place, "on", what, "workers=2", "100" if what == "whole" else "190")
    assert how == "WorkerError"
    assert "--shm-size" in said
    assert "threads=" in said
    assert "of 1.0 MB" in said


@pytest.mark.usefixtures("_own_mounts")
@pytest.mark.parametrize(("way", "batch_size"), [("threads=2", "100"), ("workers=2", "8")])
def test_what_fits_or_is_not_handed_over_is_read(place: Path, way: str, batch_size: str) -> None:
    assert run(place, "on", "whole", way, batch_size) == ("read", "")


def huge(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, device="meta")


def test_the_message_says_what_is_there_and_what_is_needed() -> None:
    # More than any machine has.
    with pytest.raises(WorkerError) as caught:
        check_room({"frames": huge(10**15)}, workers=3, prefetch=2)
    said = str(caught.value)
    assert said.startswith("a batch has 1,000,000,000.0 MB, and /dev/shm has ")
    assert "3 workers that prepare 2 batches each need 7,000,000,000.0 MB" in said


def test_each_worker_may_be_about_to_hand_a_batch_over() -> None:
    room = os.statvfs("/dev/shm")
    half = huge(room.f_bavail * room.f_frsize // 2)
    check_room({"frames": half}, workers=1, prefetch=9)
    with pytest.raises(WorkerError):
        check_room({"frames": half}, workers=3, prefetch=1)


def test_tensors_are_counted_wherever_they_are() -> None:
    batch = {
        "a": huge(5),
        "b": [huge(7), "text", None],
        "c": {"d": (huge(11),)},
        "e": 3,
        "f": np.zeros(100),
    }
    assert tensor_bytes(batch) >= 5 + 7 + 11
    assert tensor_bytes({"a": huge(10**9), "b": [huge(10**9 + 1)]}) >= 2 * 10**9
    assert tensor_bytes({"text": "x" * 1000, "f": np.zeros(10**6)}) == 0
