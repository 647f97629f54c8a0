"""The packets of a video part, of which not all need to be at hand."""

from collections.abc import Mapping
from typing import Protocol

from clipshards.packer.format.errors import DecodeError


class Part(Protocol):
    """A video part: its bytes, or as many of its packets as will be asked for."""

    def __len__(self) -> int:
        """Return the bytes of the whole part."""

    def __getitem__(self, span: slice, /) -> bytes:
        """Return a packet's bytes."""


class SomePackets:
    """A part of which some packets were fetched."""

    def __init__(self, size: int, packets: Mapping[int, bytes]) -> None:
        """Set up.

        Args:
            size: Bytes of the part.
            packets: The first byte of each packet that is there, to its bytes.
        """
        self._size = size
        self._packets = packets

    @property
    def fetched(self) -> int:
        """Bytes of the packets."""
        return sum(map(len, self._packets.values()))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice) -> bytes:
        packet = self._packets.get(span.start)
        if packet is None or len(packet) != span.stop - span.start:
            raise DecodeError(f"bytes {span.start} to {span.stop} of the part were not fetched")
        return packet
