"""Epochs leave nothing behind: no memory, thread, process, descriptor or shared memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pack_inputs import skeletons

from clipshards.packer import pack

WAYS = ["threads=0", "threads=2", "workers=2"]

# Runs some epochs one way and prints what the process and its children have after each.
PROGRAM = """
import gc, json, os, signal, sys, threading, time
from pathlib import Path
from clipshards.readers import ShardDataset, open_dataset

location, how, way, epochs = sys.argv[1:]
name, _, count = way.partition("=")
way, epochs = {name: int(count)}, int(epochs)
signal.alarm(300)

class OddError(Exception):
    pass

def transform(item):
    if how == "exception" and item["key"].endswith("17"):
        raise OddError
    if how == "interrupt":
        time.sleep(0.005)
    return item

def processes():
    found, new = [], [os.getpid()]
    while new:
        found += new
        new = [
            int(child)
            for pid in new
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return found

def rss(pid):
    # Its part of what it shares, without libraries: those it shares with all processes of the
    # machine, so that its part grows as another one ends.
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    counted = ("Pss_Anon:", "Pss_Shmem:")
    found = [int(line.split()[1]) for line in lines if line.startswith(counted)]
    assert len(found) == 2
    return sum(found) * 1024

def look():
    gc.collect()
    pids = processes()
    return {
        "memory": sum(map(rss, pids)),
        "processes": len(pids),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }

def epoch(loader):
    try:
        for number, batch in enumerate(loader):
            if how == "break" and number == 3:
                break
    except OddError:
        pass

def main():
    dataset = ShardDataset(open_dataset(location), batch_size=8, transform=transform)
    loader = dataset.loader(**way) if how != "break" else None
    if how == "interrupt":
        print("begun", flush=True)
        while True:
            for _ in loader:
                pass
    seen = []
    for _ in range(epochs):
        epoch(loader or dataset.loader(**way))
        seen.append(look())
    del loader
    deadline = time.monotonic() + 30
    while len(processes()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    print(json.dumps([*seen, look()]))

if __name__ == "__main__":
    # What torch has once for all, as its first iteration.
    epoch(ShardDataset(open_dataset(location), batch_size=100).loader())
    print(json.dumps(look()))
    main()
"""


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    pack(
        skeletons(200, shape=(60, 17, 2), dtype=np.float32, classes=4),
        out,
        split="train",
        shard_size=300_000,
    )
    return out


def shared_memory() -> set[str]:
    """Return what torch and multiprocessing have put under names into shared memory."""
    names = {path.name for path in Path("/dev/shm").iterdir()}
    return {name for name in names if name.startswith(("torch_", "psm_", "sem."))}


def start(
    location: Path, how: str, way: str, epochs: int, temporary: Path
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, location, how, way, str(epochs)],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(
    location: Path, how: str, way: str, epochs: int, temporary: Path
) -> tuple[dict[str, int], list[dict[str, int]], dict[str, int]]:
    """Return what there was before, after each epoch, and when the loader was gone."""
    process = start(location, how, way, epochs, temporary)
    try:
        out, errors = process.communicate(timeout=300)
    finally:
        end(process)
    assert process.returncode == 0, errors
    before, found = map(json.loads, out.splitlines())
    assert not running_in(process.pid)
    assert not of_process(process.pid)
    # Where processes that hand over descriptors meet.
    assert not list(temporary.glob("pymp-*"))
    return before, found[:-1], found[-1]


def of_process(pid: int) -> set[str]:
    """Return the shared memory that a process named, which torch does by its number."""
    return {name for name in shared_memory() if f"_{pid}_" in name}


def end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


def running_in(session: int) -> list[int]:
    """Return the processes of a session that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == session:
            found.append(int(entry.name))
    return found


def check_flat(before: dict[str, int], seen: list[dict[str, int]], after: dict[str, int]) -> None:
    warm = max(2, len(seen) // 4)
    # One batch has 65 kB; 200 samples of an epoch have 1.6 MB.
    growth = max(one["memory"] for one in seen[-3:]) - max(one["memory"] for one in seen[:warm])
    assert growth < 6_000_000
    # Each tensor that waits has a descriptor, each open shard too; an epoch has 25 batches.
    for name, slack in (("processes", 0), ("descriptors", 24), ("threads", 0)):
        most = max(one[name] for one in seen[:warm])
        assert max(one[name] for one in seen[warm:]) <= most + slack, name
    assert after["processes"] == 1
    assert after["descriptors"] <= before["descriptors"] + 24
    assert after["threads"] <= before["threads"]


@pytest.mark.parametrize("way", WAYS)
def test_twenty_epochs_take_no_more_than_a_few(location: Path, tmp_path: Path, way: str) -> None:
    before, seen, after = run(location, "end", way, 20, tmp_path)
    assert {one["processes"] for one in seen} == {3 if way == "workers=2" else 1}
    check_flat(before, seen, after)


@pytest.mark.deep
@pytest.mark.parametrize("way", WAYS)
def test_two_hundred_epochs_take_no_more_than_some(
    location: Path, tmp_path: Path, way: str
) -> None:
    before, seen, after = run(location, "end", way, 200, tmp_path)
    check_flat(before, seen, after)


@pytest.mark.parametrize("how", ["exception", "break"])
@pytest.mark.parametrize("way", WAYS[1:])
def test_what_ends_an_epoch_early_leaves_nothing_behind(
    location: Path, tmp_path: Path, way: str, how: str
) -> None:
    check_flat(*run(location, how, way, 6, tmp_path))


@pytest.mark.deep
@pytest.mark.parametrize("how", ["exception", "break"])
@pytest.mark.parametrize("way", WAYS)
def test_many_epochs_ended_early_leave_nothing_behind(
    location: Path, tmp_path: Path, how: str, way: str
) -> None:
    check_flat(*run(location, how, way, 40, tmp_path))


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_all_processes_at_once(location: Path, tmp_path: Path, way: str) -> None:
    interrupt(location, way, 0.4, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("wait_s", [0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("way", WAYS[1:])
def test_ctrl_c_at_any_moment_ends_all_processes(
    location: Path, tmp_path: Path, way: str, wait_s: float
) -> None:
    interrupt(location, way, wait_s, tmp_path)


def interrupt(location: Path, way: str, wait_s: float, temporary: Path) -> None:
    process = start(location, "interrupt", way, 0, temporary)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("{")
        assert process.stdout.readline() == "begun\n"
        time.sleep(wait_s)
        # As a terminal does: to all processes of the group.
        os.killpg(process.pid, signal.SIGINT)
        interrupted = time.monotonic()
        try:
            _, errors = process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            # Python drops an interrupt that comes while it forks ("Exception ignored in ..."):
            # then one presses the keys again.
            os.killpg(process.pid, signal.SIGINT)
            interrupted = time.monotonic()
            _, errors = process.communicate(timeout=15)
            assert "Exception ignored in" in errors
        took = time.monotonic() - interrupted
    finally:
        end(process)
    assert process.returncode in (-signal.SIGINT, 1, 130), errors
    assert "KeyboardInterrupt" in errors
    assert took < 15
    assert_gone(process.pid)
    assert not of_process(process.pid)


def assert_gone(session: int) -> Any:
    deadline = time.monotonic() + 15
    while left := running_in(session):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)
