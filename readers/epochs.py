"""Epochs: how often, and in which order, the items of a split come up between two of them."""

import math
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np

from clipshards.readers.order import Items, Order

Repeat = int | float | Fraction | None
"""Passes of an epoch: a whole number of them, a part of one, or None for no end."""

# Endless epochs must not share passes: none comes to as many.
_ENDLESS_PASSES = 1 << 32


class Located(NamedTuple):
    """What stands at some positions of an epoch."""

    items: Items
    """Counted in the order of storage."""
    passes: Items
    """Which time each comes up in the training run, counted from 0: its random frames hang
    on it."""


class Epochs(Protocol):
    """The sequence of items that each epoch is."""

    @property
    def length(self) -> int | None:
        """Items of an epoch; None where it does not end."""

    def locate(self, epoch: int, positions: Items) -> Located:
        """Return what stands at positions of an epoch, each in [0, length)."""


class PassEpochs:
    """Epochs of whole passes, one behind the other, each with an order of its own.

    Two passes of an epoch are not mixed: no item comes up for the third time before each
    came up twice. A part of a pass is the first part of its order.
    """

    def __init__(self, order: Order, repeat: Repeat) -> None:
        """Set up.

        Args:
            order: Of the items.
            repeat: Passes of an epoch.

        Raises:
            ValueError: `repeat` is not above 0.
        """
        self._order = order
        self._items = len(order)
        if repeat is not None and not (0 < repeat < math.inf):
            raise ValueError(f"repeat {repeat}: expected a number above 0, or None for no end")
        self._passes = _ENDLESS_PASSES if repeat is None else math.ceil(repeat)
        self.length = None if repeat is None else self._length(Fraction(repeat))

    def _length(self, repeat: Fraction) -> int:
        # Where there are items, an epoch has one at least.
        return max(math.floor(repeat * self._items + Fraction(1, 2)), min(self._items, 1))

    def locate(self, epoch: int, positions: Items) -> Located:
        """See `Epochs`."""
        passes, inside = np.divmod(positions, max(self._items, 1))
        passes = passes + epoch * self._passes
        items = np.empty_like(positions)
        for number in np.unique(passes):
            those = passes == number
            items[those] = self._order.items_at(inside[those], number=int(number))
        return Located(items, passes)
