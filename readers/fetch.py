"""Which bytes the samples of a batch need, read in few joined ranges and checked.

Every sample is (shard, offset, size) by the shard's index. Small parts that stand close to
each other are read at once. From a disk a large part is read alone, which saves copying it; from
a far storage all reads are begun at once, and joined over gaps that cost less than a request.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError, DatasetError
from clipshards.packer.format.frame_table import CRC32C, OFFSET, SIZE, FrameTable
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.names import member_name
from clipshards.packer.format.structure import FRAME_TABLES
from clipshards.packer.frames.packets import SomePackets

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
    long: int
    """Of a video of this size, only the packets that are needed are read, if that saves enough."""


_NEAR = _Joining(gap=8 * 2**10, large=32 * 2**10, most=2**20, long=2**20)
# A request to S3 takes 1 ms of this machine and 20 to 50 of the store; a connection brings some
# 80 MB a second.
_FAR = _Joining(gap=128 * 2**10, large=8 * 2**20, most=8 * 2**20, long=4 * 2**20)
# Of a video: below, the rest is worth leaving.
_WORTHWHILE = 0.75
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
    some: Mapping[str, SomePackets] = MappingProxyType({})
    """Videos of which the packets that the clips need were fetched, and no more."""


Needed = Callable[[bytes, bytes, int, str], FrameTable | None]
"""Takes a sample's `json`, the frame table of one of its videos, that video's bytes and the
sample's place in words; gives the rows of the packets that are needed, None for all."""


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
        self,
        split: "Split",
        places: Iterable[tuple[int, int]],
        *,
        without: Collection[str] = (),
        needed: Mapping[tuple[int, int], Needed] = MappingProxyType({}),
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
        self._joining = joining = _FAR if self._storage.far else _NEAR
        self._lock = threading.Lock()
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
                        size >= joining.long
                        and place in needed
                        and part in FRAME_TABLES
                        # What is to be cached is read whole: the next epoch shows other frames.
                        and part not in planned.slots
                    ):
                        planned.needed = needed[place]
                        planned.long.append(_Long(part, offset, size, crc))
                        self.bytes_planned += joining.most
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
                self._begin(one)
            for planned in self._samples.values():
                if planned.long:
                    self._plan_behind(planned)

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
                planned.long = []
        if planned.asked:
            self._last = (place, raw)
        return raw

    def _raw(self, planned: "_Sample") -> RawSample:
        parts = {}
        some = {}
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
        for long in planned.long:
            self._plan(planned, long, parts)
            if long.rows is None:
                parts[long.part] = self._whole(planned, long)
            else:
                some[long.part] = self._packets(planned, long)
        if not planned.had:
            planned.had = True
            self.bytes_used += sum(map(len, parts.values()))
            self.bytes_used += sum(packets.fetched for packets in some.values())
        where = self._where(planned)
        return RawSample(planned.key, parts, where, planned.unread, some)

    def _where(self, planned: "_Sample") -> str:
        return f"{self._storage.url}/{planned.file}: {planned.key}"

    def _begin(self, range_: "_Range") -> None:
        size = range_.stop - range_.start
        range_.reading = self._storage.begin_read(range_.file, range_.start, size)

    def _plan_behind(self, planned: "_Sample") -> None:
        """Plan the reads of long videos once the small parts are there, in whatever thread."""
        waiting = [one.reading for one in planned.ranges if one.reading is not None]
        left = len(waiting)

        def arrived(_: object) -> None:
            nonlocal left
            with self._lock:
                left -= 1
                if left > 0:
                    return
            # What is wrong with them is said to who asks for the sample.
            with suppress(DatasetError):
                small = self._small(planned)
                for long in planned.long:
                    self._plan(planned, long, small)

        for reading in waiting:
            reading.add_done_callback(arrived)
        if not waiting:
            arrived(None)

    def _small(self, planned: "_Sample") -> dict[str, bytes]:
        """Return the parts that are not long, unless something is wrong with them."""
        small = {}
        for part, range_, start, size, crc in planned.pieces:
            if range_ is not None and range_.reading is not None:
                data = range_.reading.result()[start : start + size]
            elif self._cache is not None:
                data = self._cache.read(planned.shard, start, size)
            if len(data) != size or crc32c(data) != crc:
                raise CorruptShardError(f"{self._where(planned)}.{part}")
            small[part] = data
        return small

    def _plan(self, planned: "_Sample", long: "_Long", small: Mapping[str, bytes]) -> None:
        """Decide what of a long video is read, and begin to read it where that is far."""
        with self._lock:
            if long.ranges:
                return
            table = small.get(FRAME_TABLES[long.part])
            assert planned.needed is not None
            if table is not None:
                long.rows = planned.needed(small["json"], table, long.size, self._where(planned))
            if long.rows is not None:
                long.ranges = self._joined(planned.file, long)
                if sum(one.stop - one.start for one in long.ranges) > _WORTHWHILE * long.size:
                    long.rows = None
            if long.rows is None:
                long.ranges = [_Range(planned.file, long.offset)]
                long.ranges[0].stop = long.offset + long.size
            if self._storage.far:
                for one in long.ranges:
                    self._begin(one)

    def _joined(self, file: str, long: "_Long") -> "list[_Range]":
        """Return the ranges of a shard that hold the needed packets of a video."""
        assert long.rows is not None
        ranges: list[_Range] = []
        for offset, size in long.rows[np.argsort(long.rows[:, OFFSET])][:, (OFFSET, SIZE)].tolist():
            start, stop = long.offset + offset, long.offset + offset + size
            last = ranges[-1] if ranges else None
            if (
                last is None
                or start - last.stop > self._joining.gap
                or stop - last.start > self._joining.most
            ):
                last = _Range(file, start)
                last.stop = start
                ranges.append(last)
            last.stop = max(last.stop, stop)
        return ranges

    def _whole(self, planned: "_Sample", long: "_Long") -> bytes:
        data = self._read(long.ranges[0])
        long.ranges[0].data = None
        if len(data) != long.size or crc32c(data) != long.crc:
            data = self._mended(data, planned, long.part, long.offset, long.size, long.crc)
        return data

    def _packets(self, planned: "_Sample", long: "_Long") -> SomePackets:
        """Return the needed packets of a long video, each checked.

        Raises:
            CorruptShardError: One is damaged.
        """
        assert long.rows is not None
        datas = [self._read(one) for one in long.ranges]
        starts = [one.start for one in long.ranges]
        packets = {}
        for offset, size, crc in long.rows[:, (OFFSET, SIZE, CRC32C)].tolist():
            nth = bisect_right(starts, long.offset + offset) - 1
            start = long.offset + offset - starts[nth]
            data = datas[nth][start : start + size]
            if len(data) != size or crc32c(data) != crc:
                place = long.offset + offset
                data = self._mended(data, planned, long.part, place, size, crc)
            packets[offset] = data
        for one in long.ranges:
            one.data = None
        return SomePackets(long.size, packets)

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
                data = range_.reading.result()
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
        self.reading: Future[bytes] | None = None
        """A read that is under way."""


class _Long:
    """A long video of a sample."""

    __slots__ = ("crc", "offset", "part", "ranges", "rows", "size")

    def __init__(self, part: str, offset: int, size: int, crc: int) -> None:
        self.part = part
        self.offset = offset
        self.size = size
        self.crc = crc
        self.rows: FrameTable | None = None
        """Of the packets that are needed; None for all."""
        self.ranges: list[_Range] = []
        """What is read of it, empty before that is known."""


class _Sample:
    """A sample that will be asked for."""

    __slots__ = (
        "asked",
        "file",
        "had",
        "key",
        "long",
        "needed",
        "pieces",
        "ranges",
        "shard",
        "slots",
        "unread",
    )

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
        self.needed: Needed | None = None
        self.long: list[_Long] = []
        self.ranges: list[_Range] = []
        self.unread: tuple[str, ...] = ()


def difference(data: bytes, size: int) -> str:
    """Return in which way bytes are not the expected ones."""
    return f"{len(data)} bytes there" if len(data) != size else "crc32c differs"
