"""Doing one thing to many files in several processes; a process that dies takes one file."""

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from clipshards.packer.format.errors import DatasetError

Task = TypeVar("Task")

# Seconds that a process has to end by itself.
_PATIENCE_S = 5


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
    if workers == 0:
        for number, task in enumerate(tasks):
            yield number, _attempt(work, task)
        return
    waiting = deque(range(len(tasks)))
    running: dict[object, _Worker] = {}
    dismissed = []
    try:
        while waiting or any(worker.task is not None for worker in running.values()):
            while waiting and len(running) < min(workers, len(tasks)):
                worker = _start(work)
                running[worker.connection] = worker
            for ready in wait([worker.connection for worker in running.values()]):
                worker = running[ready]
                finished = worker.task
                try:
                    failure = worker.connection.recv()
                except (EOFError, OSError):
                    del running[ready]
                    yield _lost(worker), f"the process that worked on it died ({worker.end()})"
                    continue
                worker.ready = True
                if waiting:
                    worker.task = waiting.popleft()
                    # A process that has died by now is found by the next `recv`.
                    with suppress(OSError):
                        worker.connection.send(tasks[worker.task])
                else:
                    del running[ready]
                    worker.connection.close()
                    dismissed.append(worker)
                if finished is not None:
                    yield finished, failure
    finally:
        for worker in running.values():
            worker.process.terminate()
        for worker in (*running.values(), *dismissed):
            worker.end()


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    task: int | None = None
    """Number of what it works on."""
    ready: bool = False
    """It has begun to listen."""

    def end(self) -> str:
        """Wait for its end; return how it ended."""
        self.connection.close()
        self.process.join(_PATIENCE_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _lost(worker: _Worker) -> int:
    """Return the number of the task that a process has taken with it."""
    if worker.task is None or not worker.ready:
        raise RuntimeError(
            f"a worker process ended before its first task ({worker.end()}); a script that "
            "uses several processes must do so under `if __name__ == '__main__':`"
        )
    return worker.task


def _start(work: Callable[[Any], None]) -> _Worker:
    # Forking would copy the threads' locks of the libraries that are loaded.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    process.start()
    # The only other end is the process's own, so that its end is seen.
    theirs.close()
    return _Worker(process, ours)


def _serve(connection: Connection, work: Callable[[Any], None]) -> None:
    # Ctrl-C reaches all processes, and it is the parent's to end the others; an end by
    # exception lets them remove what they have half made.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Errors of the connection: nobody listens any more.
    with suppress(EOFError, OSError):
        connection.send("")
        while True:
            connection.send(_attempt(work, connection.recv()))


def _attempt(work: Callable[[Task], None], task: Task) -> str:
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
