"""The reading order: a keyed permutation of all items, computed position by position.

A pass gives every item once. Its shards are permuted, and cut into windows of consecutive
ones (most splits are a single window); the items of a window are permuted as a whole, in
runs of neighbours. So the memory is a few numbers a shard, and an order that is good for
100 million items needs the indexes of one window at a time.

Nothing is stored per item: a generalized Feistel network permutes [0, a*b), where a and b are
near the root of the number of items and a*b hardly above it, and walks on from a value
outside until it falls inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
CT-RSA 2002). The round function is the finaliser of splitmix64 (Steele, Lea and Flood,
OOPSLA 2014).
"""

import math
import operator
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

Items = npt.NDArray[np.int64]

ORDER_VERSION = 2
"""Of the arithmetic below: with another one, the same seed gives another order."""
WINDOW_SHARDS = 1024
"""Shards whose items are permuted as a whole."""

_ROUNDS = 6
# On smaller sides than this, a few rounds do not reach all permutations alike.
_LEAST_SIDE = 4
_MASK64 = (1 << 64) - 1
# Passes that a batch can reach into, and one more.
_KEPT_PASSES = 3
# Likewise, for loader threads that are batches apart.
_KEPT_WINDOWS = 8
# What is permuted: the shards of a pass, or the runs of its window number n, as n + 1.
_SHARDS = 0


@dataclass(frozen=True, slots=True)
class _Pass:
    """The shards of one pass, in their order."""

    shards: Items
    starts: Items
    """Position of the first item of each, and the number of all items at the end."""


@dataclass(frozen=True, slots=True)
class _Window:
    """Consecutive shards of a pass, whose items are permuted in runs."""

    start: int
    """Position of its first item in the pass."""
    runs: int
    keys: list[np.uint64]
    missing: int
    """Items that the last run lacks."""
    short_place: int
    """Which run in the permuted order is the last one: behind it, all begin earlier."""


class Order:
    """Which item of a split stands at each position of each pass."""

    def __init__(
        self,
        shard_items: npt.ArrayLike,
        *,
        seed: int | None,
        run_length: int = 1,
        window_shards: int = WINDOW_SHARDS,
    ) -> None:
        """Set up the order.

        Args:
            shard_items: Items of each shard.
            seed: Of the training run, in [0, 2**63); None for the order of storage.
            run_length: Neighbours of a window that stay together, at least 1.
            window_shards: Shards of a window, at least 1.
        """
        if run_length < 1 or window_shards < 1:
            raise ValueError(
                f"run_length {run_length}, window_shards {window_shards}: expected at least 1"
            )
        seed = None if seed is None else check_seed(seed)
        self._sizes = np.asarray(shard_items, dtype=np.int64)
        self._first = np.concatenate(([0], np.cumsum(self._sizes))).astype(np.int64)
        self._seed = seed
        self._run = run_length
        self._window = window_shards
        self._passes: OrderedDict[int, _Pass] = OrderedDict()
        self._windows: OrderedDict[tuple[int, int], _Window] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process gets: what is kept for speed is found anew there."""
        return self.__dict__ | {"_passes": OrderedDict(), "_windows": OrderedDict()}

    def __len__(self) -> int:
        """Return the number of items."""
        return int(self._first[-1])

    def items_at(self, positions: Items, *, number: int) -> Items:
        """Return the items at some positions of one pass.

        Args:
            positions: int64, each in [0, len(self)).
            number: Of the pass, counted from 0; each has a permutation of its own.

        Returns:
            int64 of the same shape: items counted in the order of storage.

        Raises:
            ValueError: A position lies outside the range.
        """
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self):
            raise ValueError(
                f"positions {positions.min()} to {positions.max()} of {len(self)} items"
            )
        if self._seed is None:
            return positions.astype(np.int64)
        this = self._pass(number)
        windows = np.searchsorted(this.starts[:: self._window], positions, side="right") - 1
        found = np.empty_like(positions)
        for number_of_window in np.unique(windows):
            inside = windows == number_of_window
            window = self._window_of(number, int(number_of_window))
            found[inside] = window.start + self._shuffled(positions[inside] - window.start, window)
        slots = np.searchsorted(this.starts, found, side="right") - 1
        items: Items = self._first[this.shards[slots]] + found - this.starts[slots]
        return items

    def position_of(self, item: int, *, number: int) -> int:
        """Return where an item stands in a pass: what `items_at` gives, backwards.

        Raises:
            IndexError: There is no such item.
        """
        if not 0 <= item < len(self):
            raise IndexError(f"item {item} of {len(self)}")
        if self._seed is None:
            return item
        this = self._pass(number)
        shard = int(np.searchsorted(self._first, item, side="right")) - 1
        slot = int(np.flatnonzero(this.shards == shard)[0])
        window = self._window_of(number, slot // self._window)
        inside = int(this.starts[slot]) - window.start + item - int(self._first[shard])
        place = _place_of(inside // self._run, window.runs, window.keys)
        shorter = window.missing if place > window.short_place else 0
        return window.start + place * self._run + inside % self._run - shorter

    def _pass(self, number: int) -> _Pass:
        """Return the shards of a pass in their order."""
        assert self._seed is not None
        this = self._passes.get(number)
        if this is None:
            slots = np.arange(len(self._sizes), dtype=np.int64)
            keys = _round_keys(self._seed, number, _SHARDS)
            shards = _permuted(slots, len(slots), keys)
            starts = np.concatenate(([0], np.cumsum(self._sizes[shards]))).astype(np.int64)
            this = self._passes[number] = _Pass(shards, starts)
            forget(self._passes, _KEPT_PASSES)
        return this

    def _window_of(self, number: int, window: int) -> _Window:
        """Return a window of a pass."""
        assert self._seed is not None
        found = self._windows.get((number, window))
        if found is None:
            this = self._pass(number)
            start = int(this.starts[window * self._window])
            stop = int(this.starts[min((window + 1) * self._window, len(this.shards))])
            keys = _round_keys(self._seed, number, window + 1)
            runs = -(-(stop - start) // self._run)
            missing = runs * self._run - (stop - start)
            place = _place_of(runs - 1, runs, keys)
            found = _Window(start, runs, keys, missing, place)
            self._windows[number, window] = found
            forget(self._windows, _KEPT_WINDOWS)
        return found

    def _shuffled(self, positions: Items, window: _Window) -> Items:
        """Return which item of a window stands at each position in it."""
        run = self._run
        if run == 1:
            return _permuted(positions, window.runs, window.keys)
        shifted = np.where(
            positions >= (window.short_place + 1) * run - window.missing,
            positions + window.missing,
            positions,
        )
        runs: Items = _permuted(shifted // run, window.runs, window.keys) * run + shifted % run
        return runs


def forget(kept: OrderedDict[Any, Any], most: int) -> None:
    """Let the oldest of what is kept go; other threads may be at the same."""
    while len(kept) > most:
        with suppress(KeyError):
            kept.popitem(last=False)


def check_seed(seed: SupportsIndex) -> int:
    """Return a seed as a plain integer.

    Raises:
        TypeError: It is no whole number.
        ValueError: Not in [0, 2**63).
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected a whole number, got {seed!r}") from None
    if not 0 <= number < 2**63:
        raise ValueError(f"seed {number}: expected 0 to 2**63 - 1")
    return number


def derived_seed(seed: int, number: int) -> int:
    """Return the seed of the `number`-th of several things that one seed governs."""
    return int(_mix(np.array([(seed + 1 + number) & _MASK64], dtype=np.uint64))[0]) >> 1


def permute(positions: Items, *, items: int, seed: int, epoch: int) -> Items:
    """Return a permutation of [0, items), position by position.

    Args:
        positions: int64, each in [0, items).
        items: How many there are.
        seed: In [0, 2**63).
        epoch: Every one has a permutation of its own, counted from 0.

    Returns:
        int64 of the same shape, each in [0, items). Over all positions each item occurs
        exactly once.

    Raises:
        ValueError: A position lies outside the range.
    """
    if positions.size and not 0 <= positions.min() <= positions.max() < items:
        raise ValueError(f"positions {positions.min()} to {positions.max()} of {items} items")
    return _permuted(positions, items, _round_keys(seed, epoch))


def _permuted(positions: Items, items: int, keys: list[np.uint64]) -> Items:
    sides = _sides(items)
    values = _feistel(positions.astype(np.uint64), sides, keys)
    while True:
        outside = np.flatnonzero(values >= np.uint64(items))
        if not outside.size:
            return values.astype(np.int64)
        values[outside] = _feistel(values[outside], sides, keys)


def _place_of(item: int, items: int, keys: list[np.uint64]) -> int:
    """Return the position that `_permuted` gives an item."""
    sides = _sides(items)
    value = np.array([item], dtype=np.uint64)
    while True:
        value = _feistel(value, sides, keys, backwards=True)
        if value[0] < items:
            return int(value[0])


def _sides(items: int) -> tuple[np.uint64, np.uint64]:
    """Return a and b, whose product is at least `items`."""
    a = max(math.isqrt(max(items - 1, 0)) + 1, _LEAST_SIDE)
    return np.uint64(a), np.uint64(max(-(-items // a), _LEAST_SIDE))


def _feistel(
    values: npt.NDArray[np.uint64],
    sides: tuple[np.uint64, np.uint64],
    keys: list[np.uint64],
    *,
    backwards: bool = False,
) -> npt.NDArray[np.uint64]:
    a, b = sides
    left, right = np.divmod(values, b)
    rounds = list(enumerate(keys))
    for number, key in reversed(rounds) if backwards else rounds:
        # In turn, one side moves on by what the other one says.
        own, size, other = (left, a, right) if number % 2 == 0 else (right, b, left)
        step = _mix(other ^ key) % size
        moved = (own + (size - step if backwards else step)) % size
        left, right = (moved, right) if number % 2 == 0 else (left, moved)
    return left * b + right


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the splitmix64 finaliser of each value; a permutation of 64-bit numbers."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_keys(seed: int, *numbers: int) -> list[np.uint64]:
    """Return one key a round, from a splitmix64 stream that all the numbers start."""
    start = seed
    for number in numbers:
        start = (int(_mix(np.array([start], dtype=np.uint64))[0]) + number) & _MASK64
    steps = np.array(
        [(start + (n + 1) * 0x9E3779B97F4A7C15) & _MASK64 for n in range(_ROUNDS)],
        dtype=np.uint64,
    )
    return list(_mix(steps))
