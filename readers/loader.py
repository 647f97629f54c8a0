"""Loader processes that stay, epoch after epoch, and what was handed out of what they made."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from clipshards.readers.cursor import Cursor, SharedPlace

if TYPE_CHECKING:
    from clipshards.readers.data import ShardDataset


class Loader:
    """Batches of a `ShardDataset`, epoch by epoch, from loader processes that stay.

    Each iteration gives one epoch: the one that was set, else the one after the last. While
    it ends, the first batches of the next are already made. A state says what was handed
    out, whatever the workers have prepared.
    """

    def __init__(
        self,
        dataset: "ShardDataset",
        cursor: Cursor,
        counts: Callable[[], tuple[int | None, int | None]],
        *,
        workers: int,
        prefetch: int,
        pin_memory: bool,
    ) -> None:
        """See `ShardDataset.loader`.

        Args:
            dataset: Makes the batches.
            cursor: Of the data set.
            counts: Returns the batches of an epoch of this rank, and of all; None where an
                epoch does not end. Raises what `ShardDataset.__iter__` raises of ranks.
            workers: Loader processes.
            prefetch: Batches that each prepares ahead.
            pin_memory: As for DataLoader.
        """
        if prefetch < 1:
            raise ValueError(f"prefetch {prefetch}: expected at least 1")
        self.dataset = dataset
        self._cursor = cursor
        self._counts = counts
        self._stream = _Stream(dataset)
        self._options: dict[str, Any] = {
            "batch_size": None,
            "num_workers": workers,
            "prefetch_factor": prefetch if workers else None,
            "persistent_workers": workers > 0,
            "pin_memory": pin_memory,
        }
        self._batches = DataLoader(self._stream, **self._options)
        self._running: Iterator[dict[str, Any]] | None = None
        # What the running stream gives next.
        self._coming: tuple[int, int] = (-1, 0)

    def __len__(self) -> int:
        """Return the number of batches in an epoch of this rank."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of one epoch, or what a loaded state left of it."""
        cursor = self._cursor
        count, of_all = self._counts()
        self._stream.count = count
        epoch, batch = cursor.start()
        while count is None or batch < count:
            made = self._take(epoch, batch)
            batch += 1
            if batch == count:
                self._coming = (epoch + 1, 0)
                self._go_on(epoch)
            else:
                self._coming = (epoch, batch)
            cursor.next = (epoch, batch)
            yield made
        self._go_on(epoch)
        cursor.end(epoch, batch, of_all or 0)

    def _take(self, epoch: int, batch: int) -> dict[str, Any]:
        """Return a batch from the running stream, or from a new one that begins with it."""
        if self._running is None or self._coming != (epoch, batch):
            self._stream.begin.set(epoch, batch)
            self._running = iter(self._batches)
        try:
            made = next(self._running)
            if made["position"][:2] != (epoch, batch):
                raise RuntimeError(
                    f"expected batch {batch} of epoch {epoch}, a worker gave {made['position']}"
                )
        except BaseException:
            # Workers may be gone, or go on behind batches that are lost: take new ones. The old
            # ones end now: what the garbage collector ends later, it waits 5 s each for.
            shutdown = getattr(self._running, "_shutdown_workers", None)
            self._running = None
            if shutdown is not None:
                shutdown()
            self._batches = DataLoader(self._stream, **self._options)
            raise
        return made

    def _go_on(self, epoch: int) -> None:
        """Let the next epoch follow, unless another one was set or a state loaded."""
        if self._cursor.begin == (epoch, 0):
            self._cursor.go_to(epoch + 1, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run, behind the last batch that was handed out."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `ShardDataset.load_state_dict`."""
        self.dataset.load_state_dict(state)


class _Stream(IterableDataset[dict[str, Any]]):
    """The batches of all epochs, one epoch behind the other."""

    def __init__(self, dataset: "ShardDataset") -> None:
        self._dataset = dataset
        self.count: int | None = 0
        """Batches of an epoch; None where it does not end."""
        self.begin = SharedPlace()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch, batch = self.begin.get()
        batch += first
        count = self.count
        while count != 0:
            while count is not None and batch >= count:
                epoch, batch = epoch + 1, batch - count
            yield self._dataset.read_batch(epoch, batch)
            batch += step
