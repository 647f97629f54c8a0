"""Random numbers that belong to an item and not to whoever decodes it.

They come from Philox4x64-10 (Salmon et al., SC 2011), with seed and pass as the key and the item
in the counter.
"""

import numpy as np


def generator_of(*, seed: int, number: int, item: int, copy: int = 0) -> np.random.RandomState:
    """Return a generator that gives the same for the same seed, pass number and item.

    An item that comes several times in a pass has another one for each copy. It is a RandomState
    since NumPy promises that what that makes of random bits never changes (NEP 19).
    """
    return np.random.RandomState(np.random.Philox(key=[seed, number], counter=[0, copy, item, 0]))


def draw_substitute(items: int, *, seed: int, number: int, item: int, attempt: int) -> int:
    """Return which of `items` items stands in for one that cannot be read.

    Args:
        items: How many there are.
        seed: Of the run.
        number: Of the pass.
        item: That cannot be read.
        attempt: Substitutes before this one that could not be read either, plus 1.
    """
    bits = np.random.Philox(key=[seed, number], counter=[0, 0, item, attempt]).random_raw()
    return int(bits) % items
