"""Who makes the batches of a loader: its own process, threads of it, or processes beside it.

All give the same batches in the same order, one epoch behind the other without a stop.
"""

import queue
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, wait
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from clipshards.packer.format.errors import WorkerError
from clipshards.readers.batch_maker import Made, Note
from clipshards.readers.cursor import SharedPlace
from clipshards.readers.shared_memory import check_room
from clipshards.readers.waiting import Doings

# Seconds that threads have to end their batch when the loader or the process ends.
_ENDING_S = 30.0


class Make(Protocol):
    """Makes a batch of this rank."""

    def __call__(self, epoch: int, batch: int, note: Note | None = None) -> Made:
        """See `BatchMaker.make`."""


class Makers(Protocol):
    """Makes batches one behind the other, from some place on."""

    @property
    def doings(self) -> Doings | None:
        """What each of them is at, where they are others than who waits."""

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

    def __init__(self, make: Make, *, pin_memory: bool) -> None:
        self._make = make
        self._pins = _pins(pin_memory)
        self._coming: Iterator[tuple[int, int]] = iter(())

    def begin(self, epoch: int, batch: int, count: int | None) -> None:
        """See `Makers`."""
        self._coming = _places(epoch, batch, count)

    def take(self) -> Made:
        """See `Makers`."""
        made = self._make(*next(self._coming))
        return made._replace(batch=_pinned(made.batch)) if self._pins else made

    def close(self) -> None:
        """See `Makers`."""


class Threads:
    """Threads of this process make batches ahead."""

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
        self._begun: deque[Future[Made]] = deque()
        self._tasks: _Tasks | None = None
        self._slot = 0

    def begin(self, epoch: int, batch: int, count: int | None) -> None:
        """See `Makers`."""
        while self._begun:
            self._begun.popleft().cancel()
        self._coming = _places(epoch, batch, count)

    def take(self) -> Made:
        """See `Makers`."""
        if self._tasks is None:
            self._tasks = queue.SimpleQueue()
            started = [
                threading.Thread(
                    target=_work,
                    args=(self._tasks, self._make, self._pins),
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
            self._tasks.put((future, epoch, batch, note))
            self._begun.append(future)
        first = self._begun.popleft()
        done, _ = wait([first], self._timeout_s)
        if not done:
            raise WorkerError(_late(self._timeout_s))
        return first.result()

    def close(self) -> None:
        """See `Makers`."""
        if self._tasks is not None:
            self._tasks = None
            self._end()


_Tasks = queue.SimpleQueue[tuple[Future[Made], int, int, Note] | None]


def _work(tasks: _Tasks, make: Make, pins: bool) -> None:
    """Make batches until told to end. Knows nothing of the loader, which could not go else."""
    while (task := tasks.get()) is not None:
        future, epoch, batch, note = task
        del task
        if future.set_running_or_notify_cancel():
            try:
                made = make(epoch, batch, note)
                future.set_result(made._replace(batch=_pinned(made.batch)) if pins else made)
                del made
            except BaseException as exc:  # noqa: BLE001 (raised where the batch is taken)
                future.set_exception(exc)
        # Nor does an idle thread keep a batch in memory.
        del future, note


def _end(tasks: _Tasks, begun: deque[Future[Made]], threads: list[threading.Thread]) -> None:
    for future in begun:
        future.cancel()
    begun.clear()
    for _ in threads:
        tasks.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(_ENDING_S)


class Processes:
    """Loader processes of PyTorch's DataLoader, which stay."""

    def __init__(
        self, make: Make, *, workers: int, prefetch: int, pin_memory: bool, timeout_s: float
    ) -> None:
        self.doings = Doings(workers)
        self._stream = _Stream(make, self.doings, prefetch)
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

    def begin(self, epoch: int, batch: int, count: int | None) -> None:
        """See `Makers`."""
        self._stream.count = count
        self._stream.begin.set(epoch, batch)
        self._running = iter(self._loader)

    def take(self) -> Made:
        """See `Makers`."""
        assert self._running is not None
        try:
            return next(self._running)
        except RuntimeError as exc:
            # DataLoader has no types of its own for these two.
            if str(exc).startswith("DataLoader timed out"):
                raise WorkerError(_late(self._options["timeout"])) from exc
            if str(exc).startswith("DataLoader worker (pid"):
                raise WorkerError(str(exc)) from exc
            raise

    def close(self) -> None:
        """See `Makers`."""
        # What the garbage collector ends later, it waits 5 s a worker for.
        shutdown = getattr(self._running, "_shutdown_workers", None)
        self._running = None
        if shutdown is not None:
            shutdown()
            self._loader = DataLoader(self._stream, **self._options)


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
        for epoch, batch in _places(
            *self.begin.get(), self.count, first=worker.id, step=worker.num_workers
        ):
            made = self._make(epoch, batch, self._doings.note_of(worker.id, epoch, batch))
            check_room(made.batch, workers=worker.num_workers, prefetch=self._prefetch)
            yield made


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
    return pin_memory and torch.accelerator.is_available()


def _pinned(value: Any) -> Any:
    """Return a batch with its tensors in page-locked memory."""
    if isinstance(value, torch.Tensor):
        return value.pin_memory()
    if isinstance(value, dict):
        return {name: _pinned(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_pinned(one) for one in value]
    return value
