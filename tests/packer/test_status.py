"""The status of a packing job, as others see it: at work, killed, in parts, finished."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from clipshards.packer import (
    FormatError,
    NotFoundError,
    Packing,
    Recipe,
    Reject,
    StorageError,
    VideoRecord,
    finish_split,
)
from clipshards.packer.format.canonical import encode_json
from clipshards.packer.status import Run, Status, packed_splits, read_status
from clipshards.packer.storage.local import LocalStorage

RECORDS = [VideoRecord(f"j{number:02d}.mp4", (number,)) for number in range(20)]


def job_of(out: Path, junk: Path, records: Any = RECORDS, **options: Any) -> Packing:
    given: dict[str, Any] = {"split": "train", "media_root": junk, "shard_size": 300_000}
    return Packing(records, out, recipe=Recipe(frame_table="none"), **(given | options))


# Packs, and waits at its 12th sample until the test has seen enough; writes every word at once.
SLOW = """
import json, sys, time
from pathlib import Path
from clipshards.packer import Packing, Recipe, VideoRecord
from clipshards.packer import status

status._BEAT_S = 0.0
out, media, part, parts = json.loads(sys.argv[1])
done = 0

def progress(entries, size):
    global done
    done += entries
    if done == 12:
        print("here", flush=True)
        sys.stdin.readline()

records = [VideoRecord(f"j{number:02d}.mp4", (number,)) for number in range(20)]
job = Packing(records, out, split="train", media_root=media, shard_size=300_000,
              recipe=Recipe(frame_table="none"))
if parts > 1:
    job.run_part(part, parts, progress=progress)
else:
    job.run(progress=progress)
"""


class Slow:
    """A process that stops half way, to be looked at."""

    def __init__(self, out: Path, junk: Path, part: int = 1, parts: int = 1) -> None:
        arguments = json.dumps([str(out), str(junk), part, parts])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SLOW, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_half_way(self) -> None:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        assert ready, "it never came half way"
        assert self.process.stdout.readline() == "here\n"

    def end(self) -> None:
        """Let it come to its end."""
        _, _ = self.process.communicate("go on\n", timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def slow() -> Iterator[Callable[..., Slow]]:
    """Return a function that starts a slow packing; none outlives the test."""
    started: list[Slow] = []

    def slow(out: Path, junk: Path, part: int = 1, parts: int = 1) -> Slow:
        started.append(Slow(out, junk, part, parts))
        return started[-1]

    yield slow
    for one in started:
        one.kill()


def test_job_at_work_is_seen_from_another_process(
    tmp_path: Path, junk: Path, slow: Callable[..., Slow]
) -> None:
    out = tmp_path / "out"
    begun = time.time()
    process = slow(out, junk)
    process.wait_half_way()
    status = read_status(out, split="train")
    assert (status.split, status.state, status.entries) == ("train", "running", 20)
    assert 0 < status.shards_made < status.shards
    assert 0 < status.samples < 12
    assert status.bytes == sum(file.stat().st_size for file in (out / "train").glob("*.tar"))
    (run,) = status.runs
    assert (run.host, run.pid) == (socket.gethostname(), process.process.pid)
    assert (run.part, run.parts, run.workers) == (1, 1, 1)
    assert (run.entries, run.entries_due, run.entries_before) == (12, 20, 0)
    assert begun <= run.started_s <= run.told_s <= time.time()
    assert run.alive
    assert run.seconds_left is not None
    process.end()
    done = read_status(out, split="train")
    assert (done.state, done.runs) == ("finished", ())
    assert (done.shards_made, done.shards, done.samples) == (status.shards, status.shards, 20)
    assert not (out / "train" / ".build").exists()


def test_killed_job_has_stopped_and_its_successor_is_told_apart(
    tmp_path: Path, junk: Path, slow: Callable[..., Slow]
) -> None:
    out = tmp_path / "out"
    first = slow(out, junk)
    first.wait_half_way()
    first.kill()
    status = read_status(out, split="train")
    assert status.state == "stopped"
    assert [run.alive for run in status.runs] == [False]
    second = slow(out, junk)
    second.wait_half_way()
    status = read_status(out, split="train")
    assert status.state == "running"
    assert [(run.pid, run.alive) for run in status.runs] == [
        (first.process.pid, False),
        (second.process.pid, True),
    ]
    # What stood in shards is not what this run has done.
    assert 0 < status.runs[1].entries_before < status.runs[1].entries == 12
    second.end()
    assert read_status(out, split="train").state == "finished"


def test_parts_that_have_ended_leave_a_split_to_be_finished(
    tmp_path: Path, junk: Path, slow: Callable[..., Slow]
) -> None:
    out = tmp_path / "out"
    processes = [slow(out, junk, part, 2) for part in (2, 1)]
    # A part has too few samples to wait: they end by themselves.
    for process in processes:
        process.end()
    status = read_status(out, split="train")
    assert (status.state, status.runs) == ("stopped", ())
    assert status.shards_made == status.shards
    finish_split(out, split="train")
    assert read_status(out, split="train").state == "finished"


def test_two_parts_at_work(tmp_path: Path, junk: Path) -> None:
    """A part that looks at the status while another one is at work, in one process."""
    out = tmp_path / "out"
    found: list[Status] = []

    def inner(_entries: int, _bytes: int) -> None:
        found.append(read_status(out, split="train"))

    def outer(entries: int, _bytes: int) -> None:
        if entries and not found:
            job_of(out, junk).run_part(1, 3, progress=inner)

    job_of(out, junk).run_part(2, 3, progress=outer)
    runs = found[-1].runs
    assert [(run.part, run.parts, run.alive) for run in runs] == [(1, 3, True), (2, 3, True)]
    assert all(0 < run.entries_due < 20 for run in runs)
    assert found[-1].state == "running"


@pytest.mark.parametrize("end", ["normal", "error", "interrupt"])
def test_run_leaves_no_sign_of_life_at_its_end(tmp_path: Path, junk: Path, end: str) -> None:
    out = tmp_path / "out"
    seen: list[int] = []

    class EndError(Exception):
        pass

    def progress(_entries: int, _bytes: int) -> None:
        seen.append(len(list((out / "train" / ".build").glob("run-*.json"))))
        if end != "normal" and len(seen) == 5:
            raise EndError if end == "error" else KeyboardInterrupt

    job = job_of(out, junk)
    if end == "normal":
        job.run_part(1, 2, progress=progress)
    else:
        with pytest.raises(EndError if end == "error" else KeyboardInterrupt):
            job.run_part(1, 2, progress=progress)
    assert seen[-1] == 1
    assert list((out / "train" / ".build").glob("run-*")) == []
    assert list((out / "train" / ".build").glob("*.partial")) == []
    assert read_status(out, split="train").state == "stopped"


DAMAGES = [b"", b"{", b"[]", b"{}", b"\xff", b'{"host": 3}', b"null"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_sign_of_life_is_passed_over(tmp_path: Path, junk: Path, damage: bytes) -> None:
    out = tmp_path / "out"
    job_of(out, junk).run_part(1, 2)
    before = read_status(out, split="train")
    (out / "train" / ".build" / "run-0123456789abcdef.json").write_bytes(damage)
    assert read_status(out, split="train") == before


def run_of(**changes: Any) -> Run:
    now = time.time()
    values: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "part": 1,
        "parts": 1,
        "workers": 2,
        "started_s": now - 100,
        "told_s": now,
        "entries": 30,
        "entries_before": 10,
        "entries_due": 70,
        "bytes": 1000,
    }
    return Run(**(values | changes))


def test_run_is_alive_by_its_last_word_and_its_process() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=60)
    assert run_of().alive
    assert not run_of(pid=ended.pid).alive
    # Nothing but the word is known of other machines.
    assert run_of(pid=ended.pid, host="elsewhere").alive
    assert not run_of(host="elsewhere", told_s=time.time() - 7200).alive
    assert run_of(pid=1).alive
    # Of a process here it is known without a word.
    assert run_of(told_s=time.time() - 7200).alive


def test_time_that_is_left_goes_by_what_this_run_has_done() -> None:
    # 20 in 100 s, 40 to go.
    assert run_of().seconds_left == pytest.approx(200, rel=0.01)
    assert run_of(entries=10).seconds_left is None
    assert run_of(entries=70).seconds_left == 0


def test_rejects_are_counted_before_and_behind_the_end(tmp_path: Path, junk: Path) -> None:
    out = tmp_path / "out"
    (junk / "j03.mp4").unlink()
    # One more by the annotation, which no shard knows of.
    records = [*RECORDS, Reject("blank line")]
    for part in (1, 2):
        job_of(out, junk, records).run_part(part, 2)
    assert read_status(out, split="train").rejects == 2
    finish_split(out, split="train")
    assert read_status(out, split="train").rejects == 2


def test_splits_are_found_finished_or_not(tmp_path: Path, junk: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(NotFoundError, match="nothing was packed here"):
        packed_splits(out)
    (out / "notes").mkdir(parents=True)
    (out / "No split").mkdir()
    with pytest.raises(NotFoundError, match="nothing was packed here"):
        packed_splits(out)
    job_of(out, junk, split="val").run()
    job_of(out, junk).run_part(1, 2)
    assert packed_splits(out) == ["train", "val"]


def test_nothing_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="/out/train: no split and no plan of one"):
        read_status(tmp_path / "out", split="train")
    with pytest.raises(ValueError, match="split 'No'"):
        read_status(tmp_path / "out", split="No")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [".build/plan.json", ".build/train-000000.tar.json"])
def test_damaged_plan_or_receipt_is_named(tmp_path: Path, junk: Path, name: str) -> None:
    out = tmp_path / "out"
    job_of(out, junk).run_part(1, 2)
    (out / "train" / name).write_bytes(b"{}")
    with pytest.raises(FormatError, match=Path(name).name):
        read_status(out, split="train")


def test_clock_that_stands_behind_does_no_harm(tmp_path: Path, junk: Path) -> None:
    out = tmp_path / "out"
    job_of(out, junk).run_part(1, 2)
    run = run_of(told_s=time.time() + 500, started_s=time.time() + 1000)
    (out / "train" / ".build" / "run-00.json").write_bytes(encode_json(asdict(run)))
    (found,) = read_status(out, split="train").runs
    assert found.alive
    assert found.seconds_left is None


def test_signs_of_life_that_cannot_be_written_stop_nothing(
    tmp_path: Path, junk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = LocalStorage.put

    def refuse(storage: LocalStorage, name: str, data: bytes, *, staging: str) -> None:
        if "/run-" in name:
            raise StorageError(f"{name}: No space left on device")
        put(storage, name, data, staging=staging)

    monkeypatch.setattr(LocalStorage, "put", refuse)
    assert job_of(tmp_path / "out", junk).run().packed == 20
