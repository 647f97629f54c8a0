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
from clipshards.readers.batches import Batches, BatchPosition
from clipshards.readers.clips import Clip
from clipshards.readers.collate import collate_items
from clipshards.readers.epochs import BlockEpochs
from clipshards.readers.items import ItemReader, OnError, Transform
from clipshards.readers.mixing import Source
from clipshards.readers.order import derived_seed
from clipshards.readers.ranks import Ranks

Collate = Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
"""Makes a batch from items, or from what a transform made of them."""

Note = Callable[[int, int], None]
"""Told the number of a split and of an item of it before this is read."""


class Made(NamedTuple):
    """A batch, and what it took."""

    batch: dict[str, Any]
    costs: Costs


class BatchMaker:
    """Makes any batch of any epoch; for several threads at a time."""

    def __init__(
        self,
        source: Source,
        batches: Batches,
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

    def make(self, epoch: int, batch: int, ranks: Ranks, note: Note | None = None) -> Made:
        """Return a rank's share of one batch of an epoch.

        Raises:
            DecodeError, FormatError, StorageError: A sample cannot be had; the message
                names it.
        """
        started = time.monotonic()
        taken = self._batches.take(epoch, batch, rank=ranks.rank, ranks=ranks.world_size)
        tally = Tally()
        items = []
        places = [self._source.place_of(unit) for unit in taken.items.tolist()]
        wanted = zip(places, taken.passes.tolist(), strict=True)
        for split, group in groupby(wanted, key=lambda one: one[0].split):
            of_split = list(group)
            numbers = [place.item for place, _ in of_split]
            passes = list(map(itemgetter(1), of_split))
            copies = [place.copy for place, _ in of_split]
            reading = self._readers[split].read_several(numbers, passes, tally, copies=copies)
            for number in numbers:
                if note is not None:
                    note(split, number)
                found = next(reading)
                items.append(found if len(self._readers) == 1 else {**found, "source": split})
            reading.close()
        made = dict(self._collate(items))
        if self._batches.tail == "pad":
            made["valid"] = torch.from_numpy(taken.valid)
        if self._replaces:
            replaced = np.zeros(len(items), dtype=bool)
            replaced[tally.replaced] = True
            made["replaced"] = torch.from_numpy(replaced)
        made["position"] = BatchPosition(epoch, batch, batch * self._batches.global_batch)
        finished = time.monotonic()
        costs = Costs(
            items=len(items),
            replaced=len(tally.replaced),
            storage_s=tally.storage_s,
            decode_s=finished - started - tally.storage_s,
            bytes_fetched=tally.bytes_fetched,
            bytes_used=tally.bytes_used,
            finished_s=finished,
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
