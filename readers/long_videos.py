"""Videos so long that only the packets that clips need are read of them."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from clipshards.packer.format.frame_table import CRC32C, OFFSET, SIZE, FrameTable
from clipshards.packer.format.structure import FRAME_TABLES
from clipshards.packer.frames.packets import SomePackets
from clipshards.readers.byte_ranges import ByteRange, Reads, is_sound

Needed = Callable[[bytes, bytes, int, str], FrameTable | None]
"""Takes a sample's `json`, the frame table of one of its videos, that video's bytes and the
sample's place in words; gives the rows of the packets that are needed, None for all."""

# Of a video: below, the rest is worth leaving.
_WORTHWHILE = 0.75


class LongVideo:
    """One such part of a sample, whose reads are planned when the small parts are there."""

    def __init__(
        self, part: str, file: str, offset: int, size: int, crc: int, *, key: str, needed: Needed
    ) -> None:
        """Set up.

        Args:
            part: Its name.
            file: That it stands in.
            offset: Its first byte there.
            size: Its bytes.
            crc: Its CRC-32C.
            key: Of its sample.
            needed: Tells the packets.
        """
        self.part = part
        self._file = file
        self._offset = offset
        self._size = size
        self._crc = crc
        self._key = key
        self._needed = needed
        # Of the packets that are needed; None for all.
        self._rows: FrameTable | None = None
        # Empty before it is known what is read.
        self._ranges: list[ByteRange] = []

    def plan(self, reads: Reads, small: Mapping[str, bytes], *, where: str) -> int:
        """Decide once what is read, and begin to where that is far; return its bytes.

        Args:
            reads: Of the storage.
            small: The other parts of the sample.
            where: The sample, for errors.

        Raises:
            FormatError: A part breaks the format.
        """
        if not self._ranges:
            table = small.get(FRAME_TABLES[self.part])
            rows = None
            if table is not None:
                rows = self._needed(small["json"], table, self._size, where)
            if rows is not None:
                ranges = self._joined(rows, reads.joining.gap, reads.joining.most)
                if _bytes_of(ranges) > _WORTHWHILE * self._size:
                    rows = None
            if rows is None:
                ranges = [ByteRange(self._file, self._offset, self._offset + self._size)]
            for one in ranges:
                reads.begin(one)
            self._rows, self._ranges = rows, ranges
        return _bytes_of(self._ranges)

    def _joined(self, rows: FrameTable, gap: int, most: int) -> list[ByteRange]:
        """Return the ranges of the file that hold some packets."""
        ranges: list[ByteRange] = []
        for offset, size in rows[np.argsort(rows[:, OFFSET])][:, (OFFSET, SIZE)].tolist():
            start, stop = self._offset + offset, self._offset + offset + size
            last = ranges[-1] if ranges else None
            if last is None or start - last.stop > gap or stop - last.start > most:
                ranges.append(ByteRange(self._file, start, stop))
            else:
                last.stop = max(last.stop, stop)
        return ranges

    def read(self, reads: Reads) -> bytes | SomePackets:
        """Return the whole part, or the packets that are needed, each checked.

        Raises:
            CorruptShardError: One is damaged.
            StorageError: The file cannot be read.
        """
        datas = [reads.read(one) for one in self._ranges]
        if self._rows is None:
            return self._checked(reads, datas[0], 0, self._size, self._crc)
        starts = [one.start - self._offset for one in self._ranges]
        packets = {}
        for offset, size, crc in self._rows[:, (OFFSET, SIZE, CRC32C)].tolist():
            nth = bisect_right(starts, offset) - 1
            packet = datas[nth][offset - starts[nth] : offset - starts[nth] + size]
            packets[offset] = self._checked(reads, packet, offset, size, crc)
        return SomePackets(self._size, packets)

    def _checked(self, reads: Reads, data: bytes, offset: int, size: int, crc: int) -> bytes:
        if is_sound(data, size, crc):
            return data
        place = self._offset + offset
        return reads.mended(data, self.part, self._file, place, size, crc, key=self._key)


def _bytes_of(ranges: Sequence[ByteRange]) -> int:
    return sum(one.stop - one.start for one in ranges)
