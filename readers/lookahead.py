"""Batches whose reads are begun before their turn, so that a far storage is not waited for."""

import math
import threading
from collections.abc import Iterator
from typing import Protocol

from clipshards.readers.batch_maker import Begun, Made, Note

# Enough for a second of a fast network; a batch that is larger is read ahead alone.
MOST_BYTES = 256 * 2**20
_MOST_BATCHES = 64


class Make(Protocol):
    """Makes batches of this rank."""

    @property
    def far(self) -> bool:
        """See `BatchMaker`."""

    def begin(self, epoch: int, batch: int) -> Begun:
        """See `BatchMaker`."""

    def finish(self, begun: Begun, note: Note | None = None) -> Made:
        """See `BatchMaker`."""


class Lookahead:
    """Makes batches that come in a known order; of far ones several are under way."""

    def __init__(
        self, make: Make, places: Iterator[tuple[int, int]], *, most_bytes: int = MOST_BYTES
    ) -> None:
        """Set up; nothing is read yet.

        Args:
            make: Makes them.
            places: Epoch and batch of each, in the order in which they will be asked for.
            most_bytes: That may be read, or under way, beside the batches that are being made.
        """
        self._make = make
        self._places = places
        self._most_bytes = most_bytes if make.far else 0
        # In the order in which they will be asked for.
        self._begun: dict[tuple[int, int], Begun | Exception] = {}
        self._lock = threading.Lock()

    def make(self, epoch: int, batch: int, note: Note | None = None) -> Made:
        """Return one of the batches; from several threads at a time.

        Raises:
            DecodeError, FormatError, StorageError: A sample cannot be had; the message
                names it.
        """
        with self._lock:
            while (epoch, batch) not in self._begun and self._begin_next():
                pass
            begun = self._begun.pop((epoch, batch))
            if not isinstance(begun, Exception):
                _begin_long(begun, math.inf)
                self._go_ahead()
        if isinstance(begun, Exception):
            raise begun
        return self._make.finish(begun, note)

    def _go_ahead(self) -> None:
        """Let as many bytes be under way as may be.

        What is needed of long videos is known only when their small parts have come. Their bytes
        count from there on, and go before those of further batches. Behind a batch that cannot be
        begun none is: a store that is away would be waited for again and again.
        """
        ahead = [begun for begun in self._begun.values() if not isinstance(begun, Exception)]
        room = self._most_bytes - sum(begun.bytes for begun in ahead)
        for begun in ahead:
            if room > 0:
                room -= _begin_long(begun, room)
        while room > 0 and len(ahead) == len(self._begun) < _MOST_BATCHES and self._begin_next():
            last = next(reversed(self._begun.values()))
            if not isinstance(last, Exception):
                ahead.append(last)
                room -= last.bytes

    def _begin_next(self) -> bool:
        """Begin a batch; return False where none is left."""
        place = next(self._places, None)
        if place is None:
            return False
        try:
            begun = self._make.begin(*place)
        except Exception as exc:  # noqa: BLE001 (raised when this batch is asked for)
            self._begun[place] = exc
        else:
            self._begun[place] = begun
        return True


def _begin_long(begun: Begun, room: float) -> int:
    """Begin reads of the long videos of a batch; see `Fetch.begin_long`."""
    bytes_begun = 0
    for _, reading in begun.readings:
        bytes_begun += reading.fetch.begin_long(room - bytes_begun)
    return bytes_begun
