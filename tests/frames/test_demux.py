"""A frame table by the container's times is the one of a full decode, or comes from one."""

import io
import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from frames.test_exact import SMALL, VARIANTS, made
from makers import VideoPacket, remux, sound_bytes, video_bytes

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import (
    CRC32C,
    FLAGS,
    NO_PICTURE,
    OFFSET,
    PTS,
    RANDOM_ACCESS,
    RANK,
    SIZE,
    check_frame_table,
)
from clipshards.packer.frames.demux import demux_video
from clipshards.packer.frames.h264 import Display, read_display, shows_frame
from clipshards.packer.frames.nal import head_parameter_sets
from clipshards.packer.frames.scan import VideoScan, scan_video

X265 = "log-level=0:pools=1:frame-threads=1"

# Of test_exact.py's videos; all others are decoded in full.
TRUSTED = {
    "mp4",
    "mov",
    "mkv",
    "GOP 1",
    "GOP 250",
    "no B-frames",
    "flat B-frames",
    "B-pyramid",
    "open GOP",
    "intra refresh",
    "slices",
    "headers repeated",
    "odd size",
    "10 bit",
    "full range, bt709",
    "colours known to the container alone",
    "uneven times",
    "edit list",
    "edit list over a GOP",
    "rotated",
    "fragmented",
    "moov in front",
    "sound",
    "cover picture in front",
    "old x264, not lossless",
    "VP9",
    "VP9, hidden frames",
    "VP8, hidden frames",
    "HEVC, open GOP",
    "HEVC, closed GOP, mkv",
    "HEVC, temporal layers",
    "HEVC, headers repeated",
    "AV1",
}


def _assert_trusted(data: bytes, decoded: VideoScan | None = None) -> None:
    """Check that the times were enough, and that a decode says the same in every word."""
    scan, decoded = demux_video(data), decoded or scan_video(data)
    assert scan.info.frame_table == "demux"
    assert np.array_equal(scan.table, decoded.table)
    assert replace(scan.info, frame_table="decode") == decoded.info
    check_frame_table(scan.table, part_bytes=len(data), where="the table")


def _assert_decoded(data: bytes, decoded: VideoScan | None = None) -> None:
    """Check that the video was decoded in full."""
    scan, decoded = demux_video(data), decoded or scan_video(data)
    assert scan.info.frame_table == "decode"
    assert scan.info == decoded.info
    assert np.array_equal(scan.table, decoded.table)


@pytest.mark.parametrize("name", VARIANTS)
def test_table_by_times_is_that_of_a_decode(name: str) -> None:
    (_assert_trusted if name in TRUSTED else _assert_decoded)(made(name).data, made(name).scan)


@pytest.mark.parametrize(
    "name",
    ["demo.mp4", "demo_skeleton.mp4", "test_video_structuralize.mp4", "clip_audio.mp4"],
)
def test_real_video_is_trusted(shared_data: Path, name: str) -> None:
    _assert_trusted((shared_data / "videos" / name).read_bytes())


@pytest.mark.parametrize(
    "x264",
    [
        "pic-struct=1",
        "pic-struct=1:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500",
        "ref=4:b-pyramid=strict:bframes=5:b-adapt=0",
        "weightp=2:weightb=1:bframes=3",
        "slices=8:aud=1",
        "keyint=infinite",
    ],
)
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_settings_of_x264(container: str, x264: str) -> None:
    options = {"g": "12", "x264-params": x264}
    _assert_trusted(video_bytes(container, options=options, frames=50, size=SMALL))


def test_more_pictures_than_the_numbers_in_slice_headers_reach() -> None:
    options = {"g": "600", "preset": "ultrafast", "bf": "2", "sc_threshold": "0"}
    _assert_trusted(video_bytes(options=options, frames=700, size=(32, 32)))


@cache
def _whole(codec: str) -> bytes:
    """Return 60 frames in GOPs of 10."""
    options = {
        "libx264": {"g": "10", "bf": "2", "sc_threshold": "0", "x264-params": "b-adapt=0"},
        "libx265": {
            "preset": "ultrafast",
            "x265-params": f"keyint=10:min-keyint=10:bframes=3:open-gop=0:scenecut=0:{X265}",
        },
        "libvpx-vp9": {"g": "10", "deadline": "realtime", "cpu-used": "8"},
    }[codec]
    return video_bytes("mp4", codec, options=options, frames=60, size=SMALL)


def _times(data: bytes) -> list[int]:
    with av.open(io.BytesIO(data), "r") as container:
        return [p.pts for p in container.demux(video=0) if p.size and p.pts is not None]


def _with_times(data: bytes, change: Callable[[list[int]], None]) -> bytes:
    """Return a video whose packets have other presentation times."""
    times = _times(data)
    # No packet may be shown before it is decoded.
    times = [time + 2 * (max(times) - min(times)) // (len(times) - 1) for time in times]
    change(times)

    def put(number: int, packet: VideoPacket) -> VideoPacket:
        packet.pts = times[number]
        return packet

    return remux(data, change=put)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_two_times_swapped_where_nothing_is_decoded(codec: str) -> None:
    data = _whole(codec)
    _assert_trusted(data)
    _assert_trusted(_with_times(data, lambda times: None))
    points = np.flatnonzero(scan_video(data).table[:, FLAGS] & RANDOM_ACCESS)
    # The second of them is not looked at.
    assert points.tolist() == [0, 10, 20, 30, 40, 50]
    first = 16

    def swap(times: list[int]) -> None:
        times[first], times[first + 1] = times[first + 1], times[first]

    _assert_decoded(_with_times(data, swap))


def test_times_that_two_packets_share() -> None:
    # Matroska counts milliseconds.
    data = video_bytes(
        "matroska",
        times=[*range(0, 400, 10), *range(400, 420)],
        time_base=Fraction(1, 10000),
        options={"bf": "0"},
        frames=60,
        size=SMALL,
    )
    assert len(set(_times(data))) < 60
    _assert_decoded(data)


def _without(data: bytes, *numbers: int) -> bytes:
    return remux(data, change=lambda number, packet: None if number in numbers else packet)


def test_lost_reference_is_noticed() -> None:
    data = _whole("libx264")
    flags = scan_video(data).table[:, FLAGS]
    reference = next(number for number in range(24, 30) if not flags[number])
    _assert_decoded(_without(data, reference))


def test_lost_disposable_picture_changes_no_table() -> None:
    data = _whole("libx264")
    flags = scan_video(data).table[:, FLAGS]
    disposable = next(number for number in range(24, 30) if flags[number] == 2)
    _assert_trusted(_without(data, disposable))


def _damaged(data: bytes, number: int) -> bytes:
    """Return a video with noise instead of the rest of a packet behind its headers."""
    offset, size = scan_video(data).table[number, [OFFSET, SIZE]].tolist()
    noise = random.Random(number).randbytes(size)
    start, end = offset + min(60, size // 2), offset + size
    return data[:start] + noise[: end - start] + data[end:]


def test_damage_is_noticed_where_the_decoder_looks() -> None:
    data = video_bytes(
        options={"g": "10", "bf": "0", "sc_threshold": "0"}, frames=40, size=(160, 120)
    )
    broken = _damaged(data, 30)
    assert scan_video(broken).info.no_table_because
    _assert_decoded(broken)
    for scan in (scan_video, demux_video):
        with pytest.raises(MediaError, match="before any frame"):
            scan(_damaged(data, 0))


def test_damage_elsewhere_is_left_to_verify() -> None:
    data = video_bytes(
        options={"g": "10", "bf": "0", "sc_threshold": "0"}, frames=40, size=(160, 120)
    )
    broken = _damaged(data, 15)
    assert scan_video(broken).info.no_table_because
    scan = demux_video(broken)
    assert scan.info.frame_table == "demux"
    # But for the checksums of what is damaged.
    assert np.array_equal(scan.table[:, :CRC32C], scan_video(data).table[:, :CRC32C])


def test_hidden_pictures_have_no_rank_and_are_not_counted() -> None:
    scan = demux_video(made("edit list over a GOP").data)
    hidden = scan.table[:, RANK] == NO_PICTURE
    assert hidden.any()
    assert scan.info.frames == len(scan.table) - np.count_nonzero(hidden)
    assert scan.info.claimed_frames == made("edit list over a GOP").scan.info.claimed_frames


def test_ranks_are_the_order_of_times() -> None:
    table = demux_video(_whole("libx265")).table
    assert (np.diff(table[np.argsort(table[:, RANK]), PTS]) > 0).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a readable"),
        (b"plain text, no video", "not a readable"),
        (sound_bytes(), "no video stream"),
        (video_bytes(frames=10, size=SMALL)[:-40], "cut short"),
    ],
    ids=["empty", "text", "sound", "cut short"],
)
def test_what_a_decode_refuses_is_refused_in_its_words(data: bytes, says: str) -> None:
    with pytest.raises(MediaError, match=says):
        demux_video(data)


def _flipped(name: str, trials: int, *, seed: int) -> None:
    data, rng = made(name).data, random.Random(seed)
    header = max(data.find(b"moov"), 0)
    for trial in range(trials):
        first, last = (header, min(header + 3000, len(data))) if trial % 2 else (0, len(data))
        place = rng.randrange(first, last)
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        try:
            scan = demux_video(bytes(flipped))
            decoded = scan_video(bytes(flipped))
        except MediaError:
            continue
        if scan.info.frame_table == "decode" or not len(decoded.table):
            continue
        assert np.array_equal(scan.table, decoded.table), f"bit flipped in byte {place}"


FLIPPED = ["mp4", "B-pyramid", "edit list", "VP9, hidden frames", "HEVC, open GOP", "AV1"]


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bit_gives_no_other_table_than_a_decode(name: str) -> None:
    _flipped(name, 12, seed=1)


@pytest.mark.deep
@pytest.mark.parametrize("name", [*FLIPPED, "mkv", "slices", "VP8, hidden frames"])
def test_many_flipped_bits_give_no_other_table_than_a_decode(name: str) -> None:
    _flipped(name, 400, seed=2)


def test_what_x264_says_of_the_display_is_read() -> None:
    params = "pic-struct=1:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500:bframes=3:b-pyramid=normal"
    for x264, expected in (
        (params, (2, True)),
        ("bframes=3:b-pyramid=none", (1, False)),
        ("bframes=0", (0, False)),
    ):
        data = video_bytes(options={"x264-params": x264}, frames=8, size=SMALL)
        extradata = scan_video(data).info.extradata
        (sequence,) = (u for u in head_parameter_sets("h264", extradata) if u[0] & 31 == 7)
        assert read_display(sequence)[:2] == expected


def _message(kind: int, *octets: int) -> bytes:
    return bytes([6, kind, len(octets), *octets, 0x80])


@pytest.mark.parametrize(
    ("unit", "frame"),
    [
        (_message(1, 0b00000000), True),
        (_message(1, 0b00110000), False),  # two fields
        (_message(1, 0b00001000), False),  # a clock, which may tell of fields
        (_message(1), False),
        (_message(5, 0b00110000), True),
    ],
)
def test_message_on_fields(unit: bytes, frame: bool) -> None:
    assert shows_frame(unit, Display(0, tells_fields=True, delay_bits=0)) == frame
    assert shows_frame(unit, Display(0, tells_fields=False, delay_bits=0))


def test_message_on_fields_behind_delays() -> None:
    display = Display(0, tells_fields=True, delay_bits=6)
    assert shows_frame(_message(1, 0b11111100, 0b00000000), display)
    assert not shows_frame(_message(1, 0b11111100, 0b11000000), display)
    assert not shows_frame(_message(1, 0b11111100), display)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_key_frames_of_another_size_are_refused(codec: str) -> None:
    options = {"g": "10", "deadline": "realtime", "cpu-used": "8"}
    parts = [
        video_bytes("matroska", codec, options=options, frames=40, size=size)
        for size in (SMALL, (96, 64), SMALL)
    ]
    # The middle part holds neither the first nor the middle nor the last key frame.
    data = remux([parts[0], remux(parts[1], "matroska"), parts[2], parts[2]], "matroska")
    with pytest.raises(MediaError, match="the frames before it are"):
        demux_video(data)
