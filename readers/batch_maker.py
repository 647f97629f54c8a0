"""One batch, from its number to its tensors: what is read, decoded, collated, and what it took."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch

from clipshards.readers.accounting import Costs, Tally
from clipshards.readers.batches import Batches, BatchItems, BatchPosition
from clipshards.readers.clips import Clip
from clipshards.readers.collate import collate_items
from clipshards.readers.epochs import BlockEpochs
from clipshards.readers.items import ItemReader, OnError, Reading, Transform
from clipshards.readers.mixing import Source
from clipshards.readers.order import derived_seed
from clipshards.readers.ranks import OwnRanks

Collate = Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
"""Makes a batch from items, or from what a transform made of them."""

Note = Callable[[int, int], None]
"""Told the number of a split and of an item of it before this is read."""


class Made(NamedTuple):
    """A batch, and what it took."""

    batch: dict[str, Any]
    costs: Costs


class Begun(NamedTuple):
    """A batch whose reads are planned, and under way where the storage is far."""

    epoch: int
    batch: int
    taken: BatchItems
    readings: list[tuple[int, Reading]]
    """Number of the split, and what is read of it."""
    seconds: float
    """That the planning took."""

    @property
    def bytes(self) -> int:
        """Of all reads."""
        return sum(reading.fetch.bytes_planned for _, reading in self.readings)


class BatchMaker:
    """Makes any batch of any epoch; for several threads at a time."""

    def __init__(
        self,
        source: Source,
        batches: Batches,
        ranks: OwnRanks,
        *,
        clip: Clip | None,
        seed: int,
        transform: Transform | None,
        collate: Collate,
        on_error: OnError,
    ) -> None:
        """See `ShardDataset`.

        Raises:
            ValueError: Items of the source's splits are not of one kind.
        """
        _check_kinds(source)
        self._source = source
        self._batches = replace(batches, epochs=BlockEpochs(batches.epochs, units=len(source)))
        self._ranks = ranks
        self._collate = collate
        self._replaces = on_error == "replace"
        self._readers = [
            ItemReader(
                split,
                clip=clip,
                # Splits with items of one number must not draw the same frames.
                seed=derived_seed(seed, place) if place else seed,
                transform=transform,
                on_error=on_error,
                # Our own collate copies what it is given.
                writable=collate is not collate_items,
            )
            for place, split in enumerate(source.splits)
        ]

    @property
    def far(self) -> bool:
        """Whether reads should be under way before they are needed."""
        return any(split.storage.far for split in self._source.splits)

    def begin(self, epoch: int, batch: int) -> Begun:
        """Plan the reads of this rank's share of one batch of an epoch; far ones are begun.

        Raises:
            FormatError, StorageError: The place of a sample cannot be had.
        """
        started = time.monotonic()
        rank, ranks = self._ranks.now
        taken = self._batches.take(epoch, batch, rank=rank, ranks=ranks)
        places = [self._source.place_of(unit) for unit in taken.items.tolist()]
        wanted = zip(places, taken.passes.tolist(), strict=True)
        readings = []
        for split, group in groupby(wanted, key=lambda one: one[0].split):
            of_split = list(group)
            numbers = [place.item for place, _ in of_split]
            passes = list(map(itemgetter(1), of_split))
            copies = [place.copy for place, _ in of_split]
            readings.append((split, self._readers[split].begin(numbers, passes, copies=copies)))
        return Begun(epoch, batch, taken, readings, time.monotonic() - started)

    def finish(self, begun: Begun, note: Note | None = None) -> Made:
        """Return a batch that was begun.

        Raises:
            DecodeError, FormatError, StorageError: A sample cannot be had; the message
                names it.
        """
        started = time.monotonic()
        epoch, batch, taken = begun.epoch, begun.batch, begun.taken
        tally = Tally()
        items = []
        for split, reading in begun.readings:
            found_items = self._readers[split].finish(reading, tally)
            for number in reading.items:
                if note is not None:
                    note(split, number)
                found = next(found_items)
                items.append(found if len(self._readers) == 1 else {**found, "source": split})
            found_items.close()
        made = dict(self._collate(items))
        if self._batches.tail == "pad":
            made["valid"] = torch.from_numpy(taken.valid)
        if self._replaces:
            replaced = np.zeros(len(items), dtype=bool)
            replaced[tally.replaced] = True
            made["replaced"] = torch.from_numpy(replaced)
        made["position"] = BatchPosition(epoch, batch, batch * self._batches.global_batch)
        finished = time.monotonic()
        making_s = finished - started + begun.seconds
        costs = Costs(
            items=len(items),
            replaced=len(tally.replaced),
            storage_s=tally.storage_s,
            decode_s=making_s - tally.storage_s,
            bytes_fetched=tally.bytes_fetched,
            bytes_used=tally.bytes_used,
            finished_s=finished,
            requests=tally.requests,
            again=tally.again,
            bytes_cached=tally.bytes_cached,
        )
        return Made(made, costs)


def _check_kinds(source: Source) -> None:
    for split in source.splits[1:]:
        for name in ("task", "labels"):
            first, other = (getattr(one.manifest, name) for one in (source.splits[0], split))
            if first != other:
                raise ValueError(
                    f"{split!r} has {name} {other}, {source.splits[0]!r} has {first}: "
                    "what is mixed must be of one kind"
                )
