"""Tasks in processes: what comes back, and what happens to processes that die or hang."""

import time
from typing import Any

import pytest
from process_work import compute, fall, square

from clipshards.packer.format.errors import MediaError
from clipshards.packer.processes import Outcome, run_tasks


def run(work: Any, tasks: Any, **options: Any) -> list[Outcome]:
    return sorted(run_tasks(work, tasks, **{"workers": 2, "counters": 1} | options))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_comes_back_with_its_number_and_counters(workers: int) -> None:
    found = run(square, iter(range(4)), workers=workers, counters=2)
    assert found == [Outcome(n, n * n, "", (n, n)) for n in range(4)]


def test_no_tasks_start_no_process() -> None:
    assert run(square, []) == []


def test_tasks_are_asked_for_when_a_process_is_free() -> None:
    asked = []

    def tasks() -> Any:
        for number in range(20):
            asked.append(number)
            yield number

    outcomes = run_tasks(square, tasks(), workers=1, counters=1)
    next(outcomes)
    assert len(asked) <= 2
    outcomes.close()


def test_a_process_that_dies_loses_its_task_to_another(tmp_path: Any) -> None:
    found = run(fall, ["a", f"once{tmp_path / 'mark'}", "b"], tries=2)
    assert [outcome.value for outcome in found] == ["a", "done", "b"]


def test_a_task_that_kills_every_process_is_lost_and_the_others_are_not() -> None:
    found = run(fall, ["a", "die", "b", "c"], tries=3)
    assert [outcome.value for outcome in found] == ["a", None, "b", "c"]
    assert found[1] == Outcome(1, None, "signal 9", (7,))


def test_a_process_that_hangs_is_killed() -> None:
    started = time.monotonic()
    found = run(fall, ["a", "hang", "b"], stall_s=0.5)
    assert [outcome.value for outcome in found] == ["a", None, "b"]
    assert found[1].lost == "killed, as nothing came of it any more"
    assert time.monotonic() - started < 30


def test_what_work_raises_is_raised_and_the_processes_end() -> None:
    outcomes = run_tasks(fall, ["raise", "hang", "hang"], workers=3, counters=1)
    with pytest.raises(MediaError, match=r"^'a\.mp4': broken$"):
        list(outcomes)


def test_an_error_that_cannot_be_sent_is_told() -> None:
    with pytest.raises(RuntimeError, match="OddError: 1 2"):
        run(fall, ["odd"])


def test_counters_can_be_watched() -> None:
    seen: list[Any] = []
    run(fall, ["a", "hang"], stall_s=0.5, watch=seen.append)
    assert [(7,)] in seen


@pytest.mark.parametrize("options", [{"workers": 0}, {"tries": 0}])
def test_wrong_numbers_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        run(fall, ["a"], **options)


def test_a_process_that_computes_is_not_taken_for_hung() -> None:
    found = run(compute, [1.5], stall_s=0.4)
    assert [(outcome.value, outcome.lost) for outcome in found] == [(1.5, "")]
