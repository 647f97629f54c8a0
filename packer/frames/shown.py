"""Which packets show a picture, and in which order, by the headers of HEVC, VP8, VP9 and AV1.

Read are ITU-T H.265 7.3.1.2, 7.3.2.2, 7.3.2.3, 7.3.6.1 and 8.3.1; RFC 6386 9.1 (VP8); the VP9
bitstream specification 6.2 and annex B; the AV1 bitstream specification 5.3 to 5.9. What is out
of the ordinary is refused, not worked out: `demux.py` then lets the decoder say.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clipshards.packer.frames.h264 import Bits
from clipshards.packer.frames.nal import split_nal_units

_SEQUENCE_SET, _PICTURE_SET = 33, 34
# More than a slice header takes up to its place in the order, and a set of parameters.
_HEADER_BYTES = 48
_SET_BYTES = 1024


class Shown(NamedTuple):
    """What the packets of a video show."""

    order: list[int]
    """One number a packet, ascending in the order of display; -1 where nothing is shown."""
    reorder_limit: int
    """Pictures that a decoder holds back at most to show them in this order."""


class _Hevc(NamedTuple):
    """What the parameter sets of an HEVC video say of its slice headers."""

    order_bits: int
    reorder_limit: int
    separate_planes: bool
    picture_sets: dict[int, tuple[bool, int]]
    """Number to: whether slices say if they are shown, and bits that mean nothing."""


def hevc_shown(
    payloads: Sequence[bytes], *, length_size: int, parameter_sets: Sequence[bytes]
) -> Shown:
    """Return the order of display of HEVC packets.

    Args:
        payloads: The packets, the first a random-access point.
        length_size: As in the json part.
        parameter_sets: Those of the codec configuration.

    Raises:
        ValueError, IndexError: It does not follow from the headers alone.
    """
    known = _read_hevc_sets(parameter_sets)
    period = 1 << known.order_bits
    order: list[int] = []
    base = top = high = low = 0
    skips_leading = False
    for number, payload in enumerate(payloads):
        kind, layer, unit = _first_slice(payload, length_size)
        digits = _order_digits(unit, kind, known)
        if 16 <= kind <= 20 or not number:
            # IDR, BLA, and whatever comes first: all before it is shown before it.
            base, top, high, low = base + top + 1 + period, 0, 0, 0
            now = 0
        elif digits < low and low - digits >= period // 2:
            now = high + period
        elif digits > low and digits - low > period // 2:
            now = high - period
        else:
            now = high
        if 16 <= kind <= 21:
            skips_leading = kind <= 18 or not number
        elif kind in (8, 9) and skips_leading:
            raise ValueError("a leading picture that cannot be decoded")
        order.append(base + now + digits)
        top = max(top, now + digits)
        # Leading pictures and those that nothing of their layer refers to do not count.
        if not layer and (kind >= 16 or (kind % 2 and kind < 6)):
            high, low = now, digits
    return Shown(order, known.reorder_limit)


def _read_hevc_sets(units: Sequence[bytes]) -> _Hevc:
    sequences = [unit for unit in units if unit[0] >> 1 & 63 == _SEQUENCE_SET]
    if len(sequences) != 1:
        raise ValueError("not one sequence parameter set")
    bits = Bits(sequences[0][2:_SET_BYTES])
    bits.fixed(4)
    layers = bits.fixed(3)
    bits.fixed(1)
    bits.fixed(96)  # profile, tier, level
    if layers:
        there = [(bits.fixed(1), bits.fixed(1)) for _ in range(8)]
        for profile, level in there:
            if profile or level:
                bits.fixed(88 * profile + 8 * level)
    bits.golomb()
    separate_planes = bits.golomb() == 3 and bits.fixed(1) == 1
    bits.golomb()  # width
    bits.golomb()  # height
    if bits.fixed(1):
        for _ in range(4):
            bits.golomb()
    bits.golomb()  # bit depths
    bits.golomb()
    order_bits = bits.golomb() + 4
    if order_bits > 16:
        raise ValueError("no field of the standard is as long")
    limit = 0
    for _ in range(layers + 1 if bits.fixed(1) else 1):
        bits.golomb()
        limit = bits.golomb()
        bits.golomb()
    picture_sets = {}
    for unit in units:
        if unit[0] >> 1 & 63 == _PICTURE_SET:
            bits = Bits(unit[2:_HEADER_BYTES])
            number = bits.golomb()
            bits.golomb()
            bits.fixed(1)  # dependent slice segments
            if number in picture_sets:
                raise ValueError("two picture parameter sets of one number")
            picture_sets[number] = (bits.fixed(1) == 1, bits.fixed(3))
    return _Hevc(order_bits, limit, separate_planes, picture_sets)


def _first_slice(payload: bytes, length_size: int) -> tuple[int, int, bytes]:
    """Return type, temporal layer and unit of the first slice of the only picture."""
    first: list[bytes] = []
    kinds = set()
    for unit in split_nal_units(payload, length_size):
        kind = unit[0] >> 1 & 63
        # A decoder passes over units whose header cannot be.
        if unit[0] & 0x80 or not unit[1] & 7:
            raise ValueError("not the header of a unit")
        if unit[0] & 1 or unit[1] >> 3 or kind in (36, 37):
            raise ValueError("several layers, or an end of the sequence")
        if kind < 32:
            kinds.add(kind)
            if unit[2] & 0x80:
                first.append(unit)
    if len(first) != 1 or len(kinds) != 1 or kinds & {*range(10, 16), *range(22, 32)}:
        raise ValueError("a packet is not one picture")
    return kinds.pop(), (first[0][1] & 7) - 1, first[0]


def _order_digits(unit: bytes, kind: int, known: _Hevc) -> int:
    """Return the last bits of the place in the order of display, from a slice header."""
    bits = Bits(unit[2:_HEADER_BYTES])
    bits.fixed(1)
    if 16 <= kind <= 23 and bits.fixed(1):
        raise ValueError("pictures that wait to be shown are dropped")
    tells_output, spare = known.picture_sets.get(bits.golomb(), (True, -1))
    if spare < 0:
        raise ValueError("a picture parameter set is missing")
    if spare:
        bits.fixed(spare)
    bits.golomb()  # slice type
    if tells_output and not bits.fixed(1):
        raise ValueError("a picture is not shown")
    if known.separate_planes:
        bits.fixed(2)
    return 0 if kind in (19, 20) else bits.fixed(known.order_bits)


def vp8_shown(payloads: Sequence[bytes], keys: Sequence[bool]) -> Shown:
    """Return which VP8 packets show a picture; their order is that of the packets.

    Raises:
        ValueError: A key frame is not marked as one, or the size of the pictures changes.
    """
    order = []
    sizes = set()
    for number, (payload, key) in enumerate(zip(payloads, keys, strict=True)):
        if key == bool(payload[0] & 1):
            raise ValueError("the container is wrong about key frames")
        if key:
            sizes.add(payload[6:10])
        order.append(number if payload[0] & 0x10 else -1)
    if len(sizes) != 1:
        raise ValueError("pictures of several sizes")
    return Shown(order, 0)


def vp9_shown(payloads: Sequence[bytes], keys: Sequence[bool]) -> Shown:
    """Return the order of VP9 packets, which is their own, if each shows one picture.

    Raises:
        ValueError, IndexError: One shows none or several, a key frame is not marked as one,
            the size of the key frames changes, or the profile is not 0.
    """
    sizes = set()
    for payload, key in zip(payloads, keys, strict=True):
        shown = 0
        for number, frame in enumerate(_vp9_frames(payload)):
            # Two bits of marker, two of profile, whether a known picture is shown, whether
            # it is no key frame, whether it is shown.
            if frame[0] >> 4 != 0b1000:
                raise ValueError("not a VP9 frame of profile 0")
            again = bool(frame[0] & 8)
            is_key = not again and not frame[0] & 4
            shown += again or bool(frame[0] & 2)
            if is_key != (key and not number):
                raise ValueError("the container is wrong about key frames")
            if is_key:
                sizes.add((frame[4:8], frame[8] >> 4))
        if shown != 1:
            raise ValueError("a packet does not show one picture")
    if len(sizes) != 1:
        raise ValueError("pictures of several sizes")
    return Shown([*range(len(payloads))], 0)


def _vp9_frames(payload: bytes) -> Iterator[bytes]:
    """Yield the first bytes of each frame in a packet."""
    marker = payload[-1]
    if marker >> 5 != 0b110:
        yield payload[:16]
        return
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = payload[-2 - count * width :]
    if index[0] != marker:
        yield payload[:16]
        return
    place = 0
    for frame in range(count):
        size = int.from_bytes(index[1 + frame * width : 1 + (frame + 1) * width], "little")
        if not size or place + size > len(payload):
            raise ValueError("the frames do not fit the packet")
        yield payload[place : place + min(size, 16)]
        place += size


def av1_shown(payloads: Sequence[bytes], keys: Sequence[bool]) -> Shown:
    """Return the order of AV1 packets, which is their own, if each shows one picture.

    Raises:
        ValueError, IndexError: One shows none or several, a key frame is hidden or not what
            the container says, the sequence header changes, or there are spatial layers.
    """
    heads = set()
    for payload, key in zip(payloads, keys, strict=True):
        shown = frames = 0
        for kind, unit in _av1_units(payload):
            if kind == 1:
                heads.add(unit)
                if unit[0] & 8:
                    raise ValueError("a still picture")
            elif kind in (3, 6):
                again = bool(unit[0] & 0x80)
                is_key = not again and not unit[0] & 0x60
                is_shown = again or bool(unit[0] & 0x10)
                if is_key != (key and not frames) or (is_key and not is_shown):
                    raise ValueError("the container is wrong about key frames")
                frames += 1
                shown += is_shown
        if shown != 1:
            raise ValueError("a packet does not show one picture")
    if len(heads) != 1:
        raise ValueError("sequence headers change")
    return Shown([*range(len(payloads))], 0)


def _av1_units(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each unit; of pictures, no more than the first byte."""
    place = 0
    while place < len(payload):
        header = payload[place]
        place += 1
        if header & 4:
            if payload[place] >> 3 & 3:
                raise ValueError("spatial layers")
            place += 1
        size = len(payload) - place
        if header & 2:
            size = shift = 0
            while True:
                size |= (payload[place] & 127) << shift
                shift += 7
                place += 1
                if not payload[place - 1] & 128:
                    break
        if place + size > len(payload):
            raise ValueError("the units do not fit the packet")
        kind = header >> 3 & 15
        yield kind, payload[place : place + (size if kind == 1 else min(size, 1))]
        place += size
