"""Doing one thing to many files in several processes; a process that dies takes one file."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import TypeVar

from clipshards.packer.format.errors import DatasetError
from clipshards.packer.processes import Counters, run_tasks

Task = TypeVar("Task")


def run_all(
    work: Callable[[Task], None], tasks: Sequence[Task], *, workers: int
) -> Generator[tuple[int, str], None, None]:
    """Do `work` for each task; yield its number and why it failed, empty if it did not.

    They come in the order in which they end.

    Args:
        work: A function of a module, which the processes import.
        tasks: What can be pickled.
        workers: Processes at a time; 0 for this process alone.

    Raises:
        RuntimeError: A process ended before it took its first task, as where the script
            that calls this is not guarded by `if __name__ == "__main__"`.
    """
    if workers < 0:
        raise ValueError(f"workers {workers}: expected at least 0")
    attempt = partial(_attempt, work)
    if workers == 0:
        for number, task in enumerate(tasks):
            yield number, attempt(task, [])
        return
    with closing(run_tasks(attempt, tasks, workers=workers)) as outcomes:
        for outcome in outcomes:
            lost = f"the process that worked on it died ({outcome.lost})"
            yield outcome.number, lost if outcome.lost else outcome.value


def _attempt(work: Callable[[Task], None], task: Task, _: Counters) -> str:
    """Return why the work failed, empty if it did not."""
    try:
        work(task)
    except DatasetError as exc:
        return str(exc)
    except OSError as exc:
        return exc.strerror or str(exc)
    except MemoryError:
        return "not enough memory"
    except Exception as exc:  # noqa: BLE001 - one odd file must not end a run over thousands
        return f"unexpected {type(exc).__name__}: {exc}"
    return ""
