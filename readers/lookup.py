"""Which samples made a step of training, and in which steps a sample comes up."""

import operator
from collections.abc import Iterator
from typing import NamedTuple

from clipshards.packer.format.errors import NotFoundError
from clipshards.readers.batches import Batches, Tail, default_tail, longest_run
from clipshards.readers.checkpoint import MAX_EPOCHS
from clipshards.readers.epochs import check_repeat
from clipshards.readers.mixing import Whole
from clipshards.readers.split import Split, check_opened


class BatchRow(NamedTuple):
    """One item of a batch."""

    key: str
    id: str
    item: int
    """Which item of the sample."""
    shard: str
    pass_number: int
    """Which time it comes up in the run, counted from 0."""
    valid: bool
    """False for what fills up the last batch of an epoch."""


class Coming(NamedTuple):
    """When an item comes up."""

    key: str
    item: int
    """Which item of the sample."""
    epoch: int
    batch: int
    """Of its epoch."""
    step: int
    """The same, counted through all epochs."""


class Lookup:
    """The order of a run over one split, asked from both sides; no sample is read."""

    def __init__(
        self,
        split: Split,
        *,
        global_batch: int,
        seed: int | None = 0,
        repeat: int | float = 1,
        tail: Tail | None = None,
    ) -> None:
        """Set up, with what `ShardDataset` was given.

        Args:
            split: From `open_dataset`.
            global_batch: Items in a batch of all ranks, at least 1.
            seed: Of the order; None without shuffle.
            repeat: Passes of an epoch.
            tail: What becomes of the last batch of an epoch; default: as for `ShardDataset`.

        Raises:
            TypeError, ValueError: One of them is out of range, or of another type.
        """
        check_opened(split)
        self._split = split
        passes = check_repeat(repeat)
        if passes is None:
            raise ValueError("repeat None: what does not end is not to be looked through")
        global_batch = operator.index(global_batch)
        self._epochs = Whole(split).epochs(
            seed=seed, repeat=passes, longest_run=longest_run(global_batch)
        )
        tail = tail or default_tail(shuffle=seed is not None)
        self._batches = Batches(self._epochs, global_batch, tail)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self._batches.count or 0

    def batch(self, step: int) -> list[BatchRow]:
        """Return the items of a step, in the order of storage.

        Raises:
            IndexError: There is no such step.
        """
        steps = self.steps_per_epoch
        if not 0 <= step < steps * MAX_EPOCHS:
            raise IndexError(f"step {step}: epochs have {steps} batches")
        taken = self._batches.take(*divmod(step, steps))
        rows = []
        index, shard_of_index = None, -1
        for item, number, valid in zip(
            taken.items.tolist(), taken.passes.tolist(), taken.valid.tolist(), strict=True
        ):
            place = self._split.place_of(item)
            # Items come in the order of storage: those of a shard one behind the other.
            if index is None or place.shard != shard_of_index:
                index, shard_of_index = self._split.read_index(place.shard), place.shard
            key, name = index.keys[place.sample], index.ids[place.sample]
            shard = self._split.manifest.shards[place.shard].name
            rows.append(BatchRow(key, name, place.item, shard, number, valid))
        return rows

    def comings(self, key_or_id: str, *, epochs: int) -> Iterator[Coming]:
        """Yield the steps of the first epochs in which items of a sample come up.

        What only fills up a last batch is not counted.

        Args:
            key_or_id: Of the sample; of an id that several have, all of them.
            epochs: How many epochs to look through.

        Raises:
            NotFoundError: There is no such sample.
        """
        found = list(self._split.find(key_or_id))
        if not found:
            raise NotFoundError(f"{self._split!r}: no sample has the key or id {key_or_id!r}")
        for place in found:
            index = self._split.read_index(place.shard)
            first = self._split.first_item_of(place.shard) + sum(index.items[: place.sample])
            for item in range(index.items[place.sample]):
                for epoch in range(epochs):
                    for batch in self._batches_of(first + item, epoch):
                        step = epoch * self.steps_per_epoch + batch
                        yield Coming(index.keys[place.sample], item, epoch, batch, step)

    def _batches_of(self, item: int, epoch: int) -> Iterator[int]:
        for position in self._epochs.positions_of(item, epoch):
            batch = position // self._batches.global_batch
            if batch < self.steps_per_epoch:
                yield batch
