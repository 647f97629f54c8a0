"""Which samples made a step of training, and in which steps a sample comes up."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from clipshards.packer.format.errors import NotFoundError
from clipshards.readers.batches import Batches, Tail
from clipshards.readers.epochs import PassEpochs
from clipshards.readers.order import Order
from clipshards.readers.split import Split


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
        tail: Tail = "pad",
    ) -> None:
        """Set up, with what `ShardDataset` was given.

        Args:
            split: From `open_dataset`.
            global_batch: Items in a batch of all ranks, at least 1.
            seed: Of the order; None without shuffle.
            repeat: Passes of an epoch.
            tail: What becomes of the last batch of an epoch.

        Raises:
            ValueError: One of them is out of range.
        """
        if global_batch < 1:
            raise ValueError(f"global_batch {global_batch}: expected at least 1")
        self._split = split
        run_length = split.manifest.run_length
        shards = [shard.items for shard in split.manifest.shards]
        self._order = Order(shards, seed=seed, run_length=run_length)
        epochs = PassEpochs(self._order, repeat)
        self._batches = Batches(epochs, global_batch, tail)
        self._length = epochs.length or 0
        self._passes = math.ceil(repeat)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self._batches.count or 0

    def batch(self, step: int) -> list[BatchRow]:
        """Return the items of a step, in the order of storage.

        Raises:
            IndexError: There is no such step.
        """
        if step < 0 or not self.steps_per_epoch:
            raise IndexError(f"step {step}: epochs have {self.steps_per_epoch} batches")
        taken = self._batches.take(*divmod(step, self.steps_per_epoch))
        rows = []
        for item, number, valid in zip(
            taken.items.tolist(), taken.passes.tolist(), taken.valid.tolist(), strict=True
        ):
            place = self._split.place_of(item)
            index = self._split.read_index(place.shard)
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
        for own in range(self._passes):
            number = epoch * self._passes + own
            position = own * len(self._order) + self._order.position_of(item, number=number)
            batch = position // self._batches.global_batch
            if position < self._length and batch < self.steps_per_epoch:
                yield batch
