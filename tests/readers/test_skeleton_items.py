"""Items of skeletons: keys, clips, and what is refused when a part is not as it should be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from clipshards.packer.format.errors import DatasetError, FormatError
from clipshards.packer.format.npy import encode_npy
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.one_call import pack
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import Origin, SkeletonRecord
from clipshards.packer.samples.base import Material, Sample
from clipshards.packer.samples.skeleton import make_skeleton_sample, skeleton_parts
from clipshards.readers.clips import DenseClip, UniformClip
from clipshards.readers.items import ItemReader
from clipshards.readers.opening import open_dataset
from clipshards.readers.skeleton import SkeletonItem

RNG = np.random.default_rng(0)
PERSONS = SkeletonRecord(
    id="persons",
    total_frames=6,
    keypoint=RNG.normal(size=(2, 6, 5, 2)).astype(np.float16),
    keypoint_score=RNG.random((2, 6, 5)).astype(np.float32),
    image_shape=(240, 320),
    original_shape=(480, 640),
    labels=(3,),
    origin=Origin("a.pkl", index=0),
)
THREE_D = SkeletonRecord(
    id="3-D",
    total_frames=4,
    keypoint=RNG.normal(size=(1, 4, 5, 3)),
    labels=(0,),
    origin=Origin("a.pkl", index=1),
)
BOXES = SkeletonRecord(
    id="boxes",
    total_frames=7,
    keypoint=RNG.normal(size=(4, 5, 3)).astype(np.float32),
    frame_inds=np.array([0, 0, 3, 7], dtype=np.int16),
    box_score=np.array([0.9, 0.5, 0.49, 0.7], dtype=np.float16),
    box_threshold=0.5,
    valid=((0.5, 3),),
    labels=(1,),
    origin=Origin("a.pkl", index=2),
)
RECORDS = (PERSONS, THREE_D, BOXES)


def samples(*records: SkeletonRecord) -> list[Sample]:
    material = Material(MediaRoot(Path("nowhere")), Recipe(), skeleton_parts(records))
    return [make_skeleton_sample(record, material) for record in records]


@pytest.fixture
def place(craft: Callable[..., Path]) -> Path:
    """A split with one sample of each form."""
    return craft([samples(*RECORDS)], task="skeleton")


def read(place: Path, clip: Any = None, *, epoch: int = 0) -> list[dict[str, Any]]:
    reader = ItemReader(open_dataset(place), clip=clip)
    return [reader.read(item, number=epoch) for item in range(len(reader.split))]


def test_the_keys_of_an_item_are_those_documented(place: Path) -> None:
    documented = set(get_type_hints(SkeletonItem)) - {"labels"}
    persons, three_d, boxes = read(place)
    compressed = {"frame_inds", "box_score", "anno_inds"}
    assert set(persons) == documented - compressed
    assert set(three_d) == documented - compressed - {"keypoint_score"}
    assert set(boxes) == documented - {"keypoint_score"}
    for item in (persons, three_d, boxes):
        assert type(item["total_frames"]) is type(item["label"]) is int


def test_arrays_are_the_records(place: Path) -> None:
    for item, record in zip(read(place), RECORDS, strict=True):
        for name in ("keypoint", "keypoint_score", "frame_inds", "box_score"):
            expected = getattr(record, name)
            assert (name in item) == (expected is not None)
            if expected is not None:
                assert item[name].dtype == expected.dtype
                np.testing.assert_array_equal(item[name], expected)
        assert (item["id"], item["label"]) == (record.id, record.labels[0])
        assert item["total_frames"] == record.total_frames


def test_shapes_are_height_and_width(place: Path) -> None:
    persons, three_d, _ = read(place)
    assert persons["img_shape"].tolist() == [240, 320]
    assert persons["original_shape"].tolist() == [480, 640]
    assert three_d["img_shape"].tolist() == three_d["original_shape"].tolist() == [0, 0]
    assert persons["img_shape"].dtype == np.int64


def test_boxes_that_reach_the_threshold_are_flagged(place: Path) -> None:
    boxes = read(place)[2]
    assert boxes["anno_inds"].dtype == np.bool_
    assert boxes["anno_inds"].tolist() == [True, True, False, True]


@pytest.mark.parametrize("clip", [UniformClip(3), UniformClip(9), DenseClip(4, 2)], ids=repr)
def test_a_clip_takes_its_frames_of_every_array(place: Path, clip: UniformClip | DenseClip) -> None:
    for epoch in range(3):
        persons, three_d, boxes = read(place, clip, epoch=epoch)
        for item, record in ((persons, PERSONS), (three_d, THREE_D)):
            assert record.keypoint is not None
            numbers = item["frame_numbers"]
            assert (numbers.dtype, numbers.shape) == (np.int64, (clip.length,))
            np.testing.assert_array_equal(item["keypoint"], record.keypoint[:, numbers])
        assert PERSONS.keypoint_score is not None
        np.testing.assert_array_equal(
            persons["keypoint_score"], PERSONS.keypoint_score[:, persons["frame_numbers"]]
        )
        assert boxes["keypoint"].shape == (2, clip.length, 5, 2)
        assert set(boxes["frame_numbers"].tolist()) <= {0, 7}


@pytest.mark.parametrize("clip", [None, UniformClip(3)], ids=repr)
def test_an_item_can_be_changed_without_changing_the_next(place: Path, clip: Any) -> None:
    for item in read(place, clip):
        for name in ("keypoint", "keypoint_score", "frame_inds", "box_score"):
            if name in item:
                item[name][...] = 0
    for item in read(place, clip):
        assert item["keypoint"].any()


def test_a_part_that_says_absent_and_is_there_is_refused(craft: Callable[..., Path]) -> None:
    first, second = samples(PERSONS, THREE_D)
    wrong = replace(second, parts={**second.parts, "keypoint_score.npy": encode_npy(np.ones(3))})
    place = craft([[first, wrong]], task="skeleton")
    with pytest.raises(FormatError, match=r"train-00000001\.keypoint_score\.npy: said to be"):
        read(place)


@pytest.mark.parametrize("part", ["keypoint.npy", "keypoint_score.npy", "json"])
@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x80\x04N.", b"{}"])
def test_a_part_of_other_bytes_is_refused(
    craft: Callable[..., Path], part: str, data: bytes
) -> None:
    (sample,) = samples(PERSONS)
    place = craft([[replace(sample, parts={**sample.parts, part: data})]], task="skeleton")
    with pytest.raises(FormatError, match=rf"train-00000000\.{part}"):
        read(place)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.id)
def test_more_frames_than_any_video_has_do_not_fill_the_memory(
    record: SkeletonRecord, tmp_path: Path
) -> None:
    """The reader counts frames in an array; a false count must not become a huge one."""
    huge = replace(record, total_frames=4 * 10**18)
    with pytest.raises(DatasetError):
        pack_and_read(huge, tmp_path)


def pack_and_read(record: SkeletonRecord, folder: Path) -> None:
    pack([record], folder / "set", split="train", media_root=folder)
    read(folder / "set")


def test_a_clip_of_boxes_is_one_of_the_frames_that_have_any(place: Path) -> None:
    boxes = read(place, UniformClip(2, jitter=False))[2]
    assert BOXES.keypoint is not None
    # The box of frame 3 does not reach the threshold, and so its frame has none.
    assert boxes["frame_numbers"].tolist() == [0, 7]
    assert not {"frame_inds", "box_score", "anno_inds"} & set(boxes)
    assert boxes["keypoint"].shape == (2, 2, 5, 2)
    assert boxes["total_frames"] == 7
    for person, frame, row in ((0, 0, 0), (1, 0, 1), (0, 1, 3)):
        due = BOXES.keypoint[row]
        np.testing.assert_array_equal(boxes["keypoint"][person, frame], due[:, :2])
        np.testing.assert_array_equal(boxes["keypoint_score"][person, frame], due[:, 2])
    assert not boxes["keypoint"][1, 1].any()


def test_a_clip_of_no_boxes_has_no_persons(craft: Callable[..., Path]) -> None:
    alone = replace(BOXES, box_threshold=0.9, box_score=np.full(4, 0.5, np.float16))
    place = craft([samples(alone)], task="skeleton")
    (item,) = read(place, UniformClip(3, jitter=False))
    assert item["keypoint"].shape == (0, 3, 5, 2)
    assert item["keypoint_score"].shape == (0, 3, 5)
    assert item["frame_numbers"].tolist() == [1, 3, 5]
