"""What is wrong with a part, its description or its table ends in DecodeError, and in it alone."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from makers import Pixels, frames_of, sound_bytes, video_bytes

from clipshards.packer.format.errors import DecodeError
from clipshards.packer.format.frame_table import (
    DISPOSABLE,
    FLAGS,
    OFFSET,
    RANDOM_ACCESS,
    RANK,
    SIZE,
    FrameTable,
    empty_frame_table,
)
from clipshards.packer.frames.decode import decode_frames, iter_pictures, look_through
from clipshards.packer.frames.scan import VideoScan, scan_video

FRAMES = 30


class Made(NamedTuple):
    data: bytes
    frames: list[Pixels]
    scan: VideoScan


@cache
def made() -> Made:
    options = {"g": "12", "sc_threshold": "0"}
    data = video_bytes(options=options, frames=FRAMES, size=(64, 48))
    return Made(data, frames_of(data), scan_video(data))


@pytest.fixture(autouse=True)
def _decoder_is_usable_afterwards() -> Any:
    yield
    video = made()
    wanted = [29, 0, 13]
    got = decode_frames(video.data, np.array(wanted), info=video.scan.info, table=video.scan.table)
    assert all(np.array_equal(a, video.frames[n]) for a, n in zip(got, wanted, strict=True))


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ([-1], "frame -1 does not exist, the video has 30"),
        ([30], "frame 30 does not exist, the video has 30"),
        ([0, 29, 31, 30], "frame 31 does not exist, the video has 30"),
        ([5, -7], "frame -7 does not exist, the video has 30"),
        ([10**15], "frame 1000000000000000 does not exist, the video has 30"),
        ([-(2**63)], "does not exist, the video has 30"),
    ],
)
@pytest.mark.parametrize("with_table", [True, False], ids=["table", "no table"])
def test_frame_outside_the_video_is_an_error(
    wanted: list[int], says: str, with_table: bool
) -> None:
    video = made()
    table = video.scan.table if with_table else empty_frame_table()
    with pytest.raises(DecodeError, match=says):
        decode_frames(video.data, np.array(wanted), info=video.scan.info, table=table)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.uint8])
@pytest.mark.parametrize("with_table", [True, False], ids=["table", "no table"])
def test_frame_numbers_of_any_integer_type_are_taken(
    dtype: type[np.integer[Any]], with_table: bool
) -> None:
    video = made()
    table = video.scan.table if with_table else empty_frame_table()
    wanted = np.array([7, 2, 2], dtype=dtype)
    got = decode_frames(video.data, wanted, info=video.scan.info, table=table)
    assert got.shape == (3, 48, 64, 3)
    assert all(np.array_equal(a, video.frames[n]) for a, n in zip(got, wanted, strict=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": "no_such_codec"},
        {"codec": ""},
        {"codec": "libx264"},
        {"codec": "aac"},
        {"codec": "subrip"},
        {"codec": "hevc"},
        {"codec": "vp9"},
        {"codec": "mpeg4"},
        {"codec": "av1"},
        {"codec_tag": "longer than four"},
        {"codec_tag": ""},
        {"codec_tag": "äöüß"},
        {"extradata": b""},
        {"extradata": b"\x01" + bytes(range(60))},
        {"extradata": b"\x00" * 9},
        {"coded_width": 10**9},
        {"coded_width": 2**40},
        {"coded_height": 2**70},
        {"color_primaries": 2**40},
        {"color_transfer": 2**33},
        {"color_space": 2**33},
        {"reorder_depth": 2**40},
    ],
    ids=str,
)
def test_description_that_does_not_fit_is_an_error(wrong: dict[str, Any]) -> None:
    video = made()
    info = replace(video.scan.info, **wrong)
    for _ in range(2):  # the second time, too
        with pytest.raises(DecodeError):
            decode_frames(video.data, np.array([3, 20]), info=info, table=video.scan.table)


def test_unknown_codec_is_named() -> None:
    video = made()
    info = replace(video.scan.info, codec="no_such_codec")
    with pytest.raises(DecodeError, match="no decoder 'no_such_codec'"):
        decode_frames(video.data, np.array([3]), info=info, table=video.scan.table)


def _offsets(change: int) -> Callable[[FrameTable], None]:
    def shift(table: FrameTable) -> None:
        table[:, OFFSET] += change

    return shift


def _column(column: int, value: int) -> Callable[[FrameTable], None]:
    def put(table: FrameTable) -> None:
        table[:, column] = value

    return put


@pytest.mark.parametrize(
    "change",
    [
        _offsets(1),
        _offsets(-1000),
        _offsets(10**9),
        _offsets(2**62),
        _column(OFFSET, 0),
        _column(SIZE, 1),
        _column(SIZE, 2**40),
        _column(SIZE, 0),
        _column(FLAGS, RANDOM_ACCESS),
        _column(FLAGS, RANDOM_ACCESS | DISPOSABLE),
        _column(RANK, -1),
    ],
    ids=[
        "one byte late",
        "early",
        "behind the part",
        "far behind the part",
        "all at 0",
        "one byte each",
        "too large",
        "nothing",
        "access everywhere",
        "all disposable",
        "no pictures",
    ],
)
def test_table_that_does_not_fit_is_an_error(change: Callable[[FrameTable], None]) -> None:
    video = made()
    table = video.scan.table.copy()
    change(table)
    with pytest.raises(DecodeError):
        decode_frames(video.data, np.array([3, 20]), info=video.scan.info, table=table)


def test_table_of_another_video_is_an_error() -> None:
    video = made()
    other = scan_video(video_bytes(options={"g": "5"}, frames=40, size=(64, 48), seed=3))
    with pytest.raises(DecodeError):
        decode_frames(video.data, np.arange(20, 30), info=video.scan.info, table=other.table)


def test_packet_outside_the_part_is_named() -> None:
    video = made()
    with pytest.raises(DecodeError, match="packet 0 lies outside the part"):
        decode_frames(b"", np.array([3]), info=video.scan.info, table=video.scan.table)


def test_cut_part_is_an_error() -> None:
    video = made()
    half = video.data[: len(video.data) // 2]
    with pytest.raises(DecodeError):
        decode_frames(half, np.arange(FRAMES), info=video.scan.info, table=video.scan.table)
    with pytest.raises(DecodeError):
        decode_frames(half, np.array([3]), info=video.scan.info, table=empty_frame_table())


@pytest.mark.parametrize(
    "part", [b"", b"no video at all", bytes(2000), sound_bytes(seconds=0.2)], ids=len
)
def test_part_that_is_no_video_is_an_error(part: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_frames(part, np.array([0]), info=made().scan.info, table=empty_frame_table())
    with pytest.raises(DecodeError):
        look_through(part)


def test_decode_that_the_caller_leaves_spoils_nothing() -> None:
    video = made()
    wanted = np.arange(FRAMES)
    for stop in (0, 1, 5, 20):
        pictures = iter_pictures(video.data, wanted, info=video.scan.info, table=video.scan.table)
        for seen, (packet, pixels) in enumerate(pictures):
            assert np.array_equal(pixels, video.frames[video.scan.table[packet, RANK]])
            if seen == stop:
                break
        del pictures
        got = decode_frames(
            video.data, np.array([11]), info=video.scan.info, table=video.scan.table
        )
        assert np.array_equal(got[0], video.frames[11])


def test_more_kinds_of_video_than_decoders_kept() -> None:
    videos = []
    for width in range(32, 32 + 2 * 12, 2):
        data = video_bytes(frames=4, size=(width, 32), options={"g": "2"})
        videos.append(Made(data, frames_of(data), scan_video(data)))
    for _ in range(2):
        for video in videos:
            got = decode_frames(
                video.data, np.array([3]), info=video.scan.info, table=video.scan.table
            )
            assert np.array_equal(got[0], video.frames[3])
