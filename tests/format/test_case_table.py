"""One table of values and their bytes; each row runs through the writer and the reader."""

from typing import Any

import numpy as np
import pytest

from clipshards.packer.format.frame_table import empty_frame_table
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    RawframesJson,
    SkeletonJson,
    StretchJson,
    VideoJson,
)
from clipshards.packer.format.tasks import PART_KINDS, TASKS
from clipshards.packer.format.video import VIDEO_SUFFIXES, VideoInfo

_NPY = b"\x93NUMPY\x01\x00\x76\x00"

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

MOMENTS = AvaJson(
    id="v,0902",
    origin="ava.csv:1",
    video_id="v",
    fps=30.0,
    timestamp_start=900,
    clip_frames=64,
    first_frame=28,
    source_frames=27000,
    filename_tmpl="",
    start_index=0,
    key_frames=(
        KeyFrameJson(timestamp=902, frame=60, persons=2, labels=3, proposals=1, scored=True),
    ),
    video=VideoInfo(frames=64, frame_table="decode"),
)
UNTRIMMED = ActivityNetJson(
    id="v_test2",
    origin="anno.json:2",
    segments=((1.0, 2.5),),
    segment_labels=("Drinking beer",),
    duration_s=2.5,
    duration_frames=60,
    feature_frames=48,
    fps=24.0,
    rfps=0.0,
    csv_header=True,
    video=VideoInfo(),
)
_NO_VIDEO = (
    b'"video":{"claimed_frames":0,'
    b'"codec":"","codec_tag":"","coded_height":0,"coded_width":0,"color_primaries":2,'
    b'"color_range":0,"color_space":2,"color_transfer":2,"duration_s":0.0,"extradata":"",'
    b'"frame_table":"none","frames":-1,"height":0,"interlaced":false,"nal_length_size":0,'
    b'"no_table_because":"","pixel_format":"","rate":[0,1],"reorder_depth":0,"rotation":0,'
    b'"sample_aspect":[0,1],"time_base":[0,1],"width":0}'
)
FOLDER = RawframesJson(
    id="clip",
    origin="list.txt:1",
    filename_tmpl="img_{:05}.jpg",
    start_index=1,
    stretches=(
        StretchJson(offset=0, total_frames=10, labels=(6,), origin="list.txt:1"),
        StretchJson(offset=10, total_frames=20, labels=(2,), origin="list.txt:4"),
    ),
    video=VideoInfo(codec="mjpeg", frames=30, frame_table="decode"),
)
BOXES = SkeletonJson(
    id="a4Ye18Mnblk",
    origin="k400.pkl[0]",
    labels=(172,),
    total_frames=262,
    compressed=True,
    image_shape=(320, 480),
    original_shape=(320, 480),
    valid=((0.5, 101), (0.9, 86)),
    box_threshold=0.5,
    absent=("keypoint_score.npy",),
)
FEATURES = AudioJson(id="a.npy", origin="audio.txt:2", labels=(3,), total_frames=75)
SOUND = AudioJson(
    id="a.mp4",
    origin="audio.txt:2",
    labels=(3,),
    total_frames=75,
    codec="aac",
    sample_rate_hz=44100,
    channels=2,
    duration_s=3.0185,
)

CASES: list[tuple[str, str, Any, bytes]] = [
    (
        "video",
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
        "video",
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
        "video",
        "frames.npy",
        empty_frame_table(),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (0, 6), }"
        + b" " * 58
        + b"\n",
    ),
    (
        "video",
        "frames.npy",
        np.array([[48, 700, 1, 0, -1024, 2**32 - 1], [748, 5, 6, -1, -(2**63), 0]]),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (2, 6), }"
        + b" " * 58
        + b"\n"
        + b"\x30\0\0\0\0\0\0\0\xbc\x02\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        + b"\x00\xfc\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"
        + b"\xec\x02\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0"
        + b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\0",
    ),
    (
        "rawframes",
        "json",
        FOLDER,
        (
            b'{"filename_tmpl":"img_{:05}.jpg","id":"clip","origin":"list.txt:1","start_index":1,'
            b'"stretches":[{"labels":[6],"offset":0,"origin":"list.txt:1","total_frames":10},'
            b'{"labels":[2],"offset":10,"origin":"list.txt:4","total_frames":20}],'
            b'"video":{"claimed_frames":0,'
            b'"codec":"mjpeg","codec_tag":"","coded_height":0,"coded_width":0,"color_primaries":2,'
            b'"color_range":0,"color_space":2,"color_transfer":2,"duration_s":0.0,"extradata":"",'
            b'"frame_table":"decode","frames":30,"height":0,"interlaced":false,"nal_length_size":0,'
            b'"no_table_because":"","pixel_format":"","rate":[0,1],"reorder_depth":0,"rotation":0,'
            b'"sample_aspect":[0,1],"time_base":[0,1],"width":0}}'
        ),
    ),
    *(
        (
            "rawframes",
            part,
            np.array([[48, 700, 1, 0, 0, 7]]),
            b"\x93NUMPY\x01\x00\x76\x00"
            b"{'descr': '<i8', 'fortran_order': False, 'shape': (1, 6), }"
            + b" " * 58
            + b"\n\x30\0\0\0\0\0\0\0\xbc\x02\0\0\0\0\0\0\x01"
            + bytes(23)
            + b"\x07"
            + bytes(7),
        )
        for part in ("frames.npy", "flow_x.frames.npy", "flow_y.frames.npy")
    ),
    *(("rawframes", part, b"\0\0", b"\0\0") for part in ("mp4", "flow_x.mp4", "flow_y.mp4")),
    (
        "ava",
        "json",
        MOMENTS,
        (
            b'{"clip_frames":64,"filename_tmpl":"","first_frame":28,"fps":30.0,"id":"v,0902",'
            b'"key_frames":[{"frame":60,"labels":3,"persons":2,"proposals":1,"scored":true,'
            b'"timestamp":902}],"origin":"ava.csv:1","source_frames":27000,"start_index":0,'
            b'"timestamp_start":900,'
            + _NO_VIDEO.replace(b'"none"', b'"decode"').replace(b'"frames":-1', b'"frames":64')
            + b',"video_id":"v"}'
        ),
    ),
    *(
        ("ava", part, np.zeros(shape, dtype), _NPY + text + b" " * (117 - len(text)) + b"\n" + data)
        for part, shape, dtype, text, data in (
            (
                "frames.npy",
                (0, 6),
                np.int64,
                b"{'descr': '<i8', 'fortran_order': False, 'shape': (0, 6), }",
                b"",
            ),
            (
                "boxes.npy",
                (1, 4),
                np.float64,
                b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 4), }",
                bytes(32),
            ),
            (
                "labels.npy",
                (1, 2),
                np.int64,
                b"{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2), }",
                bytes(16),
            ),
            (
                "entity_ids.npy",
                (1,),
                np.int64,
                b"{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }",
                bytes(8),
            ),
            (
                "proposals.npy",
                (1, 5),
                np.float64,
                b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 5), }",
                bytes(40),
            ),
        )
    ),
    (
        "activitynet",
        "json",
        UNTRIMMED,
        (
            b'{"csv_header":true,"duration_frames":60,"duration_s":2.5,"feature_frames":48,'
            b'"fps":24.0,"id":"v_test2","origin":"anno.json:2","rfps":0.0,'
            b'"segment_labels":["Drinking beer"],"segments":[[1.0,2.5]],' + _NO_VIDEO + b"}"
        ),
    ),
    (
        "activitynet",
        "frames.npy",
        empty_frame_table(),
        _NPY + b"{'descr': '<i8', 'fortran_order': False, 'shape': (0, 6), }" + b" " * 58 + b"\n",
    ),
    (
        "activitynet",
        "feature.npy",
        np.array([[1.0]], dtype=np.float32),
        _NPY
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }"
        + b" " * 58
        + b"\n\0\0\x80\x3f",
    ),
    *((task, part, b"\0", b"\0") for task in ("ava", "activitynet") for part in VIDEO_SUFFIXES),
    (
        "skeleton",
        "json",
        BOXES,
        (
            b'{"absent":["keypoint_score.npy"],"box_threshold":0.5,"compressed":true,'
            b'"id":"a4Ye18Mnblk","image_shape":[320,480],"labels":[172],"origin":"k400.pkl[0]",'
            b'"original_shape":[320,480],"total_frames":262,"valid":[[0.5,101],[0.9,86]]}'
        ),
    ),
    (
        "skeleton",
        "keypoint.npy",
        np.array([[[[1.5, -2.0]]]], dtype=np.float16),
        _NPY
        + b"{'descr': '<f2', 'fortran_order': False, 'shape': (1, 1, 1, 2), }"
        + b" " * 52
        + b"\n\x00\x3e\x00\xc0",
    ),
    (
        "skeleton",
        "frame_inds.npy",
        np.array([0, 258], dtype=np.int16),
        _NPY
        + b"{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }"
        + b" " * 60
        + b"\n\x00\x00\x02\x01",
    ),
    (
        "skeleton",
        "box_score.npy",
        np.array([1.0], dtype=np.float64),
        _NPY
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"
        + b" " * 60
        + b"\n\0\0\0\0\0\0\xf0\x3f",
    ),
    (
        "skeleton",
        "keypoint_score.npy",
        np.empty(0, dtype=np.float32),
        _NPY + b"{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }" + b" " * 60 + b"\n",
    ),
    (
        "audio",
        "json",
        FEATURES,
        (
            b'{"channels":0,"codec":"","duration_s":0.0,"id":"a.npy","labels":[3],'
            b'"origin":"audio.txt:2","sample_rate_hz":0,"total_frames":75}'
        ),
    ),
    (
        "audio",
        "json",
        SOUND,
        (
            b'{"channels":2,"codec":"aac","duration_s":3.0185,"id":"a.mp4","labels":[3],'
            b'"origin":"audio.txt:2","sample_rate_hz":44100,"total_frames":75}'
        ),
    ),
    (
        "audio",
        "mel.npy",
        np.array([[0.0, 1.0]], dtype=np.float32),
        _NPY
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"
        + b" " * 58
        + b"\n\0\0\0\0\0\0\x80\x3f",
    ),
    *(
        ("audio", part, b"\0\xff\r\n", b"\0\xff\r\n")
        for part in ("flac", "m4a", "mp3", "ogg", "wav")
    ),
    ("video", "avi", b"RIFF\x04\0\0\0AVI ", b"RIFF\x04\0\0\0AVI "),
    ("video", "mkv", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3"),
    ("video", "mov", b"\0\0\0\x08wide", b"\0\0\0\x08wide"),
    ("video", "mp4", b"", b""),
    ("video", "webm", bytes(range(256)), bytes(range(256))),
]


@pytest.mark.parametrize(
    ("task", "part", "value", "data"),
    CASES,
    ids=[f"{row}-{case[0]}-{case[1]}" for row, case in enumerate(CASES)],
)
def test_value_and_bytes_belong_together(task: str, part: str, value: Any, data: bytes) -> None:
    assert TASKS[task].encode(part, value) == data
    back = TASKS[task].decode(part, data, where="val-00000000." + part)
    assert type(back) is type(value)
    if isinstance(value, np.ndarray):
        assert (back.dtype, back.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(back, value)
    else:
        assert back == value


def test_every_part_of_every_task_has_a_case() -> None:
    parts = {(task.name, part) for task in TASKS.values() for part in task.parts}
    assert parts == {(task, part) for task, part, _, _ in CASES}
    assert {part for _, part in parts} == {"json", *PART_KINDS}
    for name, kind in PART_KINDS.items():
        assert kind.name == name


def test_media_stand_behind_the_small_parts() -> None:
    for name, task in TASKS.items():
        assert task.name == name
        assert task.parts == (*task.required, *task.optional, *task.media)
        assert len(set(task.parts)) == len(task.parts)
