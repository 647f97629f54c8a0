"""Which bytes the samples of a batch need, read in few joined ranges and checked.

Every sample is (shard, offset, size) by the shard's index. Small parts that stand close to
each other are read at once. From a disk a large part is read alone, which saves copying it; from
a far storage all reads are begun at once, and joined over gaps that cost less than a request.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.structure import FRAME_TABLES
from clipshards.packer.frames.packets import SomePackets
from clipshards.readers.byte_ranges import ByteRange, Reads, is_sound
from clipshards.readers.long_videos import LongVideo, Needed

if TYPE_CHECKING:
    from clipshards.readers.split import Split


class RawSample(NamedTuple):
    """One sample as it stands in the shard."""

    key: str
    parts: dict[str, bytes]
    """Part name to bytes, in the order of the shard."""
    where: str
    """Location, shard and key, for error messages."""
    unread: tuple[str, ...] = ()
    """Parts that are there and were not wanted."""
    packets: Mapping[str, SomePackets] = MappingProxyType({})
    """Videos of which the packets that the clips need were fetched, and no more."""


class Fetch(Reads):
    """The samples of one batch, each range of bytes read when it is first needed.

    Bytes are let go with the last sample of their range. For one thread at a time.
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
        super().__init__(split.storage)
        self.bytes_cached = 0
        """That came from the cache of this node; not among those fetched."""
        self.bytes_used = 0
        """Those of parts that were asked for."""
        self.bytes_planned = 0
        """Of all reads, but for long videos of which it is not known yet what is needed."""
        self._cache = split.cache
        joining = self.joining
        ranges: list[ByteRange] = []
        self._samples: dict[tuple[int, int], _Sample] = {}
        self._waiting: list[tuple[_Sample, LongVideo]] = []
        """Far videos of which nothing is begun yet."""
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
            current: ByteRange | None = None
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
                        planned.long.append(
                            LongVideo(
                                part,
                                file,
                                offset,
                                size,
                                crc,
                                key=planned.key,
                                needed=needed[place],
                            )
                        )
                        if self.storage.far:
                            self._waiting.append((planned, planned.long[-1]))
                        continue
                    if (
                        current is None
                        or size >= joining.large
                        or not 0 <= offset - current.stop <= joining.gap
                        or offset + size - current.start > joining.most
                    ):
                        current = ByteRange(file, offset, offset)
                        ranges.append(current)
                    current.stop = offset + size
                    if not planned.ranges or planned.ranges[-1] is not current:
                        planned.ranges.append(current)
                        current.users += 1
                    planned.pieces.append((part, current, offset - current.start, size, crc))
                    if size >= joining.large:
                        current = None
        self.bytes_planned += sum(one.stop - one.start for one in ranges)
        for one in ranges:
            self.begin(one)

    def begin_long(self, room: float) -> int:
        """Begin the reads of far long videos whose small parts have come; waits for none.

        Args:
            room: Bytes; when they are used up, no more videos are begun.

        Returns:
            The bytes of the reads that were begun.
        """
        begun = 0
        waiting, self._waiting = self._waiting, []
        for planned, video in waiting:
            if begun < room and planned.has_come():
                begun += self._begin_video(planned, video)
            else:
                self._waiting.append((planned, video))
        return begun

    def _begin_video(self, planned: "_Sample", video: LongVideo) -> int:
        begun = 0
        # Whatever is wrong with it is said to who asks for the sample, when it is planned again.
        with suppress(Exception):
            if (small := self._small(planned)) is not None:
                begun = video.plan(self, small, where=planned.key)
        self.bytes_planned += begun
        return begun

    def sample(self, place: tuple[int, int]) -> RawSample:
        """Return a sample, checked against its checksums.

        Raises:
            CorruptShardError: Bytes are missing or altered; names shard, key and part.
            StorageError: The shard cannot be read.
        """
        planned = self._samples[place]
        # However little was begun ahead: while the first sample is waited for, all others are
        # under way.
        for of_sample, video in self._waiting:
            self._begin_video(of_sample, video)
        self._waiting = []
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
        for part, range_, start, size, crc in planned.pieces:
            if range_ is None:
                parts[part] = self._cached(planned, part, start, size, crc)
                continue
            data = self._data(range_)
            if size != len(data) or start:
                data = data[start : start + size]
            if len(data) != size or crc32c(data) != crc:
                place = range_.start + start
                data = self.mended(data, part, planned.file, place, size, crc, key=planned.key)
            parts[part] = data
            if part in planned.slots:
                self._store(planned, part, range_.start + start, data)
        where = f"{self.storage.url}/{planned.file}: {planned.key}"
        some: dict[str, SomePackets] = {}
        for video in planned.long:
            video.plan(self, parts, where=where)
            found = video.read(self)
            if isinstance(found, bytes):
                parts[video.part] = found
            else:
                some[video.part] = found
        if not planned.had:
            planned.had = True
            self.bytes_used += sum(map(len, parts.values()))
            self.bytes_used += sum(packets.fetched for packets in some.values())
        return RawSample(planned.key, parts, where, planned.unread, some)

    def _data(self, range_: ByteRange) -> bytes:
        if range_.data is None:
            range_.data = self.read(range_)
        return range_.data

    def _small(self, planned: "_Sample") -> dict[str, bytes] | None:
        """Return the parts that are not long; None where one is damaged.

        Raises:
            StorageError: One cannot be read.
        """
        small = {}
        for part, range_, start, size, crc in planned.pieces:
            if range_ is None:
                assert self._cache is not None
                data = self._cache.read(planned.shard, start, size)
            else:
                data = self._data(range_)[start : start + size]
            if not is_sound(data, size, crc):
                return None
            small[part] = data
        return small

    def _cached(self, planned: "_Sample", part: str, offset: int, size: int, crc: int) -> bytes:
        """Return a part that the cache has; from the storage where that is damaged."""
        assert self._cache is not None
        data = self._cache.read(planned.shard, offset, size)
        if is_sound(data, size, crc):
            self.bytes_cached += size
            return data
        data = self.read_alone(planned.file, offset, size)
        if not is_sound(data, size, crc):
            data = self.mended(data, part, planned.file, offset, size, crc, key=planned.key)
        self._store(planned, part, offset, data)
        return data

    def _store(self, planned: "_Sample", part: str, offset: int, data: bytes) -> None:
        assert self._cache is not None
        self._cache.store(planned.shard, planned.slots[part], offset, data)


class _Sample:
    """A sample that will be asked for."""

    __slots__ = (
        "asked",
        "file",
        "had",
        "key",
        "long",
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
        self.pieces: list[tuple[str, ByteRange | None, int, int, int]] = []
        """Part, range and place in it, size, crc32c; None and place in the shard, if cached."""
        self.slots: dict[str, int] = {}
        """Of the parts that the cache is to have."""
        self.long: list[LongVideo] = []
        self.ranges: list[ByteRange] = []
        self.unread: tuple[str, ...] = ()

    def has_come(self) -> bool:
        """Return whether no read of its small parts is under way any more."""
        return all(one.reading is None or one.reading.done() for one in self.ranges)
