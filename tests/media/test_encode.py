"""An encoded video has the source's frames, in their order and time, and is what was asked for."""

import io
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.packet import Packet
from frames.test_exact import VARIANTS, made
from makers import (
    Pixels,
    VideoPacket,
    frames_of,
    remux,
    short_video,
    sound_bytes,
    video_bytes,
    with_half_a_second_of,
)

from clipshards.packer.encoding import RECIPES, Encoding
from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import (
    DISPOSABLE,
    FLAGS,
    PTS,
    RANDOM_ACCESS,
    RANK,
    check_frame_table,
)
from clipshards.packer.frames.decode import decode_frames
from clipshards.packer.frames.scan import VideoScan, scan_video
from clipshards.packer.media.encode import Encoded, encode_video
from clipshards.packer.media.encoded import unmet
from clipshards.packer.media.moments import frame_ticks
from clipshards.packer.media.x264 import encoder_identity, pinned_fault

SMALL = (64, 48)
# Good enough that a frame is nearer to its source than to any neighbour.
FINE = Encoding(gop=12, b_frames=3, fast_decode=False, crf=10, preset="veryfast")
COLOURS_CHANGE = ("colours change", "colours change, avi")
ENCODABLE = [name for name in VARIANTS if name not in COLOURS_CHANGE]


@cache
def fine(name: str) -> Encoded:
    return encode_video(made(name).data, FINE)


@cache
def clip(
    *, frames: int = 40, size: tuple[int, int] = SMALL, rate: int = 25, sound: bool = False
) -> bytes:
    return video_bytes(frames=frames, size=size, rate=rate, sound=sound, options={"crf": "10"})


def opened(data: bytes) -> av.container.InputContainer:
    return av.open(io.BytesIO(data), "r")


def times_s(scan: VideoScan) -> npt.NDArray[np.float64]:
    """Return the seconds of the frames, from the first one on."""
    ticks = frame_ticks(scan)
    base = float(Fraction(*scan.info.time_base))
    return np.array(ticks - ticks[0], dtype=np.float64) * base


def video_boxes(data: bytes) -> list[bytes]:
    """Return the kinds of boxes in the first track of an mp4."""
    for kind in (b"moov", b"trak"):
        found = dict(reversed([*_boxes(data)]))  # the first of its kind
        data = found[kind]
    return [kind for kind, _ in _boxes(data)]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        yield kind, data[place + 8 : place + size]
        place += size


def upright(frames: list[Pixels], rotation: int) -> list[Pixels]:
    return [np.rot90(frame, rotation // 90) for frame in frames]


def luma(frame: Pixels) -> npt.NDArray[np.float64]:
    return np.array(frame @ np.array([0.299, 0.587, 0.114]))


def assert_alike(encoded: bytes, source: list[Pixels], *, allowed: float = 3.0) -> None:
    """Check that each frame shows what it should, and is nearer to it than to the next one."""
    got = frames_of(encoded)
    assert len(got) == len(source)
    for number, frame in enumerate(got):
        height, width = frame.shape[:2]
        due = [luma(other[:height, :width]) for other in source[number : number + 2]]
        differences = [np.abs(luma(frame) - other).mean() for other in due]
        assert differences[0] < allowed, f"frame {number}"
        assert differences[0] == min(differences), f"frame {number}"


def psnr(one: list[Pixels], other: list[Pixels]) -> float:
    errors = [np.square(a.astype(float) - b).mean() for a, b in zip(one, other, strict=True)]
    return float(10 * np.log10(255**2 / np.mean(errors)))


@pytest.mark.parametrize("name", ENCODABLE)
def test_every_frame_is_there_in_its_order(name: str) -> None:
    video = made(name)
    # Odd pictures of noise, whose chroma is shown by lines or by fields.
    allowed = 12 if name.startswith("field pictures") else 3
    assert_alike(fine(name).data, upright(video.frames, video.scan.info.rotation), allowed=allowed)


@pytest.mark.parametrize("name", ENCODABLE)
def test_result_is_plain(name: str) -> None:
    source, scan = made(name), fine(name).scan
    info = scan.info
    assert (info.codec, info.pixel_format, info.rotation) == ("h264", "yuv420p", 0)
    assert not info.interlaced
    assert info.width % 2 == info.height % 2 == 0
    assert info.color_range != 2
    assert info.frames == len(source.frames)
    assert info.sample_aspect == source.scan.info.sample_aspect
    assert frame_ticks(scan)[0] == 0
    boxes = video_boxes(fine(name).data)
    assert b"mdia" in boxes
    assert b"edts" not in boxes
    with opened(fine(name).data) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == info.frames
    assert not any(packet.is_discard for packet in packets)


@pytest.mark.parametrize("name", [n for n in ENCODABLE if not VARIANTS[n].no_table])
def test_frames_keep_their_times(name: str) -> None:
    np.testing.assert_allclose(
        times_s(fine(name).scan), times_s(made(name).scan), rtol=0, atol=1e-6
    )


def test_times_that_contradict_the_order_are_dealt_out() -> None:
    def swap(number: int, packet: VideoPacket) -> VideoPacket:
        assert packet.pts is not None
        assert packet.duration is not None
        packet.pts += packet.duration * (-1 if number % 2 else 1)
        packet.dts = (number - 2) * packet.duration
        return packet

    plain = video_bytes(frames=20, size=SMALL, options={"bf": "0", "crf": "10"})
    data = remux(plain, change=swap)
    with opened(data) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert stamps[:4] == [512, 0, 3 * 512, 2 * 512]
    made = encode_video(data, FINE)
    assert_alike(made.data, frames_of(data))
    np.testing.assert_allclose(times_s(made.scan), np.arange(20) / 25)


def test_video_is_as_long_as_its_source() -> None:
    for name in ("mp4", "avi", "mkv", "edit list", "VP9"):
        source = made(name)
        assert fine(name).scan.info.rate == source.scan.info.rate == (25, 1)
        assert fine(name).scan.info.duration_s == len(source.frames) / 25


def test_frames_can_be_read_by_the_table() -> None:
    made = encode_video(clip(), RECIPES["balanced"])
    table = check_frame_table(made.scan.table, part_bytes=len(made.data), where="it")
    wanted = np.array([39, 3, 38, 17, 0])
    pixels = decode_frames(made.data, wanted, info=made.scan.info, table=table)
    frames = frames_of(made.data)
    for number, got in zip(wanted.tolist(), pixels, strict=True):
        np.testing.assert_array_equal(got, frames[number])
    again = scan_video(made.data)
    assert again.info == made.scan.info
    np.testing.assert_array_equal(again.table, made.scan.table)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_gives_its_structure(name: str) -> None:
    encoding = RECIPES[name]
    made = encode_video(clip(frames=70), encoding)
    flags = made.scan.table[:, FLAGS]
    points = np.sort(made.scan.table[flags & RANDOM_ACCESS != 0, RANK])
    assert points[0] == 0
    assert np.diff([*points, 70]).max() <= encoding.gop
    assert len(points) == {"sparse": 1, "balanced": 3, "fast": 3, "intra": 70}[name]
    disposable = np.count_nonzero(flags & DISPOSABLE) / len(flags)
    assert disposable > 0.7 if encoding.b_frames else disposable == 0
    assert psnr(frames_of(made.data), frames_of(clip(frames=70))) > 24
    assert unmet(made.data, encoding)[0] == ""


def test_flicker_takes_no_disposable_frames_away() -> None:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("rawvideo", rate=25, width=64, height=48)
        stream.pix_fmt = "yuv420p"
        for number in range(40):
            picture = rng.integers(0, 256, (48, 64, 3), np.uint8) // 4 + 180 * (number % 2)
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    made = encode_video(buffer.getvalue(), RECIPES["balanced"])
    assert np.count_nonzero(made.scan.table[:, FLAGS] & DISPOSABLE) > 30
    assert unmet(made.data, RECIPES["balanced"])[0] == ""


def test_fast_decoding_is_cheaper_coding() -> None:
    plain, fast = (encode_video(clip(), RECIPES[name]) for name in ("balanced", "fast"))
    assert b"cabac=1" in plain.data
    assert b"deblock=1" in plain.data
    assert b"cabac=0" in fast.data
    assert b"deblock=0" in fast.data


def test_crf_and_preset_reach_the_encoder() -> None:
    sizes = [len(encode_video(clip(), replace(FINE, crf=crf)).data) for crf in (10, 23, 40)]
    assert sizes == sorted(sizes, reverse=True)
    assert b"crf=40.0" in encode_video(clip(), replace(FINE, crf=40)).data
    assert b"me=umh" in encode_video(clip(), replace(FINE, preset="slower")).data
    # This preset alone would leave out the B-frames.
    made = encode_video(clip(), replace(FINE, preset="ultrafast"))
    assert np.count_nonzero(made.scan.table[:, FLAGS] & DISPOSABLE) > 20


@pytest.mark.parametrize(
    ("codec", "container", "pix_fmt", "size"),
    [
        ("libx264", "mp4", "yuv422p", (64, 48)),
        ("libx264", "mp4", "yuv444p", (63, 47)),
        ("libx264", "mp4", "gray", (64, 48)),
        ("libx264rgb", "mp4", "rgb24", (63, 47)),
        ("mjpeg", "avi", "yuvj422p", (63, 47)),
        ("ffv1", "matroska", "yuva420p", (64, 48)),
        ("ffv1", "matroska", "yuv411p", (63, 47)),
        ("ffv1", "matroska", "gray16le", (64, 48)),
        ("rawvideo", "avi", "bgr24", (63, 47)),
        ("mpeg4", "mov", "yuv420p", (63, 47)),
        ("prores_ks", "mov", "yuv422p10le", (64, 48)),
    ],
)
def test_every_pixel_format_shows_the_same(
    codec: str, container: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    data = video_bytes(container, codec, frames=10, size=size, pix_fmt=pix_fmt)
    made = encode_video(data, FINE)
    assert (made.scan.info.width, made.scan.info.height) == (size[0] // 2 * 2, size[1] // 2 * 2)
    assert made.scan.info.pixel_format == "yuv420p"
    assert_alike(made.data, frames_of(data))


@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("space", [1, 5, 6, 9])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
def test_colours_keep_their_meaning(color_range: int, space: int, pix_fmt: str) -> None:
    colors = {"color_range": color_range, "colorspace": space, "color_primaries": 1}
    data = video_bytes(frames=6, size=SMALL, pix_fmt=pix_fmt, colors=colors | {"color_trc": 13})
    made = encode_video(data, FINE)
    info = made.scan.info
    assert (info.color_range, info.color_space) == (1, space)
    assert (info.color_primaries, info.color_transfer) == (1, 13)
    one, other = (np.mean(frames_of(video), axis=(0, 1, 2)) for video in (data, made.data))
    np.testing.assert_allclose(one, other, rtol=0, atol=2.5)


@pytest.mark.parametrize("rotation", [90, -90, 180])
@pytest.mark.parametrize("size", [(66, 48), (67, 49)])
def test_picture_is_turned_upright(rotation: int, size: tuple[int, int]) -> None:
    data = video_bytes("mov", "mpeg4", frames=6, size=size, rotation=rotation)
    made = encode_video(data, FINE)
    due = [frame[:48, : size[0] // 2 * 2] for frame in frames_of(data)]
    assert (made.scan.info.width, made.scan.info.height) == (
        (66, 48) if rotation == 180 else (48, 66)
    )
    assert_alike(made.data, upright(due, scan_video(data).info.rotation))


@pytest.mark.parametrize(("rotation", "due"), [(0, (4, 3)), (90, (3, 4)), (180, (4, 3))])
def test_turned_pixels_swap_their_aspect(rotation: int, due: tuple[int, int]) -> None:
    data = video_bytes(frames=4, size=SMALL, rotation=rotation)
    data = remux(data, bitstream_filter="h264_metadata=sample_aspect_ratio=4/3")
    assert scan_video(data).info.sample_aspect == (4, 3)
    for short_side in (0, 32):
        made = encode_video(data, replace(FINE, short_side=short_side))
        assert made.scan.info.sample_aspect == due


@pytest.mark.parametrize(
    ("size", "rotation", "short_side", "due"),
    [
        ((160, 120), 0, 60, (80, 60)),
        ((120, 160), 0, 60, (60, 80)),
        ((160, 120), 90, 60, (60, 80)),
        ((170, 96), 0, 64, (114, 64)),
        ((64, 48), 0, 48, (64, 48)),
        ((64, 48), 0, 100, (64, 48)),
        ((62, 40), 0, 0, (62, 40)),
    ],
)
def test_short_side_is_scaled_down_only(
    size: tuple[int, int], rotation: int, short_side: int, due: tuple[int, int]
) -> None:
    data = video_bytes(frames=6, size=size, rotation=rotation, options={"crf": "10"})
    made = encode_video(data, replace(FINE, short_side=short_side))
    assert (made.scan.info.width, made.scan.info.height) == due
    scaled = []
    with opened(data) as container:
        for frame in container.decode(video=0):
            turned = due[::-1] if rotation == 90 else due
            small = frame.reformat(*turned, format="rgb24", interpolation="BICUBIC")
            scaled.append(small.to_ndarray().astype(np.uint8))
    assert_alike(made.data, upright(scaled, scan_video(data).info.rotation))


def test_uneven_times_are_kept_and_evened_out_where_a_rate_is_asked_for() -> None:
    source = made("uneven times")
    seconds = times_s(source.scan)
    assert len(set(np.diff(seconds))) > 3
    made_even = encode_video(source.data, replace(FINE, fps=(25, 1)))
    info = made_even.scan.info
    assert info.rate == (25, 1)
    np.testing.assert_allclose(np.diff(times_s(made_even.scan)), 1 / 25)
    # At each moment the frame whose rounded time came last is shown.
    places = np.floor(seconds * 25 + 0.5).astype(int)
    due = [source.frames[int(np.flatnonzero(places <= n)[-1])] for n in range(info.frames)]
    assert places[-1] < info.frames <= places[-1] + 2
    assert_frames_of_a_rate(made_even.data, due)


def assert_frames_of_a_rate(data: bytes, due: list[Pixels]) -> None:
    for got, frame in zip(frames_of(data), due, strict=True):
        assert np.abs(luma(got) - luma(frame)).mean() < 3


@pytest.mark.parametrize(
    ("fps", "frames"),
    [((25, 1), 40), ((5, 1), 8), ((50, 1), 80), ((30000, 1001), 48), ((1, 1), 2), ((1, 4), 1)],
)
def test_rate_gives_as_many_frames_as_fit_the_time(fps: tuple[int, int], frames: int) -> None:
    made = encode_video(clip(), replace(FINE, fps=fps))
    assert made.scan.info.frames == frames
    assert made.scan.info.rate == fps
    source = frames_of(clip())
    numbers = np.floor(np.arange(40) * float(Fraction(*fps)) / 25 + 0.5)
    due = [source[int(np.flatnonzero(numbers <= n)[-1])] for n in range(frames)]
    assert_frames_of_a_rate(made.data, due)


def test_shortest_video_keeps_a_frame_at_any_rate() -> None:
    for frames in (1, 2):
        made = encode_video(clip(frames=frames), replace(FINE, fps=(1, 1)))
        assert made.scan.info.frames == 1
        assert unmet(made.data, replace(FINE, fps=(1, 1)))[0] == ""


def test_broken_time_stamp_does_not_fill_hours_with_one_frame() -> None:
    data = video_bytes(
        frames=3, size=SMALL, times=[0, 1, 20_001], time_base=Fraction(1, 25), options={"bf": "0"}
    )
    with pytest.raises(MediaError, match="a frame lasts 800 s"):
        encode_video(data, replace(FINE, fps=(25, 1)))
    assert encode_video(data, FINE).scan.info.frames == 3


@pytest.mark.parametrize("name", COLOURS_CHANGE)
def test_other_colours_in_the_middle_are_refused(name: str) -> None:
    with pytest.raises(MediaError, match="frame 20 has another pixel format or other colours"):
        fine(name)


def with_tracks(*, video_s: float, container: str = "mp4") -> bytes:
    """Return a video of 40 frames and its sound, which begins `video_s` before the frames."""
    buffer = io.BytesIO()
    with (
        opened(clip(sound=True)) as source,
        av.open(buffer, "w", format=container) as output,
    ):
        streams = [source.streams.video[0], source.streams.audio[0]]
        targets = {
            stream.index: output.add_stream_from_template(stream, opaque=True) for stream in streams
        }
        packets: list[Packet[Any]] = []
        for packet in source.demux(streams):
            if packet.size and packet.time_base and packet.pts is not None:
                assert packet.dts is not None
                if packet.stream.type == "video":
                    ticks = round(Fraction(video_s) / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = targets[packet.stream.index]
                packets.append(packet)
        for packet in packets:
            output.mux(packet)
    return buffer.getvalue()


def sound_at(data: bytes, *, after_first_frame: bool) -> dict[int, float]:
    """Return samples of the sound by their place, in samples from the first frame on."""
    with opened(data) as container:
        zero = 0.0
        if after_first_frame:
            zero = float(next(container.decode(video=0)).time or 0)
            container.seek(0)
        samples = {}
        for frame in container.decode(audio=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            start = round((float(frame.pts * frame.time_base) - zero) * frame.sample_rate)
            for number, value in enumerate(frame.to_ndarray()[0].tolist()):
                samples[start + number] = value
    return samples


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("video_s", [0.0, 0.4, -0.4, 0.333])
def test_sound_stays_with_the_frames(video_s: float, container: str) -> None:
    data = with_tracks(video_s=video_s, container=container)
    made = encode_video(data, FINE)
    assert made.sound_lost == ""
    source = sound_at(data, after_first_frame=True)
    got = sound_at(made.data, after_first_frame=False)
    heard = {place: value for place, value in source.items() if place >= 0}
    # Matroska tells times in milliseconds, here of 44.1 samples.
    rounding = 0 if container == "mp4" else 45
    assert abs(min(got) - min(heard)) <= rounding
    assert abs(max(got) - max(heard)) <= rounding
    assert min(got) >= -rounding
    if container == "mp4":
        places = sorted(got.keys() & heard.keys())
        assert len(places) > 0.98 * len(heard)
        # A sample more or less would make up to 0.012 of the tone; AAC adds noise at random.
        differences = np.array([got[place] - heard[place] for place in places])
        assert np.abs(differences[2048:]).max() < 0.003
    info = made.scan.info
    assert frame_ticks(made.scan)[0] == 0
    assert info.frames == scan_video(data).info.frames


def test_sound_before_the_first_frame_is_cut() -> None:
    packets = []
    for video_s in (0.0, 0.8):
        made = encode_video(with_tracks(video_s=video_s), FINE)
        with opened(made.data) as container:
            packets.append([bytes(p) for p in container.demux(audio=0) if p.size])
    # One packet more than is heard, to decode the first one from.
    assert packets[1] == packets[0][-len(packets[1]) :]
    assert len(packets[0]) - len(packets[1]) == int(0.8 * 44100 / 1024)


def test_sound_is_dropped_when_not_wanted() -> None:
    made = encode_video(clip(sound=True), replace(FINE, audio="drop"))
    assert made.sound_lost == ""
    with opened(made.data) as container:
        assert not container.streams.audio
    with_sound = encode_video(clip(sound=True), FINE)
    with opened(with_sound.data) as container:
        assert container.streams.audio[0].codec_context.name == "aac"


def test_sound_that_no_mp4_holds_is_lost_and_said_so() -> None:
    data = with_half_a_second_of("pcm_u8", np.uint8, "u8")
    made = encode_video(data, FINE)
    assert "the sound cannot be copied into an mp4" in made.sound_lost
    assert made.scan.info.frames == 40


_ENCODE_AGAIN = """
import hashlib, os, sys
from pathlib import Path
if sys.argv[3]:
    os.sched_setaffinity(0, {int(sys.argv[3])})
from clipshards.packer.encoding import RECIPES
from clipshards.packer.media.encode import encode_video
made = encode_video(Path(sys.argv[1]).read_bytes(), RECIPES[sys.argv[2]])
print(hashlib.sha256(made.data).hexdigest())
"""


@pytest.mark.parametrize("name", RECIPES)
def test_same_bytes_in_any_process(name: str, tmp_path: Path) -> None:
    # Scaled, turned and with sound, to have all of the chain.
    path = tmp_path / "video.mp4"
    path.write_bytes(clip(size=(160, 120), sound=True))
    processor = str(min(os.sched_getaffinity(0)))
    digests = set()
    for affinity, environment in (
        ("", {"OMP_NUM_THREADS": "7"}),
        (
            processor,
            {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1", "TZ": "Asia/Aden"},
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _ENCODE_AGAIN, str(path), name, affinity],
            env=os.environ | environment,
            cwd=tmp_path,
            capture_output=True,
            check=True,
            text=True,
            timeout=120,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_same_bytes_twice() -> None:
    encoding = replace(FINE, short_side=32, fps=(10, 1))
    for name in ("rotated", "full range, bt709", "MPEG-4 ASP, avi", "10 bit"):
        one, two = (encode_video(made(name).data, encoding).data for _ in range(2))
        assert one == two


def test_identity_names_what_shapes_the_bytes() -> None:
    identity = encoder_identity()
    assert set(identity) == {"av", "ffmpeg", "x264", "cpu"}
    assert identity["av"] == av.__version__
    assert identity["x264"].startswith("core 1")
    assert identity["x264"].encode() in encode_video(clip(), FINE).data
    flags = Path("/proc/cpuinfo").read_text()
    assert (identity["cpu"] == "x86-64-avx2") == (" avx2" in flags) == (pinned_fault() == "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable"),
        (b"RIFF and no more", "not a readable"),
        (b"\0" * 4096, "not a readable"),
        (sound_bytes(), "no video stream"),
        (short_video()[:-500], "cut short|not a readable"),
    ],
)
def test_what_is_no_video_is_refused(data: bytes, message: str) -> None:
    for act in (lambda: encode_video(data, FINE), lambda: unmet(data, FINE)):
        with pytest.raises(MediaError, match=message):
            act()


def _tiny(size: tuple[int, int]) -> bytes:
    """Return a video of lossless frames too small for most encoders."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as output:
        stream = output.add_stream("png", rate=25, width=size[0], height=size[1])
        stream.pix_fmt = "rgb24"
        for number in range(3):
            picture = np.full((size[1], size[0], 3), 60 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def test_smallest_sizes() -> None:
    for size in ((1, 1), (1, 16), (16, 1)):
        with pytest.raises(MediaError, match=f"frames of {size[0]}x{size[1]} are too small"):
            encode_video(_tiny(size), FINE)
    made = encode_video(_tiny((3, 2)), FINE)
    assert (made.scan.info.width, made.scan.info.height) == (2, 2)
    assert made.scan.info.frames == 3


def test_changing_size_is_refused() -> None:
    parts = [
        video_bytes(size=size, frames=20, options={"x264-params": "repeat-headers=1"})
        for size in (SMALL, (80, 64))
    ]
    with pytest.raises(MediaError, match="frame 20 is 80x64, the frames before it are 64x48"):
        encode_video(remux(parts, "matroska"), FINE)


def test_damage_is_refused() -> None:
    data = bytearray(video_bytes(size=(160, 120), frames=20, options={"g": "20", "bf": "0"}))
    scan = scan_video(bytes(data))
    offset, size = scan.table[7, :2].tolist()
    rng = np.random.default_rng(3)
    data[offset + 20 : offset + size] = rng.bytes(size - 20)
    with pytest.raises(
        MediaError, match=r"decoding stopped behind frame|concealed damage in frame"
    ):
        encode_video(bytes(data), FINE)


def test_every_truncation_is_refused() -> None:
    data = short_video(sound=True)
    for end in range(0, len(data), 997):
        with pytest.raises(MediaError):
            encode_video(data[:end], FINE)


# What is asked for, of what, and the beginning of the reason why it is not met.
SUITED = Encoding(gop=12, b_frames=3, fast_decode=True, short_side=48, fps=(25, 1))


def test_what_suits_is_met_and_scanned() -> None:
    data = encode_video(clip(size=(160, 120)), SUITED).data
    reason, scan = unmet(data, SUITED)
    assert reason == ""
    assert scan is not None
    due = scan_video(data)
    assert scan.info == due.info
    np.testing.assert_array_equal(scan.table, due.table)


@pytest.mark.parametrize(
    "name", ["mkv", "rotated", "uneven times", "edit list", "odd size", "sound"]
)
@pytest.mark.parametrize("recipe", RECIPES)
def test_result_meets_what_it_was_made_by(name: str, recipe: str) -> None:
    for encoding in (
        RECIPES[recipe],
        replace(RECIPES[recipe], short_side=32, fps=(10, 1), audio="drop"),
    ):
        assert unmet(encode_video(made(name).data, encoding).data, encoding)[0] == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"short_side": 46}, "the short side is 48 and not at most 46"),
        ({"fps": (30, 1)}, "it has 25.000 frames a second and not 30"),
        ({"fps": (24, 1)}, "it has 25.000 frames a second and not 24"),
        ({"gop": 11}, "random-access points are 12 frames apart and not at most 11"),
        ({"audio": "drop"}, "there is sound"),
    ],
)
def test_other_settings_are_not_met(change: dict[str, Any], reason: str) -> None:
    data = encode_video(clip(size=(160, 120), sound=True), SUITED).data
    assert unmet(data, SUITED)[0] == ""
    assert unmet(data, replace(SUITED, crf=1, preset="veryslow"))[0] == ""
    assert unmet(data, replace(SUITED, short_side=50, gop=13, fps=(0, 1)))[0] == ""
    assert unmet(data, replace(SUITED, **change)) == (reason, None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mkv", "the container is matroska,webm"),
        ("avi", "the container is avi"),
        ("MPEG-4 ASP, mp4", "the codec is mpeg4"),
        ("10 bit", "the pixel format is yuv420p10le"),
        ("full range, bt709", "the pixel format is yuvj420p"),
        ("rotated", "its frames are turned by"),
        ("edit list", "an edit list hides frames"),
        ("no B-frames", "0 of its 40 frames are disposable"),
        ("GOP 250", "random-access points are 40 frames apart"),
        ("parameter sets change", "there is no frame table for it: parameter sets change"),
    ],
)
def test_other_videos_do_not_meet(name: str, reason: str) -> None:
    # A few B-frames of the encoder's own choice are not half of the frames.
    asked = Encoding(gop=20, b_frames=0 if name != "no B-frames" else 3, fast_decode=False)
    got, scan = unmet(made(name).data, asked)
    assert got.startswith(reason)
    assert scan is None


def test_arithmetic_coding_is_not_met_by_fast_decoding() -> None:
    plain = encode_video(clip(), replace(SUITED, fast_decode=False)).data
    assert unmet(plain, replace(SUITED, fast_decode=False))[0] == ""
    assert "arithmetic" in unmet(plain, SUITED)[0]


def test_uneven_rate_is_not_met() -> None:
    data = encode_video(made("uneven times").data, FINE).data
    rate = Fraction(*scan_video(data).info.rate)
    assert unmet(data, FINE)[0] == ""
    fps = (Fraction(39) / Fraction(float(times_s(scan_video(data))[-1]))).limit_denominator(10**4)
    assert rate > 0
    assert unmet(data, replace(FINE, fps=fps.as_integer_ratio()))[0] == "its rate is not constant"


def test_rounded_times_are_a_constant_rate() -> None:
    # 30 frames a second in milliseconds.
    times = [round(number * 1000 / 30) for number in range(30)]
    data = video_bytes(times=times, time_base=Fraction(1, 1000), frames=30, size=SMALL, rate=30)
    asked = Encoding(gop=250, b_frames=0, fast_decode=False, fps=(30, 1))
    assert unmet(data, asked)[0] == ""
    assert "not 30.1" in unmet(data, replace(asked, fps=(301, 10)))[0]


def test_short_videos_need_no_disposable_frames() -> None:
    for frames, met in ((7, True), (8, False)):
        data = video_bytes(frames=frames, size=SMALL, options={"bf": "0"})
        assert (unmet(data, RECIPES["balanced"])[0] == "") == met


REAL = {
    "videos/demo.mp4": 280,
    "videos/clip_audio.mp4": 75,
    "videos/demo_skeleton.mp4": 72,
    "videos/test_video_structuralize.mp4": 300,
}


@pytest.mark.parametrize("path", REAL)
def test_real_videos(path: str, shared_data: Path) -> None:
    data = (shared_data / path).read_bytes()
    encoding = replace(RECIPES["balanced"], short_side=96, preset="ultrafast")
    made = encode_video(data, encoding)
    assert made.sound_lost == ""
    info = made.scan.info
    assert info.frames == REAL[path]
    assert min(info.width, info.height) == 96
    assert unmet(data, encoding)[0] != ""
    assert unmet(made.data, encoding)[0] == ""
    assert np.count_nonzero(made.scan.table[:, FLAGS] & DISPOSABLE) > info.frames / 2
    source = scan_video(data)
    np.testing.assert_allclose(times_s(made.scan), times_s(source), rtol=0, atol=1e-6)
    assert (np.diff(np.sort(made.scan.table[:, PTS])) > 0).all()
    got = frames_of(made.data)
    with opened(data) as container:
        for number, frame in enumerate(container.decode(video=0)):
            small = frame.reformat(info.width, info.height, "rgb24", interpolation="BICUBIC")
            due = small.to_ndarray().astype(np.uint8)
            assert np.abs(luma(got[number]) - luma(due)).mean() < 6
