"""Who makes the batches of a loader: its own process, threads of it, or processes beside it.

All give the same batches in the same order, one epoch behind the other without a stop.
"""

import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from clipshards.packer.format.errors import WorkerError
from clipshards.readers.batch_maker import Made, Note
from clipshards.readers.cursor import SharedPlace
from clipshards.readers.hand_over import packed, pinned, unpacked
from clipshards.readers.lookahead import MOST_BYTES, Lookahead, Make
from clipshards.readers.shared_memory import check_room
from clipshards.readers.waiting import Doings

# Seconds that all threads together have to end their batch when the loader or the process ends.
_ENDING_S = 30.0
# How DataLoader begins what it says of a process that died.
_DIED = "DataLoader worker (pid"


class Makers(Protocol):
    """Makes batches one behind the other, from some place on."""

    @property
    def doings(self) -> Doings | None:
        """What each of them is at, where they are others than who waits."""

    @property
    def gone(self) -> Sequence[int]:
        """Which of them died."""

    def begin(self, epoch: int, batch: int, count: int | None) -> None:
        """Let the next batch be this one.

        Args:
            epoch: Of the batch.
            batch: In [0, count).
            count: Batches of an epoch; None where it does not end.
        """

    def take(self) -> Made:
        """Return the next batch.

        Raises:
            WorkerError: It did not come in time, or who was to make it is gone.
        """

    def close(self) -> None:
        """Let all that was begun go; `begin` begins anew."""


class Here:
    """A batch is made in the process that takes it, when it is asked for."""

    doings = None
    gone = ()

    def __init__(self, make: Make, *, pin_memory: bool) -> None:
        self._make = make
        self._pins = _pins(pin_memory)
        self._coming: Iterator[tuple[int, int]] = iter(())
        self._lookahead = Lookahead(make, iter(()))

    def begin(self, epoch: int, batch: int, count: int | None) -> None:
        """See `Makers`."""
        self._coming = _places(epoch, batch, count)
        self._lookahead = Lookahead(self._make, _places(epoch, batch, count))

    def take(self) -> Made:
        """See `Makers`."""
        made = self._lookahead.make(*next(self._coming))
        return made._replace(batch=pinned(made.batch)) if self._pins else made

    def close(self) -> None:
        """See `Makers`."""
        self._coming = iter(())
        self._lookahead = Lookahead(self._make, iter(()))


class Threads:
    """Threads of this process make batches ahead."""

    gone = ()

    def __init__(
        self, make: Make, *, threads: int, prefetch: int, pin_memory: bool, timeout_s: float
    ) -> None:
        self._make = make
        self._threads = threads
        self._ahead = threads * prefetch
        self._pins = _pins(pin_memory)
        self._timeout_s = timeout_s
        # As many as can be under way: none is told of twice at a time.
        self.doings = Doings(self._ahead)
        self._coming: Iterator[tuple[int, int]] = iter(())
        self._lookahead = Lookahead(make, iter(()))
        self._begun: deque[Future[Made]] = deque()
        self._tasks: _Tasks | None = None
        self._slot = 0

    def begin(self, epoch: int, batch: int, count: int | None) -> None:
        """See `Makers`."""
        while self._begun:
            self._begun.popleft().cancel()
        self._coming = _places(epoch, batch, count)
        self._lookahead = Lookahead(self._make, _places(epoch, batch, count))

    def take(self) -> Made:
        """See `Makers`."""
        if self._tasks is None:
            self._tasks = queue.SimpleQueue()
            started = [
                threading.Thread(
                    target=_work,
                    args=(self._tasks, self._pins),
                    name=f"clipshards-{number}",
                    # One that hangs must not keep the process from ending.
                    daemon=True,
                )
                for number in range(self._threads)
            ]
            for thread in started:
                thread.start()
            self._end = weakref.finalize(self, _end, self._tasks, self._begun, started)
        while len(self._begun) < self._ahead:
            epoch, batch = next(self._coming)
            note = self.doings.note_of(self._slot, epoch, batch)
            self._slot = (self._slot + 1) % self._ahead
            future: Future[Made] = Future()
            self._tasks.put((future, self._lookahead, epoch, batch, note))
            self._begun.append(future)
        first = self._begun.popleft()
        done, _ = wait([first], self._timeout_s)
        if not done:
            # Who hangs is not waited for once more.
            self._tasks = None
            if (ending := self._end.detach()) is not None:
                _end(*ending[2], within_s=0.0)
            raise WorkerError(_late(self._timeout_s))
        return first.result()

    def close(self) -> None:
        """See `Makers`."""
        if self._tasks is not None:
            self._tasks = None
            self._end()


_Tasks = queue.SimpleQueue[tuple[Future[Made], Lookahead, int, int, Note] | None]


def _work(tasks: _Tasks, pins: bool) -> None:
    """Make batches until told to end. Knows nothing of the loader, which could not go else."""
    while (task := tasks.get()) is not None:
        future, lookahead, epoch, batch, note = task
        del task
        if future.set_running_or_notify_cancel():
            try:
                made = lookahead.make(epoch, batch, note)
                future.set_result(made._replace(batch=pinned(made.batch)) if pins else made)
                del made
            except BaseException as exc:  # noqa: BLE001 (raised where the batch is taken)
                future.set_exception(exc)
        # Nor does an idle thread keep a batch in memory.
        del future, lookahead, note


def _end(
    tasks: _Tasks,
    begun: deque[Future[Made]],
    threads: list[threading.Thread],
    *,
    within_s: float | None = None,
) -> None:
    deadline = time.monotonic() + (_ENDING_S if within_s is None else within_s)
    for future in begun:
        future.cancel()
    begun.clear()
    for _ in threads:
        tasks.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(deadline - time.monotonic(), 0.0))


class Processes:
    """Loader processes of PyTorch's DataLoader, which stay."""

    def __init__(
        self, make: Make, *, workers: int, prefetch: int, pin_memory: bool, timeout_s: float
    ) -> None:
        self.doings = Doings(workers)
        self._stream = _Stream(make, self.doings, prefetch)
        self._pins = _pins(pin_memory)
        self._options: dict[str, Any] = {
            "batch_size": None,
            # Else arrays in a batch of the user's collate would become tensors here alone.
            "collate_fn": _as_is,
            "num_workers": workers,
            "prefetch_factor": prefetch,
            "persistent_workers": True,
            "pin_memory": pin_memory,
            "timeout": timeout_s,
        }
        self._loader = DataLoader(self._stream, **self._options)
        self._running: Iterator[Made] | None = None
        self._end: Callable[[], object] = _nothing

    def begin(self, epoch: int, batch: int, count: int | None) -> None:
        """See `Makers`."""
        self._stream.count = count
        self._stream.begin.set(epoch, batch)
        with self._named():
            running = iter(self._loader)
        if running is not self._running:
            self._running = running
            # What only the garbage collector ends, torch waits 5 s a worker for.
            self._end = weakref.finalize(self, _end_workers, running)

    def take(self) -> Made:
        """See `Makers`."""
        assert self._running is not None
        with self._named():
            made = next(self._running)
        return made._replace(batch=unpacked(made.batch, pin=self._pins))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Give the errors names for which DataLoader has no types of its own."""
        try:
            yield
        except RuntimeError as exc:
            if str(exc).startswith("DataLoader timed out"):
                raise WorkerError(_late(self._options["timeout"])) from exc
            if str(exc).startswith(_DIED):
                # What one died of is said by the first of two errors.
                first = str(exc.__cause__)
                raise WorkerError(first if first.startswith(_DIED) else str(exc)) from exc
            raise

    @property
    def gone(self) -> Sequence[int]:
        """See `Makers`."""
        workers = getattr(self._running, "_workers", ())
        return [number for number, one in enumerate(workers) if one.exitcode not in (None, 0)]

    def close(self) -> None:
        """See `Makers`."""
        if self._running is not None:
            self._running = None
            self._end()
            self._loader = DataLoader(self._stream, **self._options)


def _end_workers(running: Any) -> None:
    # Torch has no public name for it; without, its own garbage collection does the same.
    if hasattr(running, "_shutdown_workers"):
        running._shutdown_workers()


def _nothing() -> None:
    pass


class _Stream(IterableDataset[Made]):
    """The batches of all epochs, as one loader process makes its share of them."""

    def __init__(self, make: Make, doings: Doings, prefetch: int) -> None:
        self._make = make
        self._doings = doings
        self._prefetch = prefetch
        self.count: int | None = None
        """Batches of an epoch; None where it does not end."""
        self.begin = SharedPlace()

    def __iter__(self) -> Iterator[Made]:
        worker = get_worker_info()
        assert worker is not None
        start, step = self.begin.get(), worker.num_workers

        def places() -> Iterator[tuple[int, int]]:
            return _places(*start, self.count, first=worker.id, step=step)

        lookahead = Lookahead(self._make, places(), most_bytes=MOST_BYTES // step)
        for epoch, batch in places():
            made = lookahead.make(epoch, batch, self._doings.note_of(worker.id, epoch, batch))
            sent = packed(made.batch)
            check_room(sent, workers=worker.num_workers, prefetch=self._prefetch)
            yield made._replace(batch=sent)


def _places(
    epoch: int, batch: int, count: int | None, *, first: int = 0, step: int = 1
) -> Iterator[tuple[int, int]]:
    """Yield every `step`-th place from the `first` on, epoch behind epoch."""
    batch += first
    while True:
        while count is not None and batch >= count:
            epoch, batch = epoch + 1, batch - count
        yield epoch, batch
        batch += step


def _as_is(made: Made) -> Made:
    return made


def _late(timeout_s: float) -> str:
    return f"it did not come within {timeout_s:g} s"


def _pins(pin_memory: bool) -> bool:
    return pin_memory and torch.cuda.is_available()
