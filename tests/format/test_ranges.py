"""Values out of their range: each kind is found, and what packing lets in is not."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import makers
import numpy as np
import pytest
from tar_samples import samples_of

from clipshards.packer import (
    ActivityNetRecord,
    AudioRecord,
    AvaCsv,
    Recipe,
    SkeletonFile,
    SkeletonRecord,
    pack,
)
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson, KeyFrameJson
from clipshards.packer.format.json_parts import MAX_FRAMES, AudioJson, SkeletonJson
from clipshards.packer.format.ranges import range_faults
from clipshards.packer.format.video import VideoInfo

Values = dict[str, Any]


def assert_all_in_range(out: Path, task: str, count: int) -> None:
    samples = list(samples_of(out, task))
    assert len(samples) == count
    for values in samples:
        assert list(range_faults(task, values)) == []


PERSONS = SkeletonJson(
    id="a",
    origin="a.pkl[0]",
    labels=(0,),
    total_frames=4,
    compressed=False,
    image_shape=(8, 8),
    original_shape=(0, 0),
    valid=((0.5, 4), (0.9, 0)),
    box_threshold=0.0,
    absent=(),
)
BOXES = replace(PERSONS, compressed=True, box_threshold=0.5)
SOUND = AudioJson(id="a", origin="list.txt:1", labels=(0,), total_frames=4)
KEPT = replace(SOUND, codec="aac", sample_rate_hz=16000, channels=1, duration_s=1.0)
MOMENTS = AvaJson(
    id="a",
    origin="ava.csv:1",
    video_id="a",
    fps=30.0,
    timestamp_start=900,
    clip_frames=1,
    first_frame=0,
    source_frames=20,
    filename_tmpl="",
    start_index=0,
    key_frames=(
        KeyFrameJson(timestamp=902, frame=11, persons=2, labels=2, proposals=1, scored=True),
        KeyFrameJson(timestamp=903, frame=12, persons=1, labels=1, proposals=2, scored=False),
    ),
    video=VideoInfo(frames=20, frame_table="decode", no_table_because="not made"),
)
UNTRIMMED = ActivityNetJson(
    id="v",
    origin="a.json:1",
    segments=((0.5, 2.0), (1.0, 99.0)),
    segment_labels=("jump", "run"),
    duration_s=9.5,
    duration_frames=90,
    feature_frames=80,
    fps=25.0,
    rfps=0.0,
    csv_header=False,
    video=VideoInfo(),
)
TASK_OF = {
    "persons": "skeleton",
    "boxes": "skeleton",
    "features": "audio",
    "kept": "audio",
    "moments": "ava",
    "untrimmed": "activitynet",
}


def base(name: str) -> Values:
    """Return a sound sample, at the edges of what is allowed."""
    if name == "persons":
        keypoint = np.full((2, 4, 5, 3), -7.5, np.float16)
        score = np.empty(0, np.float32)
        about: Any = replace(PERSONS, absent=("keypoint_score.npy",))
        return {"json": about, "keypoint.npy": keypoint, "keypoint_score.npy": score}
    if name == "boxes":
        return {
            "json": BOXES,
            "keypoint.npy": np.ones((3, 5, 3), np.float32),
            "frame_inds.npy": np.array([0, 2, 4], np.int16),
            # No scale is asked of scores.
            "box_score.npy": np.array([-1, 0.5, 20], np.float64),
        }
    if name == "features":
        return {"json": SOUND, "mel.npy": np.full((1, 3), -120.0)}
    if name == "kept":
        return {"json": KEPT, "mel.npy": np.linspace(0, 1, 64 * 80, dtype="f4").reshape(64, 80)}
    if name == "moments":
        return {
            "json": MOMENTS,
            "boxes.npy": np.array([[0, 0, 1, 1], [0.5, 0, 0.75, 0.25], [0, 0.25, 0.5, 1]]),
            "labels.npy": np.array([[0, 5], [1, 7], [2, 9]]),
            "entity_ids.npy": np.array([-4, 5, 6]),
            # Detectors are not asked for an order of the corners.
            "proposals.npy": np.array(
                [[0, 0, 1, 1, 30], [0.5, 1, 0.5, 0, 0], [1, 1, 0, 0, 0]], float
            ),
        }
    return {"json": UNTRIMMED, "feature.npy": np.full((1, 1), -3e38, np.float32)}


def at(name: str, part: str, place: tuple[int, ...], value: float) -> Values:
    """Return the part with one number changed."""
    array = base(name)[part].copy()
    array[place] = value
    return {part: array}


def about(name: str, **fields: Any) -> Values:
    return {"json": replace(base(name)["json"], **fields)}


def moment(**fields: Any) -> Values:
    first, second = MOMENTS.key_frames
    return about("moments", key_frames=(replace(first, **fields), second))


class Wrong(NamedTuple):
    base: str
    part: str
    """Part that the fault must name."""
    message: str
    """Piece of the fault."""
    values: Values
    """Part name to its changed value."""


NAN, INF = float("nan"), float("inf")
WRONG = [
    Wrong(
        "persons",
        "keypoint.npy",
        "1 others, first at (1, 2, 3, 0)",
        at("persons", "keypoint.npy", (1, 2, 3, 0), NAN),
    ),
    Wrong(
        "persons", "keypoint.npy", "got 1 others", at("persons", "keypoint.npy", (0, 0, 0, 2), -INF)
    ),
    Wrong(
        "persons", "keypoint.npy", "at least one number", {"keypoint.npy": np.ones((0, 4, 5, 2))}
    ),
    Wrong(
        "persons",
        "keypoint.npy",
        "2 or 3 coordinates, got 4",
        {"keypoint.npy": np.ones((1, 4, 5, 4))},
    ),
    Wrong("persons", "json", "image_shape: expected height", about("persons", image_shape=(0, 8))),
    Wrong("persons", "json", "original_shape: expected", about("persons", original_shape=(8, 0))),
    Wrong("persons", "json", "valid: expected 0 to", about("persons", valid=((0.5, -1),))),
    Wrong("persons", "json", "at 0.5, got", about("persons", valid=((0.5, MAX_FRAMES + 1),))),
    Wrong("persons", "json", "0.0 without scores", about("persons", box_threshold=0.5)),
    Wrong(
        "boxes",
        "json",
        "box_threshold: expected 0 to 1, got 1.5",
        about("boxes", box_threshold=1.5),
    ),
    Wrong("boxes", "json", "expected 0 to 1, got -0.5", about("boxes", box_threshold=-0.5)),
    Wrong("boxes", "keypoint.npy", "finite", at("boxes", "keypoint.npy", (2, 4, 2), INF)),
    Wrong("boxes", "box_score.npy", "finite", at("boxes", "box_score.npy", (1,), NAN)),
    Wrong("boxes", "frame_inds.npy", "at least one number", {"frame_inds.npy": np.ones(0, int)}),
    Wrong("features", "mel.npy", "finite", at("features", "mel.npy", (0, 2), NAN)),
    Wrong("features", "mel.npy", "at least one frame and band", {"mel.npy": np.ones((0, 80))}),
    Wrong("features", "mel.npy", "at least one frame and band", {"mel.npy": np.ones((9, 0))}),
    Wrong("kept", "mel.npy", "got 1 others", at("kept", "mel.npy", (5, 5), NAN)),
    Wrong("kept", "mel.npy", "0 to 1, got 0.0 to 1.5", at("kept", "mel.npy", (5, 5), 1.5)),
    Wrong("kept", "mel.npy", "0 to 1, got -0.25", at("kept", "mel.npy", (5, 5), -0.25)),
    Wrong("kept", "mel.npy", "float32 of 80 bands", {"mel.npy": np.ones((64, 79), np.float32)}),
    Wrong("kept", "mel.npy", "got float64 of 80", {"mel.npy": np.ones((64, 80))}),
    Wrong("kept", "mel.npy", "64 frames of 1 s", {"mel.npy": np.ones((60, 80), np.float32)}),
    Wrong("kept", "mel.npy", "of 2 s of sound, got 64", about("kept", duration_s=2.0)),
    Wrong("moments", "boxes.npy", "finite", at("moments", "boxes.npy", (1, 2), NAN)),
    Wrong(
        "moments",
        "boxes.npy",
        "row 2: expected fractions",
        at("moments", "boxes.npy", (2, 3), 1.001),
    ),
    Wrong(
        "moments",
        "boxes.npy",
        "row 0: expected fractions",
        at("moments", "boxes.npy", (0, 0), -0.001),
    ),
    Wrong(
        "moments", "boxes.npy", "row 1: expected x1 < x2", at("moments", "boxes.npy", (1, 2), 0.5)
    ),
    Wrong(
        "moments", "boxes.npy", "row 2: expected x1 < x2", at("moments", "boxes.npy", (2, 3), 0.125)
    ),
    Wrong("moments", "json", "key_frames[0]: expected at least one person", moment(persons=0)),
    Wrong("moments", "proposals.npy", "finite", at("moments", "proposals.npy", (0, 4), INF)),
    Wrong(
        "moments",
        "proposals.npy",
        "row 1: expected fractions",
        at("moments", "proposals.npy", (1, 2), 2),
    ),
    Wrong(
        "moments",
        "proposals.npy",
        "timestamp 903: expected 0",
        at("moments", "proposals.npy", (2, 4), 0.5),
    ),
    Wrong("moments", "proposals.npy", "timestamp 902: expected 0", moment(scored=False)),
    Wrong("untrimmed", "feature.npy", "finite", at("untrimmed", "feature.npy", (0, 0), INF)),
    Wrong(
        "untrimmed", "feature.npy", "one row and channel", {"feature.npy": np.ones((0, 4), "f4")}
    ),
    Wrong(
        "untrimmed",
        "json",
        "segments[1]: expected 0 <=",
        about("untrimmed", segments=((0.0, 1.0), (2.0, 2.0))),
    ),
    Wrong(
        "untrimmed",
        "json",
        "segments[0]: expected 0 <=",
        about("untrimmed", segments=((-1.0, 1.0), (2.0, 3.0))),
    ),
]


@pytest.mark.parametrize("name", TASK_OF)
def test_values_at_the_edges_are_in_range(name: str) -> None:
    assert list(range_faults(TASK_OF[name], base(name))) == []


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.base}: {wrong.message}")
def test_each_value_out_of_range_is_found_and_named(wrong: Wrong) -> None:
    (fault,) = range_faults(TASK_OF[wrong.base], base(wrong.base) | wrong.values)
    assert fault[0] == wrong.part
    assert wrong.message in fault[1]


def test_several_faults_are_all_told() -> None:
    values = at("moments", "boxes.npy", (1, 2), 1.5) | at("moments", "proposals.npy", (0, 0), -1)
    values["boxes.npy"][0] = NAN
    faults = list(range_faults("ava", base("moments") | values))
    assert [part for part, _ in faults] == ["boxes.npy", "boxes.npy", "proposals.npy"]
    assert "got 4 others, first at (0, 0)" in faults[0][1]


def test_videos_and_frames_have_no_ranges_of_their_own() -> None:
    assert list(range_faults("video", {"json": None, "frames.npy": np.ones((0, 6), int)})) == []
    assert list(range_faults("rawframes", {"json": None, "mp4": b""})) == []


def test_packed_skeletons_are_in_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [
        SkeletonRecord(id="2-D", total_frames=3, keypoint=rng.normal(0, 1e4, (1, 3, 5, 2))),
        SkeletonRecord(
            id="scored",
            total_frames=3,
            keypoint=rng.normal(size=(2, 3, 5, 3)).astype(np.float16),
            keypoint_score=rng.normal(size=(2, 3, 5)).astype(np.float32),
            original_shape=(1, 1),
        ),
        SkeletonRecord(
            id="boxes",
            total_frames=3,
            keypoint=rng.normal(size=(2, 5, 3)),
            frame_inds=np.array([1, 3]),
            box_score=np.array([0.5, -2.0]),
            valid=((0.5, 0), (-1.0, 2)),
            box_threshold=1.0,
        ),
    ]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path, labels="none")
    assert_all_in_range(tmp_path / "set", "skeleton", 3)


def test_packed_sounds_and_features_are_in_range(tmp_path: Path) -> None:
    for number, seconds in enumerate((0.05, 0.5, 1.234)):
        (tmp_path / f"{number}.mp4").write_bytes(makers.sound_bytes(seconds=seconds))
    np.save(tmp_path / "a.npy", np.full((1, 1), -1e30))
    sounds = [AudioRecord(path=f"{number}.mp4", total_frames=1) for number in range(3)]
    for keep in ("no", "source", "wav", "flac"):
        recipe = Recipe(features="compute", keep_audio=keep)
        pack(sounds, tmp_path / keep, split="a", media_root=tmp_path, labels="none", recipe=recipe)
        assert_all_in_range(tmp_path / keep, "audio", 3)
    files = [AudioRecord(path="a.npy", total_frames=1)]
    pack(files, tmp_path / "files", split="a", media_root=tmp_path, labels="none")
    assert_all_in_range(tmp_path / "files", "audio", 1)


@pytest.mark.parametrize("columns", [4, 5])
def test_packed_moments_are_in_range(tmp_path: Path, columns: int) -> None:
    (tmp_path / "v.mp4").write_bytes(makers.short_video(frames=30))
    rows = [f"v.mp4,{time},0.0,0.0,1.0,0.0001,1,{time}" for time in (3, 9)]
    (tmp_path / "a.csv").write_text("".join(f"{row}\n" for row in rows))
    boxes = np.array([[0, 1, 1, 0, -7], [0.5, 0.5, 0.5, 0.5, 1e9]])[:, :columns]
    (tmp_path / "p.pkl").write_bytes(pickle.dumps({"v.mp4,0003": boxes}))
    records = AvaCsv(
        tmp_path / "a.csv",
        proposals=tmp_path / "p.pkl",
        fps=1,
        timestamp_start=0,
        timestamp_end=None,
        clip_frames=6,
    )
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    assert_all_in_range(tmp_path / "set", "ava", 2)


def test_packed_features_of_untrimmed_videos_are_in_range(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((1, 3), 3e38))
    records = [
        ActivityNetRecord(
            id="a",
            segments=((0.0, 1e-9), (5.0, 1e9)),
            segment_labels=("x", "y"),
            duration_s=1.0,
            features="a.npy",
        ),
        ActivityNetRecord(
            id="b", segments=(), segment_labels=(), duration_s=1e-9, features="a.npy"
        ),
    ]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path, labels="none")
    assert_all_in_range(tmp_path / "set", "activitynet", 2)


@pytest.mark.parametrize(
    ("name", "source_split"),
    [("coco2d", "train"), ("k400_compressed", None), ("list", None), ("ntu3d", "xsub_train")],
)
def test_skeletons_as_of_the_data_sets_are_in_range(
    name: str, source_split: str | None, shared_data: Path, tmp_path: Path
) -> None:
    file = shared_data / "skeleton" / f"{name}_synthetic.pkl"
    records = SkeletonFile(file, source_split=source_split)
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    assert report.packed
    assert_all_in_range(tmp_path / "set", "skeleton", report.packed)
