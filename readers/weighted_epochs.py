"""Epochs in which several orders take turns in fixed proportions: pure arithmetic."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np

from clipshards.readers.epochs import Located, items_of_passes
from clipshards.readers.order import Items, Order, derived_seed, permute

Stop = Literal["first_exhausted", "all_exhausted"]

# Positions over which proportions are exact, at least: fewer would be looked up one by one.
_WINDOW = 64
# And parts of which weights are whole numbers, else rounded to such.
_FINEST = 1000


class WeightedEpochs:
    """Epochs of a weighted mix.

    A window of W positions is W tickets, so many for each split, in an order of chance that
    is the same in all epochs, so that all are of one length.
    """

    def __init__(
        self, orders: list[Order], counts: list[int], first: Items, seed: int, stop: Stop | int
    ) -> None:
        self._orders = orders
        self._counts = np.array(counts, dtype=np.int64)
        self._tickets = np.concatenate(([0], np.cumsum(self._counts))).astype(np.int64)
        self._first = first
        self._seed = derived_seed(seed, len(orders))
        sizes = np.array([len(order) for order in orders], dtype=np.int64)
        self.length = stop if isinstance(stop, int) else self._length(sizes, stop)
        # Passes of each split in an epoch, so that the next epoch begins with others.
        self._passes = -(-self._given(self.length) // sizes)

    def _length(self, sizes: Items, stop: Stop) -> int:
        windows = sizes // self._counts
        if stop == "first_exhausted":
            window = int(windows.min())
        else:
            # A window earlier than the last one whose end all must have reached.
            window = max(int((-(-sizes // self._counts)).max()) - 1, 0)
        start = window * int(self._tickets[-1])
        given = window * self._counts
        for place, source in enumerate(self._sources_at(window)):
            if stop == "all_exhausted" and (given >= sizes).all():
                return start + place
            if stop == "first_exhausted" and given[source] == sizes[source]:
                return start + place
            given[source] += 1
        return start + int(self._tickets[-1])

    def _given(self, length: int) -> Items:
        """Return how many items of each split the first positions are."""
        window, rest = divmod(length, int(self._tickets[-1]))
        last = self._sources_at(window)[:rest]
        return window * self._counts + np.bincount(last, minlength=len(self._counts))

    def _sources_at(self, window: int) -> Items:
        """Return the split of each position of a window."""
        total = int(self._tickets[-1])
        drawn = permute(
            np.arange(total, dtype=np.int64), items=total, seed=self._seed, epoch=window
        )
        found: Items = np.searchsorted(self._tickets, drawn, side="right") - 1
        return found

    def _drawn(self, windows: Items, slots: Items) -> tuple[Items, Items]:
        """Return the split of each position, and how many of its items came before."""
        sources, before = np.empty_like(slots), np.empty_like(slots)
        for window in np.unique(windows):
            those = windows == window
            drawn = self._sources_at(int(window))
            for place, count in enumerate(self._counts):
                mine = those & (drawn[slots] == place)
                sources[mine] = place
                before[mine] = window * count + np.cumsum(drawn == place)[slots[mine]] - 1
        return sources, before

    def locate(self, epoch: int, positions: Items) -> Located:
        """See `Epochs`."""
        sources, before = self._drawn(*np.divmod(positions, self._tickets[-1]))
        units, passes = np.empty_like(positions), np.empty_like(positions)
        for place, order in enumerate(self._orders):
            those = sources == place
            numbers, inside = np.divmod(before[those], len(order))
            numbers = numbers + epoch * self._passes[place]
            units[those] = self._first[place] + items_of_passes(order, inside, numbers)
            passes[those] = numbers
        return Located(units, passes)


def proportions(weights: Sequence[float | Fraction]) -> list[int]:
    """Return how many positions of a window each split has.

    >>> proportions([3, 1]), proportions([0.5, 0.25, 0.25])
    ([48, 16], [32, 16, 16])
    """
    if any(not 0 < weight < math.inf for weight in weights):
        raise ValueError(f"weights {list(weights)}: expected numbers above 0")
    exact = [Fraction(weight) for weight in weights]
    common = math.lcm(*(weight.denominator for weight in exact))
    counts = [int(weight * common) for weight in exact]
    counts = [count // math.gcd(*counts) for count in counts]
    if sum(counts) > _FINEST:
        # Thousandths, the largest remainders rounded up.
        shares = [weight * _FINEST / sum(exact) for weight in exact]
        counts = [int(share) for share in shares]
        rest = sorted(range(len(shares)), key=lambda n: counts[n] - shares[n])
        for place in rest[: _FINEST - sum(counts)]:
            counts[place] += 1
    if min(counts) < 1:
        raise ValueError(f"weights {list(weights)}: one of them is below a thousandth of all")
    scale = -(-_WINDOW // sum(counts))
    return [count * scale for count in counts]
