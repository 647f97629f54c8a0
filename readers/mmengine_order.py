"""The order in which mmengine's runner goes through a repeated data set."""

import numpy as np
import torch

from clipshards.readers.epochs import Located
from clipshards.readers.order import Items


class MmengineEpochs:
    """Epochs as mmengine's DefaultSampler shuffles a RepeatDataset: all copies mixed.

    Epoch e is `torch.randperm(times * units)` of a generator seeded with seed + e; number p of
    it stands for unit p % units. It is held as a whole: 8 bytes for each position.
    """

    def __init__(self, units: int, times: int, seed: int) -> None:
        """Set up.

        Args:
            units: Of the data set.
            times: RepeatDataset's; 1 without one.
            seed: Of the runner (`randomness=dict(seed=...)`).
        """
        self._units = units
        self._times = times
        self._seed = seed
        self._drawn: tuple[int, Items] = (-1, np.empty(0, dtype=np.int64))
        self.length = units * times

    def locate(self, epoch: int, positions: Items) -> Located:
        """See `Epochs`."""
        # Other threads may be at another epoch: what was found is kept at hand.
        found, drawn = self._drawn
        if found != epoch:
            generator = torch.Generator()
            generator.manual_seed(self._seed + epoch)
            drawn = torch.randperm(self.length, generator=generator).numpy()
            self._drawn = epoch, drawn
        copies, units = np.divmod(drawn[positions], max(self._units, 1))
        return Located(units, copies + epoch * self._times)
