"""Every way to decode gives the frames of a plain PyAV decode from the start, to the bit."""

import io
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from frames.h264_writer import field_pictures, mux, without_vui
from makers import Pixels, VideoPacket, frames_of, pictures, remux, video_bytes

from clipshards.packer.format.frame_table import (
    DISPOSABLE,
    FLAGS,
    NO_PICTURE,
    OFFSET,
    RANDOM_ACCESS,
    RANK,
    SIZE,
    FrameTable,
    check_frame_table,
    empty_frame_table,
)
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.decode import (
    LAST_MENDED_X264,
    decode_frames,
    iter_pictures,
    look_through,
    oldest_x264,
)
from clipshards.packer.frames.scan import VideoScan, scan_video

SMALL = (64, 48)
X265 = {"preset": "ultrafast"}
X265_PARAMS = "log-level=0:pools=1:frame-threads=1"


def _h264(container: str = "mp4", *, x264: str = "", **options: str) -> bytes:
    chosen = {"g": "12", "sc_threshold": "0"} | options | ({"x264-params": x264} if x264 else {})
    return video_bytes(container, options=chosen, frames=40, size=SMALL)


def _cut(container: str, *, shift: int, skip_packets: int = 0) -> bytes:
    """Return a video copied from a place between two key frames; mp4 hides the start."""
    return remux(_h264(), container, shift=shift, skip_packets=skip_packets)


def _joined(container: str, *, repeat: bool, bitstream_filter: str = "") -> bytes:
    """Return two videos of one size, of other parameter sets that stand in the packets."""
    first = _h264(x264="cabac=1:repeat-headers=1")
    second = _h264(x264="cabac=0:ref=1:repeat-headers=1", bf="0")

    def change(number: int, packet: VideoPacket) -> VideoPacket:
        return packet if number <= 40 or repeat else _without_parameter_sets(packet)

    return remux([first, second], container, change=change, bitstream_filter=bitstream_filter)


def _without_parameter_sets(packet: VideoPacket) -> VideoPacket:
    data, kept, place = bytes(packet), [], 0
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4] & 31 not in (7, 8):
            kept.append(data[place:end])
        place = end
    shorter: VideoPacket = av.Packet(b"".join(kept))  # type: ignore[assignment]
    shorter.pts, shorter.dts, shorter.duration = packet.pts, packet.dts, packet.duration
    shorter.time_base, shorter.is_keyframe = packet.time_base, packet.is_keyframe
    return shorter


def _other_colors_later(container: str, *, bitstream_filter: str = "") -> bytes:
    full = {"color_range": 2, "colorspace": 1, "color_primaries": 1, "color_trc": 1}
    options = {"g": "10", "bf": "0", "x264-params": "repeat-headers=1"}
    parts = [
        video_bytes(options=options, frames=20, size=SMALL, seed=seed, colors=colors)
        for seed, colors in enumerate((None, full))
    ]
    return remux(parts, container, bitstream_filter=bitstream_filter)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], data[place + 8 : place + size]
        place += size


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", 8 + len(payload)) + kind + payload


def _with_box(data: bytes, path: Sequence[bytes], change: Callable[[bytes], bytes]) -> bytes:
    """Return mp4 boxes with the payload of one of them changed."""
    return b"".join(
        _box(
            kind,
            payload
            if kind != path[0]
            else change(payload)
            if len(path) == 1
            else _with_box(payload, path[1:], change),
        )
        for kind, payload in _boxes(data)
    )


def _payload(data: bytes, path: Sequence[bytes]) -> bytes:
    found = dict(_boxes(data))[path[0]]
    return _payload(found, path[1:]) if len(path) > 1 else found


def _replaced(old: bytes, *, new: bytes) -> bytes:
    return new


_SAMPLE_TABLE = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def _several_descriptions() -> bytes:
    """Return an mp4 whose parts A, B, A are decoded with two sample descriptions."""
    part = {
        name: video_bytes(options={"g": "10", "x264-params": x264}, frames=20, size=SMALL)
        for name, x264 in {"A": "cabac=1", "B": "cabac=0:ref=1"}.items()
    }
    entries = {}
    for name, data in part.items():
        entries[name] = _payload(data, (*_SAMPLE_TABLE, b"stsd"))[8:]
    joined = remux([part["A"], part["B"], part["A"]])
    with av.open(io.BytesIO(joined), "r") as container:
        places = [p.pos for p in container.demux(video=0) if p.size and p.pos is not None]
    chunks = [(1, 20, 1), (2, 20, 2), (3, 20, 1)]
    tables = {
        b"stsd": struct.pack(">II", 0, 2) + entries["A"] + entries["B"],
        b"stsc": struct.pack(">II", 0, 3) + b"".join(struct.pack(">III", *c) for c in chunks),
        b"stco": struct.pack(">IIIII", 0, 3, *places[::20]),
    }
    for kind, payload in tables.items():
        joined = _with_box(joined, (*_SAMPLE_TABLE, kind), partial(_replaced, new=payload))
    return joined


def _with_colors_in_container() -> bytes:
    """Return an mp4 of which only the container says that it is full-range bt709."""
    colr = _box(b"colr", b"nclx" + struct.pack(">HHHB", 1, 1, 1, 0x80))

    def change(stsd: bytes) -> bytes:
        ((kind, entry),) = _boxes(stsd[8:])
        return stsd[:8] + _box(kind, entry + colr)

    return _with_box(_h264(), (*_SAMPLE_TABLE, b"stsd"), change)


def _with_cover_in_front() -> bytes:
    """Return an mp4 whose first video stream is a cover picture."""
    cover = video_bytes("mp4", "mjpeg", frames=1, size=(32, 32), pix_fmt="yuvj420p")
    with av.open(io.BytesIO(cover), "r") as container:
        jpeg = bytes(next(packet for packet in container.demux(video=0) if packet.size))
    data = _box(b"data", struct.pack(">II", 13, 0) + jpeg)
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    meta = _box(b"meta", bytes(4) + handler + _box(b"ilst", _box(b"covr", data)))

    def change(moov: bytes) -> bytes:
        header, *others = _boxes(moov)
        tracks = b"".join(_box(*box) for box in others if box[0] == b"trak")
        return _box(*header) + _box(b"udta", meta) + tracks

    return _with_box(_h264(), (b"moov",), change)


def _as_of_x264(version: int, *, frames: int, pix_fmt: str = "yuv444p", seed: int = 1) -> bytes:
    """Return a lossless video that says which x264 made it: FFmpeg mends those up to 150."""
    data = video_bytes(
        options={"g": "12", "sc_threshold": "0", "x264-params": "bframes=3:qp=0"},
        frames=frames,
        size=(96, 80),
        pix_fmt=pix_fmt,
        seed=seed,
    )
    changed, count = re.subn(rb"x264 - core [0-9]{3}", b"x264 - core %03d" % version, data)
    assert count == 1
    return changed


def _fields_told(pic_struct: Callable[[int], int]) -> bytes:
    """Return a video of whole frames whose packets say in which fields they are shown."""
    # The other bits of the message: no clock time stamp for any field, and its end.
    bits = {0: 0b0000_0100, 3: 0b0011_0010, 5: 0b0101_0001}

    def change(number: int, packet: VideoPacket) -> VideoPacket:
        data = bytearray(bytes(packet))
        place = data.index(b"\x06\x01\x01\x04\x80")  # picture timing, of one byte
        data[place + 3] = bits[pic_struct(number)]
        told: VideoPacket = av.Packet(bytes(data))  # type: ignore[assignment]
        told.pts, told.dts, told.duration = packet.pts, packet.dts, packet.duration
        told.time_base, told.is_keyframe = packet.time_base, packet.is_keyframe
        return told

    return remux(_h264(x264="fake-interlaced=1:pic-struct=1"), change=change)


def _without_huffman_tables(jpeg: bytes) -> bytes:
    kept, place = jpeg[:2], 2
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] != 0xC4:
            kept += jpeg[place:end]
        place = end
    return kept + jpeg[place:]


def _motion_jpeg(tables: str) -> bytes:
    """Return Motion JPEG in avi whose frames have the given Huffman tables.

    Args:
        tables: A letter for each frame: o its own, d the default ones, - none, which also
            means the default ones.
    """
    jpegs = []
    for picture, letter in zip(pictures(len(tables), SMALL), tables, strict=True):
        context = CodecContext.create("mjpeg", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = SMALL
        context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 25)
        context.thread_count = 1
        context.options = {"huffman": "optimal" if letter == "o" else "default"}
        frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
        (packet,) = [*context.encode(frame), *context.encode(None)]
        jpegs.append(bytes(packet))
        if letter == "-":
            jpegs[-1] = _without_huffman_tables(jpegs[-1])

    def change(number: int, packet: VideoPacket) -> VideoPacket:
        other: VideoPacket = av.Packet(jpegs[number])  # type: ignore[assignment]
        other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
        other.time_base, other.is_keyframe = packet.time_base, True
        return other

    plain = video_bytes("mov", "mjpeg", size=SMALL, frames=len(tables), pix_fmt="yuvj420p")
    return remux(plain, "avi", change=change)


class Variant(NamedTuple):
    make: Callable[[], bytes]
    no_table: str = ""
    """Part of the reason for an empty table; empty where a table is expected."""


VARIANTS = {
    "mp4": Variant(_h264),
    "mov": Variant(lambda: _h264("mov")),
    "mkv": Variant(lambda: _h264("matroska")),
    "avi": Variant(lambda: _h264("avi")),
    "GOP 1": Variant(lambda: _h264(g="1")),
    "GOP 250": Variant(lambda: _h264(g="250")),
    "no B-frames": Variant(lambda: _h264(bf="0")),
    "flat B-frames": Variant(lambda: _h264(bf="7", x264="b-adapt=0:b-pyramid=none")),
    "B-pyramid": Variant(lambda: _h264(bf="7", x264="b-adapt=0:b-pyramid=normal")),
    "open GOP": Variant(lambda: _h264(x264="open-gop=1:keyint=10:min-keyint=10:b-adapt=0")),
    "intra refresh": Variant(lambda: _h264(x264="intra-refresh=1:keyint=15")),
    "interlaced": Variant(lambda: _h264(flags="+ildct+ilme", x264="tff=1")),
    "field pictures": Variant(
        lambda: mux(field_pictures(frames=15, gop=5, packet_per_field=False), "mp4")
    ),
    "field pictures, avi": Variant(
        lambda: mux(field_pictures(frames=15, gop=5, packet_per_field=False), "avi")
    ),
    "field pictures, a packet each": Variant(
        lambda: mux(field_pictures(frames=15, gop=5, packet_per_field=True), "matroska"),
        no_table="an H.264 packet gives no picture",
    ),
    "slices": Variant(lambda: _h264(x264="slices=3")),
    "headers repeated": Variant(lambda: _h264(x264="repeat-headers=1:aud=1")),
    "no VUI, flat B-frames": Variant(
        lambda: without_vui(_h264(bf="3", x264="b-adapt=0:b-pyramid=none"), "matroska")
    ),
    "no VUI, B-pyramid": Variant(
        lambda: without_vui(_h264(bf="3", x264="b-adapt=0:b-pyramid=normal"), "mp4")
    ),
    # FFmpeg learns the reorder depth too late and drops a frame.
    "no VUI, B-pyramid, mkv": Variant(
        lambda: without_vui(
            video_bytes(
                options={"g": "24", "bf": "3", "x264-params": "b-adapt=0:b-pyramid=normal"},
                frames=50,
                size=SMALL,
            ),
            "matroska",
        ),
        no_table="an H.264 packet gives no picture",
    ),
    "odd size": Variant(
        lambda: video_bytes(pix_fmt="yuv444p", size=(61, 47), frames=40, options={"g": "12"})
    ),
    "10 bit": Variant(
        lambda: video_bytes(pix_fmt="yuv420p10le", size=SMALL, frames=40, options={"g": "12"})
    ),
    "full range, bt709": Variant(
        lambda: video_bytes(
            size=SMALL,
            frames=40,
            options={"g": "12"},
            colors={"color_range": 2, "colorspace": 1, "color_primaries": 1, "color_trc": 1},
        )
    ),
    "colours known to the container alone": Variant(_with_colors_in_container),
    "colours change": Variant(
        lambda: _other_colors_later("matroska"), no_table="parameter sets change"
    ),
    "colours change, avi": Variant(
        lambda: _other_colors_later("avi", bitstream_filter="h264_mp4toannexb"),
        no_table="parameter sets change",
    ),
    "parameter sets change": Variant(
        lambda: _joined("mp4", repeat=True), no_table="parameter sets change"
    ),
    "parameter sets change once": Variant(
        lambda: _joined("mp4", repeat=False), no_table="parameter sets change"
    ),
    "parameter sets change once, mkv": Variant(
        lambda: _joined("matroska", repeat=False), no_table="parameter sets change"
    ),
    "several sample descriptions": Variant(_several_descriptions, no_table="configuration changes"),
    "uneven times": Variant(
        lambda: video_bytes(
            times=[number * 40 + number**2 * 7 % 31 for number in range(40)],
            time_base=Fraction(1, 1000),
            size=SMALL,
            frames=40,
            options={"g": "12"},
        )
    ),
    "edit list": Variant(lambda: _cut("mp4", shift=-5)),
    "edit list over a GOP": Variant(lambda: _cut("mov", shift=-15)),
    "begins between key frames": Variant(
        lambda: _cut("matroska", shift=0, skip_packets=5), no_table="does not begin with"
    ),
    "rotated": Variant(
        lambda: video_bytes(rotation=90, size=SMALL, frames=40, options={"g": "12"})
    ),
    "fragmented": Variant(
        lambda: remux(_h264(), mux_options={"movflags": "frag_keyframe+empty_moov"})
    ),
    "moov in front": Variant(lambda: remux(_h264(), mux_options={"movflags": "faststart"})),
    "sound": Variant(lambda: video_bytes(sound=True, size=SMALL, frames=40, options={"g": "12"})),
    "cover picture in front": Variant(_with_cover_in_front),
    "MPEG-4 ASP, avi": Variant(
        lambda: video_bytes("avi", "mpeg4", size=SMALL, frames=40, options={"g": "12", "bf": "2"})
    ),
    "MPEG-4 ASP, mp4": Variant(
        lambda: video_bytes("mp4", "mpeg4", size=SMALL, frames=40, options={"g": "12"})
    ),
    "MPEG-2": Variant(
        lambda: video_bytes(
            "matroska", "mpeg2video", size=SMALL, frames=40, options={"g": "12", "bf": "2"}
        )
    ),
    "VP9": Variant(
        lambda: video_bytes(
            "webm",
            "libvpx-vp9",
            size=SMALL,
            frames=40,
            options={"g": "16", "deadline": "realtime", "cpu-used": "8"},
        )
    ),
    "VP9, hidden frames": Variant(
        lambda: video_bytes(
            "webm",
            "libvpx-vp9",
            size=SMALL,
            frames=40,
            options={"g": "16", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"},
        )
    ),
    "VP8, hidden frames": Variant(
        lambda: video_bytes(
            "matroska",
            "libvpx",
            size=SMALL,
            frames=40,
            options={"g": "16", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"},
        )
    ),
    "HEVC, open GOP": Variant(
        lambda: video_bytes(
            codec="libx265",
            size=SMALL,
            frames=40,
            options=X265 | {"x265-params": f"keyint=16:min-keyint=16:bframes=3:{X265_PARAMS}"},
        )
    ),
    "HEVC, closed GOP, mkv": Variant(
        lambda: video_bytes(
            "matroska",
            "libx265",
            size=SMALL,
            frames=40,
            options=X265 | {"x265-params": f"keyint=16:open-gop=0:{X265_PARAMS}"},
        )
    ),
    "HEVC, temporal layers": Variant(
        lambda: video_bytes(
            codec="libx265",
            size=SMALL,
            frames=40,
            options=X265 | {"x265-params": f"keyint=16:temporal-layers=2:bframes=3:{X265_PARAMS}"},
        )
    ),
    "HEVC, headers repeated": Variant(
        lambda: video_bytes(
            codec="libx265",
            size=SMALL,
            frames=40,
            options=X265 | {"x265-params": f"keyint=16:repeat-headers=1:{X265_PARAMS}"},
        )
    ),
    "AV1": Variant(
        lambda: video_bytes(
            codec="libsvtav1", size=(64, 64), frames=40, options={"preset": "12", "g": "16"}
        )
    ),
    "Motion JPEG": Variant(
        lambda: video_bytes("mov", "mjpeg", size=SMALL, frames=12, pix_fmt="yuvj420p")
    ),
    "Motion JPEG, Huffman tables left out": Variant(lambda: _motion_jpeg("------")),
    "Motion JPEG, Huffman tables of its own": Variant(lambda: _motion_jpeg("oooooo")),
    "Motion JPEG, some Huffman tables": Variant(lambda: _motion_jpeg("od----")),
    # The last key frame and those behind it give nothing away: the rest must be looked at.
    "old x264": Variant(
        lambda: _as_of_x264(120, frames=49), no_table="decodes differently by the table"
    ),
    "old x264, one GOP": Variant(lambda: _as_of_x264(120, frames=12)),
    "old x264, not lossless": Variant(
        lambda: re.sub(rb"x264 - core [0-9]{3}", b"x264 - core 120", _h264())
    ),
    "told to be fields in the middle": Variant(
        lambda: _fields_told(lambda number: 3 if 12 <= number < 36 else 0),
        no_table="decodes differently by the table",
    ),
    "told to be fields": Variant(lambda: _fields_told(lambda _: 3)),
    "told to be frames": Variant(lambda: _fields_told(lambda _: 0)),
}


class Made(NamedTuple):
    data: bytes
    frames: list[Pixels]
    scan: VideoScan


@cache
def made(name: str) -> Made:
    data = VARIANTS[name].make()
    return Made(data, frames_of(data), scan_video(data))


def _index_sets(total: int, *, seed: int = 0) -> Iterator[list[int]]:
    rng = np.random.default_rng(seed)
    yield list(range(total))
    yield list(range(total))[::-1]
    yield [0]
    yield [total - 1]
    yield [total - 1, 0, total - 1]
    for _ in range(6):
        yield rng.integers(0, total, int(rng.integers(1, 12))).tolist()


def _assert_frames(video: Made, wanted: Sequence[int], table: FrameTable) -> None:
    pixels = decode_frames(video.data, np.array(wanted), info=video.scan.info, table=table)
    assert pixels.dtype == np.uint8
    for number, got in zip(wanted, pixels, strict=True):
        assert np.array_equal(got, video.frames[number]), f"frame {number} of {wanted}"


@pytest.mark.parametrize("name", VARIANTS)
def test_scan_finds_the_frames_of_a_plain_decode(name: str) -> None:
    video, info = made(name), made(name).scan.info
    assert info.frames == len(video.frames)
    assert (info.height, info.width, 3) == video.frames[0].shape
    assert VARIANTS[name].no_table in info.no_table_because
    assert bool(info.no_table_because) == bool(VARIANTS[name].no_table)
    assert bool(info.no_table_because) == (not len(video.scan.table))


@pytest.mark.parametrize("name", VARIANTS)
def test_table_is_valid_and_points_at_the_packets(name: str) -> None:
    video = made(name)
    table = check_frame_table(video.scan.table, part_bytes=len(video.data), where=name)
    if not len(table):
        return
    with av.open(io.BytesIO(video.data), "r") as container:
        stream = next(
            s for s in container.streams.video if s.codec_context.name == video.scan.info.codec
        )
        payloads = [bytes(packet) for packet in container.demux(stream) if packet.size]
    assert payloads == [video.data[row[OFFSET] : row[OFFSET] + row[SIZE]] for row in table.tolist()]
    assert np.count_nonzero(table[:, RANK] != NO_PICTURE) == len(video.frames)


@pytest.mark.parametrize("name", VARIANTS)
def test_chosen_frames_are_those_of_a_plain_decode(name: str) -> None:
    video = made(name)
    for wanted in _index_sets(len(video.frames)):
        _assert_frames(video, wanted, video.scan.table)


@pytest.mark.parametrize("name", VARIANTS)
def test_chosen_frames_without_a_table_are_those_of_a_plain_decode(name: str) -> None:
    video = made(name)
    for wanted in _index_sets(len(video.frames), seed=1):
        _assert_frames(video, wanted, empty_frame_table())


@pytest.mark.parametrize("name", VARIANTS)
def test_single_frames_from_last_to_first_are_those_of_a_plain_decode(name: str) -> None:
    video = made(name)
    if len(video.scan.table):
        for number in range(len(video.frames))[::-1]:
            _assert_frames(video, [number], video.scan.table)


def _decode_apart(
    video: Made, packets: Sequence[int], *, info: VideoInfo, table: FrameTable
) -> dict[int, Pixels]:
    """Return the pictures of the packets, by packet, from a decoder of their own."""
    context = CodecContext.create(info.codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    if info.extradata:
        context.extradata = info.extradata
    context.codec_tag = info.codec_tag
    context.width, context.height = info.coded_width, info.coded_height
    context.color_range, context.colorspace = info.color_range, info.color_space
    context.color_primaries, context.color_trc = info.color_primaries, info.color_transfer
    context.reorder_depth = info.reorder_depth
    pictures = []
    for number in packets:
        offset, size = table[number, [OFFSET, SIZE]].tolist()
        packet = av.Packet(size)
        packet.update(video.data[offset : offset + size])
        packet.pts = number
        pictures += context.decode(packet)
    pictures += context.decode(None)
    return {
        picture.pts: picture.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        for picture in pictures
        if picture.pts is not None
    }


@pytest.mark.parametrize(
    "name", [name for name, variant in VARIANTS.items() if not variant.no_table]
)
@pytest.mark.parametrize("disposables", [True, False], ids=["with", "without disposables"])
def test_every_random_access_point_gives_the_frames_behind_it(name: str, disposables: bool) -> None:
    video = made(name)
    info, table = video.scan.info, video.scan.table
    points = np.flatnonzero(table[:, FLAGS] & RANDOM_ACCESS).tolist()
    assert points, "a table without a random-access point proves nothing"
    for point in points:
        packets = [
            packet
            for packet in range(point, len(table))
            if disposables or packet == point or not table[packet, FLAGS] & DISPOSABLE
        ]
        got = _decode_apart(video, packets, info=info, table=table)
        # Pictures shown before the point's own belong to an earlier point.
        due = [packet for packet in packets if table[packet, RANK] >= table[point, RANK]]
        for packet in due:
            rank = int(table[packet, RANK])
            if rank != NO_PICTURE:
                assert np.array_equal(got[packet], video.frames[rank]), f"frame {rank} from {point}"


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("GOP 250", 10),
        ("flat B-frames", 10),
        ("B-pyramid", 5),
        ("avi", 4),
        ("field pictures", 6),
        ("HEVC, open GOP", 5),
    ],
)
def test_disposable_packets_are_found(name: str, least: int) -> None:
    flags = made(name).scan.table[:, FLAGS]
    assert np.count_nonzero(flags & DISPOSABLE) >= least


def test_pictures_of_temporal_layers_are_not_taken_for_disposable() -> None:
    flags = made("HEVC, temporal layers").scan.table[:, FLAGS]
    assert not (flags & DISPOSABLE).any()


def test_recovery_points_and_open_gops_are_no_random_access_of_h264() -> None:
    for name in ("intra refresh", "open GOP"):
        flags = made(name).scan.table[:, FLAGS]
        assert np.flatnonzero(flags & RANDOM_ACCESS).tolist() == [0], name


def test_pictures_that_an_edit_list_hides_are_not_counted() -> None:
    for name, hidden in {"edit list": 5, "edit list over a GOP": 15}.items():
        assert made(name).scan.info.frames == 40 - hidden
        with av.open(io.BytesIO(made(name).data), "r") as container:
            assert any(packet.is_discard for packet in container.demux(video=0))


def test_description_says_what_a_viewer_must_know() -> None:
    assert made("rotated").scan.info.rotation in (90, -90)
    assert made("interlaced").scan.info.interlaced
    assert not made("mp4").scan.info.interlaced
    assert made("full range, bt709").scan.info.color_range == 2
    assert made("colours known to the container alone").scan.info.color_range == 2
    assert made("10 bit").scan.info.pixel_format == "yuv420p10le"
    assert made("mkv").scan.info.claimed_frames == 0
    assert made("mp4").scan.info.claimed_frames == 40


def test_display_matrix_of_zeros_turns_nothing() -> None:
    def change(header: bytes) -> bytes:
        return header[:40] + bytes(36) + header[76:]

    data = _with_box(made("rotated").data, (b"moov", b"trak", b"tkhd"), change)
    scan = scan_video(data)
    assert scan.info.rotation == 0
    assert len(scan.table)
    assert look_through(data) == (40, 0)
    assert look_through(made("rotated").data) == (40, made("rotated").scan.info.rotation)


def test_scan_is_the_same_whatever_memory_held_before() -> None:
    # A decoder that reads behind a packet meets what was freed there.
    for name in ("MPEG-4 ASP, avi", "mp4", "MPEG-2"):
        data = made(name).data
        for byte in (0x00, 0xFF, 0xB6, 0x40):
            dirt = [bytes([byte]) * size for size in range(40, 4000, 8)]
            del dirt
            scan = scan_video(data)
            assert scan.info == made(name).scan.info
            assert np.array_equal(scan.table, made(name).scan.table)


def test_videos_that_share_a_decoder_do_not_disturb_each_other() -> None:
    videos = [_seeded(seed) for seed in range(4)]
    videos += [made("colours change, avi"), made("headers repeated"), made("HEVC, open GOP")]
    assert len({video.scan.info.extradata for video in videos[:4]}) == 1
    rng = np.random.default_rng(0)
    for _ in range(60):
        video = videos[int(rng.integers(len(videos)))]
        _assert_frames(video, rng.integers(0, len(video.frames), 3).tolist(), video.scan.table)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Motion JPEG, Huffman tables of its own", "Motion JPEG, Huffman tables left out"),
        ("Motion JPEG, some Huffman tables", "Motion JPEG, some Huffman tables"),
        ("old x264, one GOP", "new x264"),
    ],
)
def test_nothing_of_one_video_is_left_for_the_next(before: str, after: str) -> None:
    first = made(before)
    data = VARIANTS[after].make() if after in VARIANTS else _as_of_x264(165, frames=36)
    fresh = Made(data, frames_of(data), scan_video(data))
    assert len(fresh.scan.table)
    for number in range(len(fresh.frames)):
        _assert_frames(first, [0], first.scan.table)
        _assert_frames(fresh, [number], fresh.scan.table)
        _assert_frames(fresh, [0, number], fresh.scan.table)
    _assert_frames(first, [0], first.scan.table)
    again = scan_video(data)
    assert again.info == fresh.scan.info
    assert np.array_equal(again.table, fresh.scan.table)


@pytest.mark.parametrize(
    "text", ["x264 - core 33 r1", "x264 - core 0000", "x264 - core 99999999999"]
)
def test_versions_of_x264_that_ffmpeg_mends_are_known(text: str) -> None:
    data = b"x264 - core 165 " + text.encode() + b" x264 - core"
    assert oldest_x264(data, 0, 15) == 165
    assert oldest_x264(data, 0, len(data)) <= 33
    assert oldest_x264(data, 1, 15) > LAST_MENDED_X264


def test_two_videos_decoded_in_turns_by_one_thread() -> None:
    videos = [_seeded(0), _seeded(1)]
    assert videos[0].scan.info.extradata == videos[1].scan.info.extradata
    turns = [
        iter_pictures(video.data, np.arange(24), info=video.scan.info, table=video.scan.table)
        for video in videos
    ]
    for both in zip(*turns, strict=True):
        for video, (packet, pixels) in zip(videos, both, strict=True):
            assert np.array_equal(pixels, video.frames[video.scan.table[packet, RANK]])


@cache
def _seeded(seed: int) -> Made:
    data = video_bytes(options={"g": "12"}, frames=24, size=SMALL, seed=seed)
    return Made(data, frames_of(data), scan_video(data))


def test_threads_decode_at_once() -> None:
    videos = [_seeded(seed) for seed in range(4)] + [made("HEVC, open GOP"), made("VP9")]

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            video = videos[int(rng.integers(len(videos)))]
            _assert_frames(video, rng.integers(0, len(video.frames), 4).tolist(), video.scan.table)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result()


def test_pictures_of_the_tests_differ_from_frame_to_frame() -> None:
    # Else the comparisons above would prove little.
    seen = {picture.tobytes() for picture in pictures(40, SMALL)}
    assert len(seen) == 40


@pytest.mark.parametrize(
    "name",
    ["demo.mp4", "demo_skeleton.mp4", "test_video_structuralize.mp4", "clip_audio.mp4"],
)
def test_real_video_gives_the_frames_of_a_plain_decode(shared_data: Path, name: str) -> None:
    data = (shared_data / "videos" / name).read_bytes()
    scan = scan_video(data)
    video = Made(data, frames_of(data), scan)
    assert scan.info.frames == len(video.frames)
    assert scan.info.no_table_because == ""
    rng = np.random.default_rng(0)
    for count in (1, 8, 8, 8):
        wanted = rng.integers(0, len(video.frames), count).tolist()
        _assert_frames(video, wanted, scan.table)
    _assert_frames(video, [3, 1, 3], empty_frame_table())


@pytest.mark.deep
@pytest.mark.parametrize(
    "name",
    ["demo.mp4", "demo_skeleton.mp4", "test_video_structuralize.mp4", "clip_audio.mp4"],
)
def test_real_video_can_be_entered_anywhere(shared_data: Path, name: str) -> None:
    data = (shared_data / "videos" / name).read_bytes()
    video = Made(data, frames_of(data), scan_video(data))
    assert len(list((shared_data / "videos").iterdir())) == 4
    rng = np.random.default_rng(1)
    _assert_frames(video, list(range(len(video.frames))), video.scan.table)
    for number in rng.permutation(len(video.frames))[:60].tolist():
        _assert_frames(video, [number], video.scan.table)
    for _ in range(5):
        wanted = rng.integers(0, len(video.frames), 8).tolist()
        _assert_frames(video, wanted, video.scan.table)
        _assert_frames(video, wanted, empty_frame_table())
