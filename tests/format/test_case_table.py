"""One table of values and their bytes; each row runs through the writer and the reader."""

from typing import Any

import numpy as np
import pytest

from clipshards.packer.format.frame_table import empty_frame_table
from clipshards.packer.format.tasks import PART_KINDS, TASKS, VideoJson
from clipshards.packer.format.video import VideoInfo

UNOPENED = VideoJson("dir/a.mp4", "train.txt:1", (), VideoInfo())
OPENED = VideoJson(
    id="跑/b c.mkv",
    origin="records[7]",
    labels=(4, 0, 17),
    video=VideoInfo(
        codec="h264",
        codec_tag="avc1",
        extradata=b"\x01d\x00\r\xff\xe1\x00",
        nal_length_size=4,
        pixel_format="yuv420p",
        coded_width=352,
        coded_height=256,
        width=340,
        height=256,
        color_range=1,
        color_space=6,
        color_primaries=1,
        color_transfer=1,
        interlaced=True,
        sample_aspect=(128, 117),
        rotation=-90,
        reorder_depth=2,
        time_base=(1, 12800),
        rate=(30000, 1001),
        duration_s=10.01,
        frames=300,
        claimed_frames=301,
        frame_table="decode",
        no_table_because="an H.264 packet gives no picture",
    ),
)

CASES: list[tuple[str, Any, bytes]] = [
    (
        "json",
        UNOPENED,
        (
            b'{"id":"dir/a.mp4","labels":[],"origin":"train.txt:1","video":{"claimed_frames":0,'
            b'"codec":"","codec_tag":"","coded_height":0,"coded_width":0,"color_primaries":2,'
            b'"color_range":0,"color_space":2,"color_transfer":2,"duration_s":0.0,"extradata":"",'
            b'"frame_table":"none","frames":-1,"height":0,"interlaced":false,"nal_length_size":0,'
            b'"no_table_because":"","pixel_format":"","rate":[0,1],"reorder_depth":0,"rotation":0,'
            b'"sample_aspect":[0,1],"time_base":[0,1],"width":0}}'
        ),
    ),
    (
        "json",
        OPENED,
        (
            b'{"id":"\xe8\xb7\x91/b c.mkv","labels":[4,0,17],"origin":"records[7]","video":{'
            b'"claimed_frames":301,"codec":"h264","codec_tag":"avc1","coded_height":256,'
            b'"coded_width":352,"color_primaries":1,"color_range":1,"color_space":6,'
            b'"color_transfer":1,"duration_s":10.01,"extradata":"AWQADf/hAA==",'
            b'"frame_table":"decode","frames":300,"height":256,"interlaced":true,"nal_length_size":4,'
            b'"no_table_because":"an H.264 packet gives no picture","pixel_format":"yuv420p",'
            b'"rate":[30000,1001],"reorder_depth":2,"rotation":-90,"sample_aspect":[128,117],'
            b'"time_base":[1,12800],"width":340}}'
        ),
    ),
    (
        "frames.npy",
        empty_frame_table(),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (0, 5), }"
        + b" " * 58
        + b"\n",
    ),
    (
        "frames.npy",
        np.array([[48, 700, 1, 0, -1024], [748, 5, 6, -1, -(2**63)]]),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (2, 5), }"
        + b" " * 58
        + b"\n"
        + b"\x30\0\0\0\0\0\0\0\xbc\x02\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        + b"\x00\xfc\xff\xff\xff\xff\xff\xff"
        + b"\xec\x02\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0"
        + b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x80",
    ),
    ("avi", b"RIFF\x04\0\0\0AVI ", b"RIFF\x04\0\0\0AVI "),
    ("mkv", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3"),
    ("mov", b"\0\0\0\x08wide", b"\0\0\0\x08wide"),
    ("mp4", b"", b""),
    ("webm", bytes(range(256)), bytes(range(256))),
]


@pytest.mark.parametrize(
    ("part", "value", "data"), CASES, ids=[f"{row}-{case[0]}" for row, case in enumerate(CASES)]
)
def test_value_and_bytes_belong_together(part: str, value: Any, data: bytes) -> None:
    kind = PART_KINDS[part]
    assert kind.encode(value) == data
    back = kind.decode(data, where="val-00000000." + part)
    assert type(back) is type(value)
    if isinstance(value, np.ndarray):
        assert (back.dtype, back.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(back, value)
    else:
        assert back == value


def test_every_part_of_every_task_has_a_case() -> None:
    parts = {part for task in TASKS.values() for part in task.parts}
    assert parts == set(PART_KINDS) == {part for part, _, _ in CASES}
    for name, kind in PART_KINDS.items():
        assert kind.name == name


def test_media_stand_behind_the_small_parts() -> None:
    for name, task in TASKS.items():
        assert task.name == name
        assert task.parts[-len(task.media) :] == task.media
        assert len(set(task.parts)) == len(task.parts)
