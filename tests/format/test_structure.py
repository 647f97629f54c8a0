"""Samples whose parts do not fit each other: found by `verify`, refused by readers.

The shards are made by hand with right checksums, as only a writer's bug (or a malicious
writer) makes them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.errors import DatasetError, FormatError
from clipshards.packer.format.frame_table import RANDOM_ACCESS
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    RawframesJson,
    SkeletonJson,
    StretchJson,
    VideoJson,
)
from clipshards.packer.format.manifest import Accounting, Manifest
from clipshards.packer.format.names import sample_key, shard_name
from clipshards.packer.format.npy import encode_npy
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.samples.base import Sample
from clipshards.packer.shards import ShardWriter
from clipshards.readers.integrity import verify
from clipshards.readers.items import ItemReader
from clipshards.readers.opening import open_dataset

Values = dict[str, Any]
Array = npt.NDArray[np.generic]

INFO = VideoInfo(
    codec="mjpeg",
    width=8,
    height=8,
    coded_width=8,
    coded_height=8,
    frames=3,
    claimed_frames=3,
    frame_table="decode",
)
STILLS = RawframesJson(
    id="a",
    origin="list.txt:1",
    filename_tmpl="img_{:05}.jpg",
    start_index=1,
    stretches=(StretchJson(offset=1, total_frames=2, labels=(0,), origin="list.txt:1"),),
    video=INFO,
)
PERSONS = SkeletonJson(
    id="a",
    origin="a.pkl[0]",
    labels=(0,),
    total_frames=4,
    compressed=False,
    image_shape=(8, 8),
    original_shape=(8, 8),
    valid=(),
    box_threshold=0.0,
    absent=(),
)
BOXES = replace(PERSONS, compressed=True, box_threshold=0.5)
SOUND = AudioJson(id="a", origin="list.txt:1", labels=(0,), total_frames=4)
KEPT = replace(SOUND, codec="aac", sample_rate_hz=16000, channels=1, duration_s=0.5)
PLAIN = VideoJson("a.mp4", "list.txt:1", (0,), INFO)
DEMUXED = replace(PLAIN, video=replace(INFO, frame_table="demux"))
MOMENTS = AvaJson(
    id="a",
    origin="ava.csv:1",
    video_id="a",
    fps=30.0,
    timestamp_start=900,
    clip_frames=1,
    first_frame=10,
    source_frames=20,
    filename_tmpl="",
    start_index=0,
    key_frames=(
        KeyFrameJson(timestamp=902, frame=11, persons=2, labels=3, proposals=1, scored=True),
        KeyFrameJson(timestamp=903, frame=12, persons=1, labels=1, proposals=-1, scored=False),
    ),
    video=INFO,
)
UNTRIMMED = ActivityNetJson(
    id="v",
    origin="a.json:1",
    segments=((0.5, 2.0),),
    segment_labels=("jump",),
    duration_s=9.5,
    duration_frames=90,
    feature_frames=80,
    fps=25.0,
    rfps=0.0,
    csv_header=False,
    video=VideoInfo(),
)


def table(count: int = 3) -> Array:
    """Return the frame table of files of 5 bytes each."""
    rows = [(5 * n, 5, RANDOM_ACCESS, n, n, crc32c(bytes(5))) for n in range(count)]
    return np.array(rows, dtype=np.int64).reshape(-1, 6)


def floats(*shape: int, dtype: str = "<f4") -> Array:
    return np.ones(shape, dtype=dtype)


def bases() -> dict[str, tuple[str, Values]]:
    """Return a sound sample of each form: name to (task, values)."""
    flow = {
        "flow_x.frames.npy": table(),
        "flow_y.frames.npy": table(),
        "flow_x.mp4": bytes(15),
        "flow_y.mp4": bytes(15),
    }
    return {
        "pictures": ("rawframes", {"json": STILLS, "frames.npy": table(), "mp4": bytes(15)}),
        "flow": (
            "rawframes",
            {"json": replace(STILLS, filename_tmpl="flow_{}_{:05}.jpg"), **flow},
        ),
        "persons": (
            "skeleton",
            {
                "json": PERSONS,
                "keypoint.npy": floats(2, 4, 5, 2),
                "keypoint_score.npy": floats(2, 4, 5),
            },
        ),
        "persons without score": (
            "skeleton",
            {
                "json": replace(PERSONS, absent=("keypoint_score.npy",)),
                "keypoint.npy": floats(2, 4, 5, 3),
                "keypoint_score.npy": floats(0),
            },
        ),
        "boxes": (
            "skeleton",
            {
                "json": BOXES,
                "keypoint.npy": floats(3, 5, 3),
                "frame_inds.npy": np.array([0, 2, 4], dtype="<i2"),
                "box_score.npy": floats(3, dtype="<f2"),
            },
        ),
        "sound": ("audio", {"json": SOUND, "mel.npy": floats(6, 80)}),
        "kept sound": ("audio", {"json": KEPT, "mel.npy": floats(6, 80), "m4a": bytes(9)}),
        "video": ("video", {"json": PLAIN, "frames.npy": table(), "mp4": bytes(15)}),
        "demuxed": ("video", {"json": DEMUXED, "frames.npy": table(), "mp4": bytes(15)}),
        "moments": (
            "ava",
            {
                "json": MOMENTS,
                "frames.npy": table(),
                "boxes.npy": floats(3, 4, dtype="<f8"),
                "labels.npy": np.array([[0, 5], [1, 7], [1, 9], [2, 3]], dtype=np.int64),
                "entity_ids.npy": np.array([4, 5, 6], dtype=np.int64),
                "proposals.npy": floats(1, 5, dtype="<f8"),
                "mp4": bytes(15),
            },
        ),
        "untrimmed": ("activitynet", {"json": UNTRIMMED, "feature.npy": floats(7, 4)}),
        "untrimmed with video": (
            "activitynet",
            {
                "json": replace(UNTRIMMED, video=INFO),
                "frames.npy": table(),
                "feature.npy": floats(7, 4),
                "mkv": bytes(15),
            },
        ),
    }


class Wrong(NamedTuple):
    """What is changed in a sound sample, and what must be said of it."""

    base: str
    part: str
    """Part that the finding must name."""
    message: str
    """Piece of the finding."""
    values: Values
    """Part name to its changed value; None takes it out of the sample."""


def changed(about: Any, **fields: Any) -> Values:
    return {"json": replace(about, **fields)}


def stretch(**fields: Any) -> Values:
    return changed(STILLS, stretches=(replace(STILLS.stretches[0], **fields),))


def moment(**fields: Any) -> Values:
    return changed(MOMENTS, key_frames=(replace(MOMENTS.key_frames[0], **fields),))


def video(**fields: Any) -> Values:
    return changed(STILLS, video=replace(INFO, **fields))


WRONG = [
    # Raw frames: the parts of one of the two forms, each with its table.
    Wrong("pictures", "json", "expected the parts of pictures or those of flow", {"mp4": None}),
    Wrong("pictures", "json", "got ['mp4']", {"frames.npy": None}),
    Wrong("flow", "json", "expected the parts of pictures or", {"flow_y.mp4": None}),
    Wrong("flow", "json", "expected the parts of pictures or", {"flow_x.frames.npy": None}),
    Wrong("flow", "json", "expected the parts of pictures or", {"mp4": bytes(15)}),
    Wrong("pictures", "frames.npy", "a row for each frame", {"frames.npy": table(0)}),
    Wrong("pictures", "frames.npy", "int64 of shape", {"frames.npy": floats(3, 5)}),
    Wrong("pictures", "frames.npy", "int64 of shape", {"frames.npy": table()[:, :4]}),
    Wrong("pictures", "frames.npy", "int64 of shape", {"frames.npy": np.array(7)}),
    Wrong("pictures", "frames.npy", "packet 2", {"mp4": bytes(14)}),
    Wrong("pictures", "frames.npy", "packet 0", {"frames.npy": table() - [1, 0, 0, 0, 0, 0]}),
    Wrong(
        "pictures",
        "frames.npy",
        "unknown packet flags",
        {"frames.npy": table() | np.array([0, 0, 8, 0, 0, 0])},
    ),
    Wrong("pictures", "frames.npy", "display ranks", {"frames.npy": table() * [1, 1, 1, 2, 1, 1]}),
    Wrong("pictures", "frames.npy", "2 pictures, the json says 3", {"frames.npy": table(2)}),
    Wrong("pictures", "frames.npy", "3 pictures, the json says 4", video(frames=4)),
    Wrong("pictures", "frames.npy", "a reason why", video(no_table_because="none was made")),
    Wrong("demuxed", "frames.npy", "either a frame table", {"frames.npy": table()[:0]}),
    Wrong("demuxed", "frames.npy", "2 pictures, the json says 3", {"frames.npy": table(2)}),
    Wrong("flow", "flow_y.frames.npy", "2 pictures", {"flow_y.frames.npy": table(2)}),
    Wrong("flow", "flow_x.frames.npy", "outside the part", {"flow_x.mp4": bytes(14)}),
    Wrong("flow", "flow_y.frames.npy", "int64 of shape", {"flow_y.frames.npy": np.array(7)}),
    # Skeletons, a track each.
    Wrong("persons", "keypoint.npy", "shape (persons, 4, ", {"keypoint.npy": floats(2, 5, 5, 2)}),
    Wrong("persons", "keypoint.npy", "shape (persons, 4, ", {"keypoint.npy": floats(4, 5, 2)}),
    Wrong("persons", "keypoint.npy", "shape (persons, 4, ", {"keypoint.npy": np.array(1.0)}),
    Wrong("persons", "keypoint.npy", "shape (persons, 5, ", changed(PERSONS, total_frames=5)),
    Wrong("persons", "keypoint.npy", "shape (boxes, ", changed(PERSONS, compressed=True)),
    Wrong(
        "persons",
        "keypoint.npy",
        "floats, got int64",
        {"keypoint.npy": np.ones((2, 4, 5, 2), np.int64)},
    ),
    Wrong(
        "persons", "keypoint_score.npy", "shape (2, 4, 5)", {"keypoint_score.npy": floats(2, 4, 6)}
    ),
    Wrong("persons", "keypoint_score.npy", "shape (2, 4, 5)", {"keypoint_score.npy": floats(0)}),
    Wrong(
        "persons",
        "keypoint_score.npy",
        "floats, got bool",
        {"keypoint_score.npy": np.ones((2, 4, 5), bool)},
    ),
    Wrong("persons", "box_score.npy", "shape none", {"box_score.npy": floats(2)}),
    Wrong("persons", "frame_inds.npy", "shape none", {"frame_inds.npy": np.arange(4)}),
    Wrong(
        "persons",
        "keypoint_score.npy",
        "said to be absent",
        changed(PERSONS, absent=("keypoint_score.npy",)),
    ),
    Wrong(
        "persons", "json", "absent: 'box_score.npy'", changed(PERSONS, absent=("box_score.npy",))
    ),
    Wrong("persons", "json", "absent: 'keypoint.npy'", changed(PERSONS, absent=("keypoint.npy",))),
    Wrong("persons", "json", "absent: 'json'", changed(PERSONS, absent=("json",))),
    Wrong("persons", "json", "absent: 'mp4'", changed(PERSONS, absent=("mp4",))),
    Wrong(
        "persons without score",
        "keypoint_score.npy",
        "said to be absent",
        {"keypoint_score.npy": floats(0, 1)},
    ),
    # Compressed skeletons, a row a box.
    Wrong("boxes", "keypoint.npy", "shape (persons, 4, ", changed(BOXES, compressed=False)),
    Wrong("boxes", "keypoint.npy", "shape (boxes, joints, 3)", {"keypoint.npy": floats(3, 5, 2)}),
    Wrong("boxes", "keypoint.npy", "shape (boxes, joints, 3)", {"keypoint.npy": floats(3, 3)}),
    Wrong("boxes", "frame_inds.npy", "expected the frame of each box", {"frame_inds.npy": None}),
    Wrong("boxes", "frame_inds.npy", "shape (3,)", {"frame_inds.npy": np.array([0, 2])}),
    Wrong("boxes", "frame_inds.npy", "integers, got float32", {"frame_inds.npy": floats(3)}),
    Wrong(
        "boxes", "frame_inds.npy", "integers, got uint8", {"frame_inds.npy": np.ones(3, np.uint8)}
    ),
    Wrong("boxes", "frame_inds.npy", "ascending", {"frame_inds.npy": np.array([0, 3, 2])}),
    Wrong("boxes", "frame_inds.npy", "ascending", {"frame_inds.npy": np.array([-1, 0, 2])}),
    Wrong("boxes", "frame_inds.npy", "ascending", {"frame_inds.npy": np.array([0, 2, 5])}),
    Wrong(
        "boxes",
        "frame_inds.npy",
        "ascending",
        {"frame_inds.npy": np.array([2**63 - 1, -(2**63), 0])},
    ),
    Wrong("boxes", "box_score.npy", "shape (3,)", {"box_score.npy": floats(4)}),
    Wrong("boxes", "box_score.npy", "floats, got int64", {"box_score.npy": np.ones(3, np.int64)}),
    Wrong("boxes", "keypoint_score.npy", "shape none", {"keypoint_score.npy": floats(3, 5)}),
    # Sounds.
    Wrong("sound", "mel.npy", "shape (frames, bands)", {"mel.npy": floats(6)}),
    Wrong("sound", "mel.npy", "shape (frames, bands)", {"mel.npy": floats(1, 6, 80)}),
    Wrong("sound", "mel.npy", "shape (frames, bands)", {"mel.npy": np.array(1.0)}),
    Wrong("sound", "mel.npy", "got int64", {"mel.npy": np.ones((6, 80), np.int64)}),
    Wrong("sound", "json", "codec is ''", {"wav": bytes(9)}),
    Wrong("kept sound", "json", "codec is 'aac'", {"m4a": None}),
    Wrong("kept sound", "json", "codec is ''", {"json": SOUND}),
    Wrong("kept sound", "json", "sample_rate_hz: 0 is out", changed(KEPT, sample_rate_hz=0)),
    Wrong("kept sound", "json", "channels: -1 is out", changed(KEPT, channels=-1)),
    Wrong("sound", "json", "duration_s: 0.5 is out", changed(SOUND, duration_s=0.5)),
    # Videos.
    Wrong("video", "frames.npy", "2 pictures", {"frames.npy": table(2)}),
    Wrong("video", "frames.npy", "outside the part", {"mp4": bytes(14)}),
    Wrong("video", "frames.npy", "int64 of shape", {"frames.npy": np.array(7)}),
    # Moments.
    Wrong("moments", "frames.npy", "2 pictures", {"frames.npy": table(2)}),
    Wrong("moments", "boxes.npy", "float64 of shape (3, 4)", {"boxes.npy": floats(3, 4)}),
    Wrong("moments", "boxes.npy", "shape (3, 4)", {"boxes.npy": floats(2, 4, dtype="<f8")}),
    Wrong("moments", "boxes.npy", "shape (3, 4)", {"boxes.npy": np.array(1.0)}),
    Wrong("moments", "labels.npy", "int64 of shape (4, 2)", {"labels.npy": np.zeros((3, 3), int)}),
    Wrong("moments", "labels.npy", "int64 of shape (4, 2)", {"labels.npy": floats(4, 2)}),
    Wrong("moments", "entity_ids.npy", "int64 of shape (3,)", {"entity_ids.npy": np.zeros(4, int)}),
    Wrong("moments", "proposals.npy", "shape (1, 5)", {"proposals.npy": floats(1, 4, dtype="<f8")}),
    Wrong("moments", "proposals.npy", "shape (1, 5)", {"proposals.npy": floats(0, 5, dtype="<f8")}),
    Wrong("moments", "json", "has proposals, the sample has none", {"proposals.npy": None}),
    Wrong("moments", "labels.npy", "none of its persons'", {"labels.npy": np.full((4, 2), 2)}),
    Wrong("moments", "labels.npy", "none of its persons'", {"labels.npy": np.full((4, 2), -1)}),
    Wrong(
        "moments",
        "labels.npy",
        "none of its persons'",
        {"labels.npy": np.array([[0, 1], [1, -1], [0, 0], [2, 1]])},
    ),
    Wrong("moments", "json", "frame 13, stored are 10 to 12", moment(frame=13)),
    Wrong("moments", "json", "frame 9, stored are 10 to 12", moment(frame=9)),
    Wrong("moments", "json", "a count is out of range", moment(persons=-1)),
    Wrong("moments", "json", "a count is out of range", moment(proposals=-2)),
    Wrong("moments", "json", "a count is out of range", changed(MOMENTS, key_frames=())),
    Wrong("moments", "json", "a count is out of range", changed(MOMENTS, clip_frames=0)),
    Wrong("moments", "json", "a count is out of range", changed(MOMENTS, fps=0.0)),
    Wrong("moments", "json", "a count is out of range", changed(MOMENTS, source_frames=12)),
    # Untrimmed videos.
    Wrong("untrimmed", "feature.npy", "float32 of shape", {"feature.npy": floats(7)}),
    Wrong(
        "untrimmed", "feature.npy", "float32 of shape", {"feature.npy": floats(7, 4, dtype="<f8")}
    ),
    Wrong("untrimmed", "json", "expected a video and its frame table", {"frames.npy": table(0)}),
    Wrong("untrimmed with video", "json", "a video and its frame table", {"frames.npy": None}),
    Wrong("untrimmed with video", "frames.npy", "2 pictures", {"frames.npy": table(2)}),
    Wrong("untrimmed with video", "frames.npy", "outside the part", {"mkv": bytes(3)}),
    Wrong("untrimmed", "json", "not as many", changed(UNTRIMMED, segment_labels=())),
    Wrong("untrimmed", "json", "a segment ends before", changed(UNTRIMMED, segments=((2.0, 1.0),))),
    Wrong(
        "untrimmed", "json", "a segment ends before", changed(UNTRIMMED, segments=((-1.0, 1.0),))
    ),
    Wrong("untrimmed", "json", "out of range", changed(UNTRIMMED, duration_s=0.0)),
    Wrong("untrimmed", "json", "out of range", changed(UNTRIMMED, feature_frames=-1)),
    Wrong("untrimmed", "json", "out of range", changed(UNTRIMMED, rfps=-0.5)),
    # What each json says for itself.
    Wrong("sound", "json", "total_frames: 0 is out of range", changed(SOUND, total_frames=0)),
    Wrong("sound", "json", "expected class ids of 0 or more", changed(SOUND, labels=(-1,))),
    Wrong("persons", "json", "total_frames: -1", changed(PERSONS, total_frames=-1)),
    Wrong("persons", "json", "image shape", changed(PERSONS, original_shape=(8, -8))),
    Wrong("persons", "json", "each name once", changed(PERSONS, absent=("b", "a"))),
    Wrong("persons", "json", "class ids of 0 or more", changed(PERSONS, labels=(-1,))),
    Wrong("pictures", "json", "is of flow", changed(STILLS, filename_tmpl="flow_{}_{}.jpg")),
    Wrong("flow", "json", "is of flow", changed(STILLS, filename_tmpl="img_{}.jpg")),
    Wrong("pictures", "json", "no stretches", changed(STILLS, stretches=())),
    Wrong("pictures", "json", "start index below 0", changed(STILLS, start_index=-1)),
    Wrong("pictures", "json", "stretches[0]", stretch(offset=2)),
    Wrong("pictures", "json", "stretches[0]", stretch(offset=-1)),
    Wrong("pictures", "json", "stretches[0]", stretch(total_frames=0)),
    Wrong("pictures", "json", "stretches[0].labels", stretch(labels=(-3,))),
]


def write_split(folder: Path, task: str, samples: list[Values], **fields: Any) -> Path:
    """Write a split of one shard, everything about it as promised; return its location."""
    split = folder / "train"
    split.mkdir(parents=True)
    pieces: list[bytes] = []
    writer = ShardWriter(pieces.append, ShardIndex(task, "train", 0, "0" * 64, {}))
    ordinal = 0
    for values in samples:
        about = values["json"]
        count = max(fields.get("items", about.items), 1)
        parts = {
            part: encode(task, part, values[part]) for part in TASKS[task].parts if part in values
        }
        sample = Sample(about.id, about.origin, count, about.summary(), parts)
        writer.add(sample_key("train", ordinal), sample, entries=count)
        ordinal += count
    entry = writer.finish(records=len(samples))
    (split / shard_name("train", 0)).write_bytes(b"".join(pieces))
    manifest = Manifest(
        task=task,
        split="train",
        labels={"ava": "many", "activitynet": "none"}.get(task, "one"),  # type: ignore[arg-type]
        class_names=(),
        recipe={},
        run_length=1,
        request_digest="0" * 64,
        plan_digest="0" * 64,
        accounting=Accounting(ordinal, ordinal, 0, {}),
        rejects_sha256=sha256_hex(b""),
        made_with={},
        shards=(entry,),
    )
    (split / "rejects.jsonl").write_bytes(b"")
    (split / "manifest.json").write_bytes(manifest.encode())
    return folder


def encode(task: str, part: str, value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return encode_npy(value)
    return TASKS[task].encode(part, value)


def with_changes(values: Values, changes: Mapping[str, Any]) -> Values:
    """Return the parts in the task's order, some replaced, added, or taken out."""
    merged = {**values, **changes}
    return {part: value for part, value in merged.items() if value is not None}


@pytest.mark.parametrize("name", bases())
def test_a_sound_sample_is_whole(tmp_path: Path, name: str) -> None:
    task, values = bases()[name]
    assert list(TASKS[task].faults(values)) == []
    place = write_split(tmp_path, task, [values, values])
    report = verify(place)
    assert (report.damage, report.samples) == ([], 2)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.base}-{wrong.message}")
def test_a_fault_is_found_by_verify_and_refused_by_the_reader(tmp_path: Path, wrong: Wrong) -> None:
    task, values = bases()[wrong.base]
    place = write_split(tmp_path, task, [with_changes(values, wrong.values)])
    findings = verify(place).damage
    named = [finding for finding in findings if finding.part == wrong.part]
    assert named, findings
    assert any(wrong.message in finding.message for finding in named), findings
    assert {(finding.shard, finding.key) for finding in findings} == {
        ("train-000000.tar", "train-00000000")
    }
    with pytest.raises(FormatError) as caught:
        ItemReader(open_dataset(place)).read(0, number=0)
    for text in (str(place), "train-000000.tar", "train-00000000", wrong.message):
        assert text in str(caught.value)


def test_a_fault_does_not_hide_those_of_the_next_sample(tmp_path: Path) -> None:
    task, values = bases()["boxes"]
    first = with_changes(values, changed(BOXES, absent=("keypoint.npy",)))
    second = with_changes(values, {"box_score.npy": floats(4)})
    place = write_split(tmp_path, task, [first, values, second])
    named = {(finding.key, finding.part) for finding in verify(place).damage}
    assert {("train-00000000", "json"), ("train-00000002", "box_score.npy")} <= named
    assert "train-00000001" not in {sample for sample, _ in named}


@pytest.mark.parametrize("name", ["pictures", "flow", "moments"])
def test_more_items_in_the_index_than_in_the_sample_are_refused(tmp_path: Path, name: str) -> None:
    task, values = bases()[name]
    items = values["json"].items
    place = write_split(tmp_path, task, [values], items=5)
    (finding,) = verify(place).damage
    assert finding.message == f"items is {items}, the index says 5"
    split = open_dataset(place)
    assert len(split) == 5
    reader = ItemReader(split)
    for item in range(items, 5):
        with pytest.raises(FormatError, match="train-00000000"):
            reader.read(item, number=0)


HUGE = 4 * 10**18
ENDLESS = replace(INFO, frames=HUGE, no_table_because="it is too long")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sound", changed(SOUND, total_frames=HUGE)),
        ("boxes", changed(BOXES, total_frames=HUGE)),
        ("video", changed(PLAIN, video=ENDLESS) | {"frames.npy": table(0)}),
        (
            "untrimmed with video",
            changed(UNTRIMMED, video=ENDLESS) | {"frames.npy": table(0)},
        ),
        ("moments", changed(MOMENTS, clip_frames=HUGE, source_frames=HUGE)),
    ],
)
def test_a_count_beyond_any_video_does_not_fill_the_memory(
    tmp_path: Path, name: str, changes: Values
) -> None:
    """Readers make arrays of as many numbers as a clip has frames."""
    task, values = bases()[name]
    place = write_split(tmp_path, task, [with_changes(values, changes)])
    verify(place)
    with pytest.raises(DatasetError, match="train-00000000"):
        ItemReader(open_dataset(place)).read(0, number=0)


dtypes = st.sampled_from(["<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "|u1", "|i1", "|b1"])
arrays = dtypes.flatmap(
    lambda dtype: np_st.arrays(
        dtype, np_st.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5)
    )
)


@pytest.mark.parametrize("name", bases())
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_arrays_give_faults_and_never_an_error(name: str, data: st.DataObject) -> None:
    task, values = bases()[name]
    for part in [part for part in values if part.endswith(".npy")]:
        values[part] = data.draw(st.just(values[part]) | arrays, label=part)
    if task == "skeleton":
        absent = data.draw(st.lists(st.sampled_from([*values, "mp4"]), unique=True), label="absent")
        compressed = data.draw(st.booleans(), label="compressed")
        frames = data.draw(st.integers(1, 5), label="total_frames")
        about = {"absent": tuple(absent), "compressed": compressed, "total_frames": frames}
        values["json"] = replace(values["json"], **about)
    for part, message in TASKS[task].faults(values):
        assert part in values or part in TASKS[task].parts
        assert message
