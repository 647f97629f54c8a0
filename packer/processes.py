"""Tasks for several processes: one that dies or hangs loses its task to another."""

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, MutableSequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

_Task = TypeVar("_Task")

Counters = MutableSequence[int]
"""Numbers that a process writes and its parent looks at, at no cost for either."""
Work = Callable[[_Task, Counters], Any]
"""A function of a module, which the processes import."""

# Seconds that a process has to end by itself: a busy disk may keep it in an fsync.
_PATIENCE_S = 20
# Seconds that a process has to begin: imports may come over a slow network.
_STARTUP_S = 600
_LOOKS_A_SECOND = 10
# A quarter of these seconds at most lies between two looks whether a silent process computes;
# and so long may one compute without a word.
_LOOK_AT_CPU_S = 60
_LONGEST_S = 86_400


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


class Outcome(NamedTuple):
    """How a task ended."""

    number: int
    value: Any
    """What the work returned."""
    lost: str
    """How the last process died that tried it; empty where one came to its end."""
    counters: tuple[int, ...]
    """As the process left them."""


def run_tasks(
    work: Work[_Task],
    tasks: Iterable[_Task],
    *,
    workers: int,
    counters: int = 0,
    tries: int = 1,
    stall_s: float = math.inf,
    watch: Callable[[list[tuple[int, ...]]], None] | None = None,
) -> Generator[Outcome, None, None]:
    """Do `work` for each task; yield the outcomes in the order in which they end.

    Args:
        work: Called with a task and its counters, which are 0 then.
        tasks: What can be pickled; each is asked for when a process is free.
        workers: Processes at a time, at least 1.
        counters: How many each task has.
        tries: Processes that a task may cost before it is lost.
        stall_s: Seconds without a change of the counters, and without computing, after which
            a process is taken for hung, and killed; one that computes has a day.
        watch: Called about ten times a second with the counters of all tasks at work.

    Raises:
        Exception: What `work` raises; the other processes are ended.
        RuntimeError: A process ended before it took its first task, as where the script
            that calls this is not guarded by `if __name__ == "__main__"`.
    """
    if workers < 1 or tries < 1:
        raise ValueError(f"workers {workers}, tries {tries}: expected at least 1")
    numbered = enumerate(tasks)
    again: deque[_Job] = deque()
    running: dict[Any, _Worker] = {}
    dismissed: list[_Worker] = []

    def next_job() -> _Job | None:
        if again:
            return again.popleft()
        for number, task in numbered:
            return _Job(number, task, tries)
        return None

    try:
        while True:
            while len(running) < workers and (job := next_job()) is not None:
                worker = _start(work, job, counters)
                running[worker.connection] = worker
            if not running:
                return
            for ready in wait(list(running), timeout=1 / _LOOKS_A_SECOND):
                worker = running[ready]
                done = worker.job
                try:
                    reply = worker.connection.recv()
                except (EOFError, OSError):
                    del running[ready]
                    how = worker.end()
                    worker.check_was_ready(how)
                    done.tries -= 1
                    if done.tries:
                        again.append(done)
                    else:
                        yield Outcome(done.number, None, how, worker.seen())
                    continue
                if not worker.ready:
                    worker.ready = True
                    worker.take(done)
                    continue
                value, error = reply
                if error is not None:
                    raise error
                outcome = Outcome(done.number, value, "", worker.seen())
                following = next_job()
                if following is None:
                    del running[ready]
                    worker.connection.close()
                    dismissed.append(worker)
                else:
                    worker.take(following)
                yield outcome
            for worker in running.values():
                worker.kill_if_hung(stall_s)
            if watch is not None:
                watch([worker.seen() for worker in running.values()])
    finally:
        for worker in running.values():
            worker.process.terminate()
        for worker in (*running.values(), *dismissed):
            worker.end()


@dataclass(slots=True)
class _Job:
    number: int
    task: Any
    tries: int
    """Processes that it may still cost."""


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    job: _Job
    """What it works on, or will as soon as it is ready."""
    counters: Any
    """Shared with the process."""
    ready: bool = False
    """It has begun to listen."""
    hung: bool = False
    last_seen: tuple[int, ...] = ()
    changed_s: float = field(default_factory=time.monotonic)
    """When the counters were last seen to change."""
    last_cpu: int = -1
    busy_s: float = 0.0
    """When the process was last seen to compute."""

    def take(self, job: _Job) -> None:
        """Send it a task."""
        self.job = job
        for place in range(len(self.counters)):
            self.counters[place] = 0
        self.changed_s, self.busy_s = time.monotonic(), 0.0
        # A process that has died by now is found when its answer is read.
        with suppress(OSError):
            self.connection.send(job.task)

    def seen(self) -> tuple[int, ...]:
        """Return its counters."""
        return tuple(self.counters)

    def kill_if_hung(self, stall_s: float) -> None:
        """End a process whose counters have not changed for too long."""
        now, seen = time.monotonic(), self.seen()
        if seen != self.last_seen:
            self.last_seen, self.changed_s = seen, now
            return
        limit_s = stall_s if self.ready else _STARTUP_S
        # A long video can take hours: whoever computes is not hung, for a day.
        looked_s = min(limit_s, _LOOK_AT_CPU_S) / 4
        if min(now - self.changed_s, now - self.busy_s) > looked_s:
            cpu = _cpu_ticks(self.process.pid)
            if cpu != self.last_cpu:
                self.last_cpu, self.busy_s = cpu, now
        if now - max(self.changed_s, self.busy_s) > limit_s or now - self.changed_s > _LONGEST_S:
            self.hung = True
            self.process.kill()

    def check_was_ready(self, how: str) -> None:
        """Raise RuntimeError for a process that ended by itself before it took a task."""
        if not self.ready and (self.process.exitcode or 0) >= 0:
            raise RuntimeError(
                f"a worker process ended before its first task ({how}); a script that "
                "uses several processes must do so under `if __name__ == '__main__':`"
            )

    def end(self) -> str:
        """Wait for its end; return how it ended."""
        self.connection.close()
        self.process.join(_PATIENCE_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return "killed, as nothing came of it any more" if self.hung else how


def _cpu_ticks(pid: int | None) -> int:
    """Return the time that a process has computed, in ticks; -1 where it is not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return -1
    # The name before may hold anything; behind it, user and system time are 12th and 13th.
    return sum(map(int, fields.rpartition(")")[2].split()[11:13]))


def _start(work: Work[Any], job: _Job, counters: int) -> _Worker:
    # Forking would copy the threads' locks of the libraries that are loaded.
    context = multiprocessing.get_context("spawn")
    shared = context.RawArray("q", counters)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, shared), daemon=True)
    # A process inherits what is blocked: Ctrl-C, which reaches all processes, would end it with
    # a traceback while it still imports. The tracker's own start would let it through.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    # The only other end is the process's own, so that its end is seen.
    theirs.close()
    return _Worker(process, ours, job, shared)


def _serve(connection: Connection, work: Work[Any], counters: Counters) -> None:
    # Ctrl-C reaches all processes, and it is the parent's to end the others; an end by
    # exception lets them remove what they have half made.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_follow_parent, daemon=True).start()
    # Errors of the connection: nobody listens any more.
    with suppress(EOFError, OSError):
        connection.send(None)
        while True:
            task = connection.recv()
            value = error = None
            try:
                value = work(task, counters)
            except Exception as exc:  # noqa: BLE001 - raised again in the parent
                error = _portable(exc)
            connection.send((value, error))


def _follow_parent() -> None:
    """End this process when its parent has: nobody waits for what it does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _portable(error: Exception) -> Exception:
    """Return an error that another process can raise."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever its class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
