"""The work is `exec`: a task is what one of the processes shall run."""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipshards.packer.media.workers import run_all

KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
TASKS = [
    "pass",
    "from clipshards.packer.format.errors import MediaError; raise MediaError('no sound')",
    "open('/nowhere/at/all')",
    "raise KeyError('odd')",
    "raise MemoryError",
]
REASONS = ["", "no sound", "No such file or directory", "unexpected KeyError: 'odd'"]
REASONS += ["not enough memory"]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_is_done_once_and_its_failure_told(workers: int) -> None:
    found = sorted(run_all(exec, TASKS * 3, workers=workers))
    assert found == list(enumerate(REASONS * 3))


def test_process_that_dies_takes_one_task() -> None:
    tasks = ["pass", KILLED, "pass", "import os; os._exit(3)", "pass"]
    found = dict(run_all(exec, tasks, workers=2))
    assert found == {
        0: "",
        1: "the process that worked on it died (signal 9)",
        2: "",
        3: "the process that worked on it died (exit code 3)",
        4: "",
    }
    assert not multiprocessing.active_children()


def test_several_processes_are_at_work_together(tmp_path: Path) -> None:
    # Each waits until the other has begun: one process alone would never end.
    task = """
import pathlib, time
theirs = pathlib.Path({folder!r}, {theirs!r})
pathlib.Path({folder!r}, {ours!r}).touch()
end = time.monotonic() + 60
while not theirs.exists():
    assert time.monotonic() < end
    time.sleep(0.01)
"""
    folder = str(tmp_path)
    tasks = [
        task.format(folder=folder, ours="a", theirs="b"),
        task.format(folder=folder, ours="b", theirs="a"),
    ]
    assert dict(run_all(exec, tasks, workers=2)) == {0: "", 1: ""}


def test_processes_end_with_the_one_who_asked() -> None:
    results = run_all(exec, ["pass", "import time; time.sleep(600)"], workers=2)
    started = time.monotonic()
    assert next(results) == (0, "")
    results.close()
    assert not multiprocessing.active_children()
    assert time.monotonic() - started < 60


def test_nothing_to_do_starts_nothing() -> None:
    assert list(run_all(exec, [], workers=2)) == []


def test_negative_workers_are_a_wrong_argument() -> None:
    with pytest.raises(ValueError, match="workers -1"):
        next(run_all(exec, ["pass"], workers=-1))


def test_script_without_a_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from clipshards.packer.media.workers import run_all\n"
        "print(list(run_all(exec, ['pass'], workers=1)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "a worker process ended before its first task (exit code 1)" in done.stderr
