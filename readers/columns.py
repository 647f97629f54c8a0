"""A shard's index as arrays: where every part of every sample stands."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.index import ShardIndex


@dataclass(frozen=True, slots=True)
class Columns:
    """A shard's index, packed: a few numbers a sample."""

    keys: npt.NDArray[np.bytes_]
    first_item: npt.NDArray[np.int64]
    """Items before each sample; one more entry for the total."""
    parts: tuple[str, ...]
    numbers: npt.NDArray[np.int64]
    """(samples, parts, 3): offset, -1 where a sample lacks the part; size; crc32c."""

    @classmethod
    def of(cls, index: ShardIndex) -> "Columns":
        """Return the columns of an index."""
        parts = tuple(index.parts)
        numbers = np.array(
            [
                [getattr(index.parts[part], column) for column in ("offset", "size", "crc32c")]
                for part in parts
            ],
            dtype=np.int64,
        ).reshape(len(parts), 3, len(index.keys))
        return cls(
            keys=np.array([key.encode() for key in index.keys], dtype=np.bytes_),
            first_item=np.concatenate(([0], np.cumsum(index.items, dtype=np.int64))),
            parts=parts,
            numbers=np.ascontiguousarray(numbers.transpose(2, 0, 1)),
        )
