"""The reading order: a keyed permutation of all items, computed position by position.

Nothing is stored per item: a Feistel network permutes the smallest power of four that
holds all items, and walks on from a value outside until it falls inside (cycle walking;
Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). The round
function is the finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

import numpy as np
import numpy.typing as npt

Items = npt.NDArray[np.int64]

_ROUNDS = 6
_MASK64 = (1 << 64) - 1


def permute(positions: Items, *, items: int, seed: int, epoch: int) -> Items:
    """Return which item stands at each position of an epoch.

    Args:
        positions: int64, each in [0, items).
        items: Items of the split.
        seed: Of the training run, in [0, 2**63).
        epoch: Pass over the items, counted from 0; every pass has its own permutation.

    Returns:
        int64 of the same shape, each in [0, items). Over all positions each item occurs
        exactly once.

    Raises:
        ValueError: A position lies outside the range.
    """
    if positions.size and not 0 <= positions.min() <= positions.max() < items:
        raise ValueError(f"positions {positions.min()} to {positions.max()} of {items} items")
    half = np.uint64(max(1, ((items - 1).bit_length() + 1) // 2))
    keys = _round_keys(seed, epoch)
    values = positions.astype(np.uint64)
    outside = np.ones(values.shape, dtype=bool)
    while outside.any():
        values[outside] = _feistel(values[outside], half, keys)
        outside = values >= np.uint64(items)
    return values.astype(np.int64)


def _feistel(
    values: npt.NDArray[np.uint64], half: np.uint64, keys: list[np.uint64]
) -> npt.NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half) | right


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the splitmix64 finaliser of each value; a permutation of 64-bit numbers."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_keys(seed: int, epoch: int) -> list[np.uint64]:
    """Return one key a round, from a splitmix64 stream that both numbers start."""
    start = (int(_mix(np.array([seed], dtype=np.uint64))[0]) + epoch) & _MASK64
    steps = np.array(
        [(start + (n + 1) * 0x9E3779B97F4A7C15) & _MASK64 for n in range(_ROUNDS)],
        dtype=np.uint64,
    )
    return list(_mix(steps))
