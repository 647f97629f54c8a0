"""Which bytes the samples of a batch need, read in few joined ranges and checked.

Every sample is (shard, offset, size) by the shard's index. Small parts that stand close to
each other are read at once. From a disk a large part is read alone, which saves copying it; from
a far storage all reads are begun at once, and joined over gaps that cost less than a request.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.names import member_name

if TYPE_CHECKING:
    from clipshards.readers.split import Split


class _Joining(NamedTuple):
    """Which parts are read at once."""

    gap: int
    """Reading on over so many bytes costs less than another read."""
    large: int
    """A part of this size is read alone: copying it out of a range costs more than a read."""
    most: int
    """Bytes that are read at once, unless a single part is larger."""


_NEAR = _Joining(gap=8 * 2**10, large=32 * 2**10, most=2**20)
# A request to S3 takes 1 ms of this machine and 20 to 50 of the store; a connection brings some
# 80 MB a second.
_FAR = _Joining(gap=128 * 2**10, large=8 * 2**20, most=8 * 2**20)
# A far storage does not check what it sends; a network now and then changes a bit.
_TRIES = 3


class RawSample(NamedTuple):
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
        self, split: "Split", places: Iterable[tuple[int, int]], *, without: Collection[str] = ()
    ) -> None:
        """See `Split.fetch`."""
        self.seconds = 0.0
        """That reads have taken so far."""
        self.bytes_fetched = 0
        self.bytes_used = 0
        """Of them, those of parts that were asked for."""
        self.bytes_planned = 0
        """In all ranges."""
        self.again = 0
        """Parts that came damaged, and were read once more."""
        self.bytes_cached = 0
        """That came from the cache of this node; not among those fetched."""
        self.requests = 0
        """Reads of the storage."""
        self._storage = split.storage
        self._cache = split.cache
        joining = _FAR if self._storage.far else _NEAR
        ranges: list[_Range] = []
        self._samples: dict[tuple[int, int], _Sample] = {}
        self._last: tuple[tuple[int, int], RawSample] | None = None
        asked: dict[tuple[int, int], int] = {}
        for place in places:
            asked[place] = asked.get(place, 0) + 1
        split.load_columns({shard for shard, _ in asked})
        for shard, group in groupby(sorted(asked), key=itemgetter(0)):
            of_shard = list(group)
            samples = [sample for _, sample in of_shard]
            columns, file = split.columns_of(shard), split.file_of(shard)
            keys, rows = columns.keys[samples].tolist(), columns.numbers[samples].tolist()
            current: _Range | None = None
            for place, key, row in zip(of_shard, keys, rows, strict=True):
                planned = _Sample(key.decode(), shard, file, asked[place])
                self._samples[place] = planned
                first_slot = 1 + place[1] * len(columns.parts)
                if self._cache is not None:
                    written = self._cache.has(shard, first_slot, len(columns.parts))
                for nth, (part, (offset, size, crc)) in enumerate(
                    zip(columns.parts, row, strict=True)
                ):
                    if offset < 0:
                        continue
                    if part in without:
                        planned.unread += (part,)
                        continue
                    if self._cache is not None and self._cache.keeps(shard, offset + size):
                        planned.slots[part] = first_slot + nth
                        if written[nth]:
                            planned.pieces.append((part, None, offset, size, crc))
                            self.bytes_planned += size
                            continue
                    if (
                        current is None
                        or size >= joining.large
                        or not 0 <= offset - current.stop <= joining.gap
                        or offset + size - current.start > joining.most
                    ):
                        current = _Range(file, offset)
                        ranges.append(current)
                    current.stop = offset + size
                    if not planned.ranges or planned.ranges[-1] is not current:
                        planned.ranges.append(current)
                        current.users += 1
                    planned.pieces.append((part, current, offset - current.start, size, crc))
                    if size >= joining.large:
                        current = None
        self.bytes_planned += sum(one.stop - one.start for one in ranges)
        if self._storage.far:
            for one in ranges:
                one.reading = self._storage.begin_read(one.file, one.start, one.stop - one.start)

    def sample(self, place: tuple[int, int]) -> RawSample:
        """Return a sample, checked against its checksums.

        Raises:
            CorruptShardError: Bytes are missing or altered; names shard, key and part.
            StorageError: The shard cannot be read.
        """
        planned = self._samples[place]
        planned.asked -= 1
        last, self._last = self._last, None
        try:
            raw = last[1] if last is not None and last[0] == place else self._raw(planned)
        finally:
            if not planned.asked:
                for range_ in planned.ranges:
                    range_.users -= 1
                    if not range_.users:
                        range_.data = range_.reading = None
        if planned.asked:
            self._last = (place, raw)
        return raw

    def _raw(self, planned: "_Sample") -> RawSample:
        parts = {}
        for part, range_, start, size, crc in planned.pieces:
            if range_ is None:
                parts[part] = self._cached(planned, part, start, size, crc)
                continue
            data = range_.data
            if data is None:
                data = self._read(range_)
            if size != len(data) or start:
                data = data[start : start + size]
            if len(data) != size or crc32c(data) != crc:
                data = self._mended(data, planned, part, range_.start + start, size, crc)
            parts[part] = data
            if part in planned.slots:
                self._store(planned, part, range_.start + start, data)
        if not planned.had:
            planned.had = True
            self.bytes_used += sum(map(len, parts.values()))
        where = f"{self._storage.url}/{planned.file}: {planned.key}"
        return RawSample(planned.key, parts, where, planned.unread)

    def _cached(self, planned: "_Sample", part: str, offset: int, size: int, crc: int) -> bytes:
        """Return a part that the cache has; from the storage where that is damaged."""
        assert self._cache is not None
        data = self._cache.read(planned.shard, offset, size)
        if len(data) == size and crc32c(data) == crc:
            self.bytes_cached += size
            return data
        data = self._read_again(planned.file, offset, size)
        if len(data) != size or crc32c(data) != crc:
            data = self._mended(data, planned, part, offset, size, crc)
        self._store(planned, part, offset, data)
        return data

    def _store(self, planned: "_Sample", part: str, offset: int, data: bytes) -> None:
        assert self._cache is not None
        self._cache.store(planned.shard, planned.slots[part], offset, data)

    def _mended(
        self, data: bytes, planned: "_Sample", part: str, offset: int, size: int, crc: int
    ) -> bytes:
        """Return a part that came damaged, read again where that may help.

        Raises:
            CorruptShardError: It stays damaged.
        """
        for _ in range(_TRIES - 1 if self._storage.far else 0):
            self.again += 1
            data = self._read_again(planned.file, offset, size)
            if len(data) == size and crc32c(data) == crc:
                return data
        raise CorruptShardError(
            f"{self._storage.url}/{planned.file}: {member_name(planned.key, part)}: "
            f"{size} bytes at {offset} are not what was packed "
            f"({difference(data, size)}); run verify, and restore the shard"
        )

    def _read_again(self, file: str, offset: int, size: int) -> bytes:
        started = time.perf_counter()
        try:
            data = self._storage.read(file, offset, size)
        finally:
            self.seconds += time.perf_counter() - started
        self.requests += 1
        self.bytes_fetched += len(data)
        return data

    def _read(self, range_: "_Range") -> bytes:
        started = time.perf_counter()
        try:
            if range_.reading is not None:
                data = range_.reading()
            else:
                data = self._storage.read(range_.file, range_.start, range_.stop - range_.start)
        finally:
            self.seconds += time.perf_counter() - started
        self.requests += 1
        self.bytes_fetched += len(data)
        range_.data = data
        return data


class _Range:
    """Bytes that are read at once."""

    __slots__ = ("data", "file", "reading", "start", "stop", "users")

    def __init__(self, file: str, start: int) -> None:
        self.file = file
        self.start = start
        self.stop = start
        self.users = 0
        """Samples in it that nobody asked for yet."""
        self.data: bytes | None = None
        self.reading: Callable[[], bytes] | None = None
        """Waits for a read that is under way."""


class _Sample:
    """A sample that will be asked for."""

    __slots__ = ("asked", "file", "had", "key", "pieces", "ranges", "shard", "slots", "unread")

    def __init__(self, key: str, shard: int, file: str, asked: int) -> None:
        self.key = key
        self.shard = shard
        self.file = file
        self.had = False
        """Whether its bytes are among those used."""
        self.asked = asked
        """How often it will still be."""
        self.pieces: list[tuple[str, _Range | None, int, int, int]] = []
        """Part, range and place in it, size, crc32c; None and place in the shard, if cached."""
        self.slots: dict[str, int] = {}
        """Of the parts that the cache is to have."""
        self.ranges: list[_Range] = []
        self.unread: tuple[str, ...] = ()


def difference(data: bytes, size: int) -> str:
    """Return in which way bytes are not the expected ones."""
    return f"{len(data)} bytes there" if len(data) != size else "crc32c differs"
