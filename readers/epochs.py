"""Epochs: how often, and in which order, the items of a split come up between two of them."""

import math
import numbers
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np

from clipshards.readers.order import Items, Order, forget

Repeat = int | float | Fraction | None
"""Passes of an epoch: a whole number of them, a part of one, or None for no end."""

_BLOCK = 1024
_KEPT_BLOCKS = 4

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
            TypeError, ValueError: As for `check_repeat`.
        """
        repeat = check_repeat(repeat)
        self._order = order
        self._items = len(order)
        self._passes = _ENDLESS_PASSES if repeat is None else math.ceil(repeat)
        self.length = None if repeat is None else self._length(repeat)

    def _length(self, repeat: Fraction) -> int:
        # Where there are items, an epoch has one at least.
        return max(math.floor(repeat * self._items + Fraction(1, 2)), min(self._items, 1))

    def locate(self, epoch: int, positions: Items) -> Located:
        """See `Epochs`."""
        passes, inside = np.divmod(positions, max(self._items, 1))
        passes = passes + epoch * self._passes
        return Located(items_of_passes(self._order, inside, passes), passes)

    def positions_of(self, item: int, epoch: int) -> Iterator[int]:
        """Yield where an item stands in an epoch that ends: `locate` backwards."""
        for own in range(self._passes):
            number = epoch * self._passes + own
            position = own * self._items + self._order.position_of(item, number=number)
            if self.length is not None and position < self.length:
                yield position


class BlockEpochs:
    """The same epochs, looked up in blocks: a lookup costs the same for 1 position and for 1000.

    For several threads at a time, which may look up a block twice.
    """

    def __init__(self, epochs: Epochs, *, units: int) -> None:
        """Set up.

        Args:
            epochs: To be looked up.
            units: Of a pass: a block of many short passes would cost more than it saves.
        """
        self._epochs = epochs
        self._size = min(_BLOCK, max(units, 1))
        self._blocks: OrderedDict[tuple[int, int], Located] = OrderedDict()
        self.length = epochs.length

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process gets: what is kept for speed is found anew there."""
        return self.__dict__ | {"_blocks": OrderedDict()}

    def locate(self, epoch: int, positions: Items) -> Located:
        """See `Epochs`."""
        if not len(positions):
            return self._epochs.locate(epoch, positions)
        first, last = int(positions.min()) // self._size, int(positions.max()) // self._size
        if last - first > 1:
            return self._epochs.locate(epoch, positions)
        blocks = [self._block(epoch, number) for number in range(first, last + 1)]
        items, passes = (
            column[0] if len(column) == 1 else np.concatenate(column)
            for column in zip(*blocks, strict=True)
        )
        inside = positions - first * self._size
        return Located(items[inside], passes[inside])

    def _block(self, epoch: int, number: int) -> Located:
        block = self._blocks.get((epoch, number))
        if block is None:
            stop = (number + 1) * self._size
            if self.length is not None:
                stop = min(stop, self.length)
            block = self._epochs.locate(epoch, np.arange(number * self._size, stop, dtype=np.int64))
            self._blocks[epoch, number] = block
            forget(self._blocks, _KEPT_BLOCKS)
        return block


def items_of_passes(order: Order, positions: Items, passes: Items) -> Items:
    """Return the items at positions of several passes."""
    items = np.empty_like(positions)
    for number in np.unique(passes):
        those = passes == number
        items[those] = order.items_at(positions[those], number=int(number))
    return items


def check_repeat(repeat: object) -> Fraction | None:
    """Return the passes of an epoch as a fraction; None for no end.

    Raises:
        TypeError: It is no number.
        ValueError: It is not above 0, or 2**31 and more.
    """
    if repeat is None:
        return None
    if isinstance(repeat, bool) or not isinstance(repeat, numbers.Real | np.number):
        raise TypeError(f"repeat: expected a number, or None for no end, got {repeat!r}")
    number = float(repeat)
    if not 0 < number < 2**31:
        raise ValueError(f"repeat {repeat}: expected a number above 0, or None for no end")
    return Fraction(repeat) if isinstance(repeat, numbers.Rational) else Fraction(number)
