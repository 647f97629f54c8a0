"""Which single samples of an epoch each loader worker of each rank hands out: pure arithmetic."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipshards.readers.order import Items

RawTail = Literal["ragged", "drop"]
"""What becomes of the samples that are too few for one each of all ranks, at the end of an epoch.

`ragged`: the first ranks get them, and have one more than the others.
`drop`: they are left out.
"""


@dataclass(frozen=True, slots=True)
class Dealing:
    """Which positions of an epoch each worker of each rank hands out, from one of them on.

    Rank r gets begin + r, begin + r + ranks, ..., and deals `turn` of them to each of its
    workers, round and round.
    """

    length: int | None
    """Samples of an epoch; None where it does not end."""
    tail: RawTail
    ranks: int
    turn: int
    """Samples that a worker hands out before the next one does."""

    def count(self, begin: int, *, rank: int) -> int | None:
        """Return how many samples a rank gets from a position on; None for no end."""
        if self.length is None:
            return None
        left = self.length - begin
        rounds = left // self.ranks if self.tail == "drop" else -((rank - left) // self.ranks)
        return max(rounds, 0)

    def is_over(self, position: int) -> bool:
        """Return whether no rank gets anything from a position on."""
        least = self.ranks if self.tail == "drop" else 1
        return self.length is not None and self.length - position < least

    def positions(
        self, begin: int, *, rank: int, worker: int, workers: int, taken: int, limit: int
    ) -> Items:
        """Return the positions of the next samples of a worker, fewer where the epoch ends.

        Args:
            begin: Position that the dealing began with.
            rank: In [0, ranks).
            worker: In [0, workers).
            workers: Of this rank.
            taken: Samples that the worker had since then.
            limit: How many positions to return.
        """
        own = np.arange(taken, taken + limit, dtype=np.int64)
        numbers = (own // self.turn * workers + worker) * self.turn + own % self.turn
        count = self.count(begin, rank=rank)
        if count is not None:
            numbers = numbers[numbers < count]
        positions: Items = begin + rank + numbers * self.ranks
        return positions

    def worker_state(self, begin: int, taken: int, *, workers: int) -> int:
        """Return where a worker stands, its place inside its turn too, as one number."""
        turns, rest = divmod(taken, self.turn)
        return (begin + turns * self.turn * workers * self.ranks) * self.turn + rest

    def worker_place(self, state: int) -> tuple[int, int]:
        """Return `begin` and `taken` that lead to where `worker_state` was."""
        return divmod(state, self.turn)
