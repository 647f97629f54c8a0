"""Trains in processes that are killed; a script, run by test_distributed.py.

    killed_training.py REQUEST.json

The request has the `location`, a `folder` for what is noted down, `options` of the data set,
how many `epochs`, and `lives`: lists of ranks, loader processes and the number of steps after
which all ranks are killed, 0 for never. Each life goes on behind the last state that a rank
drawn by `seed` stored in the one before. Prints as JSON what came to be, a `Life` each.
"""

import json
import os
import random
import signal
import sys
import time
import zlib
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch

from clipshards.readers import DenseClip, ShardDataset, open_dataset

DEADLINE_S = 120
"""After which a process that hangs is ended."""

Row = tuple[str, int, bool]
"""A key, a checksum of what the item holds, and whether the item fills no gap."""


@dataclass
class Life:
    """What one run of all ranks did, until it was killed or ended."""

    ranks: int
    workers: int
    start: tuple[int, int]
    """Epoch and batch of the state that it began with."""
    seen: list[list[tuple[int, int, list[Row]]]] = field(default_factory=list)
    """Of each rank: epoch, batch and rows of what it got, in this order."""
    states: list[tuple[int, int]] = field(default_factory=list)
    """Epoch and batch of the last state that each rank stored."""
    killed: bool = False


def main(request: dict[str, Any]) -> None:
    """Run all lives of a request."""
    draw = random.Random(request["seed"])
    folder = Path(request["folder"])
    state: Path | None = None
    lives, groups = [], []
    for number, (ranks, workers, steps) in enumerate(request["lives"]):
        place = folder / f"life-{number}"
        place.mkdir()
        start = (0, 0) if state is None else place_of(state)
        pids = [start_rank(request, place, state, rank, ranks, workers) for rank in range(ranks)]
        groups += pids
        killed = watch(pids, place, steps, draw)
        life = Life(ranks, workers, start, killed=killed)
        for rank in range(ranks):
            log = place / f"seen-{rank}.jsonl"
            # What was being written when the rank was killed is not whole.
            lines = log.read_text().split("\n")[:-1] if log.exists() else []
            life.seen.append([json.loads(line) for line in lines])
        stored = [place / f"state-{rank}.json" for rank in range(ranks)]
        stored = [file for file in stored if file.exists()]
        life.states = [place_of(file) for file in stored]
        state = draw.choice(stored) if stored else state
        lives.append(asdict(life))
    wait_for_groups(groups)
    print(json.dumps(lives))


def place_of(state: Path) -> tuple[int, int]:
    """Return epoch and batch of a stored state."""
    loaded = json.loads(state.read_text())
    return loaded["epoch"], loaded["batch"]


def start_rank(
    request: dict[str, Any], place: Path, state: Path | None, rank: int, ranks: int, workers: int
) -> int:
    """Return the number of a new process, which leads a group of its own."""
    pid = os.fork()
    if not pid:
        run_rank(request, place, state, rank, ranks, workers)
    return pid


def run_rank(
    request: dict[str, Any], place: Path, state: Path | None, rank: int, ranks: int, workers: int
) -> NoReturn:
    """Be one rank, and never come back."""
    code = 1
    try:
        os.setsid()
        signal.alarm(DEADLINE_S)
        torch.set_num_threads(1)
        if request["by"] == "environment":
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
        else:
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
            torch.distributed.init_process_group(
                "gloo",
                init_method=f"file://{place}/store",
                rank=rank,
                world_size=ranks,
                timeout=timedelta(seconds=DEADLINE_S),
            )
        train(request, place, state, rank, workers)
        code = 0
    except BaseException as exc:
        sys.stderr.write(f"rank {rank} of {ranks}: {type(exc).__name__}: {exc}\n")
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def train(
    request: dict[str, Any], place: Path, state: Path | None, rank: int, workers: int
) -> None:
    """Note down every batch and then the state, in step with the other ranks."""
    dataset = ShardDataset(
        open_dataset(request["location"]), clip=DenseClip(2), seed=5, **request["options"]
    )
    loader = dataset.loader(workers=workers)
    if state is not None:
        loader.load_state_dict(json.loads(state.read_text()))
    log = os.open(place / f"seen-{rank}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    # With `ragged` some ranks have one batch less; all of them take as many steps.
    steps = request["steps"]
    while dataset.epoch < request["epochs"]:
        begun = loader.state_dict()
        iterator = iter(loader)
        for _ in range(begun["batch"], steps):
            batch = next(iterator, None)
            if batch is not None:
                epoch, number, _ = batch["position"]
                line = json.dumps([epoch, number, rows_of(batch)]) + "\n"
                assert os.write(log, line.encode()) == len(line)
            in_step()
            new = place / f"state-{rank}.new"
            new.write_text(json.dumps(loader.state_dict()))
            new.replace(place / f"state-{rank}.json")
            time.sleep(request["pause_s"])
        assert next(iterator, None) is None
        # No rank begins the next epoch, and stores so, while another is at the last batch.
        in_step()


def in_step() -> None:
    """Wait until all ranks are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def rows_of(batch: dict[str, Any]) -> list[Row]:
    """Return what tells the items of a batch apart."""
    valid = batch.get("valid", torch.ones(len(batch["key"]), dtype=torch.bool)).tolist()
    # The random choice of frames shows in the keypoints, which are all different.
    sums = [
        zlib.crc32(b"".join(batch[name][row].numpy().tobytes() for name in ("keypoint", "label")))
        for row in range(len(valid))
    ]
    return list(zip(batch["key"], sums, valid, strict=True))


def watch(pids: list[int], place: Path, steps: int, draw: random.Random) -> bool:
    """Wait for the ranks' end, or kill them after some steps; return whether they were."""
    running = set(pids)
    deadline = time.monotonic() + DEADLINE_S + 10
    while running:
        if time.monotonic() > deadline:
            sys.exit(f"ranks did not end: {running}")
        for pid in sorted(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done and status:
                sys.exit(f"a rank ended with {status}")
            running -= {done}
        logs = place.glob("seen-*.jsonl")
        if steps and sum(log.read_bytes().count(b"\n") for log in logs) >= steps * len(pids):
            # In any moment of a step.
            time.sleep(draw.uniform(0, 0.03))
            draw.shuffle(pids)
            return kill(pids, running)
        time.sleep(0.002)
    return False


def kill(pids: list[int], running: set[int]) -> bool:
    """Kill ranks, not their loader processes; return whether one was still there."""
    for pid in pids:
        if pid in running:
            os.kill(pid, signal.SIGKILL)
    # Another one may fail by itself, as it misses the first.
    ends = [os.waitpid(pid, 0)[1] for pid in pids if pid in running]
    return signal.SIGKILL in ends


def wait_for_groups(groups: list[int]) -> None:
    """Wait until the loader processes of killed ranks have noticed."""
    deadline = time.monotonic() + 60
    while left := [pid for pid in processes() if group_of(pid) in groups]:
        if time.monotonic() > deadline:
            sys.exit(f"processes were left behind: {left}")
        time.sleep(0.05)


def processes() -> list[int]:
    """Return all processes of the machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def group_of(pid: int) -> int:
    """Return the process group of a running process, else 0."""
    try:
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return 0
    return 0 if state == "Z" else int(group)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
