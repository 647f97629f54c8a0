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


def default_tail(*, shuffle: bool) -> Tail:
    """Return what a run does with its last batches unless it is told otherwise."""
    return "pad" if shuffle else "ragged"


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

    Batch t holds the positions t*G to (t+1)*G of the epoch. Inside it items are sorted as
    they are stored, so that neighbours are read one behind the other, and each rank takes
    its slice.
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
        found = self.epochs.locate(epoch, positions)
        if self.in_turn:
            mine = np.arange(rank, len(positions), ranks)
        else:
            order = np.lexsort((found.passes, found.items))
            mine = order[_share(len(order), rank, ranks) : _share(len(order), rank + 1, ranks)]
        return BatchItems(found.items[mine], found.passes[mine], valid[mine])


def _share(items: int, rank: int, ranks: int) -> int:
    """Return how many items of a batch belong to the ranks before one."""
    return items * rank // ranks
