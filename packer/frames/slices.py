"""The slice headers of a whole H.264 video at once, and the order of display that they tell.

Everything here could be read packet by packet; done for all packets together by numpy it
costs a tenth. What is out of the ordinary is refused, not worked out: `demux.py` then lets
the decoder say.

Read are ITU-T H.264 7.3.1 (units), 7.3.3 (slice headers), 7.4.3 (`frame_num`) and 8.2.1
(order of display).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.frame_table import OFFSET, SIZE, FrameTable
from clipshards.packer.frames.h264 import Layout, PictureSet

Column = npt.NDArray[np.int64]

# Bytes that hold the header of a slice up to its place in the order of display.
_HEADER = 24
# Rounds of the walk through the units of all packets: more than slices a picture has.
_MOST_UNITS = 256


class Units(NamedTuple):
    """All units of all packets, in the order of the file."""

    packet: Column
    """The packet that each stands in."""
    place: Column
    """Of its first byte in the file."""
    size: Column
    header: Column
    """Its first byte."""


class Pictures(NamedTuple):
    """What the slices say, packet by packet."""

    random_access: npt.NDArray[np.bool_]
    """IDR pictures."""
    disposable: npt.NDArray[np.bool_]
    order: Column
    """Ascending in the order of display."""


def find_units(data: bytes, table: FrameTable, length_size: int) -> Units:
    """Return the units of all packets.

    Args:
        data: The file.
        table: Where its packets are.
        length_size: Bytes before each unit that tell its length, at least 1.

    Raises:
        ValueError: The lengths do not add up to the packets.
    """
    octets = np.frombuffer(data, np.uint8)
    packet = np.arange(len(table))
    place = table[:, OFFSET].copy()
    end = place + table[:, SIZE]
    found = []
    for _ in range(_MOST_UNITS):
        start = place + length_size
        if (start >= end).any():
            raise ValueError("NAL unit lengths do not fit the packet")
        size = np.zeros(len(place), np.int64)
        for byte in range(length_size):
            size = size << 8 | octets[place + byte]
        place = start + size
        if ((size == 0) | (place > end)).any():
            raise ValueError("NAL unit lengths do not fit the packet")
        found.append((packet, start, size, octets[start].astype(np.int64)))
        more = np.flatnonzero(place < end)
        if not len(more):
            break
        packet, place, end = packet[more], place[more], end[more]
    else:
        raise ValueError("too many units in a packet")
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    by_place = np.lexsort((columns[1], columns[0]))
    return Units(*(column[by_place] for column in columns))


def read_pictures(
    data: bytes,
    slices: Units,
    layout: Layout,
    picture_sets: Sequence[PictureSet],
    *,
    packets: int,
) -> Pictures:
    """Return what the slices of frames say of their pictures.

    Args:
        data: The file.
        slices: Units of the types 1 and 5.
        layout: Of the only sequence parameter set.
        picture_sets: All there are.
        packets: How many there are.

    Raises:
        ValueError: The order does not follow from the headers alone, or pictures are missing.
    """
    if not layout.frames_only or layout.order_kind == 1:
        raise ValueError("fields, or an order that is told in another way")
    if any(known.second_order or known.redundant for known in picture_sets):
        raise ValueError("slice headers with fields that are not read")
    first = np.flatnonzero(np.diff(slices.packet, prepend=-1))
    if len(first) != packets:
        raise ValueError("no slice in a packet")
    is_idr = slices.header & 31 == 5
    refers = (slices.header & 0x60) != 0
    if (is_idr & ~refers).any():
        raise ValueError("an IDR picture that nothing may refer to")
    bits = _Columns(data, slices.place + 1)
    bits.golomb()  # first macroblock
    bits.golomb()  # slice type
    used = bits.golomb()
    if not {*used.tolist()} <= {known.number for known in picture_sets}:
        raise ValueError("a picture parameter set is missing")
    if layout.separate_planes:
        bits.fixed(2)
    number = bits.fixed(layout.frame_num_bits)
    _check_numbers(number, is_idr, refers, 1 << layout.frame_num_bits)
    bits.golomb(where=is_idr)
    place = bits.fixed(layout.order_bits) if layout.order_kind == 0 else number
    dropping = bits.fixed(1)
    if (dropping[is_idr & refers] != 0).any():
        raise ValueError("pictures that wait to be shown are dropped")
    counts = np.diff(first, append=len(number))
    for column in (is_idr, number, place):
        if (column != np.repeat(column[first], counts)).any():
            raise ValueError("a packet holds slices of several pictures")
    random_access = is_idr[first]
    any_refers = np.logical_or.reduceat(refers, first)
    if layout.order_kind == 0:
        order = _places(place[first], random_access, any_refers, 1 << layout.order_bits)
    else:
        order = np.arange(len(first))
    return Pictures(random_access, ~random_access & ~any_refers, order)


def _check_numbers(
    number: Column,
    is_idr: npt.NDArray[np.bool_],
    refers: npt.NDArray[np.bool_],
    period: int,
) -> None:
    """Raise ValueError where `h264.stream_fault` would find a number missing."""
    before = np.concatenate(([0], number[:-1]))
    kept = is_idr | refers
    last_kept = np.maximum.accumulate(np.where(kept, np.arange(len(number)), -1))
    last = np.where(last_kept >= 0, number[last_kept], 0)
    last = np.concatenate(([0], last[:-1]))
    due = ((number == last) | (number == (last + 1) % period)) & (
        (number == before) | (number == (before + 1) % period)
    )
    if not np.where(is_idr, number == 0, due).all():
        raise ValueError("pictures are missing between the packets")


def _places(
    told: Column,
    is_idr: npt.NDArray[np.bool_],
    refers: npt.NDArray[np.bool_],
    period: int,
) -> Column:
    """Return the place of each picture in the order of display, from its last digits (8.2.1.1).

    A picture that begins the order anew without being an IDR picture (memory management
    operation 5) is not known from here; its times will not fit then.
    """
    places = []
    base = high = low = top = 0
    for digits, idr, reference in zip(told.tolist(), is_idr.tolist(), refers.tolist(), strict=True):
        if idr:
            # All that came before is shown before.
            base, high, low = base + top + 1 + period, 0, 0
            top = 0
        if digits < low and low - digits >= period // 2:
            now = high + period
        elif digits > low and digits - low > period // 2:
            now = high - period
        else:
            now = high
        place = now + digits
        places.append(base + place)
        top = max(top, place)
        if reference or idr:
            high, low = now, digits
    return np.array(places, dtype=np.int64)


class _Columns:
    """Reads the same fields of many units side by side."""

    def __init__(self, data: bytes, start: Column) -> None:
        octets = np.frombuffer(data, np.uint8)
        reach = start[:, None] + np.arange(_HEADER)
        rows = octets[np.minimum(reach, len(octets) - 1)]
        zero = rows[:, :-2] | rows[:, 1:-1]
        for row in np.flatnonzero(((zero == 0) & (rows[:, 2:] == 3)).any(axis=1)).tolist():
            plain = rows[row].tobytes().replace(b"\0\0\3", b"\0\0").ljust(_HEADER, b"\0")
            rows[row] = np.frombuffer(plain, np.uint8)
        # Eight bytes from each byte on.
        windows = np.lib.stride_tricks.sliding_window_view(rows, 8, axis=1)
        self._words = np.ascontiguousarray(windows).view(">u8")[..., 0].astype(np.uint64)
        self._row = np.arange(len(rows))
        self._place = np.zeros(len(rows), np.int64)

    def _window(self) -> npt.NDArray[np.uint64]:
        """Return the next 57 bits of each, highest first, in words of 64."""
        if self._place.max(initial=0) >= 8 * self._words.shape[1]:
            raise ValueError("a slice header is too long")
        words = self._words[self._row, self._place >> 3]
        shifted: npt.NDArray[np.uint64] = words << (self._place & 7).astype(np.uint64)
        return shifted

    def fixed(self, count: int) -> Column:
        """Return the next `count` bits of each, at most 32 and at least 1."""
        value = (self._window() >> np.uint64(64 - count)).astype(np.int64)
        self._place += count
        return value

    def golomb(self, where: npt.NDArray[np.bool_] | None = None) -> Column:
        """Return the next Exp-Golomb code of each, or step over it where it is."""
        word = (self._window() >> np.uint64(32)).astype(np.int64)
        zeros = 32 - np.frexp(word.astype(np.float64))[1].astype(np.int64)
        if where is not None:
            zeros = np.where(where, zeros, 0)
        if zeros.max(initial=0) > 15:
            raise ValueError("a number in a slice header is too long")
        self._place += (2 * zeros + 1) if where is None else np.where(where, 2 * zeros + 1, 0)
        return (word >> (31 - 2 * zeros)) - 1
