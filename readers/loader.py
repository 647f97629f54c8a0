"""Batches epoch by epoch, whoever makes them, and what was handed out of what was made."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from clipshards.packer.format.errors import WorkerError
from clipshards.readers.accounting import Accounting
from clipshards.readers.batch_maker import Made
from clipshards.readers.cursor import Cursor
from clipshards.readers.lookahead import Make
from clipshards.readers.makers import Here, Makers, Processes, Threads
from clipshards.readers.ranks import gather, usable_processors

if TYPE_CHECKING:
    from clipshards.readers.data import ShardDataset


# Most of the work on their samples is Python's own: two threads would be in each other's way.
_ONE_THREAD = ("skeleton", "audio")


class Loader:
    """Batches of a `ShardDataset`, epoch by epoch, from threads or processes that stay.

    Each iteration gives one epoch: the one that was set, else the one after the last, or that
    one again where it was broken off. While it ends, the first batches of the next are already
    made. A state says what was handed out, whatever was prepared.
    """

    def __init__(
        self,
        dataset: "ShardDataset",
        cursor: Cursor,
        counts: Callable[[], tuple[int | None, int | None]],
        make: Make,
        *,
        workers: int | None,
        threads: int | None,
        prefetch: int,
        pin_memory: bool,
        timeout_s: float,
    ) -> None:
        """See `ShardDataset.loader`.

        Args:
            dataset: Whose batches they are.
            cursor: Of the data set.
            counts: Returns the batches of an epoch of this rank, and of all; None where an
                epoch does not end. Raises what `ShardDataset.__iter__` raises of ranks.
            make: Makes a batch.
            workers: As there.
            threads: As there.
            prefetch: As there.
            pin_memory: As there.
            timeout_s: As there.
        """
        if prefetch < 1:
            raise ValueError(f"prefetch {prefetch}: expected at least 1")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s {timeout_s}: expected above 0")
        if min(workers or 0, threads or 0) < 0 or (workers and threads):
            raise ValueError(f"workers {workers}, threads {threads}: expected one above 0 at most")
        if workers is None and threads is None:
            task = dataset.source.splits[0].manifest.task
            threads = 1 if task in _ONE_THREAD else usable_processors()
        self.dataset = dataset
        self._cursor = cursor
        self._counts = counts
        self._makers: Makers
        options: dict[str, Any] = {"pin_memory": pin_memory}
        if workers or threads:
            options |= {"prefetch": prefetch, "timeout_s": timeout_s}
        if workers:
            self._makers = Processes(make, workers=workers, **options)
        elif threads:
            self._makers = Threads(make, threads=threads, **options)
        else:
            self._makers = Here(make, **options)
        # What the makers give next.
        self._coming: tuple[int, int] | None = None
        self._account = Accounting(
            workers=workers or 0, threads=threads or 0, processors=usable_processors()
        )
        self._gave_s: float | None = None

    def __len__(self) -> int:
        """Return the number of batches in an epoch of this rank."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of one epoch, or what a loaded state left of it.

        Raises:
            WorkerError: A batch did not come in time, or who was to make it died; names the
                sample that was being read.
            DecodeError, FormatError, StorageError: A sample cannot be had; the message
                names it.
        """
        cursor = self._cursor
        count, of_all = self._counts()
        epoch, batch = begun = cursor.start()
        while count is None or batch < count:
            made = self._take(epoch, batch, count)
            batch += 1
            if batch == count:
                self._coming = (epoch + 1, 0)
                self._go_on(epoch)
            else:
                self._coming = (epoch, batch)
            cursor.next = (epoch, batch)
            yield made
        if (epoch, batch) == begun:  # nothing was left of it
            self._go_on(epoch)
        cursor.end(epoch, batch, of_all or 0)

    def _take(self, epoch: int, batch: int, count: int | None) -> dict[str, Any]:
        """Return a batch from the makers, who begin anew if another one would come."""
        asked_s = time.monotonic()
        if self._gave_s is not None:
            self._account = self._account.with_consumer(asked_s - self._gave_s)
        coming, self._coming = self._coming, None
        try:
            made = self._taken(epoch, batch, count, begins=coming != (epoch, batch))
        except BaseException:
            # They may be gone, or go on behind batches that are lost.
            self.close()
            raise
        self._gave_s = time.monotonic()
        self._account = self._account.with_batch(made.costs, asked_s=asked_s, got_s=self._gave_s)
        return made.batch

    def _taken(self, epoch: int, batch: int, count: int | None, *, begins: bool) -> Made:
        try:
            if begins:
                self._makers.begin(epoch, batch, count)
            made = self._makers.take()
        except WorkerError as exc:
            if self._makers.doings is None:
                raise
            doings, splits = self._makers.doings, self.dataset.source.splits
            where = "; ".join(doings.shown_of(maker, splits) for maker in self._makers.gone)
            where = where or doings.shown(epoch, batch, splits)
            raise WorkerError(f"batch {batch} of epoch {epoch}: {exc}; {where}") from exc
        if made.batch["position"][:2] != (epoch, batch):
            raise RuntimeError(
                f"expected batch {batch} of epoch {epoch}, got {made.batch['position']}"
            )
        return made

    def _go_on(self, epoch: int) -> None:
        """Let the next epoch follow, unless another one was set or a state loaded."""
        if self._cursor.begin == (epoch, 0):
            self._cursor.go_to(epoch + 1, 0)

    def close(self) -> None:
        """End threads and processes now, not only with the loader; iterating begins new ones."""
        self._coming = self._gave_s = None
        self._makers.close()

    def accounting(self, *, all_ranks: bool = False) -> Accounting:
        """Return where the time went since the loader was made.

        Args:
            all_ranks: Of all ranks together; then every rank has to call this.
        """
        return Accounting.sum(gather(self._account)) if all_ranks else self._account

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run, behind the last batch that was handed out."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `ShardDataset.load_state_dict`."""
        self.dataset.load_state_dict(state)
