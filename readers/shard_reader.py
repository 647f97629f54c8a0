"""A shard read once from front to back, its checksums computed on the way."""

import hashlib
from collections.abc import Callable

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError
from clipshards.packer.storage import Storage

_PIECE = 1 << 21

Progress = Callable[[int], None]
"""Called with the bytes checked since the last call."""


class ShardReader:
    """Reads a shard once from front to back, hashing as it goes."""

    def __init__(self, storage: Storage, name: str, tick: Progress) -> None:
        self.place = 0
        self.sha256 = hashlib.sha256()
        self.crc32c = 0
        self._pieces = storage.pieces(name, _PIECE)
        self._tick = tick
        self._buffer = b""
        self._used = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            CorruptShardError: The file ends before them.
        """
        start, end = self._used, self._used + size
        if end <= len(self._buffer):
            self._used = end
            self.place += size
            return self._buffer[start:end]
        pieces: list[memoryview] = []
        missing = size
        while missing:
            if self._used == len(self._buffer) and not self._fill():
                raise CorruptShardError(
                    f"the file ends at byte {self.place}, {missing} bytes before its member does"
                )
            piece = memoryview(self._buffer)[self._used : self._used + missing]
            self._used += len(piece)
            self.place += len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def skip_to_end(self) -> None:
        """Hash all that is left."""
        self.place += len(self._buffer) - self._used
        self._used = len(self._buffer)
        while self._fill():
            self.place += len(self._buffer)
            self._used = len(self._buffer)

    @property
    def at_end(self) -> bool:
        """Whether every byte was taken."""
        return self._used == len(self._buffer) and not self._fill()

    def _fill(self) -> bool:
        self._buffer = next(self._pieces, b"")
        self._used = 0
        self.sha256.update(self._buffer)
        self.crc32c = crc32c(self._buffer, self.crc32c)
        self._tick(len(self._buffer))
        return bool(self._buffer)
