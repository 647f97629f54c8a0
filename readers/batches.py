"""Which items make up which batch, and whose they are: pure arithmetic on the epochs."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from clipshards.readers.epochs import Epochs
from clipshards.readers.order import Items

Tail = Literal["pad", "drop", "ragged"]
"""What becomes of the items that fill no whole batch at the end of an epoch.

`pad`: a whole batch all the same, filled up from the beginning of the epoch, and marked.
`drop`: they are left out.
`ragged`: a smaller batch, dealt out evenly; a rank that gets nothing has one batch less.
"""


# Runs of neighbours that a batch is made of, at least.
_LEAST_RUNS = 8


def default_tail(*, shuffle: bool) -> Tail:
    """Return what a run does with its last batches unless it is told otherwise."""
    return "pad" if shuffle else "ragged"


def longest_run(global_batch: int) -> int:
    """Return how many neighbours may stay together, lest they be all of a batch in every pass."""
    return max(global_batch // _LEAST_RUNS, 1)


class BatchPosition(NamedTuple):
    """Where a batch stands in the training run."""

    epoch: int
    batch: int
    """Number of the batch in its epoch, counted from 0."""
    start: int
    """Items of the epoch before it, of all ranks."""


class BatchItems(NamedTuple):
    """The items of one batch, in the order of storage."""

    items: Items
    passes: Items
    """Which time each comes up in the training run."""
    valid: npt.NDArray[np.bool_]
    """False for what fills up the last batch of an epoch."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The global batches of each epoch: the same on any number of ranks and workers.

    Batch t holds the positions t*G to (t+1)*G of the epoch. Each rank takes a slice of them,
    what fills up a last batch dealt out evenly, and sorts it as it is stored, so that
    neighbours are read one behind the other. Sorted before it is sliced, a batch of a set
    that is packed class by class would give each rank some of the classes only.
    """

    epochs: Epochs
    global_batch: int
    """G, items of all ranks together; a multiple of the number of ranks."""
    tail: Tail
    in_turn: bool = False
    """Deal the positions out to the ranks one by one, unsorted, as mmengine does."""

    def __post_init__(self) -> None:
        if type(self.global_batch) is not int or self.global_batch < 1:
            raise ValueError(f"global_batch {self.global_batch!r}: expected at least 1")
        if self.tail not in get_args(Tail):
            raise ValueError(f"tail {self.tail!r}: expected one of {get_args(Tail)}")

    @property
    def count(self) -> int | None:
        """Batches of an epoch; None where it does not end."""
        length = self.epochs.length
        if length is None:
            return None
        return (
            length // self.global_batch if self.tail == "drop" else -(-length // self.global_batch)
        )

    def count_of(self, rank: int, ranks: int) -> int | None:
        """Return the batches of an epoch in which a rank has items."""
        count, length = self.count, self.epochs.length
        if count is None or length is None or self.tail != "ragged":
            return count
        left = length % self.global_batch
        shares = (
            left > rank
            if self.in_turn
            else _share(left, rank, ranks) < _share(left, rank + 1, ranks)
        )
        return count - (left > 0 and not shares)

    def take(self, epoch: int, batch: int, *, rank: int = 0, ranks: int = 1) -> BatchItems:
        """Return a rank's share of a batch; of one rank, all of it.

        Args:
            epoch: Counted from 0.
            batch: In [0, count).
            rank: In [0, ranks).
            ranks: Divides the global batch.
        """
        start = batch * self.global_batch
        positions = np.arange(start, start + self.global_batch, dtype=np.int64)
        length = self.epochs.length
        valid = np.ones(len(positions), dtype=bool)
        if length is not None and positions[-1] >= length:
            valid = positions < length
            if self.tail == "ragged":
                positions, valid = positions[valid], valid[valid]
            positions = positions % length
        if self.in_turn:
            mine = np.arange(rank, len(positions), ranks)
        else:
            left = int(np.count_nonzero(valid))
            pads = len(positions) - left
            # The valid ones come first: of both kinds, each rank takes a slice.
            first, last = (_share(left, one, ranks) for one in (rank, rank + 1))
            pad, last_pad = (
                left + _share(left + pads, one, ranks) - _share(left, one, ranks)
                for one in (rank, rank + 1)
            )
            mine = np.concatenate((np.arange(first, last), np.arange(pad, last_pad)))
        found, valid = self.epochs.locate(epoch, positions[mine]), valid[mine]
        if not self.in_turn:
            order = np.lexsort((found.passes, found.items))
            return BatchItems(found.items[order], found.passes[order], valid[order])
        return BatchItems(found.items, found.passes, valid)


def _share(items: int, rank: int, ranks: int) -> int:
    """Return how many items of a batch belong to the ranks before one."""
    return items * rank // ranks
