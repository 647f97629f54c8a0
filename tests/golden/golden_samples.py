"""What the golden files hold: samples of every task, with real media."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.frame_table import FrameTable
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    JsonPart,
    RawframesJson,
    SkeletonJson,
    StretchJson,
    VideoJson,
)
from clipshards.packer.format.npy import decode_npy
from clipshards.packer.format.rejects import RejectRow
from clipshards.packer.format.video import VideoInfo

HERE = Path(__file__).parent
# What a decode said of each file of `media`, when it was made.
SAID: dict[str, Any] = json.loads((HERE / "media.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Sample:
    """One sample; its ordinal is its key."""

    ordinal: int
    about: JsonPart
    values: dict[str, Any]
    """Part name to value, all but `json`."""


def media(name: str) -> bytes:
    """Return a file of `media`."""
    return (HERE / "media" / name).read_bytes()


def info(name: str, key: str = "video") -> VideoInfo:
    """Return the description of a video."""
    return VideoInfo.from_json(SAID[name][key], where=name)


def table(name: str) -> FrameTable:
    """Return the frame table of a video."""
    return np.array(SAID[name]["table"], dtype=np.int64).reshape(-1, 6)


def video(ordinal: int, name: str, about: VideoJson) -> Sample:
    """Return a sample of task `video`."""
    values = {"frames.npy": table(name), name.rpartition(".")[2]: media(name)}
    return Sample(ordinal, about, values)


TURNED = info("turned.mp4")
MIXED = [
    video(0, "turned.mp4", VideoJson("run/a b.mp4", "val.txt:1", (1,), TURNED)),
    video(4, "plain.avi", VideoJson("跳/é.avi", "val.txt:5", (2,), info("plain.avi"))),
    video(
        123456789,
        "open_gop.mkv",
        VideoJson('walk/"c"\\.mkv', "val.txt:123456790", (0,), info("open_gop.mkv")),
    ),
]
REJECTS = [
    RejectRow(3, 1, "val-00000003", "", "val.txt:4", "AnnotationError", "expected 'path label'"),
    RejectRow(1, 1, "val-00000001", "run/d.mp4", "val.txt:2", "MediaError", "'run/d.mp4': missing"),
]
MANY = [
    video(2, "edit_list.mp4", VideoJson("e.mp4", "m.txt:3", (0, 7), info("edit_list.mp4"))),
    video(
        0, "leading.mp4", VideoJson("\u2028\U0001f600.mp4", "m.txt:1", (3,), info("leading.mp4"))
    ),
    video(1, "no_table.mp4", VideoJson("e.mp4", "m.txt:2", (7, 3, 0), info("no_table.mp4"))),
    video(3, "plain.mov", VideoJson("\x7f\x01.mov", "m.txt:4", (1,), info("plain.mov"))),
]
DEMUXED = [
    video(0, "turned.mp4", VideoJson("a.mp4", "records[0]", (), info("turned.mp4", "demuxed")))
]
ENCODED = [video(0, "sparse.mp4", VideoJson("a.mp4", "a.txt:1", (0,), info("sparse.mp4")))]
UNOPENED = [
    Sample(
        0,
        VideoJson("a.webm", "records[0]", (), VideoInfo()),
        {"frames.npy": np.empty((0, 6), dtype=np.int64), "webm": media("plain.webm")},
    )
]

FRAMES = [
    Sample(
        2,
        RawframesJson(
            id="跳/clip",
            origin="rawframes.txt:3",
            filename_tmpl="img_{:05}.jpg",
            start_index=1,
            stretches=(
                StretchJson(offset=0, total_frames=4, labels=(0, 2), origin="rawframes.txt:3"),
                StretchJson(offset=1, total_frames=2, labels=(1,), origin="rawframes.txt:5"),
            ),
            video=info("jpeg"),
        ),
        {"frames.npy": table("jpeg"), "mp4": media("jpeg.stills.mp4")},
    ),
]
FRAMES_REJECTS = [
    RejectRow(0, 2, "frames-00000000", "gap", "rawframes.txt:1", "MediaError", "gap: missing"),
    # One stretch of the folder above.
    RejectRow(3, 1, "frames-00000002", "跳/clip", "rawframes.txt:4", "MediaError", "4 frames"),
]
FLOWS = [
    Sample(
        0,
        RawframesJson(
            id="clip",
            origin="flow.txt:1",
            filename_tmpl="flow_{}_{:05d}.png",
            start_index=0,
            stretches=(StretchJson(offset=0, total_frames=2, labels=(), origin="flow.txt:1"),),
            video=info("x"),
        ),
        {
            "flow_x.frames.npy": table("x"),
            "flow_y.frames.npy": table("y"),
            "flow_x.mp4": media("x.stills.mp4"),
            "flow_y.mp4": media("y.stills.mp4"),
        },
    ),
]


def ramp(*shape: int, dtype: str) -> npt.NDArray[Any]:
    """Return numbers that every float type holds exactly."""
    return (np.arange(np.prod(shape)) % 512 / 4).astype(dtype).reshape(shape)


def absent() -> npt.NDArray[Any]:
    """Return what stands in the place of an optional part that a sample lacks."""
    return np.empty(0, dtype=np.float32)


SKELETONS = [
    Sample(
        1,
        SkeletonJson(
            id="S001C001P001R001A001",
            origin="ntu.pkl[1]",
            labels=(59,),
            total_frames=3,
            compressed=False,
            image_shape=(1080, 1920),
            original_shape=(1080, 1920),
            valid=(),
            box_threshold=0.0,
            absent=("box_score.npy", "frame_inds.npy"),
        ),
        {
            "keypoint.npy": ramp(2, 3, 5, 2, dtype="<f2"),
            "frame_inds.npy": absent(),
            "box_score.npy": absent(),
            "keypoint_score.npy": ramp(2, 3, 5, dtype="<f2"),
        },
    ),
    Sample(
        0,
        SkeletonJson(
            id='walk/"a"\n',
            origin="ntu.pkl[0]",
            labels=(0,),
            total_frames=4,
            compressed=True,
            image_shape=(240, 320),
            original_shape=(0, 0),
            valid=((1e-05, 3), (0.5, 3), (0.9, 0)),
            box_threshold=0.5,
            absent=("keypoint_score.npy",),
        ),
        {
            "keypoint.npy": ramp(3, 5, 3, dtype="<f8"),
            "frame_inds.npy": np.array([0, 0, 4], dtype="<i2"),
            "box_score.npy": np.array([0.5, 0.25, 1.0], dtype="<f4"),
            "keypoint_score.npy": absent(),
        },
    ),
]
# Three dimensions, and no part that is optional.
PLAIN_SKELETON = [
    Sample(
        0,
        SkeletonJson(
            id="a",
            origin="a.pkl[0]",
            labels=(),
            total_frames=1,
            compressed=False,
            image_shape=(0, 0),
            original_shape=(0, 0),
            valid=(),
            box_threshold=0.0,
            absent=(),
        ),
        {"keypoint.npy": ramp(1, 1, 2, 3, dtype="<f4")},
    )
]

SOUNDS = [
    Sample(
        0,
        AudioJson(id="a b.npy", origin="audio.txt:1", labels=(1,), total_frames=75),
        {"mel.npy": ramp(6, 80, dtype="<f4")},
    ),
    Sample(
        1,
        AudioJson(id="c.npy", origin="audio.txt:2", labels=(0,), total_frames=1),
        {"mel.npy": -ramp(1, 3, dtype="<f8")},
    ),
]


def kept(ordinal: int, suffix: str) -> Sample:
    """Return a sound that is kept beside its features."""
    name = f"tone.{suffix}"
    said = {key: value for key, value in SAID[name].items() if key != "samples_sha256"}
    about = AudioJson(
        id=name, origin=f"a.txt:{ordinal + 1}", labels=(ordinal,), total_frames=3, **said
    )
    features = decode_npy(media(f"{name}.npy"), where=name)
    return Sample(ordinal, about, {"mel.npy": features, suffix: media(name)})


KEPT = [kept(0, "m4a"), kept(1, "mp3"), kept(2, "ogg")]


def moment(
    timestamp: int, frame: int, persons: int, labels: int, proposals: int = -1, scored: bool = False
) -> KeyFrameJson:
    """Return a key frame."""
    return KeyFrameJson(
        timestamp=timestamp,
        frame=frame,
        persons=persons,
        labels=labels,
        proposals=proposals,
        scored=scored,
    )


BOXES = np.array([[0.0, 0.25, 0.5, 1.0], [0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 1.0, 1.0]])
MOMENTS = [
    Sample(
        0,
        AvaJson(
            id="run/a",
            origin="ava.csv:1",
            video_id="run/a",
            fps=30.0,
            timestamp_start=900,
            clip_frames=4,
            first_frame=SAID["cut.mp4"]["first_frame"],
            source_frames=TURNED.frames,
            filename_tmpl="",
            start_index=0,
            key_frames=(
                moment(902, 9, persons=2, labels=3, proposals=1, scored=True),
                moment(903, 10, persons=1, labels=1),
            ),
            video=info("cut.mp4"),
        ),
        {
            "frames.npy": table("cut.mp4"),
            "boxes.npy": BOXES,
            "labels.npy": np.array([[0, 12], [1, 12], [1, 80], [2, 1]], dtype="<i8"),
            "entity_ids.npy": np.array([0, 7, -1], dtype="<i8"),
            "proposals.npy": np.array([[0.0, 0.25, 0.5, 1.0, 0.75]], dtype="<f8"),
            "mp4": media("cut.mp4"),
        },
    ),
    # The whole source, in its own container; two proposals without scores.
    Sample(
        4,
        AvaJson(
            id="b.avi",
            origin="ava.csv:5",
            video_id="b.avi",
            fps=1.0,
            timestamp_start=-3,
            clip_frames=64,
            first_frame=0,
            source_frames=7,
            filename_tmpl="",
            start_index=0,
            key_frames=(moment(-1, 2, persons=1, labels=2, proposals=2),),
            video=info("plain.avi"),
        ),
        {
            "frames.npy": table("plain.avi"),
            "boxes.npy": BOXES[1:2],
            "labels.npy": np.array([[0, 0], [0, 3]], dtype="<i8"),
            "entity_ids.npy": np.array([2**40], dtype="<i8"),
            "proposals.npy": np.append(BOXES[:2], [[0.0], [0.0]], axis=1),
            "avi": media("plain.avi"),
        },
    ),
]
PICTURE_MOMENTS = [
    Sample(
        0,
        AvaJson(
            id="frames",
            origin="ava.csv:1",
            video_id="frames",
            fps=25.0,
            timestamp_start=0,
            clip_frames=2,
            first_frame=5,
            source_frames=100,
            filename_tmpl="frames_{:06d}.png",
            start_index=1,
            key_frames=(moment(0, 6, persons=1, labels=1),),
            video=info("png"),
        ),
        {
            "frames.npy": table("png"),
            "boxes.npy": BOXES[:1],
            "labels.npy": np.array([[0, 2]], dtype="<i8"),
            "entity_ids.npy": np.zeros(1, dtype="<i8"),
            "mp4": media("png.stills.mp4"),
        },
    )
]


def untrimmed(ordinal: int, shown: VideoInfo, values: dict[str, Any]) -> Sample:
    """Return a sample of task `activitynet`."""
    about = ActivityNetJson(
        id="v_跳",
        origin=f"anet.json:{ordinal + 3}",
        segments=((0.5, 2.0), (0.0, 1.25)),
        segment_labels=("Jump", "Run, then walk"),
        duration_s=9.5,
        duration_frames=285,
        feature_frames=272,
        fps=30.0,
        rfps=0.0,
        csv_header="feature.npy" in values and ordinal > 0,
        video=shown,
    )
    return Sample(ordinal, about, values)


FEATURES = [untrimmed(2, VideoInfo(), {"feature.npy": ramp(5, 4, dtype="<f4")})]
WATCHED = [
    untrimmed(
        0,
        TURNED,
        {
            "frames.npy": table("turned.mp4"),
            "feature.npy": ramp(1, 3, dtype="<f4"),
            "mp4": media("turned.mp4"),
        },
    )
]
