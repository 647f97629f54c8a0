"""Random numbers that belong to an item and not to whoever decodes it.

They are the raw output of Philox4x64-10 (Salmon et al., SC 2011), with seed and pass as the key
and the item in the counter: no distribution code of NumPy takes part, which may change between
its releases.
"""

import numpy as np
import numpy.typing as npt


def draw_uniform(
    count: int, *, seed: int, number: int, item: int, copy: int = 0
) -> npt.NDArray[np.float64]:
    """Return `count` numbers in [0, 1), the same for the same seed, pass number and item.

    They have 53 random bits each. An item that comes several times in a pass has others for
    each copy.
    """
    bits = np.random.Philox(key=[seed, number], counter=[0, copy, item, 0]).random_raw(count)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


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
