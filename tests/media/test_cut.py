"""A cut gives the source's frames to the bit, and knows their numbers."""

import io
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from frames.test_exact import SMALL, VARIANTS, Made, made
from makers import Pixels, frames_of, pictures, video_bytes, with_half_a_second_of

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import FLAGS, PTS, RANDOM_ACCESS, RANK, check_frame_table
from clipshards.packer.frames.decode import decode_frames
from clipshards.packer.frames.plan import picture_packets
from clipshards.packer.frames.scan import VideoScan, scan_video
from clipshards.packer.media.cut import Cut, VideoCutter
from clipshards.packer.media.moments import clip_around, frame_at, frame_ticks
from clipshards.packer.media.remux import remux


def cut_video(
    data: bytes,
    *,
    start_frame: int,
    stop_frame: int,
    scan: VideoScan | None = None,
    sound: bool = True,
) -> Cut:
    return VideoCutter(data, scan=scan, sound=sound).cut(start_frame, stop_frame)


# What no cut can be made of, and why.
UNCUTTABLE = {
    **{name: variant.no_table for name, variant in VARIANTS.items() if variant.no_table},
    "VP8, hidden frames": "does not support 'vp8'",
}
CUTTABLE = [name for name in VARIANTS if name not in UNCUTTABLE]
# Without times in the container, packets cannot be placed in an mp4.
NO_REMUX = {
    "no VUI, B-pyramid, mkv": "a packet has no time",
    "parameter sets change once, mkv": "a packet has no time",
    "begins between key frames": "a packet has no time",
    "VP8, hidden frames": "does not support 'vp8'",
}
HIDING = ("edit list", "edit list over a GOP")


@cache
def cutter(name: str) -> VideoCutter:
    return VideoCutter(made(name).data, scan=made(name).scan)


def _assert_same(got: list[Pixels], due: list[Pixels]) -> None:
    assert len(got) == len(due)
    for number, (one, other) in enumerate(zip(got, due, strict=True)):
        assert np.array_equal(one, other), f"frame {number}"


def _assert_exact(video: Made, cut: Cut, start: int, stop: int) -> None:
    end = cut.first_frame + cut.frames
    assert 0 <= cut.first_frame <= start < stop <= end
    _assert_same(frames_of(cut.data), video.frames[cut.first_frame : end])


def _ranges(total: int, *, count: int, seed: int = 0) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    found = [(0, 1), (total - 1, total), (0, total)]
    for _ in range(count):
        start, stop = sorted(rng.choice(total + 1, 2, replace=False).tolist())
        found.append((start, stop))
    return found


@pytest.mark.parametrize("name", CUTTABLE)
def test_cut_gives_the_frames_of_a_plain_decode(name: str) -> None:
    video = made(name)
    for start, stop in _ranges(len(video.frames), count=4):
        _assert_exact(video, cutter(name).cut(start, stop), start, stop)


@pytest.mark.deep
@pytest.mark.parametrize("name", CUTTABLE)
def test_cut_around_every_frame_gives_the_frames_of_a_plain_decode(name: str) -> None:
    video = made(name)
    total = len(video.frames)
    for center in range(total):
        start, stop = clip_around(center, total_frames=total, clip_frames=8)
        _assert_exact(video, cutter(name).cut(start, stop), start, stop)
        _assert_exact(video, cutter(name).cut(center, center + 1), center, center + 1)


@pytest.mark.parametrize("name", CUTTABLE)
def test_cut_has_a_frame_table_that_gives_its_frames(name: str) -> None:
    video = made(name)
    total = len(video.frames)
    cut = cutter(name).cut(total // 2, min(total // 2 + 5, total))
    again = scan_video(cut.data)
    assert again.info == cut.scan.info
    assert np.array_equal(again.table, cut.scan.table)
    table = check_frame_table(again.table, part_bytes=len(cut.data), where=name)
    wanted = np.arange(cut.frames)[::-2]
    pixels = decode_frames(cut.data, wanted, info=again.info, table=table)
    for number, got in zip(wanted.tolist(), pixels, strict=True):
        assert np.array_equal(got, video.frames[cut.first_frame + number])


@pytest.mark.parametrize("name", CUTTABLE)
def test_cut_hides_nothing_that_the_source_does_not_hide(name: str) -> None:
    cut = cutter(name).cut(len(made(name).frames) // 2, len(made(name).frames))
    with av.open(io.BytesIO(cut.data), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert not any(packet.is_discard for packet in packets)
    assert len(packets) == cut.frames
    times = np.sort(cut.scan.table[:, PTS])
    assert times[0] == 0
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("name", HIDING)
def test_pictures_that_the_source_hides_stay_hidden(name: str) -> None:
    video = made(name)
    cut = cutter(name).cut(0, 4)
    assert cut.first_frame == 0
    _assert_exact(video, cut, 0, 4)
    with av.open(io.BytesIO(cut.data), "r") as container:
        assert any(packet.is_discard for packet in container.demux(video=0))


@pytest.mark.parametrize("name", UNCUTTABLE)
def test_video_that_no_cut_can_be_made_of_is_refused(name: str) -> None:
    with pytest.raises(MediaError, match="cannot be cut without loss") as caught:
        cut_video(made(name).data, start_frame=2, stop_frame=5, scan=made(name).scan)
    assert UNCUTTABLE[name] in str(caught.value)


def test_cut_begins_at_the_last_random_access_point_and_ends_soon() -> None:
    video = made("mp4")
    points = np.flatnonzero(video.scan.table[:, FLAGS] & RANDOM_ACCESS)
    assert points.tolist() == [0, 12, 24, 36]
    for start, first in {0: 0, 11: 0, 12: 12, 23: 12, 30: 24, 39: 36}.items():
        cut = cutter("mp4").cut(start, start + 1)
        assert cut.first_frame == first
        # Four B-frames at most refer to a later picture.
        assert cut.frames <= start - first + 5
    assert len(cutter("mp4").cut(24, 26).data) < len(video.data) / 3


def test_leading_pictures_of_an_open_gop_are_left_out() -> None:
    video = made("HEVC, open GOP")
    points = np.flatnonzero(video.scan.table[:, FLAGS] & RANDOM_ACCESS)
    ranks = video.scan.table[:, RANK]
    point = int(points[1])
    assert ranks[point + 1] < ranks[point], "the variant has leading pictures"
    cut = cutter("HEVC, open GOP").cut(int(ranks[point]), int(ranks[point]) + 3)
    assert cut.first_frame == ranks[point]
    _assert_exact(video, cut, cut.first_frame, cut.first_frame + 3)
    # One of them is wanted itself: the point before serves.
    cut = cutter("HEVC, open GOP").cut(int(ranks[point]) - 1, int(ranks[point]) + 3)
    assert cut.first_frame == ranks[points[0]]


def test_cut_keeps_what_a_viewer_must_know() -> None:
    for name in ("rotated", "interlaced", "10 bit", "colours known to the container alone"):
        before, after = made(name).scan.info, cutter(name).cut(14, 20).scan.info
        for field in ("rotation", "interlaced", "pixel_format", "color_range", "color_space"):
            assert getattr(after, field) == getattr(before, field), (name, field)
    assert cutter("rotated").cut(14, 20).scan.info.rotation in (90, -90)


def test_cut_keeps_the_spacing_of_uneven_times() -> None:
    scan = made("uneven times").scan
    cut = cutter("uneven times").cut(15, 20)
    before = frame_ticks(scan)[cut.first_frame : cut.first_frame + cut.frames]
    steps = [Fraction(*scan.info.time_base) * int(step) for step in np.diff(before)]
    base = Fraction(*cut.scan.info.time_base)
    assert [base * int(step) for step in np.diff(frame_ticks(cut.scan))] == steps
    assert len(set(steps)) > 1


@pytest.mark.parametrize("name", ["mp4", "avi", "HEVC, open GOP", "sound", "edit list"])
def test_cut_has_the_same_bytes_every_time(name: str) -> None:
    once = cut_video(made(name).data, start_frame=13, stop_frame=20)
    again = cutter(name).cut(13, 20)
    assert once.data == again.data
    assert b"Lavf" not in once.data
    with av.open(io.BytesIO(once.data), "r") as container:
        assert not set(container.metadata) & {"creation_time", "encoder"}


def test_range_that_is_not_within_the_video_is_a_wrong_argument() -> None:
    for start, stop in ((-1, 3), (3, 3), (5, 4), (0, 41), (40, 41)):
        with pytest.raises(ValueError, match="not a range within 40 frames"):
            cutter("mp4").cut(start, stop)


def test_cut_by_a_wrong_table_is_refused() -> None:
    scan = made("mp4").scan
    swapped = scan.table.copy()
    shown = picture_packets(swapped)
    swapped[shown[15], RANK], swapped[shown[16], RANK] = 16, 15
    with pytest.raises(MediaError, match="cannot be cut without loss"):
        cut_video(
            made("mp4").data, start_frame=14, stop_frame=18, scan=replace(scan, table=swapped)
        )
    other = scan_video(video_bytes(options={"g": "12"}, frames=40, size=SMALL, seed=1))
    with pytest.raises(MediaError, match="cannot be cut without loss"):
        cut_video(made("mp4").data, start_frame=14, stop_frame=18, scan=other)


def test_what_is_no_video_is_refused() -> None:
    with pytest.raises(MediaError):
        cut_video(b"no video" * 20, start_frame=0, stop_frame=1)
    with pytest.raises(MediaError):
        remux(b"no video" * 20)


def _sound(data: bytes) -> list[tuple[Fraction, bytes]]:
    """Return (seconds, bytes) of each packet of sound."""
    with av.open(io.BytesIO(data), "r") as container:
        found = []
        for packet in container.demux(audio=0):
            if packet.size:
                assert packet.pts is not None
                assert packet.time_base is not None
                found.append((packet.pts * packet.time_base, bytes(packet)))
        return found


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize(("start", "stop"), [(0, 10), (20, 30), (40, 60)])
def test_sound_of_a_cut_is_the_source_s_at_the_same_time(
    container: str, start: int, stop: int
) -> None:
    data = video_bytes(container, sound=True, size=SMALL, frames=60, options={"g": "12"})
    source = _sound(data)
    cut = cut_video(data, start_frame=start, stop_frame=stop)
    assert cut.sound_lost == ""
    zero = Fraction(cut.first_frame, 25)
    end = Fraction(cut.frames, 25)
    heard = _sound(cut.data)
    place = [payload for _, payload in source].index(heard[0][1])
    due = source[place : place + len(heard)]
    assert [payload for _, payload in heard] == [payload for _, payload in due]
    for (time, _), (source_time, _) in zip(heard, due, strict=True):
        assert abs(time - (source_time - zero)) <= Fraction(1, 1000)
    # All of what is heard, and little more.
    assert place == 0 or heard[1][0] <= 0
    assert heard[-1][0] < end
    assert place + len(heard) == len(source) or heard[-1][0] + Fraction(1024, 44100) >= end


def test_sound_can_be_left_out() -> None:
    video = made("sound")
    cut = cut_video(video.data, start_frame=0, stop_frame=20, sound=False)
    assert cut.sound_lost == ""
    with av.open(io.BytesIO(cut.data), "r") as container:
        assert not container.streams.audio


def test_sound_that_an_mp4_cannot_hold_is_said_to_be_lost() -> None:
    data = with_half_a_second_of("pcm_u8", np.uint8, "u8")
    cut = cut_video(data, start_frame=3, stop_frame=6)
    assert "the sound cannot be copied into an mp4" in cut.sound_lost
    with pytest.raises(MediaError, match="pack the video as it is"):
        remux(data)
    _assert_same(frames_of(remux(data, sound=False)[0]), frames_of(data))


def test_cut_behind_the_end_of_the_sound_has_none() -> None:
    data = with_half_a_second_of("pcm_s16le", np.int16, "s16")
    small = VideoCutter(data)
    for start, sounds in {0: True, 12: True, 14: False, 36: False}.items():
        cut = small.cut(start, start + 1)
        assert (cut.first_frame, cut.sound_lost) == (start, "")
        with av.open(io.BytesIO(cut.data), "r") as container:
            assert bool(container.streams.audio) == sounds, start


@pytest.mark.parametrize("name", VARIANTS)
def test_remuxed_video_gives_every_frame_or_is_refused(name: str) -> None:
    video = made(name)
    if name in NO_REMUX:
        with pytest.raises(MediaError, match="cannot be remuxed without loss") as caught:
            remux(video.data)
        assert NO_REMUX[name] in str(caught.value)
        return
    whole, _ = remux(video.data)
    assert whole == remux(video.data)[0]
    _assert_same(frames_of(whole), video.frames)
    with av.open(io.BytesIO(whole), "r") as container:
        assert "mp4" in container.format.name
    assert bool(len(scan_video(whole).table)) >= bool(len(video.scan.table))


def test_remuxed_video_keeps_all_its_sound() -> None:
    data = video_bytes("matroska", sound=True, size=SMALL, frames=30)
    before, after = _sound(data), _sound(remux(data)[0])
    assert [payload for _, payload in before] == [payload for _, payload in after]
    for (time, _), (source_time, _) in zip(after, before, strict=True):
        assert abs(time - source_time) <= Fraction(1, 1000)


@pytest.mark.parametrize("rate", [24, 25, 30])
def test_frame_at_a_second_is_the_nearest(rate: int) -> None:
    scan = scan_video(video_bytes(frames=rate * 2 + 1, rate=rate, size=SMALL))
    assert [frame_at(scan, second) for second in (0, 1, 2)] == [0, rate, 2 * rate]
    assert frame_at(scan, Fraction(1, rate) - Fraction(1, 10**6)) == 1
    assert frame_at(scan, Fraction(1, 2 * rate)) == 0
    assert frame_at(scan, Fraction(1, 2 * rate) + Fraction(1, 10**6)) == 1
    assert frame_at(scan, 1.5) == rate * 3 // 2


def test_frame_at_a_second_goes_by_the_frames_own_times() -> None:
    # Ten frames in the first second, two in the second, and 0.5 s before all of them.
    times = [500 + 100 * number for number in range(10)] + [1500, 2000]
    data = video_bytes(frames=12, times=times, time_base=Fraction(1, 1000), size=SMALL)
    scan = scan_video(data)
    assert frame_at(scan, 0) == 0
    assert frame_at(scan, 0.94) == 9
    assert frame_at(scan, 0.95) == 9
    assert frame_at(scan, 0.96) == 10
    assert frame_at(scan, 1.25) == 10
    assert frame_at(scan, 1.251) == 11
    assert frame_at(scan, 1.9) == 11


def test_frames_of_avi_are_spaced_by_the_rate() -> None:
    scan = made("avi").scan
    assert [frame_at(scan, Fraction(number, 25)) for number in range(40)] == list(range(40))


def test_pictures_that_are_hidden_count_for_no_time() -> None:
    scan = made("edit list").scan
    assert [frame_at(scan, Fraction(number, 25)) for number in range(35)] == list(range(35))


def test_second_outside_the_video_is_refused() -> None:
    scan = made("mp4").scan
    for second in (-0.01, 1.7, 900):
        with pytest.raises(MediaError, match=r"lies outside the video of 1\.600 s"):
            frame_at(scan, second)
    assert frame_at(scan, Fraction(8, 5)) == 39
    with pytest.raises(MediaError, match="parameter sets change"):
        frame_at(made("parameter sets change").scan, 0)


def test_clip_holds_all_that_the_sampler_draws() -> None:
    rng = np.random.default_rng(0)
    for length, interval in ((32, 2), (8, 8), (4, 16), (5, 3), (1, 1)):
        for _ in range(200):
            total = int(rng.integers(1, 200))
            center = int(rng.integers(total))
            frames = np.arange(
                center - length // 2 * interval, center + (length + 1) // 2 * interval, interval
            )
            frames = frames + rng.integers(-interval // 2, (interval + 1) // 2, length)
            frames = np.clip(frames, 0, total - 1)
            start, stop = clip_around(
                center,
                total_frames=total,
                clip_frames=(length + length % 2) * interval,
                jitter=(interval + 1) // 2,
            )
            assert 0 <= start <= frames.min()
            assert frames.max() < stop <= total


def test_clip_is_cut_off_at_the_ends_of_the_video() -> None:
    assert clip_around(100, total_frames=300) == (67, 132)
    assert clip_around(0, total_frames=300) == (0, 32)
    assert clip_around(299, total_frames=300) == (266, 300)
    assert clip_around(3, total_frames=300, clip_frames=1, jitter=0) == (3, 4)
    for center in (-1, 300):
        with pytest.raises(ValueError, match="outside the video of 300"):
            clip_around(center, total_frames=300)
    with pytest.raises(ValueError, match="clip_frames"):
        clip_around(0, total_frames=300, clip_frames=0)


def test_pictures_of_the_tests_differ_from_frame_to_frame() -> None:
    assert len({picture.tobytes() for picture in pictures(40, SMALL)}) == 40


@pytest.mark.parametrize(
    "name",
    [
        "demo.mp4",
        "test_video_structuralize.mp4",
        "clip_audio.mp4",
        pytest.param("demo_skeleton.mp4", marks=pytest.mark.deep),
    ],
)
def test_real_video_is_cut_around_its_seconds(shared_data: Path, name: str) -> None:
    data = (shared_data / "videos" / name).read_bytes()
    frames = frames_of(data)
    scan = scan_video(data)
    video = Made(data, frames, scan)
    small = VideoCutter(data, scan=scan)
    for second in (1, 2):
        start, stop = clip_around(frame_at(scan, second), total_frames=len(frames), clip_frames=16)
        cut = small.cut(start, stop)
        _assert_exact(video, cut, start, stop)
        assert cut.sound_lost == ""
        with av.open(io.BytesIO(cut.data), "r") as container:
            assert bool(container.streams.audio) == (name == "clip_audio.mp4")


def test_real_video_is_remuxed(shared_data: Path) -> None:
    for name in ("demo.mp4", "clip_audio.mp4"):
        data = (shared_data / "videos" / name).read_bytes()
        _assert_same(frames_of(remux(data)[0]), frames_of(data))
