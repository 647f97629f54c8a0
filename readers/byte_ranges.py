"""Reads of ranges of a shard, counted and timed; what came damaged is read again."""

import time
from concurrent.futures import Future
from typing import NamedTuple

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError
from clipshards.packer.format.names import member_name
from clipshards.packer.storage import Storage


class Joining(NamedTuple):
    """Which parts are read at once."""

    gap: int
    """Reading on over so many bytes costs less than another read."""
    large: int
    """A part of this size is read alone: copying it out of a range costs more than a read."""
    most: int
    """Bytes that are read at once, unless a single part is larger."""
    long: int
    """Of a video of this size, only the packets that are needed are read, if that saves enough."""


NEAR = Joining(gap=8 * 2**10, large=32 * 2**10, most=2**20, long=2**20)
# A request to S3 takes 1 ms of this machine and 20 to 50 of the store; a connection brings some
# 80 MB a second.
FAR = Joining(gap=128 * 2**10, large=8 * 2**20, most=8 * 2**20, long=4 * 2**20)

TRIES = 3
"""Reads of what comes damaged: a far storage does not check what it sends, and a network now and
then changes a bit."""


class ByteRange:
    """Bytes of a file that are read at once."""

    __slots__ = ("data", "file", "reading", "start", "stop", "users")

    def __init__(self, file: str, start: int, stop: int) -> None:
        self.file = file
        self.start = start
        self.stop = stop
        self.users = 0
        """Samples in it that nobody asked for yet."""
        self.data: bytes | None = None
        self.reading: Future[bytes] | None = None
        """A read that is under way."""


class Reads:
    """Reads of one storage. For one thread at a time."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.joining = FAR if storage.far else NEAR
        self.seconds = 0.0
        """That reads have taken so far."""
        self.requests = 0
        self.bytes_fetched = 0
        self.again = 0
        """Parts that came damaged, and were read once more."""

    def begin(self, one: ByteRange) -> None:
        """Let a range be under way, where the storage is far."""
        if self.storage.far:
            one.reading = self.storage.begin_read(one.file, one.start, one.stop - one.start)

    def read(self, one: ByteRange) -> bytes:
        """Return the bytes of a range.

        Raises:
            StorageError: The file cannot be read.
        """
        if one.reading is None:
            return self.read_alone(one.file, one.start, one.stop - one.start)
        started = time.perf_counter()
        try:
            data = one.reading.result()
        finally:
            self.seconds += time.perf_counter() - started
        self._count(data)
        return data

    def read_alone(self, file: str, offset: int, size: int) -> bytes:
        """Return some bytes of a file; the same errors as for `read`."""
        started = time.perf_counter()
        try:
            data = self.storage.read(file, offset, size)
        finally:
            self.seconds += time.perf_counter() - started
        self._count(data)
        return data

    def _count(self, data: bytes) -> None:
        self.requests += 1
        self.bytes_fetched += len(data)

    def mended(
        self, data: bytes, part: str, file: str, offset: int, size: int, crc: int, *, key: str
    ) -> bytes:
        """Return a part, or a packet of one, that came damaged: read again where that may help.

        Args:
            data: What came.
            part: Name of the part.
            file: That it stands in.
            offset: Its first byte there.
            size: Its bytes.
            crc: Its CRC-32C.
            key: Of its sample.

        Raises:
            CorruptShardError: It stays damaged.
            StorageError: The file cannot be read.
        """
        for _ in range(TRIES - 1 if self.storage.far else 0):
            self.again += 1
            data = self.read_alone(file, offset, size)
            if is_sound(data, size, crc):
                return data
        raise CorruptShardError(
            f"{self.storage.url}/{file}: {member_name(key, part)}: {size} bytes at {offset} are "
            f"not what was packed ({difference(data, size)}); run verify, and restore the shard"
        )


def is_sound(data: bytes, size: int, crc: int) -> bool:
    """Return whether bytes are those that were packed."""
    return len(data) == size and crc32c(data) == crc


def difference(data: bytes, size: int) -> str:
    """Return in which way bytes are not the expected ones."""
    return f"{len(data)} bytes there" if len(data) != size else "crc32c differs"
