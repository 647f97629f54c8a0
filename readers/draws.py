"""Random numbers that belong to an item and not to whoever decodes it."""

import numpy as np
import numpy.typing as npt


def draw_uniform(count: int, *, seed: int, number: int, item: int) -> npt.NDArray[np.float64]:
    """Return `count` numbers in [0, 1), the same for the same seed, pass number and item.

    They are the raw output of Philox4x64-10 (Salmon et al., SC 2011) with the three
    numbers as key and counter, 53 bits each: no distribution code of NumPy takes part,
    which may change between its releases.
    """
    bits = np.random.Philox(key=[seed, number], counter=[0, 0, item, 0]).random_raw(count)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
