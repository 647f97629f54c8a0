"""What in an H.264 stream makes FFmpeg's pictures depend on more than the standard lets them.

Read are ITU-T H.264 7.3.2.1.1, 7.3.2.2 and E.1.1 (parameter sets), 7.3.3 (slice headers) and
7.4.3 (`frame_num`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clipshards.packer.frames.nal import read_messages

# Profiles whose sequence parameter sets tell of chroma and scaling.
_HIGH = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
# Bytes that hold a slice header up to its field_pic_flag, and a whole sequence parameter set.
_SLICE_BYTES = 16
_SET_BYTES = 1024


_SEQUENCE, _PICTURE = 7, 8
# The message on the timing of a picture.
_PICTURE_TIMING = 1


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
        numbers = [Bits(u[1:]).golomb() for u in parameter_sets if u[0] & 31 == _PICTURE]
        if len(set(numbers)) != len(numbers):
            return "the codec configuration has two picture parameter sets of one number"
        layout = read_layout(sequences[0])
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


class Layout(NamedTuple):
    """What a sequence parameter set says of the headers of slices and the order of display."""

    frame_num_bits: int
    separate_planes: bool
    frames_only: bool
    order_kind: int
    """How the place in the order of display is told (`pic_order_cnt_type`)."""
    order_bits: int
    """Bits of that place in a slice header, for kind 0."""


class Display(NamedTuple):
    """What a sequence parameter set says of the display."""

    reorder_limit: int
    """Pictures that a decoder has to hold back at most; -1 where it is not said."""
    tells_fields: bool
    """Whether messages on the timing of pictures may tell of fields."""
    delay_bits: int
    """Bits in such a message before what it tells of them."""


class PictureSet(NamedTuple):
    """What a picture parameter set says of the headers of slices."""

    number: int
    second_order: bool
    """Whether a slice of a frame tells the place of its second field too."""
    slice_groups: int
    redundant: bool
    """Whether there may be slices that only repeat others."""


class _Slice(NamedTuple):
    """The beginning of a slice's header."""

    first_macroblock: int
    frame_num: int
    is_field: bool


def _next(number: int, layout: Layout) -> set[int]:
    return {number, (number + 1) % (1 << layout.frame_num_bits)}


def read_layout(unit: bytes) -> Layout:
    """Return what a sequence parameter set says.

    Raises:
        ValueError, IndexError: It cannot be read.
    """
    return _read_layout(Bits(unit[1:_SET_BYTES]))


def _read_layout(bits: "Bits") -> Layout:
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
    order_bits = 0
    if order == 0:
        order_bits = bits.golomb() + 4
        if order_bits > 16:
            raise ValueError("no field of the standard is as long")
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
    frames_only = bits.fixed(1) == 1
    return Layout(size, separate_planes, frames_only, order, order_bits)


def read_display(unit: bytes) -> Display:
    """Return what a sequence parameter set says of the display.

    Raises:
        ValueError, IndexError: It cannot be read.
    """
    bits = Bits(unit[1:_SET_BYTES])
    if not _read_layout(bits).frames_only:
        bits.fixed(1)
    bits.fixed(1)  # inference of direct motion
    if bits.fixed(1):
        for _ in range(4):  # cropping
            bits.golomb()
    if not bits.fixed(1):
        return Display(-1, tells_fields=False, delay_bits=0)
    if bits.fixed(1) and bits.fixed(8) == 255:  # sample aspect
        bits.fixed(32)
    if bits.fixed(1):  # overscan
        bits.fixed(1)
    if bits.fixed(1):  # video signal
        bits.fixed(4)
        if bits.fixed(1):
            bits.fixed(24)
    if bits.fixed(1):  # place of the chroma samples
        bits.golomb()
        bits.golomb()
    if bits.fixed(1):  # timing
        bits.fixed(65)
    buffers = [_delay_bits(bits) for _ in range(2) if bits.fixed(1)]
    delay_bits = buffers[-1] if buffers else 0
    if buffers:
        bits.fixed(1)
    tells_fields = bits.fixed(1) == 1
    if not bits.fixed(1):
        return Display(-1, tells_fields, delay_bits)
    bits.fixed(1)
    for _ in range(4):
        bits.golomb()
    return Display(bits.golomb(), tells_fields, delay_bits)


def _delay_bits(bits: "Bits") -> int:
    """Read the description of a buffer; return how many bits the two delays out of it have."""
    schedules = bits.golomb() + 1
    bits.fixed(8)
    for _ in range(min(schedules, 32)):
        bits.golomb()
        bits.golomb()
        bits.fixed(1)
    bits.fixed(5)
    delays = bits.fixed(5) + bits.fixed(5) + 2
    bits.fixed(5)
    return delays


def shows_frame(unit: bytes, display: Display) -> bool:
    """Return whether no message in a unit of supplemental information tells of fields (D.1.3).

    False where the unit cannot be read.
    """
    if not display.tells_fields:
        return True
    for kind, payload in read_messages(unit):
        if kind == _PICTURE_TIMING:
            # The kind of picture in four bits, 0 for a frame, and whether there is a clock.
            rest = 8 * len(payload) - display.delay_bits - 5
            if rest < 0 or int.from_bytes(payload, "big") >> rest & 31:
                return False
    return True


def read_picture_set(unit: bytes) -> PictureSet:
    """Return what a picture parameter set says; of several slice groups, nothing behind them.

    Raises:
        ValueError, IndexError: It cannot be read.
    """
    bits = Bits(unit[1:_SET_BYTES])
    number = bits.golomb()
    bits.golomb()  # sequence parameter set
    bits.fixed(1)  # entropy coding
    second_order = bits.fixed(1) == 1
    groups = bits.golomb() + 1
    if groups > 1:
        return PictureSet(number, second_order, groups, redundant=True)
    bits.golomb()  # references
    bits.golomb()
    bits.fixed(3)  # weighted prediction
    for _ in range(3):  # quantisers
        bits.golomb()
    bits.fixed(2)  # deblocking, constrained intra prediction
    return PictureSet(number, second_order, groups, redundant=bits.fixed(1) == 1)


def _skip_scaling(bits: "Bits", entries: int) -> None:
    last = step = 8
    for _ in range(entries):
        if step:
            code = bits.golomb()
            step = (last + ((code + 1) // 2 if code % 2 else -code // 2)) % 256
        last = step or last


def _read_slice(unit: bytes, layout: Layout) -> _Slice:
    bits = Bits(unit[1:_SLICE_BYTES])
    first = bits.golomb()
    bits.golomb()  # slice type
    bits.golomb()  # picture parameter set
    if layout.separate_planes:
        bits.fixed(2)
    number = bits.fixed(layout.frame_num_bits)
    return _Slice(first, number, is_field=not layout.frames_only and bits.fixed(1) == 1)


class Bits:
    """Reads the fields of a NAL unit (7.2, 9.1), of H.264 or HEVC."""

    def __init__(self, payload: bytes) -> None:
        raw = payload.replace(b"\0\0\3", b"\0\0")
        self._bits = format(int.from_bytes(raw, "big"), f"0{8 * len(raw)}b")
        self._place = 0

    def fixed(self, count: int) -> int:
        """Return the next `count` bits."""
        self._place += count
        if self._place > len(self._bits):
            raise ValueError("the unit ends inside its header")
        return int(self._bits[self._place - count : self._place], 2)

    def golomb(self) -> int:
        """Return the next Exp-Golomb code, of numbers without a sign."""
        zeros = self._bits.index("1", self._place) - self._place
        self._place += zeros
        return self.fixed(zeros + 1) - 1
