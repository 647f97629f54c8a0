"""The slice headers of a whole video, read side by side, say what they say one by one."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import video_bytes

from clipshards.packer.format.frame_table import FrameTable
from clipshards.packer.frames.h264 import (
    Layout,
    PictureSet,
    read_layout,
    read_picture_set,
    stream_fault,
)
from clipshards.packer.frames.nal import head_parameter_sets
from clipshards.packer.frames.scan import scan_video
from clipshards.packer.frames.slices import Pictures, find_units, read_pictures

WIDE = Layout(16, separate_planes=False, frames_only=True, order_kind=0, order_bits=16)
ONE_SET = (PictureSet(0, second_order=False, slice_groups=1, redundant=False),)


class Header(NamedTuple):
    idr: bool
    refers: bool
    number: int
    order: int
    first_macroblock: int = 0
    picture_set: int = 0
    idr_number: int = 0
    dropping: bool = False


def _golomb(value: int) -> str:
    code = format(value + 1, "b")
    return "0" * (len(code) - 1) + code


def _unit(header: Header, layout: Layout) -> bytes:
    """Return a slice of which nothing but its header makes sense."""
    bits = _golomb(header.first_macroblock) + _golomb(7) + _golomb(header.picture_set)
    bits += format(header.number % (1 << layout.frame_num_bits), f"0{layout.frame_num_bits}b")
    if header.idr:
        bits += _golomb(header.idr_number)
    bits += format(header.order % (1 << layout.order_bits), f"0{layout.order_bits}b")
    bits += f"{header.dropping:d}" + "1" * 40
    raw = int(bits[: len(bits) // 8 * 8], 2).to_bytes(len(bits) // 8, "big")
    escaped = bytearray([header.refers << 5 | (5 if header.idr else 1)])
    zeros = 0
    for octet in raw:
        if zeros >= 2 and octet <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(octet)
        zeros = zeros + 1 if octet == 0 else 0
    return bytes(escaped)


def _file(packets: list[list[bytes]]) -> tuple[bytes, FrameTable]:
    """Return packets one after the other, and where they are."""
    data = b""
    rows = []
    for units in packets:
        packet = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
        rows.append((len(data), len(packet), 0, -1, 0))
        data += packet
    return data, np.array(rows, dtype=np.int64)


def _read(packets: list[list[Header]], layout: Layout) -> Pictures:
    data, table = _file([[_unit(header, layout) for header in packet] for packet in packets])
    units = find_units(data, table, 4)
    return read_pictures(data, units, layout, ONE_SET, packets=len(packets))


@cache
def _x264() -> tuple[tuple[bytes, ...], Layout]:
    data = video_bytes(frames=8, size=(64, 48))
    head = head_parameter_sets("h264", scan_video(data).info.extradata)
    return head, read_layout(next(unit for unit in head if unit[0] & 31 == 7))


headers = st.builds(
    Header,
    idr=st.booleans(),
    refers=st.just(True) | st.booleans(),
    number=st.integers(0, 3),
    order=st.integers(0, 60),
    first_macroblock=st.integers(0, 100),
    picture_set=st.just(0),
    idr_number=st.integers(0, 3),
    dropping=st.just(False),
)


@given(st.lists(headers, min_size=1, max_size=8))
def test_missing_pictures_are_those_that_a_decode_would_miss(found: list[Header]) -> None:
    head, layout = _x264()
    found = [header._replace(refers=header.refers or header.idr) for header in found]
    fault = stream_fault(head, [[_unit(header, layout)] for header in found])
    packets = [[header] for header in found]
    if fault:
        with pytest.raises(ValueError, match=f"^{fault}$"):
            _read(packets, layout)
    else:
        assert len(_read(packets, layout).order) == len(found)


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(-40, 40)), min_size=1, max_size=30
    ),
    st.sampled_from([4, 8, 16]),
)
def test_order_is_found_from_its_last_digits(
    steps: list[tuple[bool, bool, int]], order_bits: int
) -> None:
    layout = WIDE._replace(order_bits=order_bits)
    reach = (1 << order_bits - 1) - 1
    packets, true = [], []
    sequence = kept = number = 0
    for place, (idr, refers, step) in enumerate(steps):
        if idr or not place:
            sequence, kept, number = sequence + 1, 0, 0
            header = Header(True, True, 0, 0)
            order = 0
        else:
            order = kept + max(min(step, reach), -reach)
            header = Header(False, refers, number + 1, order)
            if refers:
                kept, number = order, number + 1
        packets.append([header])
        true.append((sequence, order))
    pictures = _read(packets, layout)
    ranked = np.lexsort(tuple(np.array(true).T[::-1]))
    if len(set(true)) == len(true) and min(order for _, order in true) > -reach:
        assert np.array_equal(np.argsort(pictures.order), ranked)
    assert pictures.random_access.tolist() == [packet[0].idr for packet in packets]
    assert pictures.disposable.tolist() == [not packet[0].refers for packet in packets]


def test_header_of_many_zeros_is_read() -> None:
    # The places of two zero bytes in a row are broken up by a three.
    data = _unit(Header(True, True, 0, 0, idr_number=2**14), WIDE)
    assert b"\0\0\3" in data
    packets = [[Header(True, True, 0, 0, idr_number=2**14)], [Header(False, False, 1, 513)]]
    order = _read(packets, WIDE).order
    assert order[1] - order[0] == 513


def test_slices_of_one_picture_are_one() -> None:
    first = Header(True, True, 0, 0)
    pictures = _read([[first, first._replace(first_macroblock=10_000)]], WIDE)
    assert len(pictures.order) == 1


@pytest.mark.parametrize(
    ("packets", "says"),
    [
        ([[Header(True, True, 0, 0), Header(False, True, 0, 0)]], "several pictures"),
        ([[Header(True, True, 0, 0), Header(True, True, 0, 2)]], "several pictures"),
        ([[Header(True, False, 0, 0)]], "nothing may refer to"),
        ([[Header(True, True, 0, 0, dropping=True)]], "are dropped"),
        ([[Header(True, True, 0, 0, picture_set=1)]], "set is missing"),
        ([[Header(True, True, 0, 0, first_macroblock=2**17)]], "too long"),
        ([[Header(True, True, 0, 0)], [Header(False, True, 2, 2)]], "are missing"),
    ],
)
def test_what_is_out_of_the_ordinary_is_refused(packets: list[list[Header]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _read(packets, WIDE)


@pytest.mark.parametrize(
    "layout", [WIDE._replace(frames_only=False), WIDE._replace(order_kind=1)], ids=str
)
def test_fields_and_other_orders_are_refused(layout: Layout) -> None:
    with pytest.raises(ValueError, match="fields, or an order"):
        _read([[Header(True, True, 0, 0)]], layout)


@pytest.mark.parametrize(
    "packet",
    [b"\0", b"\0\0\0\5\x65", b"\0\0\0\0\x65", b"\0\0\0\1\x65\0", b"\0\0\0\1\x65" * 300],
    ids=["short", "long unit", "empty unit", "rest", "many"],
)
def test_lengths_that_do_not_fit_are_refused(packet: bytes) -> None:
    table = np.array([(0, len(packet), 0, -1, 0)], dtype=np.int64)
    with pytest.raises(ValueError, match=r"do not fit|too many"):
        find_units(packet, table, 4)


def test_picture_set_of_x264_is_read() -> None:
    head, layout = _x264()
    (unit,) = (unit for unit in head if unit[0] & 31 == 8)
    assert read_picture_set(unit) == ONE_SET[0]
    assert layout.frames_only
    assert layout.order_kind == 0
