"""Several splits as one stream: behind each other, by weights, or with rare classes repeated.

What `ShardDataset` takes in the place of a split. Each of them is units, counted through
all shards: an item is one unit, or several where it is repeated.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from clipshards.readers.epochs import Epochs, PassEpochs, Repeat
from clipshards.readers.order import Items, Order, derived_seed
from clipshards.readers.split import Split, check_opened
from clipshards.readers.weighted_epochs import Stop, WeightedEpochs, proportions


class UnitPlace(NamedTuple):
    """What a unit stands for."""

    split: int
    """Number of its split in `splits`."""
    item: int
    copy: int = 0
    """Which of several units of the item."""


class Source(Protocol):
    """Units of one or several splits."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """All splits that units stand for items of."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the units are, as JSON."""

    def __len__(self) -> int:
        """Return the number of units."""

    def place_of(self, unit: int) -> UnitPlace:
        """Return which item a unit stands for."""

    def epochs(self, *, seed: int | None, repeat: Repeat, longest_run: int | None = None) -> Epochs:
        """Return the sequence of units that each epoch is.

        Args:
            seed: Of the order; None for that of storage.
            repeat: Passes of an epoch.
            longest_run: Neighbours that stay together, at most; None for as many as the
                splits say.
        """


class Whole:
    """A split, item by item."""

    def __init__(self, split: Split) -> None:
        self.splits = (split,)
        self.shard_units = [shard.items for shard in split.manifest.shards]
        self.identity: dict[str, Any] = {"content_digest": split.manifest.content_digest}

    def __len__(self) -> int:
        """See `Source`."""
        return len(self.splits[0])

    def place_of(self, unit: int) -> UnitPlace:
        """See `Source`."""
        return UnitPlace(0, unit)

    def epochs(
        self, *, seed: int | None, repeat: Repeat, longest_run: int | None = None
    ) -> PassEpochs:
        """See `Source`."""
        return PassEpochs(_order(self, seed, longest_run), repeat)


class ClassBalanced:
    """A split whose rare classes come more often.

    An item comes ceil(r) times a pass, r being the greatest max(1, sqrt(threshold / f)) of its
    classes, f the share of items that have the class: the formula of mmengine's
    ClassBalancedDataset (Gupta, Dollar and Girshick, "LVIS", CVPR 2019, section 4.3). Each copy
    has random frames of its own. All indexes are read once, and a number is kept for each item.
    """

    def __init__(self, split: Split, threshold: float) -> None:
        """Count the classes.

        Args:
            split: With class ids.
            threshold: Share of items below which a class is rare, in (0, 1].

        Raises:
            ValueError: The threshold is out of range, or items have no class ids.
            CorruptShardError, StorageError: An index cannot be read.
        """
        check_opened(split)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold {threshold}: expected above 0, at most 1")
        labels = [split.class_ids(shard) for shard in range(len(split.manifest.shards))]
        counts: dict[int, int] = {}
        for of_shard in labels:
            for of_item in of_shard:
                for label in set(of_item):
                    counts[label] = counts.get(label, 0) + 1
        total = len(split)
        factors = {
            label: max(1.0, math.sqrt(threshold * total / count)) for label, count in counts.items()
        }
        self.splits = (split,)
        self._ends = [
            np.cumsum(
                [
                    math.ceil(max((factors[label] for label in of_item), default=1.0))
                    for of_item in s
                ],
                dtype=np.int64,
            )
            for s in labels
        ]
        self.shard_units = [int(ends[-1]) if len(ends) else 0 for ends in self._ends]
        self._first = np.concatenate(([0], np.cumsum(self.shard_units))).astype(np.int64)
        self.identity: dict[str, Any] = {
            "class_balanced": split.manifest.content_digest,
            "threshold": float(threshold),
        }

    def __len__(self) -> int:
        """See `Source`."""
        return int(self._first[-1])

    def place_of(self, unit: int) -> UnitPlace:
        """See `Source`."""
        shard = int(np.searchsorted(self._first, unit, side="right")) - 1
        ends, of_shard = self._ends[shard], unit - int(self._first[shard])
        inside = int(np.searchsorted(ends, of_shard, side="right"))
        copy = of_shard - (int(ends[inside - 1]) if inside else 0)
        return UnitPlace(0, self.splits[0].first_item_of(shard) + inside, copy)

    def epochs(
        self, *, seed: int | None, repeat: Repeat, longest_run: int | None = None
    ) -> PassEpochs:
        """See `Source`."""
        return PassEpochs(_order(self, seed, longest_run), repeat)


class Concat:
    """Splits one behind the other, as if they were one: shuffled, they are mixed."""

    def __init__(self, sources: "Sequence[Split | Whole | ClassBalanced]") -> None:
        """Put them behind each other.

        Args:
            sources: Splits, at least one.
        """
        if isinstance(sources, Split | Whole | ClassBalanced):
            raise TypeError(f"expected a list of splits, got {sources!r}")
        self._sources = [_shard_source(source) for source in sources]
        if not self._sources:
            raise ValueError("expected at least one split")
        self.splits: tuple[Split, ...] = tuple(
            split for source in self._sources for split in source.splits
        )
        self.shard_units: list[int] = [
            units for source in self._sources for units in source.shard_units
        ]
        self._first = _starts(self._sources)
        self.identity: dict[str, Any] = {"concat": [source.identity for source in self._sources]}

    def __len__(self) -> int:
        """See `Source`."""
        return int(self._first[-1])

    def place_of(self, unit: int) -> UnitPlace:
        """See `Source`."""
        return _place_in(self._sources, self._first, unit)

    def epochs(
        self, *, seed: int | None, repeat: Repeat, longest_run: int | None = None
    ) -> PassEpochs:
        """See `Source`."""
        return PassEpochs(_order(self, seed, longest_run), repeat)


class Weighted:
    """Splits mixed in fixed proportions, however large they are.

    Over each window of at least 64 positions the proportions are exact. Each split goes
    through its own passes; what it has given in an epoch when that ends begins anew.
    """

    def __init__(
        self,
        sources: "Sequence[Split | Whole | Concat | ClassBalanced]",
        weights: Sequence[float | Fraction],
        *,
        stop: Stop | int,
    ) -> None:
        """Mix them.

        Args:
            sources: At least one, none empty.
            weights: Share of each, in any unit; rounded to thousandths where they have no
                common measure of at least one.
            stop: End of an epoch: where the first of them would begin its second pass, where
                all of them have ended one, or a number of items.

        Raises:
            ValueError: Weights do not fit, a split is empty, or `stop` is none of these.
        """
        self._sources = [_shard_source(source) for source in sources]
        if not self._sources or len(weights) != len(self._sources):
            raise ValueError(f"{len(weights)} weights of {len(self._sources)} splits")
        if any(not len(source) for source in self._sources):
            raise ValueError("a split has no items: there is nothing to mix")
        self._counts = proportions(weights)
        if stop not in ("first_exhausted", "all_exhausted") and not (
            type(stop) is int and stop > 0
        ):
            raise ValueError(
                f"stop {stop!r}: expected first_exhausted, all_exhausted or a number of items"
            )
        self._stop = stop
        self.splits = tuple(split for source in self._sources for split in source.splits)
        self._first = _starts(self._sources)
        self.identity: dict[str, Any] = {
            "weighted": [source.identity for source in self._sources],
            "counts": self._counts,
            "stop": stop,
        }

    def __len__(self) -> int:
        """See `Source`."""
        return int(self._first[-1])

    def place_of(self, unit: int) -> UnitPlace:
        """See `Source`."""
        return _place_in(self._sources, self._first, unit)

    def epochs(self, *, seed: int | None, repeat: Repeat, longest_run: int | None = None) -> Epochs:
        """See `Source`; `repeat` must be 1, as `stop` says how long an epoch is.

        Raises:
            ValueError: It is not.
        """
        if repeat != 1:
            raise ValueError(f"repeat {repeat}: of a weighted mix, stop says how long an epoch is")
        orders = [
            _order(source, None if seed is None else derived_seed(seed, place), longest_run)
            for place, source in enumerate(self._sources)
        ]
        return WeightedEpochs(orders, self._counts, self._first, seed or 0, self._stop)


def as_source(source: object) -> Source:
    """Return what `ShardDataset` was given as a source.

    Raises:
        TypeError: It is none.
    """
    return source if isinstance(source, Weighted) else _shard_source(source)


def _shard_source(source: object) -> "Whole | ClassBalanced | Concat":
    if isinstance(source, Split):
        return Whole(source)
    if isinstance(source, Weighted):
        raise TypeError("a Weighted mix cannot be mixed again: give its splits and their weights")
    if not isinstance(source, Whole | ClassBalanced | Concat):
        raise TypeError(f"expected what open_dataset returns, or a mix of such, got {source!r}")
    return source


def _order(
    source: "Whole | ClassBalanced | Concat", seed: int | None, longest_run: int | None
) -> Order:
    run_length = min(split.manifest.run_length for split in source.splits)
    if len(source) != sum(map(len, source.splits)):
        run_length = 1  # the copies of an item are neighbours
    return Order(
        source.shard_units, seed=seed, run_length=min(run_length, longest_run or run_length)
    )


def _starts(sources: Sequence[Source]) -> Items:
    starts: npt.NDArray[np.int64] = np.concatenate(
        ([0], np.cumsum([len(source) for source in sources]))
    ).astype(np.int64)
    return starts


def _place_in(sources: Sequence[Source], first: Items, unit: int) -> UnitPlace:
    place = int(np.searchsorted(first, unit, side="right")) - 1
    found = sources[place].place_of(unit - int(first[place]))
    before = sum(len(source.splits) for source in sources[:place])
    return found._replace(split=before + found.split)
