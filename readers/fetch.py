"""Which bytes the samples of a batch need, read in few joined ranges and checked.

Every sample is (shard, offset, size) by the shard's index. Small parts that stand close to
each other are read at once; a large part is read alone, which saves copying it.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.names import member_name

if TYPE_CHECKING:
    from clipshards.readers.split import Split

# Reading on over so many bytes costs less than another read: headers, padding, small parts.
_GAP = 8 * 2**10
# A part of this size is read alone: copying it out of a range costs more than a read.
_LARGE = 32 * 2**10
_MOST_JOINED = 2**20


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as it stands in the shard."""

    key: str
    parts: dict[str, bytes]
    """Part name to bytes, in the order of the shard."""
    where: str
    """Location, shard and key, for error messages."""
    unread: tuple[str, ...] = ()
    """Parts that are there and were not wanted."""


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


class SamplePlace(NamedTuple):
    """Where a sample stands."""

    shard: int
    sample: int
    """Which sample of the shard, counted from 0."""


class Fetch:
    """The samples of one batch, each range of bytes read when it is first needed.

    Bytes are let go with the last sample of their range. For one thread.
    """

    def __init__(
        self, split: "Split", places: Iterable[SamplePlace], *, without: Collection[str] = ()
    ) -> None:
        """See `Split.fetch`."""
        self.seconds = 0.0
        """That reads have taken so far."""
        self.bytes_fetched = 0
        self.bytes_used = 0
        """Of them, those of parts that were asked for."""
        self._storage = split.storage
        self._samples: dict[SamplePlace, _Sample] = {}
        self._last: tuple[SamplePlace, RawSample] | None = None
        shard, name = -1, ""
        current: _Range | None = None
        for place in sorted(places):
            known = self._samples.get(place)
            if known is not None:
                known.asked += 1
                continue
            if place.shard != shard:
                shard, name = place.shard, split.file_of(place.shard)
                columns, current = split.columns_of(shard), None
            pieces, unread = [], []
            for part, (offset, size, crc) in zip(
                columns.parts, columns.numbers[place.sample].tolist(), strict=True
            ):
                if offset < 0:
                    continue
                if part in without:
                    unread.append(part)
                    continue
                if (
                    current is None
                    or size >= _LARGE
                    or not 0 <= offset - current.stop <= _GAP
                    or offset + size - current.start > _MOST_JOINED
                ):
                    current = _Range(name, offset, offset)
                current.stop = offset + size
                current.users += 1
                pieces.append(_Piece(part, current, offset - current.start, size, crc))
                if size >= _LARGE:
                    current = None
            self._samples[place] = _Sample(
                columns.keys[place.sample].decode(), name, pieces, tuple(unread)
            )

    def sample(self, place: SamplePlace) -> RawSample:
        """Return a sample, checked against its checksums.

        Raises:
            CorruptShardError: Bytes are missing or altered; names shard, key and part.
            StorageError: The shard cannot be read.
        """
        planned = self._samples[place]
        planned.asked -= 1
        if self._last is not None and self._last[0] == place:
            raw = self._last[1]
        else:
            raw = self._raw(planned)
            self._last = (place, raw)
        if planned.asked == 0:
            for piece in planned.pieces:
                piece.range.users -= 1
                if piece.range.users == 0:
                    piece.range.data = None
        return raw

    def _raw(self, planned: "_Sample") -> RawSample:
        parts = {}
        for part, range_, start, size, crc in planned.pieces:
            data = range_.data
            if data is None:
                data = self._read(range_)
            if size != len(data) or start:
                data = data[start : start + size]
            if len(data) != size or crc32c(data) != crc:
                raise CorruptShardError(
                    f"{self._storage.url}/{planned.file}: {member_name(planned.key, part)}: "
                    f"{size} bytes at {range_.start + start} are not what was packed "
                    f"({difference(data, size)}); run verify, and restore the shard"
                )
            parts[part] = data
            self.bytes_used += size
        where = f"{self._storage.url}/{planned.file}: {planned.key}"
        return RawSample(planned.key, parts, where, planned.unread)

    def _read(self, range_: "_Range") -> bytes:
        started = time.perf_counter()
        try:
            data = self._storage.read(range_.file, range_.start, range_.stop - range_.start)
        finally:
            self.seconds += time.perf_counter() - started
        self.bytes_fetched += len(data)
        range_.data = data
        return data


@dataclass(slots=True)
class _Range:
    """Bytes that are read at once."""

    file: str
    start: int
    stop: int
    users: int = 0
    """Parts in it that nobody asked for yet."""
    data: bytes | None = None


class _Piece(NamedTuple):
    """A part of a sample in its range."""

    part: str
    range: _Range
    start: int
    """From the beginning of the range."""
    size: int
    crc32c: int


@dataclass(slots=True)
class _Sample:
    key: str
    file: str
    pieces: list[_Piece]
    unread: tuple[str, ...]
    asked: int = 1
    """How often it will still be asked for."""


def difference(data: bytes, size: int) -> str:
    """Return in which way bytes are not the expected ones."""
    return f"{len(data)} bytes there" if len(data) != size else "crc32c differs"
