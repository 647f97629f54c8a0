"""H.264 videos that upset FFmpeg's decoder beyond an IDR picture get no frame table.

Each is a video of which a table once gave other frames than a decode from the start does.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import av
import numpy as np
import pytest
from frames.h264_writer import START_CODE, Unit, mux, parameter_sets, sliced_field
from makers import frames_of, video_bytes

from clipshards.packer.format.frame_table import DISPOSABLE, FLAGS
from clipshards.packer.frames.decode import decode_frames
from clipshards.packer.frames.scan import VideoScan, scan_video

SIZE = (64, 48)
FULL_RANGE = {"color_range": 2, "colorspace": 1, "color_primaries": 1, "color_trc": 1}


@dataclass(frozen=True, slots=True)
class Coded:
    """One packet of H.264, cut into its units."""

    units: tuple[bytes, ...]
    pts: int
    dts: int
    key: bool


@cache
def encoded(x264: str, *, seed: int = 0, full_range: bool = False) -> tuple[Coded, ...]:
    """Return 40 frames in GOPs of 10, the parameter sets in the first packet."""
    options = {"g": "10", "sc_threshold": "0", "bf": "2", "x264-params": f"b-adapt=0:{x264}"}
    colors = FULL_RANGE if full_range else None
    data = video_bytes(options=options, frames=40, size=SIZE, seed=seed, colors=colors)
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        to_units = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", in_stream=stream)
        packets = [p for source in container.demux(stream) for p in to_units.filter(source)]
        packets = [packet for packet in packets if packet.size]
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
        step = times[1] - times[0]
        return tuple(
            Coded(
                _split(bytes(packet)),
                (packet.pts or 0) // step,
                (packet.dts or 0) // step,
                packet.is_keyframe,
            )
            for packet in packets
        )


def _split(packet: bytes) -> tuple[bytes, ...]:
    units = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return tuple(unit.rstrip(b"\0") for unit in units if unit.rstrip(b"\0"))


def sets_of(packets: Sequence[Coded], *kinds: int) -> tuple[bytes, ...]:
    return tuple(u for packet in packets for u in packet.units if u[0] & 31 in kinds)


def joined(order: str, sources: dict[str, Sequence[Coded]], head: tuple[bytes, ...]) -> list[Coded]:
    """Return GOPs of the sources in turn, with no parameter sets but `head` in front."""
    gops = {}
    for name, packets in sources.items():
        starts = [n for n, packet in enumerate(packets) if packet.key]
        gops[name] = [
            packets[start:stop]
            for start, stop in zip(starts, [*starts[1:], len(packets)], strict=True)
        ]
    found: list[Coded] = []
    for place, name in enumerate(order):
        gop = gops[name][order[:place].count(name)]
        shift = 10 * place - min(packet.pts for packet in gop)
        for packet in gop:
            units = tuple(unit for unit in packet.units if unit[0] & 31 not in (7, 8))
            found.append(Coded(units, packet.pts + shift, packet.dts + shift, packet.key))
    return with_units(found, 0, head)


def with_units(packets: Sequence[Coded], number: int, units: tuple[bytes, ...]) -> list[Coded]:
    """Return the packets with units put in front of one of them."""
    changed = [*packets]
    changed[number] = replace(packets[number], units=units + packets[number].units)
    return changed


def muxed(packets: Sequence[Coded], container: str = "mp4") -> bytes:
    units = [
        Unit(b"".join(START_CODE + u for u in p.units), p.pts, p.dts, 1, p.key) for p in packets
    ]
    return mux(units, container, rate=25)


def wrong_frames(data: bytes, scan: VideoScan) -> list[int]:
    """Return the frames that the table gives otherwise than a decode from the start."""
    due = frames_of(data)
    wrong = []
    for number, frame in enumerate(due):
        found = decode_frames(data, np.array([number]), info=scan.info, table=scan.table)
        if not np.array_equal(found[0], frame):
            wrong.append(number)
    return wrong


@pytest.mark.parametrize("order", ["ABAB", "AABB"])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_two_sequence_parameter_sets(order: str, container: str) -> None:
    plain = encoded("sps-id=0")
    full = encoded("sps-id=1", seed=1, full_range=True)
    head = sets_of(plain, 7, 8) + sets_of(full, 7, 8)
    data = muxed(joined(order, {"A": plain, "B": full}, head), container)
    scan = scan_video(data)
    reason = "the codec configuration has 2 sequence parameter sets"
    assert (len(scan.table), scan.info.no_table_because) == (0, reason)


def test_the_same_parameter_sets_twice_are_one() -> None:
    plain = encoded("sps-id=0")
    head = sets_of(plain, 7, 8)
    scan = scan_video(data := muxed(joined("AAA", {"A": plain}, head + head)))
    assert len(scan.table) == 30
    assert not wrong_frames(data, scan)


def test_two_picture_parameter_sets_of_one_number() -> None:
    arithmetic, variable = encoded("cabac=1"), encoded("cabac=0", seed=1)
    assert sets_of(arithmetic, 7) == sets_of(variable, 7)
    first, second = sets_of(arithmetic, 8), sets_of(variable, 8)
    head = sets_of(arithmetic, 7) + second + first
    packets = joined("ABBA", {"A": arithmetic, "B": variable}, head)
    packets = with_units(with_units(packets, 10, second), 30, first)
    scan = scan_video(muxed(packets))
    reason = "the codec configuration has two picture parameter sets of one number"
    assert (len(scan.table), scan.info.no_table_because) == (0, reason)


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_parameter_set_that_begins_like_another(container: str) -> None:
    long = encoded("qp=15:8x8dct=1")
    short = encoded("qp=15:8x8dct=0", seed=1)
    assert sets_of(long, 8)[0].startswith(sets_of(short, 8)[0])
    packets = joined("ABBA", {"A": long, "B": short}, sets_of(long, 7, 8))
    packets = with_units(with_units(packets, 10, sets_of(short, 8)), 30, sets_of(long, 8))
    scan = scan_video(muxed(packets, container))
    reason = "parameter sets change inside the video"
    assert (len(scan.table), scan.info.no_table_because) == (0, reason)


def test_number_that_goes_back_behind_a_disposable_picture() -> None:
    options = "ref=3:cabac=0:direct=spatial:weightp=0:b-pyramid=none"
    packets = list(encoded(options))
    place = next(
        n for n in range(3, 10) if all(packets[k].units[-1][0] >> 5 == 0 for k in (n - 1, n))
    )
    *before, unit = packets[place].units
    packets[place] = replace(packets[place], units=(*before, _with_lower_number(unit)))
    scan = scan_video(muxed(packets))
    reason = "pictures are missing between the packets"
    assert (len(scan.table), scan.info.no_table_because) == (0, reason)


def _with_lower_number(unit: bytes) -> bytes:
    """Return a slice whose frame_num, of four bits, is one lower (7.3.3)."""
    bits = "".join(format(byte, "08b") for byte in unit[1:].replace(b"\0\0\3", b"\0\0"))
    place = 0
    for _ in range(3):
        place += 2 * (bits.index("1", place) - place) + 1
    number = int(bits[place : place + 4], 2) - 1
    bits = bits[:place] + format(number, "04b") + bits[place + 4 :]
    raw = int(bits, 2).to_bytes(len(bits) // 8, "big")
    escaped = bytearray(unit[:1])
    zeros = 0
    for byte in raw:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(escaped)


def test_interlacing_that_hangs_on_a_disposable_picture() -> None:
    packets = list(encoded("pic-struct=1:b-pyramid=none"))
    for number, told in ((0, 0), (1, 1), (2, 0), (3, 3)):
        units = [unit for unit in packets[number].units if unit[0] & 31 != 6]
        place = next(n for n, unit in enumerate(units) if unit[0] & 31 in (1, 5))
        # One message of picture timing: pic_struct, no clock time stamp for any field.
        message = bytes([6, 1, 1, told << 4 | 4 >> (told == 3), 0x80])
        units.insert(place, message)
        packets[number] = replace(packets[number], units=tuple(units))
    scan = scan_video(data := muxed(packets))
    assert scan.info.interlaced
    assert not (scan.table[:, FLAGS] & DISPOSABLE).any()
    assert not wrong_frames(data, scan)


@pytest.mark.parametrize("lost", [None, (5, True, 1), (7, False, 0)])
def test_fields_in_slices(lost: tuple[int, bool, int] | None) -> None:
    rng = np.random.default_rng(0)
    units = []
    for number in range(15):
        place = number % 5
        frame_num = (place + 1) // 2
        slices = [
            START_CODE
            + sliced_field(
                rng,
                macroblock=macroblock,
                bottom=bottom,
                frame_num=frame_num,
                poc=2 * place + bottom,
                idr=place == 0 and not bottom,
                ref=place % 2 == 0,
            )
            for bottom in (False, True)
            for macroblock in (0, 1)
            if (number, bottom, macroblock) != lost
        ]
        units.append(Unit(b"".join(slices), number, number, 1, place == 0))
    units[0] = units[0]._replace(data=parameter_sets() + units[0].data)
    scan = scan_video(mux(units, "matroska", rate=25))
    assert len(scan.table) == 0
    assert scan.info.no_table_because == "its fields are cut into slices"
