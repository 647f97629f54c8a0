"""What the NAL units of one packet say about it, for H.264 and HEVC.

Only header bytes are read: ITU-T H.264 section 7.3.1 and table 7-1, H.265 section
7.3.1.2 and table 7-1, and the length size of avcC/hvcC in ISO/IEC 14496-15.
"""

from collections.abc import Iterator
from dataclasses import dataclass

# More than a slice header takes up to the last field that anybody reads.
_HEADER_BYTES = 32


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One packet."""

    random_access: bool
    """Its picture is an H.264 IDR or an HEVC IRAP picture."""
    disposable: bool
    """No other picture may refer to its picture."""
    parameter_sets: tuple[bytes, ...]
    """Sequence and picture parameter sets sent inside the packet, without zeros behind."""
    slices: tuple[bytes, ...]
    """Slice units of its picture; of each, enough for the header."""
    layers: frozenset[int]
    """HEVC temporal ids that occur; {0} for H.264."""


def nal_length_size(codec: str, extradata: bytes) -> int:
    """Return how many bytes hold a NAL unit's length; 0 where start codes separate units.

    >>> nal_length_size("h264", bytes([1, 100, 0, 13, 255]))
    4
    """
    if codec == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 21 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0


def head_parameter_sets(codec: str, extradata: bytes) -> tuple[bytes, ...]:
    """Return the parameter sets in a codec configuration of H.264 or HEVC, each once.

    Zeros at their end, which belong to no unit, are taken off.

    Args:
        codec: `h264` or `hevc`.
        extradata: avcC or hvcC as in ISO/IEC 14496-15, or units with start codes.

    Raises:
        ValueError: It ends too soon, or is neither.
    """
    if extradata[:1] != b"\1":
        units = [unit for unit in split_nal_units(extradata, 0) if _is_set(codec, unit)]
        return tuple(dict.fromkeys(units))
    found = []
    hevc = codec == "hevc"
    place = 22 if hevc else 5
    arrays = int.from_bytes(extradata[place : place + 1], "big") if hevc else 2
    place += hevc
    for array in range(arrays):
        # avcC counts sequence sets in five bits and picture sets in eight, hvcC has the kind
        # of unit in a byte before the count.
        size = 2 if hevc else 1
        count = int.from_bytes(extradata[place + hevc : place + hevc + size], "big")
        place += hevc + size
        for _ in range(count if hevc or array else count & 31):
            start = place + 2
            place = start + int.from_bytes(extradata[place:start], "big")
            if place > len(extradata) or start == place:
                raise ValueError("the codec configuration ends inside a parameter set")
            found.append(extradata[start:place].rstrip(b"\0"))
    return tuple(dict.fromkeys(unit for unit in found if unit and _is_set(codec, unit)))


def _is_set(codec: str, unit: bytes) -> bool:
    return unit[0] & 31 in (7, 8) if codec == "h264" else 32 <= unit[0] >> 1 & 63 <= 34


def split_nal_units(packet: bytes, length_size: int) -> Iterator[bytes]:
    """Yield the NAL units of a packet, without length or start code.

    Args:
        packet: One access unit.
        length_size: From `nal_length_size`.

    Raises:
        ValueError: The lengths do not add up to the packet.
    """
    if length_size:
        place = 0
        while place < len(packet):
            start = place + length_size
            place = start + int.from_bytes(packet[place:start], "big")
            if place > len(packet) or start == place:
                raise ValueError("NAL unit lengths do not fit the packet")
            yield packet[start:place]
        return
    start = packet.find(b"\0\0\1")
    if start < 0:
        raise ValueError("no start code in the packet")
    while start >= 0:
        end = packet.find(b"\0\0\1", start + 3)
        # A unit never ends in a zero byte: those belong to the next start code.
        unit = packet[start + 3 : end if end >= 0 else len(packet)].rstrip(b"\0")
        if unit:
            yield unit
        start = end


def read_access_unit(codec: str, packet: bytes, length_size: int) -> AccessUnit:
    """Return what the NAL headers of an H.264 or HEVC packet say.

    Raises:
        ValueError: The packet holds no picture, or is not cut into NAL units.
    """
    units = list(split_nal_units(packet, length_size))
    return _read_h264(units) if codec == "h264" else _read_hevc(units)


def _read_h264(units: list[bytes]) -> AccessUnit:
    slices = [unit for unit in units if 1 <= unit[0] & 31 <= 5]
    if not slices:
        raise ValueError("no slice in the packet")
    random_access = slices[0][0] & 31 == 5
    return AccessUnit(
        random_access=random_access,
        # The standard forbids nal_ref_idc 0 for IDR pictures; decoding begins there all the same.
        disposable=not random_access and all(unit[0] & 0x60 == 0 for unit in slices),
        parameter_sets=tuple(unit.rstrip(b"\0") for unit in units if _is_set("h264", unit)),
        slices=tuple(unit[:_HEADER_BYTES] for unit in slices),
        layers=frozenset((0,)),
    )


def _read_hevc(units: list[bytes]) -> AccessUnit:
    slices = [unit for unit in units if len(unit) > 1 and unit[0] >> 1 & 63 < 32]
    if not slices:
        raise ValueError("no slice in the packet")
    kinds = [unit[0] >> 1 & 63 for unit in slices]
    return AccessUnit(
        random_access=16 <= kinds[0] <= 23,
        # Sub-layer non-reference pictures have the even types below 16.
        disposable=all(kind < 16 and kind % 2 == 0 for kind in kinds),
        parameter_sets=tuple(unit.rstrip(b"\0") for unit in units if _is_set("hevc", unit)),
        slices=tuple(unit[:_HEADER_BYTES] for unit in slices),
        layers=frozenset((unit[1] & 7) - 1 for unit in slices),
    )


def read_messages(unit: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield payload type and payload of each message in H.264's supplemental information (7.3.2.3).

    A payload that is cut short comes as far as it goes.
    """
    payload = unit[1:].replace(b"\0\0\3", b"\0\0")
    place = 0
    while place + 2 < len(payload):  # the last byte ends the unit
        numbers = []
        for _ in range(2):
            start = place
            while payload[place : place + 1] == b"\xff":
                place += 1
            numbers.append(255 * (place - start) + sum(payload[place : place + 1]))
            place += 1
        kind, size = numbers
        yield kind, payload[place : place + size]
        place += size
