"""Whether the numbering of H.264 pictures has gaps: ITU-T H.264 7.3.2.1.1, 7.3.3, 7.4.3.

Where a number is missing, FFmpeg puts pictures of its own making among the references,
and what it makes depends on which packet shows the gap first, even a disposable one.
"""

from collections.abc import Iterable, Sequence

from clipshards.packer.frames.nal import split_nal_units

# Profiles whose sequence parameter sets tell of chroma and scaling.
_HIGH = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
# Bytes that hold a slice header up to its frame_num, and a whole sequence parameter set.
_SLICE_BYTES = 16
_SET_BYTES = 1024


def numbering_has_gaps(extradata: bytes, packets: Iterable[Sequence[bytes]]) -> bool:
    """Return whether some picture's frame_num does not follow the one before it.

    Args:
        extradata: Codec configuration with the sequence parameter sets.
        packets: The slices of each packet, in the order of decoding.

    A stream whose numbers cannot be read counts as one with gaps.
    """
    try:
        sizes = {_frame_num_size(unit) for unit in _sequence_parameter_sets(extradata)}
        if len(sizes) != 1:
            return True
        bits, separate_planes = sizes.pop()
        last = 0
        for slices in packets:
            for unit in slices:
                number = _frame_num(unit, bits, separate_planes=separate_planes)
                idr = unit[0] & 31 == 5
                if number not in ((0,) if idr else (last, (last + 1) % (1 << bits))):
                    return True
                if idr or unit[0] & 0x60:
                    last = number
    except (IndexError, ValueError):
        return True
    return False


def _sequence_parameter_sets(extradata: bytes) -> list[bytes]:
    """Return the units without length or start code."""
    if extradata[:1] != b"\1":
        return [unit for unit in split_nal_units(extradata, 0) if unit[0] & 31 == 7]
    sets = []
    place = 6
    for _ in range(extradata[5] & 31):
        start = place + 2
        place = start + int.from_bytes(extradata[place:start], "big")
        sets.append(extradata[start:place])
    return sets


def _frame_num_size(unit: bytes) -> tuple[int, bool]:
    bits = _Bits(unit[1:_SET_BYTES])
    profile = bits.fixed(8)
    bits.fixed(16)
    bits.golomb()
    separate_planes = False
    if profile in _HIGH:
        chroma = bits.golomb()
        separate_planes = chroma == 3 and bits.fixed(1) == 1
        bits.golomb()
        bits.golomb()
        bits.fixed(1)
        if bits.fixed(1):
            for matrix in range(12 if chroma == 3 else 8):
                if bits.fixed(1):
                    _skip_scaling(bits, 16 if matrix < 6 else 64)
    size = bits.golomb() + 4
    if size > 16:
        raise ValueError("no field of the standard is as long")
    return size, separate_planes


def _skip_scaling(bits: "_Bits", entries: int) -> None:
    last = step = 8
    for _ in range(entries):
        if step:
            code = bits.golomb()
            step = (last + ((code + 1) // 2 if code % 2 else -code // 2)) % 256
        last = step or last


def _frame_num(unit: bytes, size: int, *, separate_planes: bool) -> int:
    bits = _Bits(unit[1:_SLICE_BYTES])
    for _ in range(3):  # first macroblock, slice type, picture parameter set
        bits.golomb()
    if separate_planes:
        bits.fixed(2)
    return bits.fixed(size)


class _Bits:
    """Reads the fields of a NAL unit (7.2, 9.1)."""

    def __init__(self, payload: bytes) -> None:
        raw = payload.replace(b"\0\0\3", b"\0\0")
        self._bits = format(int.from_bytes(raw, "big"), f"0{8 * len(raw)}b")
        self._place = 0

    def fixed(self, count: int) -> int:
        self._place += count
        if self._place > len(self._bits):
            raise ValueError("the unit ends inside its header")
        return int(self._bits[self._place - count : self._place], 2)

    def golomb(self) -> int:
        zeros = self._bits.index("1", self._place) - self._place
        self._place += zeros
        return self.fixed(zeros + 1) - 1
