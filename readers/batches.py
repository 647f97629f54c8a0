"""Which items make up which batch: pure arithmetic on the reading order."""

from typing import NamedTuple

import numpy as np

from clipshards.readers.order import Items, permute


class BatchPosition(NamedTuple):
    """Where a batch stands in the training run."""

    epoch: int
    batch: int
    """Number of the batch in its epoch, counted from 0."""
    start: int
    """Items before it in its epoch."""


def batch_count(items: int, batch_size: int) -> int:
    """Return the batches of an epoch; the last one holds what is left.

    >>> batch_count(10, 4), batch_count(0, 4)
    (3, 0)
    """
    return -(-items // batch_size)


def batch_items(batch: int, *, items: int, batch_size: int, epoch: int, seed: int | None) -> Items:
    """Return the items of one batch, in storage order.

    Which items share a batch is the reading order's choice; inside it they are sorted, so
    that neighbours in a shard are read one behind the other.

    Args:
        batch: Number of the batch, in [0, batch_count).
        items: Items of the split.
        batch_size: Items in a batch.
        epoch: Counted from 0.
        seed: Of the shuffle; None for storage order.

    Returns:
        int64 of shape (n,), ascending, n at most `batch_size`.
    """
    positions = np.arange(batch * batch_size, min((batch + 1) * batch_size, items), dtype=np.int64)
    if seed is None:
        return positions
    return np.sort(permute(positions, items=items, seed=seed, epoch=epoch))
