"""Decoding all of a part: what packing let in is never flagged, each kind of fault is found."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import makers
import numpy as np
import pytest
from av.audio.stream import AudioStream
from frames import test_exact
from frames.h264_writer import field_pictures, mux, without_vui
from makers import remux, video_bytes
from PIL import Image
from tar_samples import samples_of

from clipshards.packer import (
    ActivityNetRecord,
    AudioRecord,
    AvaCsv,
    RawframesRecord,
    Recipe,
    VideoRecord,
    pack,
)
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import (
    CORRUPT,
    CRC32C,
    DISPOSABLE,
    FLAGS,
    OFFSET,
    PTS,
    RANDOM_ACCESS,
    RANK,
    SIZE,
    FrameTable,
    check_frame_table,
    empty_frame_table,
)
from clipshards.packer.format.json_parts import AudioJson
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.decode import open_container, video_stream
from clipshards.packer.frames.demux import demux_video
from clipshards.packer.frames.proof import (
    media_faults,
    picture_faults,
    sound_faults,
    still_faults,
)
from clipshards.packer.frames.scan import VideoScan, place_packets, scan_video
from clipshards.packer.media.keep_sound import KeptSound, SoundForm, keep_sound
from clipshards.packer.media.stills import StillsVideo, mux_stills
from clipshards.packer.records import FrameRange

SMALL = (64, 48)
UNOPENED = VideoInfo()


def h264(container: str = "mp4", **options: str) -> bytes:
    chosen = {"g": "12", "sc_threshold": "0"} | options
    return video_bytes(container, options=chosen, frames=40, size=SMALL)


def damaged(data: bytes, number: int, *, change: Callable[[bytearray], None]) -> bytes:
    """Return a video with one packet's bytes changed where they stand."""
    offset, size = scan_video(data).table[number, [OFFSET, SIZE]].tolist()
    payload = bytearray(data[offset : offset + size])
    change(payload)
    assert len(payload) == size
    assert payload != data[offset : offset + size]
    return data[:offset] + payload + data[offset + size :]


def zeros(payload: bytearray) -> None:
    """Overwrite the second half of a packet."""
    half = len(payload) // 2
    payload[half:] = bytes(len(payload) - half)


def faults_of(data: bytes, scan: VideoScan, **changes: Any) -> list[str]:
    """Return the faults of a video whose record says something else."""
    table = changes.pop("table", scan.table)
    check_frame_table(table, part_bytes=len(data), where="the test's table")
    return list(picture_faults(data, info=replace(scan.info, **changes), table=table))


@cache
def plain() -> bytes:
    return h264()


@cache
def plain_scan() -> VideoScan:
    scan = scan_video(plain())
    assert len(scan.table) == 40
    return scan


# Videos as they were packed

INTACT: dict[str, Callable[[], bytes]] = {
    "H.264 with B-frames": h264,
    "H.264, mkv": partial(h264, "matroska"),
    "H.264, avi": partial(h264, "avi"),
    "edit list": lambda: remux(h264(), "mp4", shift=-5),
    "edit list over a GOP": lambda: remux(h264(), "mov", shift=-15),
    "begins between key frames": lambda: remux(h264(), "matroska", skip_packets=5),
    "field pictures": lambda: mux(field_pictures(frames=15, gop=5, packet_per_field=False), "avi"),
    "a packet for each field": lambda: mux(
        field_pictures(frames=15, gop=5, packet_per_field=True), "matroska"
    ),
    "interlaced": partial(h264, flags="+ildct+ilme"),
    "no VUI": lambda: without_vui(h264(bf="3"), "matroska"),
    "rotated": lambda: video_bytes(rotation=90, size=SMALL, frames=20),
    "sound": lambda: video_bytes(sound=True, size=SMALL, frames=20),
    "HEVC, open GOP": lambda: video_bytes(
        codec="libx265",
        size=SMALL,
        frames=40,
        options={
            "preset": "ultrafast",
            "x265-params": "keyint=16:min-keyint=16:bframes=3:log-level=0:pools=1:frame-threads=1",
        },
    ),
    "VP9, hidden frames": lambda: video_bytes(
        "webm",
        "libvpx-vp9",
        size=SMALL,
        frames=40,
        options={"g": "16", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"},
    ),
    "MPEG-4, avi": lambda: video_bytes(
        "avi", "mpeg4", size=SMALL, frames=40, options={"g": "12", "bf": "2"}
    ),
    "Motion JPEG": lambda: video_bytes("mov", "mjpeg", size=SMALL, frames=9, pix_fmt="yuvj420p"),
    "one frame": lambda: video_bytes(size=SMALL, frames=1),
    "errors that a decoder gets over": lambda: damaged(plain(), 12, change=zeros),
}


def assert_intact(data: bytes) -> None:
    scan, demuxed = scan_video(data), demux_video(data)
    assert list(picture_faults(data, info=scan.info, table=scan.table)) == []
    # A demux has not seen all that a decoder may complain of.
    if "errors" not in scan.info.no_table_because:
        assert list(picture_faults(data, info=demuxed.info, table=demuxed.table)) == []
    # Packed unopened, it only must decode.
    assert list(picture_faults(data, info=UNOPENED, table=empty_frame_table())) == []


@pytest.mark.parametrize("name", INTACT)
def test_a_video_as_it_was_packed_has_no_faults(name: str) -> None:
    assert_intact(INTACT[name]())


@pytest.mark.deep
@pytest.mark.parametrize("name", test_exact.VARIANTS)
def test_no_variant_of_a_video_has_faults(name: str) -> None:
    assert_intact(test_exact.made(name).data)


@pytest.mark.deep
@pytest.mark.parametrize("name", [name for name in INTACT if name != "one frame"])
def test_damage_that_packing_gets_over_is_no_fault(name: str) -> None:
    whole = INTACT[name]()
    rng = np.random.default_rng(len(name))
    packed = 0
    for _ in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 5)).tolist():
            data[place] ^= int(rng.integers(1, 256))
        try:
            scan = scan_video(bytes(data))
        except (MediaError, UnicodeDecodeError):
            continue
        packed += 1
        assert list(picture_faults(bytes(data), info=scan.info, table=scan.table)) == []
    assert packed


def test_real_videos_have_no_faults(shared_data: Path) -> None:
    files = sorted((shared_data / "videos").iterdir())
    assert len(files) > 2
    for file in files:
        data = file.read_bytes()
        for make in (scan_video, demux_video):
            scan = make(data)
            assert len(scan.table)
            assert list(picture_faults(data, info=scan.info, table=scan.table)) == [], file.name


def test_the_variants_are_of_every_kind_of_record() -> None:
    reasons = {name: scan_video(make()).info for name, make in INTACT.items()}
    assert not reasons["edit list"].no_table_because
    assert (scan_video(INTACT["edit list"]()).table[:, FLAGS] & CORRUPT).any()
    assert "does not begin" in reasons["begins between key frames"].no_table_because
    assert "gives no picture" in reasons["a packet for each field"].no_table_because
    assert "reports errors" in reasons["errors that a decoder gets over"].no_table_because
    assert reasons["interlaced"].interlaced
    assert reasons["rotated"].rotation
    assert demux_video(plain()).info.frame_table == "demux"


# Videos whose record is another one


def swapped(table: FrameTable, first: int, second: int) -> FrameTable:
    """Return the table with the ranks of two rows exchanged."""
    changed = table.copy()
    changed[[first, second], RANK] = table[[second, first], RANK]
    return changed


def with_value(table: FrameTable, row: int, column: int, value: int) -> FrameTable:
    changed = table.copy()
    changed[row, column] = value
    return changed


def test_pictures_in_another_order_than_the_ranks_are_found() -> None:
    ranks = plain_scan().table[:, RANK].tolist()
    first, second = ranks.index(20), ranks.index(21)
    (fault,) = faults_of(plain(), plain_scan(), table=swapped(plain_scan().table, first, second))
    assert fault == f"frame 20: expected the picture of packet {second}, got {first}'s"


def test_a_row_that_is_not_the_packet_is_found() -> None:
    table = plain_scan().table
    for row, column, change in ((7, OFFSET, 1), (9, SIZE, -1), (0, OFFSET, 2)):
        changed = with_value(table, row, column, int(table[row, column]) + change)
        (fault,) = faults_of(plain(), plain_scan(), table=changed)
        expected = f"the {changed[row, SIZE]} bytes at {changed[row, OFFSET]}"
        found = f"{table[row, SIZE]} others"
        assert fault == f"packet {row} of the container: expected {expected}, got {found}"


def test_another_presentation_time_is_found() -> None:
    table = with_value(plain_scan().table, 11, PTS, 12345)
    (fault,) = faults_of(plain(), plain_scan(), table=table)
    time = plain_scan().table[11, PTS]
    assert fault == f"packet 11 of the container: expected the presentation time 12345, got {time}"


def test_a_wrong_flag_of_an_edit_list_is_found() -> None:
    table = plain_scan().table
    row = 5
    (fault,) = faults_of(
        plain(), plain_scan(), table=with_value(table, row, FLAGS, table[row, FLAGS] | CORRUPT)
    )
    assert "expected one damaged or not to be shown, got one to be shown" in fault
    data = remux(plain(), "mp4", shift=-5)
    scan = scan_video(data)
    hidden = int(np.flatnonzero(scan.table[:, FLAGS] & CORRUPT)[0])
    table = scan.table.copy()
    table[hidden, FLAGS] &= RANDOM_ACCESS
    if hidden == 0:  # a table must begin with a picture that it can begin with
        table[hidden, FLAGS] = CORRUPT | RANDOM_ACCESS
        hidden = int(np.flatnonzero(scan.table[:, FLAGS] & CORRUPT)[1])
        table[hidden, FLAGS] = 0
        table[hidden - 1, FLAGS] &= ~DISPOSABLE
    (fault,) = faults_of(data, scan, table=table)
    assert "expected one to be shown, got one damaged or not to be shown" in fault


def test_rows_too_few_and_too_many_are_found() -> None:
    data = h264(g="1")
    scan = scan_video(data)
    faults = faults_of(data, scan, table=scan.table[:-1], frames=39)
    assert faults == [
        "frame 39: expected no further picture, got 39's",
        "expected the table's 39 packets, got 40",
        "expected 39 frames, got 40",
    ]
    more = np.vstack([scan.table, scan.table[-1:] + np.array([0, 0, 0, 1, 512, 0])])
    faults = faults_of(data, scan, table=more, frames=41)
    assert faults == ["expected the table's 41 packets, got 40", "expected 41 frames, got 40"]


def test_another_size_or_rotation_is_found() -> None:
    for changes, message in (
        ({"width": 66}, "frame 0: expected 66x48, got 64x48"),
        ({"height": 64}, "frame 0: expected 64x64, got 64x48"),
        ({"rotation": 90}, "expected a rotation of 90, got 0"),
        ({"interlaced": True}, "expected interlaced frames, got the contrary"),
    ):
        assert faults_of(plain(), plain_scan(), **changes) == [message]


def test_pictures_that_change_their_size_are_found() -> None:
    parts = [
        video_bytes("mov", "mjpeg", size=size, frames=6, pix_fmt="yuvj420p")
        for size in (SMALL, (32, 32))
    ]
    data = remux(parts, "mov")
    with pytest.raises(MediaError, match="frame 6 is 32x32"):
        scan_video(data)
    with open_container(data) as container:
        stream = video_stream(container)
        assert stream is not None
        table = place_packets(data, [packet for packet in container.demux(stream) if packet.size])
    table[:, RANK] = np.arange(12)
    (fault,) = faults_of(data, scan_video(parts[0]), frames=12, table=table)
    assert fault == "frame 6: expected 64x48, got 32x32"


def undecodable(payload: bytearray) -> None:
    """Make each NAL unit one that decoders pass over."""
    place = 0
    while place < len(payload):
        payload[place + 4] = 12
        place += 4 + int.from_bytes(payload[place : place + 4], "big")


@pytest.mark.parametrize("make", [scan_video, demux_video])
def test_a_packet_without_its_picture_is_found(make: Callable[[bytes], VideoScan]) -> None:
    scan = make(plain())
    row = int(np.flatnonzero(scan.table[:, FLAGS] & DISPOSABLE)[6])
    data = damaged(plain(), row, change=undecodable)
    faults = faults_of(data, scan, table=with_checksums(scan.table, data))
    rank = scan.table[row, RANK]
    assert faults[0].startswith((f"frame {rank}: expected the picture of packet {row}", "packet "))
    assert faults


def with_checksums(table: FrameTable, data: bytes) -> FrameTable:
    changed = table.copy()
    for row in changed:
        row[CRC32C] = crc32c(data[row[OFFSET] : row[OFFSET] + row[SIZE]])
    return changed


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
@pytest.mark.parametrize("row", [2, 25, 39])
def test_damage_in_a_packet_is_found(container: str, row: int) -> None:
    whole = h264(container)
    scan = demux_video(whole)
    data = damaged(whole, row, change=zeros)
    (fault,) = faults_of(data, scan, table=with_checksums(scan.table, data))
    assert fault.startswith(f"packet {row}: the decoder or the container fails: ")


def test_damage_that_a_demux_did_not_see_is_found() -> None:
    data = damaged(plain(), 20, change=zeros)
    scan = demux_video(data)
    assert scan.info.frame_table == "demux"
    (fault,) = faults_of(data, scan)
    assert fault.startswith("packet 20: the decoder or the container fails: ")


def test_a_picture_of_which_a_part_is_missing_is_found() -> None:
    data = h264(**{"x264-params": "slices=3", "bf": "0"})
    scan = demux_video(data)
    assert scan.info.frame_table == "demux"

    def without_second(payload: bytearray) -> None:
        place = 4 + int.from_bytes(payload[:4], "big")
        assert payload[place + 4] & 31 == 1  # a slice
        payload[place + 4] = 12  # filler

    changed = damaged(data, 30, change=without_second)
    (fault,) = faults_of(changed, scan, table=with_checksums(scan.table, changed))
    assert fault == "frame 30: the decoder had to conceal damage"


def test_a_description_that_does_not_decode_the_packets_is_found() -> None:
    other = scan_video(h264(**{"x264-params": "cabac=0"})).info
    assert other.extradata != plain_scan().info.extradata
    for changes in ({"extradata": other.extradata}, {"codec": "mpeg4"}, {"codec": "no such codec"}):
        (fault,) = faults_of(plain(), plain_scan(), **changes)
        assert "by the table" in fault
    (fault,) = faults_of(plain(), plain_scan(), color_range=2, color_space=1)
    assert fault == "frame 0: another picture by the table than from the start"


def test_a_count_of_a_video_without_a_table_is_checked() -> None:
    for name in ("begins between key frames", "errors that a decoder gets over"):
        data = INTACT[name]()
        scan = scan_video(data)
        assert not len(scan.table)
        wrong = scan.info.frames + 1
        assert faults_of(data, scan, frames=wrong) == [
            f"expected {wrong} frames, got {scan.info.frames}"
        ]
        assert "expected 62x48" in faults_of(data, scan, width=62)[0]
        assert faults_of(data, scan, rotation=-90) == ["expected a rotation of -90, got 0"]


def test_what_is_cut_or_no_video_is_found() -> None:
    for data, message in (
        (plain()[:-40], "cut short"),
        (b"no video\n" * 50, "not readable as mp4"),
        (b"", "not readable as mp4"),
        (makers.sound_bytes(), "no video stream"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "not readable as mp4"),
    ):
        for info in (UNOPENED, plain_scan().info):
            (fault,) = picture_faults(data, info=info, table=empty_frame_table())
            assert message in fault


def test_a_video_packed_unopened_must_decode() -> None:
    def break_all(payload: bytearray) -> None:
        payload[:] = bytes(len(payload))

    data = plain()
    for row in range(40):
        data = damaged_at(data, plain_scan().table, row, break_all)
    (fault,) = picture_faults(data, info=UNOPENED, table=empty_frame_table())
    assert "the decoder or the container fails" in fault or fault == "no frame could be decoded"


def damaged_at(
    data: bytes, table: FrameTable, row: int, change: Callable[[bytearray], None]
) -> bytes:
    offset, size = table[row, [OFFSET, SIZE]].tolist()
    payload = bytearray(data[offset : offset + size])
    change(payload)
    return data[:offset] + payload + data[offset + size :]


# Frames in files


def stills(kind: str = "JPEG", *, turn: int = 1, sizes: tuple[int, ...] = (24,) * 4) -> list[bytes]:
    """Return picture files of these widths."""
    files = []
    for seed, width in enumerate(sizes):
        (picture,) = makers.pictures(1, (width, 16), seed=seed)
        exif = Image.Exif()
        exif[0x0112] = turn
        out = io.BytesIO()
        Image.fromarray(picture).save(out, kind, exif=exif)
        files.append(out.getvalue())
    return files


def muxed(files: list[bytes], *, rate: float = 0.0) -> StillsVideo:
    return mux_stills(files, names=[str(number) for number in range(len(files))], rate=rate)


def faults_of_stills(video: StillsVideo, **changes: Any) -> list[str]:
    data, table = changes.pop("data", video.data), changes.pop("table", video.table)
    check_frame_table(table, part_bytes=len(data), where="the test's table")
    return list(still_faults(data, info=replace(video.info, **changes), table=table))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("turn", [1, 3, 6])
@pytest.mark.parametrize("rate", [0.0, 0.001, 29.97, 1000.0])
def test_frames_in_files_have_no_faults(kind: str, turn: int, rate: float) -> None:
    video = muxed(stills(kind, turn=turn), rate=rate)
    assert (video.info.width, video.info.height) == ((16, 24) if turn == 6 else (24, 16))
    assert faults_of_stills(video) == []


def test_real_frames_have_no_faults(shared_data: Path) -> None:
    folder = shared_data / "rawframes" / "demo_class" / "demo_clip"
    for pattern in ("img_*.jpg", "flow_x_*.jpg"):
        files = [file.read_bytes() for file in sorted(folder.glob(pattern))]
        assert len(files) > 20
        assert faults_of_stills(muxed(files)) == []


def test_gray_and_empty_looking_pictures_have_no_faults() -> None:
    files = []
    for mode in ("L", "RGB", "CMYK"):
        out = io.BytesIO()
        Image.new(mode, (24, 16)).save(out, "JPEG")
        # What stands behind a picture is kept with it.
        files.append(out.getvalue() + b"behind the picture")
    assert faults_of_stills(muxed(files)) == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_that_does_not_decode_is_found(kind: str) -> None:
    video = muxed(stills(kind))
    offset, size = video.table[2, [OFFSET, SIZE]].tolist()
    for place in (0, size // 2):
        data = bytearray(video.data)
        data[offset + place : offset + size] = bytes(size - place)
        table = with_checksums(video.table, bytes(data))
        (fault,) = faults_of_stills(video, data=bytes(data), table=table)
        assert fault.startswith("frame 2: ")


def test_pictures_of_another_size_or_kind_are_found() -> None:
    assert faults_of_stills(muxed(stills()), width=32) == [
        "frame 0: expected mjpeg of 32x16, got mjpeg of 24x16"
    ]
    assert faults_of_stills(muxed(stills("PNG")), codec="mjpeg") == [
        "frame 0: expected mjpeg of 24x16, got png of 24x16"
    ]
    # The packets' sizes stay: one picture takes the place of a larger file.
    first, other = stills(sizes=(24, 20))
    larger = first + bytes(1000)
    video = muxed([first, larger])
    offset = int(video.table[1, OFFSET])
    data = video.data[:offset] + other.ljust(len(larger), b"\0")
    table = with_checksums(video.table, data)
    assert faults_of_stills(video, data=data, table=table) == [
        "frame 1: expected mjpeg of 24x16, got mjpeg of 20x16"
    ]


def test_rows_that_are_not_the_files_in_their_order_are_found() -> None:
    video = muxed(stills())
    (fault,) = faults_of_stills(video, table=swapped(video.table, 1, 2))
    assert fault == "row 1: expected frame 1 and flags 1, got frame 2 and flags 1"
    (fault,) = faults_of_stills(video, table=with_value(video.table, 3, FLAGS, 0))
    assert fault == "row 3: expected frame 3 and flags 1, got frame 3 and flags 0"
    table = video.table.copy()
    table[[1, 2], OFFSET] = table[[2, 1], OFFSET]
    (fault,) = faults_of_stills(video, table=table)
    assert fault.startswith("packet 1 of the container: expected the ")
    (fault,) = faults_of_stills(video, table=video.table[:3])
    assert fault == "expected the table's 3 packets, got 4"
    more = np.vstack([video.table, video.table[-1:] + np.array([0, 0, 0, 1, 1, 0])])
    (fault,) = faults_of_stills(video, table=more)
    assert fault == "expected the table's 5 packets, got 4"


def test_an_mp4_of_files_that_cannot_be_read_is_found() -> None:
    video = muxed(stills())
    for data, message in (
        (video.data[: int(video.table[3, OFFSET])], "cut short"),
        (b"no mp4 at all" * 300, "not readable as an mp4"),
        (makers.sound_bytes(), "no video stream"),
    ):
        (fault,) = still_faults(data, info=video.info, table=video.table)
        assert message in fault


# Sounds


def described(kept: KeptSound, **changes: Any) -> AudioJson:
    about = AudioJson(
        id="a",
        origin="list.txt:1",
        labels=(),
        total_frames=1,
        codec=kept.codec,
        sample_rate_hz=kept.sample_rate_hz,
        channels=kept.channels,
        duration_s=kept.duration_s,
    )
    return replace(about, **changes)


def encoded(
    container: str, codec: str, *, samples: int = 30_000, tracks: int = 1, level: float = 0.2
) -> bytes:
    """Return a tone in mono at 48 kHz."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        streams = [
            output.add_stream(codec, rate=48000, layout="mono", options={"strict": "-2"})
            for _ in range(tracks)
        ]
        tone = (np.sin(np.arange(samples) / 17) * level).astype(np.float32)
        for stream in streams:
            assert isinstance(stream, AudioStream)
            formats = stream.codec_context.codec.audio_formats
            assert formats is not None
            frame = av.AudioFrame.from_ndarray(tone[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            resampler = av.AudioResampler(format=formats[0].name)
            for converted in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(converted))
            output.mux(stream.encode(None))
    return buffer.getvalue()


SOUNDS = [
    ("mp4", "aac"),
    ("ipod", "alac"),
    ("mp3", "libmp3lame"),
    ("matroska", "libmp3lame"),
    ("ogg", "libopus"),
    ("webm", "libopus"),
    ("flac", "flac"),
    ("matroska", "flac"),
    ("wav", "pcm_s16le"),
    ("wav", "pcm_f32le"),
    ("mov", "pcm_s24le"),
]


@pytest.mark.parametrize(("container", "codec"), SOUNDS)
@pytest.mark.parametrize("samples", [1000, 30_000])
def test_a_kept_sound_has_no_faults(container: str, codec: str, samples: int) -> None:
    data = encoded(container, codec, samples=samples)
    forms: tuple[SoundForm, ...] = ("source", "wav", "flac")
    for form in forms:
        kept = keep_sound(data, form)
        assert list(sound_faults(kept.data, suffix=kept.part, about=described(kept))) == []


def test_real_sounds_have_no_faults(shared_data: Path) -> None:
    files = [shared_data / "videos" / "clip_audio.mp4", *(shared_data / "audio").iterdir()]
    for file in files:
        forms: tuple[SoundForm, ...] = ("source", "wav", "flac")
        for form in forms:
            kept = keep_sound(file.read_bytes(), form)
            assert list(sound_faults(kept.data, suffix=kept.part, about=described(kept))) == []


@pytest.mark.parametrize("codec", ["flac", "pcm_s16le", "aac", "libopus"])
def test_what_is_said_of_a_sound_is_checked(codec: str) -> None:
    container = {"flac": "flac", "pcm_s16le": "wav", "aac": "ipod", "libopus": "ogg"}[codec]
    kept = keep_sound(encoded(container, codec), "source")
    says: dict[str, tuple[dict[str, Any], str]] = {
        "codec": ({"codec": "mp3"}, f"expected mp3, one of .*, got {kept.codec}$"),
        "rate": ({"sample_rate_hz": 44100}, "expected 44100 Hz and 1 channels, got 48000 and 1"),
        "channels": ({"channels": 2}, "expected 48000 Hz and 2 channels, got 48000 and 1"),
        "longer": (
            {"duration_s": kept.duration_s + 0.1},
            f"expected {kept.samples + 4800} samples of each channel, got {kept.samples}$",
        ),
        "shorter": ({"duration_s": kept.duration_s / 2}, f"got {kept.samples}$"),
    }
    for name, (changes, message) in says.items():
        about = described(kept, **changes)
        (fault,) = sound_faults(kept.data, suffix=kept.part, about=about)
        assert re.search(message, fault), (name, fault)
    # To the sample, where a decoder has no choice.
    about = described(kept, duration_s=(kept.samples + 1) / 48000)
    found = list(sound_faults(kept.data, suffix=kept.part, about=about))
    assert bool(found) == (codec in ("flac", "pcm_s16le"))


def test_a_sound_under_the_name_of_another_kind_is_found() -> None:
    kept = keep_sound(encoded("wav", "pcm_s16le"), "source")
    faults = list(sound_faults(kept.data, suffix="m4a", about=described(kept)))
    assert faults == [
        "expected a file of mov,mp4,m4a,3gp,3g2,mj2, got one of wav",
        "expected pcm_s16le, one of aac, alac, got pcm_s16le",
    ]


def damaged_flac() -> bytes:
    data = bytearray(keep_sound(encoded("flac", "flac"), "flac").data)
    data[len(data) // 2] ^= 0x10
    return bytes(data)


def test_no_bit_of_a_flac_is_left_unchecked() -> None:
    kept = keep_sound(encoded("flac", "flac"), "flac")
    with av.open(io.BytesIO(kept.data), "r") as container:
        start = min(packet.pos or 0 for packet in container.demux(audio=0) if packet.size)
    for place in range(start, len(kept.data), 61):
        data = bytearray(kept.data)
        data[place] ^= 1 << place % 8
        assert list(sound_faults(bytes(data), suffix="flac", about=described(kept))), place


def cut_wav() -> bytes:
    return keep_sound(encoded("wav", "pcm_s16le"), "wav").data[:-100]


@pytest.mark.parametrize(
    ("make", "suffix", "message"),
    [
        (damaged_flac, "flac", "cannot be decoded to its end|expected 30000 samples"),
        (cut_wav, "wav", "cut short"),
        (lambda: encoded("wav", "pcm_f32le", level=np.nan), "wav", "got NaN or numbers beyond"),
        (lambda: encoded("wav", "pcm_f32le", level=1e9), "wav", "got NaN or numbers beyond"),
        (lambda: encoded("mp4", "aac", tracks=2), "m4a", "expected one audio stream.* got 2"),
        (plain, "m4a", "expected one audio stream of a known codec, got 0"),
        (lambda: b"no sound\n" * 99, "mp3", "cannot be decoded"),
        (lambda: b"", "ogg", "cannot be decoded"),
        (lambda: b"#EXTM3U\nfile:///etc/passwd\n" * 9, "mp3", "cannot be decoded"),
    ],
)
def test_a_broken_sound_is_found(make: Callable[[], bytes], suffix: str, message: str) -> None:
    codec = {"flac": "flac", "wav": "pcm_f32le", "m4a": "aac"}.get(suffix, "mp3")
    if make is cut_wav:
        codec = "pcm_s16le"
    about = described(KeptSound(suffix, b"", codec, 48000, 1, 30_000))
    (fault,) = sound_faults(make(), suffix=suffix, about=about)
    assert re.search(message, fault), fault


# Samples of all tasks

Values = dict[str, Any]


class Packed(NamedTuple):
    """What is packed, and how."""

    task: str
    records: Callable[[Path], Any]
    recipe: Recipe = Recipe()


def moments(folder: Path, *, template: str = "") -> AvaCsv:
    name = "jpeg" if template else "a.mp4"
    rows = [f"{name},{time},0.1,0.1,0.5,0.5,1,0" for time in (2, 5)]
    (folder / "a.csv").write_text("".join(f"{row}\n" for row in rows))
    return AvaCsv(
        folder / "a.csv",
        fps=1,
        timestamp_start=0,
        timestamp_end=None,
        clip_frames=4,
        filename_tmpl=template,
    )


def frame_folder(name: str, template: str) -> RawframesRecord:
    ranges = (FrameRange(total_frames=4),)
    return RawframesRecord(folder=name, ranges=ranges, filename_tmpl=template)


def untrimmed() -> ActivityNetRecord:
    return ActivityNetRecord(
        id="a", segments=((0.0, 1.0),), segment_labels=("x",), duration_s=2.0, video="a.mp4"
    )


PACKED = {
    "video": Packed("video", lambda _: [VideoRecord("a.mp4"), VideoRecord("b.avi")]),
    "demuxed": Packed("video", lambda _: [VideoRecord("a.mp4")], Recipe(frame_table="demux")),
    "unopened": Packed("video", lambda _: [VideoRecord("b.avi")], Recipe(frame_table="none")),
    "pictures": Packed("rawframes", lambda _: [frame_folder("jpeg", "img_{:05}.jpg")]),
    "flow": Packed("rawframes", lambda _: [frame_folder("flow", "{}_{:05}.png")]),
    "moments": Packed("ava", moments),
    "moments in files": Packed("ava", partial(moments, template="img_{:05}.jpg")),
    "sound": Packed(
        "audio",
        lambda _: [AudioRecord(path="a.mp4", total_frames=30)],
        Recipe(features="compute", keep_audio="source"),
    ),
    "untrimmed": Packed("activitynet", lambda _: [untrimmed()]),
}


def write_media(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(makers.short_video(frames=30, sound=True))
    (folder / "b.avi").write_bytes(INTACT["MPEG-4, avi"]())
    for name, kind, template in (
        ("jpeg", "JPEG", "img_{:05}.jpg"),
        ("flow", "PNG", "x_{:05}.png"),
        ("flow", "PNG", "y_{:05}.png"),
    ):
        (folder / name).mkdir(exist_ok=True)
        for number, file in enumerate(stills(kind, sizes=(24,) * 8), 1):
            (folder / name / template.format(number)).write_bytes(file)


@pytest.mark.parametrize("name", PACKED)
def test_samples_of_every_task_have_no_faults_until_they_are_damaged(
    name: str, tmp_path: Path
) -> None:
    packed = PACKED[name]
    write_media(tmp_path)
    labels: Any = {} if packed.task == "ava" else {"labels": "none"}
    pack(
        packed.records(tmp_path),
        tmp_path / "set",
        split="train",
        media_root=tmp_path,
        recipe=packed.recipe,
        **labels,
    )
    samples = list(samples_of(tmp_path / "set", packed.task))
    assert samples
    for values in samples:
        assert list(media_faults(values)) == []
        media = [part for part, value in values.items() if isinstance(value, bytes)]
        assert len(media) == (2 if name == "flow" else 1)
        for part in media:
            ((found, fault),) = media_faults(values | {part: values[part][:-60]})
            assert found == part
            assert "cut short" in fault
