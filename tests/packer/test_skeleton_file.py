"""Skeleton pickles: each entry becomes a record, a reject or an exclusion."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshards.packer.annotations.skeleton_file import SkeletonFile
from clipshards.packer.format.errors import AnnotationError, MediaError
from clipshards.packer.records import Excluded, Origin, Reject, SkeletonRecord
from clipshards.packer.skeletons import check_skeleton, with_arrays

NAN = float("nan")
VALID = {0.5: 6, 0.6: 5, 0.7: 4, 0.8: 3, 0.9: 2}


def pose(**changes: Any) -> dict[str, Any]:
    """Return a 2-D entry: 2 persons, 6 frames, 5 joints; a change to ... leaves a key out."""
    entry = {
        "frame_dir": "a",
        "label": 1,
        "total_frames": 6,
        "img_shape": (240, 320),
        "original_shape": (480, 640),
        "keypoint": np.arange(120, dtype=np.float16).reshape(2, 6, 5, 2),
        "keypoint_score": np.ones((2, 6, 5), np.float16),
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not ...}


def boxes(**changes: Any) -> dict[str, Any]:
    """Return a compressed entry: 4 boxes in 8 frames."""
    return pose(
        **{
            "total_frames": 8,
            "keypoint": np.arange(60, dtype=np.float16).reshape(4, 5, 3),
            "keypoint_score": ...,
            "frame_inds": np.array([0, 2, 2, 7], np.int16),
            "box_score": np.array([0.9, 0.4, 0.6, 0.8], np.float16),
            "valid": VALID,
            **changes,
        }
    )


def write(tmp_path: Path, data: object) -> Path:
    file = tmp_path / "poses.pkl"
    file.write_bytes(pickle.dumps(data))
    return file


def read(tmp_path: Path, data: object, **options: Any) -> list[SkeletonRecord | Reject | Excluded]:
    return list(SkeletonFile(write(tmp_path, data), **options))


def only(tmp_path: Path, entry: object, **options: Any) -> SkeletonRecord:
    (found,) = read(tmp_path, [entry], **options)
    assert isinstance(found, SkeletonRecord), found
    return found


def same(found: np.ndarray | None, expected: np.ndarray) -> bool:
    return (
        found is not None
        and found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_poses_of_persons_become_a_record(tmp_path: Path, dtype: str) -> None:
    keypoint = np.linspace(0, 1, 120).reshape(2, 6, 5, 2).astype(dtype)
    record = only(tmp_path, pose(keypoint=keypoint))
    assert same(record.keypoint, keypoint)
    assert same(record.keypoint_score, np.ones((2, 6, 5), np.float16))
    assert (record.id, record.labels, record.total_frames) == ("a", (1,), 6)
    assert (record.image_shape, record.original_shape) == ((240, 320), (480, 640))
    assert (record.frame_inds, record.box_score, record.valid) == (None, None, ())
    assert (record.path, record.box_threshold) == ("", 0.0)
    assert record.origin == Origin("poses.pkl", index=0)


def test_three_dimensions_need_no_scores_and_no_shapes(tmp_path: Path) -> None:
    keypoint = np.ones((1, 6, 25, 3), np.float32)
    entry = pose(keypoint=keypoint, keypoint_score=..., img_shape=..., original_shape=...)
    record = only(tmp_path, entry)
    assert same(record.keypoint, keypoint)
    assert (record.keypoint_score, record.image_shape) == (None, (0, 0))


def test_compressed_entry_stays_compressed(tmp_path: Path) -> None:
    entry = boxes()
    record = only(tmp_path, entry)
    assert same(record.keypoint, entry["keypoint"])
    assert same(record.frame_inds, entry["frame_inds"])
    assert same(record.box_score, entry["box_score"])
    assert record.valid == tuple(VALID.items())
    assert record.total_frames == 8
    assert record.box_threshold == 0.0


def test_numpy_numbers_and_lists_are_read_as_python_ones(tmp_path: Path) -> None:
    entry = boxes(
        label=np.int64(3),
        total_frames=np.int16(8),
        img_shape=[np.int32(240), 320],
        original_shape=np.array([480, 640]),
        valid={np.float64(0.5): np.int64(6)},
    )
    record = only(tmp_path, entry)
    assert record.labels == (3,)
    assert type(record.labels[0]) is type(record.total_frames) is int
    assert (record.image_shape, record.original_shape) == ((240, 320), (480, 640))
    assert {type(side) for side in record.image_shape + record.original_shape} == {int}
    assert record.valid == ((0.5, 6),)
    assert type(record.valid[0][0]) is float


def test_total_frames_are_taken_from_the_poses_where_missing(tmp_path: Path) -> None:
    assert only(tmp_path, pose(total_frames=...)).total_frames == 6
    (found,) = read(tmp_path, [boxes(total_frames=...)])
    assert isinstance(found, Reject)
    assert found.message == "expected total_frames, as keypoint does not tell it, got none"


@pytest.mark.parametrize(
    ("mode", "label", "expected"),
    [
        ("one", 0, (0,)),
        ("one", 2**63 - 1, (2**63 - 1,)),
        ("many", [4, 0, 4], (4, 0, 4)),
        ("many", (4,), (4,)),
        ("many", 7, (7,)),
        ("many", np.array([4, 0]), (4, 0)),
        ("none", ..., ()),
        ("none", None, ()),
    ],
)
def test_labels_are_read_by_mode(
    tmp_path: Path, mode: str, label: Any, expected: tuple[int, ...]
) -> None:
    assert only(tmp_path, pose(label=label), labels=mode).labels == expected


@pytest.mark.parametrize(
    ("mode", "label", "says"),
    [
        ("one", -1, "expected a class id, 0 or more, got -1"),
        ("one", 2**63, "expected a class id"),
        ("one", True, "expected a class id, 0 or more, got True"),
        ("one", 1.0, "expected a class id, 0 or more, got 1.0"),
        ("one", "cat", "expected a class id, 0 or more, got 'cat'"),
        ("one", ..., "expected a class id, 0 or more, got None"),
        ("one", [1], "expected one label, got [1]; is this file multi-label?"),
        ("many", [], "expected at least one label, got none"),
        ("many", [0, -1], "expected a class id, 0 or more, got -1"),
        ("many", [[0]], "expected a class id, 0 or more, got [0]"),
        ("none", 3, "expected no label, as the file is packed unlabelled, got 3"),
    ],
)
def test_wrong_label_is_rejected(tmp_path: Path, mode: str, label: Any, says: str) -> None:
    (found,) = read(tmp_path, [pose(label=label)], labels=mode)
    assert isinstance(found, Reject)
    assert says in found.message
    assert (found.id, str(found.origin)) == ("a", "poses.pkl[0]")


def shaped(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.ones(shape, dtype)


REJECTED: list[tuple[Any, str]] = [
    ("text", "expected a dict, got 'text'"),
    (None, "expected a dict, got None"),
    (pose(frame_dir=...), "expected an id in 'frame_dir', as in the first entry, got none"),
    (pose(frame_dir=3), "expected an id in 'frame_dir', as in the first entry, got 3"),
    (pose(frame_dir=""), "expected an id in 'frame_dir', as in the first entry, got ''"),
    (pose(total_frames=7), "by total_frames 7, got (2, 6, 5, 2)"),
    (pose(total_frames=0), "expected total_frames of 1 or more, got 0"),
    (pose(total_frames=-6), "expected total_frames of 1 or more, got -6"),
    (pose(total_frames=6.0), "expected total_frames of 1 or more, got 6.0"),
    (pose(total_frames=2**63), "expected total_frames of 1 or more"),
    (pose(keypoint=...), "expected keypoint, got none"),
    (pose(keypoint=[[1.0]]), "keypoint: expected an array, got a list of 1"),
    (pose(keypoint=shaped(2, 6, 5, 2, dtype="i4")), "got a int32 array of shape (2, 6, 5, 2)"),
    (pose(keypoint=shaped(2, 6, 5, 2, dtype="b1")), "keypoint: expected one of float16, float32"),
    (pose(keypoint=shaped(6, 5, 2)), "(persons, 6, joints, 2 or 3), or frame_inds, got shape"),
    (pose(keypoint=shaped(2, 6, 5, 4)), "(persons, 6, joints, 2 or 3), got (2, 6, 5, 4)"),
    (pose(keypoint=shaped(0, 6, 5, 2)), "at least one number, got shape (0, 6, 5, 2)"),
    (pose(keypoint=shaped(2, 0, 5, 2)), "at least one number, got shape (2, 0, 5, 2)"),
    (pose(keypoint=np.full((2, 6, 5, 2), NAN)), "got NaN or infinity 120 times"),
    (pose(keypoint_score=shaped(2, 6, 4)), "expected shape (2, 6, 5), got (2, 6, 4)"),
    (pose(keypoint_score=shaped(1, 6, 5)), "expected shape (2, 6, 5), got (1, 6, 5)"),
    (pose(keypoint_score=shaped(2, 6, 5, 1)), "keypoint_score: expected shape (persons, 6,"),
    (pose(keypoint_score=np.full((2, 6, 5), np.inf)), "keypoint_score: expected finite numbers"),
    (pose(keypoint_score=[1]), "keypoint_score: expected an array, got [1]"),
    (pose(box_score=shaped(6)), "expected frame_inds beside box_score, got none"),
    (pose(img_shape=(240,)), "expected img_shape (height, width) of 1 or more, got (240,)"),
    (pose(img_shape=(240, 0)), "expected img_shape (height, width) of 1 or more, got (240, 0)"),
    (pose(img_shape=(240.0, 320)), "expected img_shape (height, width) of 1 or more"),
    (pose(original_shape=(3, 480, 640)), "expected original_shape (height, width) of 1 or more"),
    (boxes(keypoint=shaped(4, 5, 2)), "keypoint: expected shape (boxes, joints, 3), got (4, 5, 2)"),
    (boxes(keypoint=shaped(3, 5, 3)), "expected one row a box, got 3 in keypoint, 4 in frame_inds"),
    (boxes(keypoint=shaped(0, 5, 3)), "keypoint: expected at least one number, got shape (0, 5, 3"),
    (boxes(keypoint_score=shaped(4, 5)), "expected no keypoint_score beside frame_inds"),
    (boxes(frame_inds=[0, 2, 2, 7]), "signed integers of shape (boxes,), got [0, 2, 2, 7]"),
    (boxes(frame_inds=shaped(4)), "signed integers of shape (boxes,), got a float32 array"),
    (boxes(frame_inds=shaped(4, dtype="u2")), "expected signed integers"),
    (boxes(frame_inds=np.array([0, 3, 2, 7])), "expected ascending frame numbers"),
    (boxes(frame_inds=np.array([0, 3, 5, 9])), "frame numbers from 0 to 8, got 0 to 9"),
    (boxes(frame_inds=np.array([-1, 3, 5, 7])), "frame numbers from 0 to 8, got -1 to 7"),
    (boxes(frame_inds=np.array([], int)), "expected at least one box"),
    (boxes(box_score=shaped(3)), "4 in frame_inds, 3 in box_score"),
    (boxes(box_score=shaped(4, 1)), "box_score: expected shape (boxes,), got (4, 1)"),
    (boxes(box_score=shaped(4, dtype="i8")), "box_score: expected one of float16"),
    (boxes(valid=[0.5]), "valid: expected a dict, got [0.5]"),
    (boxes(valid={"0.5": 3}), "valid: expected a threshold, got '0.5'"),
    (boxes(valid={0.5: -1}), "valid: expected a count of frames, got -1"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "says"), REJECTED)
def test_wrong_entry_is_rejected_and_the_others_are_kept(
    tmp_path: Path, entry: Any, says: str
) -> None:
    first, found, last = read(tmp_path, [pose(), entry, pose()])
    assert isinstance(first, SkeletonRecord)
    assert isinstance(last, SkeletonRecord)
    assert isinstance(found, Reject)
    assert says in found.message
    assert found.error == "AnnotationError"
    assert str(found.origin) == "poses.pkl[1]"


SPLIT = {
    "split": {"train": ["c", "a", "gone"], "val": ["b"]},
    "annotations": [pose(frame_dir=name) for name in "abc"],
}


def test_split_chooses_entries_in_annotation_order(tmp_path: Path) -> None:
    found = read(tmp_path, SPLIT, source_split="train")
    assert [(entry.id, str(entry.origin)) for entry in found] == [
        ("a", "poses.pkl[0]"),
        ("c", "poses.pkl[2]"),
        ("gone", "poses.pkl:train[2]"),
    ]
    lost = found[-1]
    assert isinstance(lost, Reject)
    assert lost.message == (
        "expected an annotation of each id of split 'train', got none of 'gone'"
    )
    assert [entry.id for entry in read(tmp_path, SPLIT, source_split="val")] == ["b"]


def test_only_split_needs_no_name(tmp_path: Path) -> None:
    data = {"split": {"train": ["a"]}, "annotations": [pose()]}
    assert [entry.id for entry in read(tmp_path, data)] == ["a"]


@pytest.mark.parametrize(
    ("data", "split", "says"),
    [
        (SPLIT, None, "expected the name of a split, one of ['train', 'val'], got none"),
        (SPLIT, "test", "expected the name of a split, one of ['train', 'val'], got 'test'"),
        ([pose()], "train", "got a bare list of annotations; leave out the name of the split"),
        ([], None, "expected a list of at least one annotation"),
        ({"annotations": [pose()]}, None, "with keys ['annotations']"),
        ({"x": 1}, "train", "expected a dict with 'split' and 'annotations', or a list"),
        ("text", None, "expected a dict with 'split' and 'annotations', or a list"),
        (np.ones(3), None, "got a float64 array of shape (3,)"),
        ({"split": {}, "annotations": [pose()]}, None, "split: expected a dict of names"),
        ({"split": ["a"], "annotations": [pose()]}, None, "split: expected a dict of names"),
        ({"split": {"t": []}, "annotations": [pose()]}, None, "split 't': expected a list of ids"),
        ({"split": {"t": "ab"}, "annotations": [pose()]}, None, "expected a list of ids, got 'ab'"),
        ({"split": {"t": ["a", 3]}, "annotations": [pose()]}, None, "split 't'[1]: expected an id"),
        ({"split": {"t": ["a"]}, "annotations": []}, None, "a list of at least one annotation"),
        ({"split": {"t": ["a"]}, "annotations": {}}, None, "a list of at least one annotation"),
    ],
)
def test_file_of_another_form_is_refused(
    tmp_path: Path, data: Any, split: str | None, says: str
) -> None:
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, data, source_split=split)
    assert str(caught.value).startswith(f"{tmp_path / 'poses.pkl'}: ")
    assert says in str(caught.value)


def test_filename_is_the_id_where_the_first_entry_has_one(tmp_path: Path) -> None:
    entries = [pose(filename="x/1", frame_dir=...), pose(filename="x/2"), pose(frame_dir="y")]
    records = SkeletonFile(write(tmp_path, entries))
    first, second, third = records
    assert (first.id, second.id) == ("x/1", "x/2")
    assert isinstance(third, Reject)
    assert "expected an id in 'filename', as in the first entry, got none" in third.message
    assert records.warnings == ["keys that are not packed: frame_dir"]


def test_unknown_keys_are_collected(tmp_path: Path) -> None:
    data = {"split": {"t": ["a"]}, "annotations": [pose(num_person_raw=2, note="n")], "meta": 1}
    records = SkeletonFile(write(tmp_path, data))
    assert records.warnings == []
    assert len(list(records)) == 1
    assert records.warnings == ["keys that are not packed: meta, note, num_person_raw"]


def test_ids_named_twice_are_warned_about(tmp_path: Path) -> None:
    data = {"split": {"t": ["a", "b", "a"]}, "annotations": [pose(), pose(frame_dir="b")]}
    records = SkeletonFile(write(tmp_path, data))
    assert [entry.id for entry in records] == ["a", "b"]
    assert records.warnings == ["1 ids are in split 't' more than once, the first: 'a'"]
    records = SkeletonFile(write(tmp_path, [pose(), pose()]))
    assert [entry.id for entry in records] == ["a", "a"]
    assert records.warnings == ["1 ids are annotated more than once, the first: 'a'"]


def test_valid_ratio_excludes_as_mmaction2_does(tmp_path: Path) -> None:
    entries = [boxes(), boxes(frame_dir="b", valid={0.5: 4, 0.7: 3})]
    for ratio, threshold in ((0.5, 0.5), (0.5, 0.7), (0.4, 0.7), (1.0, 0.5), (0.76, 0.5)):
        found = read(tmp_path, entries, valid_ratio=ratio, box_thr=threshold)
        for place, entry in enumerate(entries):
            value = found[place]
            if entry["valid"][threshold] / entry["total_frames"] >= ratio:
                assert isinstance(value, SkeletonRecord)
                assert value.box_threshold == threshold
            else:
                expected = Excluded("valid_ratio", entry["frame_dir"], value.origin)
                assert value == expected
                assert str(value.origin) == f"poses.pkl[{place}]"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (boxes(valid=...), "valid: expected the frames of threshold 0.5, got thresholds []"),
        (boxes(valid={0.6: 8}), "expected the frames of threshold 0.5, got thresholds [0.6]"),
        (boxes(box_score=...), "expected box_score, as boxes are chosen by it, got none"),
    ],
)
def test_valid_ratio_rejects_what_it_cannot_judge(tmp_path: Path, entry: Any, says: str) -> None:
    (found,) = read(tmp_path, [entry], valid_ratio=0.5)
    assert isinstance(found, Reject)
    assert says in found.message


def test_skeleton_dir_names_a_pickle_a_video(tmp_path: Path) -> None:
    record = only(tmp_path, boxes(keypoint=...), skeleton_dir="kp")
    assert (record.path, record.keypoint) == ("kp/a.pkl", None)
    bare = pose(keypoint=..., keypoint_score=...)
    assert only(tmp_path, bare, skeleton_dir="kp").total_frames == 6
    broken = boxes(keypoint=..., frame_inds=np.array([3, 1, 2, 4]))
    (found,) = read(tmp_path, [broken], skeleton_dir="kp")
    assert isinstance(found, Reject)
    (found,) = read(tmp_path, [pose(keypoint=..., total_frames=...)], skeleton_dir="kp")
    assert isinstance(found, Reject)
    assert "expected total_frames" in found.message


@pytest.mark.parametrize(
    "options",
    [
        {"labels": "two"},
        {"valid_ratio": -0.1},
        {"valid_ratio": 1.5},
        {"valid_ratio": NAN},
        {"box_thr": 0.55},
        {"encoding": "utf-8"},
    ],
)
def test_wrong_option_is_a_wrong_argument(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SkeletonFile("a.pkl", **options)


def test_hostile_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"got global 'builtins\.print'"):
        read(tmp_path, [pose(keypoint=print)])


def test_entry_that_contains_itself_is_rejected(tmp_path: Path) -> None:
    knot: list[Any] = []
    knot += [knot, knot]
    for key in ("frame_dir", "label", "total_frames", "keypoint", "img_shape", "valid"):
        found = read(tmp_path, [pose(), pose(**{key: knot})], labels="many")
        assert isinstance(found[1], Reject)
        assert len(found[1].message) < 200


# Per-video pickles.


def test_arrays_of_the_videos_pickle_complete_the_record(tmp_path: Path) -> None:
    entry = boxes()
    record = only(tmp_path, boxes(keypoint=...), skeleton_dir="kp")
    whole = with_arrays(record, {"keypoint": entry["keypoint"], "frame_dir": "a"})
    assert same(whole.keypoint, entry["keypoint"])
    assert same(whole.frame_inds, entry["frame_inds"])
    assert (whole.path, whole.id, whole.labels) == ("", "a", (1,))
    bare = only(tmp_path, pose(keypoint=..., keypoint_score=..., img_shape=...), skeleton_dir="kp")
    arrays = {key: pose()[key] for key in ("keypoint", "keypoint_score")}
    shapes = {"img_shape": [240, 320], "total_frames": np.int64(6)}
    whole = with_arrays(bare, arrays | shapes)
    assert same(whole.keypoint_score, arrays["keypoint_score"])
    assert whole.image_shape == (240, 320)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1], "'kp/a.pkl': expected a dict, got [1]"),
        ({}, "expected keypoint, got none"),
        ({"keypoint": [1.0]}, "keypoint: expected an array, got [1.0]"),
        ({"keypoint": shaped(2, 6, 5, 2), "extra": 1}, "got key 'extra' with 1"),
        ({"keypoint": shaped(2, 6, 5, 2), 3: 1}, "got key 3 with 1"),
        ({"keypoint": shaped(2, 6, 5, 2), "frame_dir": "b"}, "got key 'frame_dir' with 'b'"),
        ({"keypoint": shaped(2, 6, 5, 2), "frame_dir": shaped(3)}, "got key 'frame_dir' with a"),
        ({"keypoint": shaped(2, 7, 5, 2)}, "by total_frames 6, got (2, 7, 5, 2)"),
        ({"keypoint": shaped(2, 7, 5, 2), "total_frames": 7}, "total_frames 6 as annotated, got 7"),
        ({"keypoint": shaped(2, 6, 5, 2), "total_frames": "6"}, "expected total_frames of 1 or"),
        ({"keypoint": shaped(2, 6, 5, 2), "img_shape": (1, 2)}, "(240, 320) as annotated, got (1"),
        ({"keypoint": shaped(2, 6, 5, 2), "img_shape": 3}, "expected img_shape (height, width)"),
    ],
)
def test_wrong_pickle_of_a_video_is_a_media_error(tmp_path: Path, values: Any, says: str) -> None:
    record = only(tmp_path, pose(keypoint=..., keypoint_score=...), skeleton_dir="kp")
    with pytest.raises(MediaError) as caught:
        with_arrays(record, values)
    assert str(caught.value).startswith("'kp/a.pkl': ")
    assert says in str(caught.value)


def test_records_that_users_make_are_checked_too() -> None:
    keypoint = shaped(1, 6, 5, 2)
    assert check_skeleton(SkeletonRecord(total_frames=6, keypoint=keypoint)) == ""
    faulty: list[tuple[dict[str, Any], str]] = [
        ({"total_frames": 5}, "by total_frames 5"),
        ({"total_frames": np.int64(6)}, "expected total_frames of 1 or more"),
        ({"keypoint": None}, "expected keypoint, got none"),
        ({"image_shape": (0, 5)}, "image_shape: expected (height, width)"),
        ({"original_shape": [5, 5]}, "original_shape: expected (height, width)"),
        ({"valid": ((0.5, -1),)}, "valid: expected 0 frames or more, got -1"),
        ({"valid": (("x", 1),)}, "valid: expected (threshold, frames)"),
        ({"box_threshold": 0.5}, "expected box_score, as box_threshold is 0.5"),
        ({"box_threshold": NAN}, "box_threshold: expected a float from 0 to 1"),
    ]
    for changes, says in faulty:
        record = SkeletonRecord(**{"total_frames": 6, "keypoint": keypoint, **changes})
        assert says in check_skeleton(record)


# Real files.


@pytest.mark.parametrize(
    ("name", "options", "counts"),
    [
        ("coco2d_synthetic", {"source_split": "train"}, {"SkeletonRecord": 4}),
        ("list_synthetic", {}, {"SkeletonRecord": 6}),
        ("ntu3d_synthetic", {"source_split": "xsub_val"}, {"SkeletonRecord": 1}),
        ("k400_compressed_synthetic", {}, {"SkeletonRecord": 2}),
        ("k400_sample_subset", {"source_split": "train"}, {"Reject": 15}),
        (
            "k400_sample_subset",
            {"source_split": "val", "skeleton_dir": "kp"},
            # One of them has frame_inds up to total_frames itself.
            {"SkeletonRecord": 5},
        ),
    ],
)
def test_shared_files_become_records_with_exactly_their_values(
    shared_data: Path, name: str, options: dict[str, Any], counts: dict[str, int]
) -> None:
    file = shared_data / "skeleton" / f"{name}.pkl"
    data = pickle.loads(file.read_bytes())
    annotations = data if isinstance(data, list) else data["annotations"]
    records = SkeletonFile(file, **options)
    found = list(records)
    assert Counter(type(value).__name__ for value in found) == counts
    assert not records.warnings
    for record in found:
        if isinstance(record, Reject):
            assert record.message in ("expected keypoint, got none",)
            continue
        assert isinstance(record, SkeletonRecord)
        assert record.origin is not None
        entry = annotations[record.origin.index]
        assert record.id == entry["frame_dir"]
        assert record.labels == (entry["label"],)
        assert record.total_frames == entry["total_frames"]
        assert record.image_shape == tuple(entry.get("img_shape", (0, 0)))
        assert dict(record.valid) == entry.get("valid", {})
        for key in ("keypoint", "keypoint_score", "frame_inds", "box_score"):
            array = getattr(record, key)
            assert same(array, entry[key]) if key in entry else array is None
