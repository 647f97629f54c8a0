"""What in an H.264 stream makes FFmpeg's pictures depend on more than the standard lets them.

Read are ITU-T H.264 7.3.2.1.1 and 7.3.2.2 (parameter sets), 7.3.3 (slice headers) and
7.4.3 (`frame_num`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Profiles whose sequence parameter sets tell of chroma and scaling.
_HIGH = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
# Bytes that hold a slice header up to its field_pic_flag, and a whole sequence parameter set.
_SLICE_BYTES = 16
_SET_BYTES = 1024


_SEQUENCE, _PICTURE = 7, 8


def stream_fault(parameter_sets: Sequence[bytes], packets: Iterable[Sequence[bytes]]) -> str:
    """Return why FFmpeg may give other pictures than the standard; empty where nothing is wrong.

    - Of several sequence parameter sets, one may say nothing of colours: FFmpeg then keeps
      those of the set that was used last, over IDR pictures and flushes.
    - Of two sets with one number, the one that was sent last counts, wherever decoding began.
    - Where a number of a picture is missing, FFmpeg puts pictures of its own making among the
      references. What it makes depends on which packet shows the gap first, even a disposable
      one. It looks for a gap behind the picture before, reference or not.
    - Where a slice of a field is missing, it leaves what the buffer held before, and does not
      say so. Of frames it says so.

    Args:
        parameter_sets: All that the codec configuration has, each once.
        packets: The slices of each packet, in the order of decoding.
    """
    try:
        sequences = [unit for unit in parameter_sets if unit[0] & 31 == _SEQUENCE]
        if len(sequences) != 1:
            return f"the codec configuration has {len(sequences)} sequence parameter sets"
        numbers = [_Bits(u[1:]).golomb() for u in parameter_sets if u[0] & 31 == _PICTURE]
        if len(set(numbers)) != len(numbers):
            return "the codec configuration has two picture parameter sets of one number"
        layout = _read_layout(sequences[0])
        last = before = 0
        fields = sliced = False
        for slices in packets:
            for unit in slices:
                header = _read_slice(unit, layout)
                due = {0} if unit[0] & 31 == 5 else _next(last, layout) & _next(before, layout)
                if header.frame_num not in due:
                    return "pictures are missing between the packets"
                before = header.frame_num
                if due == {0} or unit[0] & 0x60:
                    last = before
                fields |= header.is_field
                sliced |= header.first_macroblock > 0
    except (IndexError, ValueError):
        return "the headers of its slices cannot be read"
    return "its fields are cut into slices" if fields and sliced else ""


class _Layout(NamedTuple):
    """What a sequence parameter set says of the headers of slices."""

    frame_num_bits: int
    separate_planes: bool
    frames_only: bool


class _Slice(NamedTuple):
    """The beginning of a slice's header."""

    first_macroblock: int
    frame_num: int
    is_field: bool


def _next(number: int, layout: _Layout) -> set[int]:
    return {number, (number + 1) % (1 << layout.frame_num_bits)}


def _read_layout(unit: bytes) -> _Layout:
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
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.fixed(1)
        bits.golomb()
        bits.golomb()
        for _ in range(min(bits.golomb(), 256)):
            bits.golomb()
    bits.golomb()  # reference frames
    bits.fixed(1)  # whether gaps are allowed
    bits.golomb()  # width
    bits.golomb()  # height
    return _Layout(size, separate_planes, frames_only=bits.fixed(1) == 1)


def _skip_scaling(bits: "_Bits", entries: int) -> None:
    last = step = 8
    for _ in range(entries):
        if step:
            code = bits.golomb()
            step = (last + ((code + 1) // 2 if code % 2 else -code // 2)) % 256
        last = step or last


def _read_slice(unit: bytes, layout: _Layout) -> _Slice:
    bits = _Bits(unit[1:_SLICE_BYTES])
    first = bits.golomb()
    bits.golomb()  # slice type
    bits.golomb()  # picture parameter set
    if layout.separate_planes:
        bits.fixed(2)
    number = bits.fixed(layout.frame_num_bits)
    return _Slice(first, number, is_field=not layout.frames_only and bits.fixed(1) == 1)


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
