"""Batches of unlike items of every task, by the default collate, beside the items themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pack_inputs
import pytest
import torch
from PIL import Image

from clipshards.packer import (
    ActivityNetRecord,
    AudioRecord,
    AvaCsv,
    FrameRange,
    RawframesRecord,
    SkeletonRecord,
    VideoRecord,
    pack,
)
from clipshards.readers import Clip, ShardDataset, UniformClip, open_dataset
from clipshards.readers.split import Split

CLIP = UniformClip(3)
RAGGED = {
    "labels",
    "boxes",
    "entity_ids",
    "proposals",
    "proposal_scores",
    "segments",
    "segment_labels",
}


def read_both(split: Split, clip: Clip | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return all items of a split as one batch, and as they are."""

    def keep(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"items": list(items)}

    size = len(split)
    batch = ShardDataset(split, batch_size=size, clip=clip, seed=5).read_batch(0, 0)
    items = ShardDataset(split, batch_size=size, clip=clip, seed=5, collate=keep).read_batch(0, 0)
    return batch, items["items"]


def assert_holds(batch: dict[str, Any], items: list[dict[str, Any]], masks: dict[str, str]) -> None:
    """A batch has what its items have, zeros beside it, and says by masks which is which.

    `masks` names the mask of each array that is filled up.
    """
    assert batch.keys() == items[0].keys() | set(masks.values()) | {"position", "valid"}
    for name, first in items[0].items():
        values = [item[name] for item in items]
        found = batch[name]
        if name in RAGGED or isinstance(first, str):
            assert type(found) is list
            for one, value in zip(found, values, strict=True):
                if isinstance(value, np.ndarray):
                    assert isinstance(one, torch.Tensor)
                    assert (one.numpy().dtype, one.shape) == (value.dtype, value.shape)
                    np.testing.assert_array_equal(one.numpy(), value)
                else:
                    assert one == value
        elif isinstance(first, np.ndarray):
            assert found.numpy().dtype == first.dtype
            longest = max(len(value) for value in values)
            assert found.shape == (len(items), longest, *first.shape[1:])
            for place, value in enumerate(values):
                np.testing.assert_array_equal(found[place, : len(value)].numpy(), value)
                assert not found[place, len(value) :].numpy().any()
                if name in masks:
                    due = [n < len(value) for n in range(longest)]
                    assert batch[masks[name]][place].tolist() == due
                else:
                    assert len(value) == longest
        else:
            assert found.tolist() == values


def assert_unlike(items: list[dict[str, Any]], *names: str) -> None:
    """What a test is about is there: items differ in the length of these."""
    for name in names:
        assert len({len(item[name]) for item in items}) > 1


@pytest.mark.parametrize("split", ["train", "multi", "bare"])
def test_videos_of_several_lengths(location: Path, split: str) -> None:
    batch, items = read_both(open_dataset(location, split=split), CLIP)
    assert len({item["total_frames"] for item in items}) > 1
    if split == "multi":
        assert_unlike(items, "labels")
        assert all(labels.dtype == torch.int64 for labels in batch["labels"])
    assert_holds(batch, items, {})


def test_stretches_of_raw_frames(tmp_path: Path) -> None:
    for folder, count in (("a", 9), ("b", 5)):
        (tmp_path / folder).mkdir()
        for number, picture in enumerate(makers.pictures(count, (20, 12))):
            Image.fromarray(picture).save(tmp_path / folder / f"{number}.png")
    records = [
        RawframesRecord(
            folder=folder,
            ranges=tuple(
                FrameRange(offset=offset, total_frames=total, labels=labels)
                for offset, total, labels in ranges
            ),
            filename_tmpl="{}.png",
            start_index=0,
        )
        for folder, ranges in (
            ("a", [(0, 9, (1,)), (4, 3, (2, 0)), (8, 1, (5, 6, 7))]),
            ("b", [(0, 5, (3, 4))]),
        )
    ]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path, labels="many")
    batch, items = read_both(open_dataset(tmp_path / "set"), CLIP)
    assert len(items) == 4
    assert_unlike(items, "labels")
    assert_holds(batch, items, {})


def test_skeletons_of_several_persons(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [
        SkeletonRecord(
            id=f"s{number}",
            total_frames=frames,
            keypoint=rng.normal(size=(persons, frames, 5, 2)).astype(np.float16),
            keypoint_score=rng.random((persons, frames, 5)).astype(np.float32),
            image_shape=(240, 320),
            labels=(number,),
        )
        for number, (persons, frames) in enumerate([(1, 6), (3, 4), (2, 9), (1, 3)])
    ]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    split = open_dataset(tmp_path / "set")
    batch, items = read_both(split, CLIP)
    assert_unlike(items, "keypoint", "keypoint_score")
    assert_holds(batch, items, dict.fromkeys(("keypoint", "keypoint_score"), "keypoint_mask"))
    assert batch["keypoint"].shape == (4, 3, 3, 5, 2)
    with pytest.raises(ValueError, match=r"'keypoint': train-0.*, train-0.*; pass clip="):
        read_both(split, None)


def test_skeletons_of_one_person_have_a_mask_too(tmp_path: Path) -> None:
    records = pack_inputs.skeletons(4)
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    batch, items = read_both(open_dataset(tmp_path / "set"), None)
    assert_holds(batch, items, {"keypoint": "keypoint_mask"})
    assert batch["keypoint_mask"].tolist() == [[True]] * 4


def test_compressed_skeletons_come_whole_or_as_persons_of_a_clip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [
        SkeletonRecord(
            id=f"s{number}",
            total_frames=frames,
            keypoint=rng.normal(size=(boxes, 5, 3)).astype(np.float32),
            frame_inds=np.sort(rng.integers(1, frames + 1, boxes)).astype(np.int16),
            box_score=rng.random(boxes).astype(np.float16),
            box_threshold=0.5,
            labels=(number,),
        )
        for number, (boxes, frames) in enumerate([(4, 7), (11, 5), (1, 9)])
    ]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    batch, items = read_both(open_dataset(tmp_path / "set"), None)
    names = ("keypoint", "frame_inds", "box_score", "anno_inds")
    assert_unlike(items, *names, "frame_numbers")
    masks = dict.fromkeys(names, "keypoint_mask") | {"frame_numbers": "frame_numbers_mask"}
    assert_holds(batch, items, masks)
    assert batch["anno_inds"].dtype == torch.bool
    batch, items = read_both(open_dataset(tmp_path / "set"), CLIP)
    assert_unlike(items, "keypoint", "keypoint_score")
    assert_holds(batch, items, dict.fromkeys(("keypoint", "keypoint_score"), "keypoint_mask"))


def test_sounds_of_several_lengths(tmp_path: Path) -> None:
    for number, rows in enumerate((6, 19, 1)):
        mel = np.random.default_rng(number).normal(size=(rows, 8)).astype(np.float32)
        np.save(tmp_path / f"{number}.npy", mel)
    records = [
        AudioRecord(path=f"{number}.npy", total_frames=4 + number, labels=(number,))
        for number in range(3)
    ]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    split = open_dataset(tmp_path / "set")
    batch, items = read_both(split, CLIP)
    assert_unlike(items, "audios")
    assert_holds(batch, items, {"audios": "audios_mask"})
    with pytest.raises(ValueError, match=r"'frame_numbers': train-0.*, train-0.*; pass clip="):
        read_both(split, None)


@pytest.mark.parametrize("group", ["clip", "video"])
def test_moments_of_several_persons(tmp_path: Path, group: Any) -> None:
    for number in range(2):
        data = makers.video_bytes(size=(64, 48), frames=20, seed=number)
        (tmp_path / f"{number}.mp4").write_bytes(data)
    rows = [
        "0.mp4,3,0.1,0.1,0.5,0.5,1,0",
        "0.mp4,3,0.2,0.1,0.6,0.5,1,1",
        "0.mp4,3,0.2,0.1,0.6,0.5,4,1",
        "0.mp4,9,0.1,0.1,0.5,0.5,2,0",
        "1.mp4,1,0.3,0.3,0.9,0.7,3,5",
    ]
    (tmp_path / "a.csv").write_text("".join(f"{row}\n" for row in rows))
    records = AvaCsv(
        tmp_path / "a.csv",
        fps=1,
        timestamp_start=0,
        timestamp_end=None,
        clip_frames=6,
        group=group,
    )
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    batch, items = read_both(open_dataset(tmp_path / "set"), CLIP)
    assert len(items) == 3
    assert_unlike(items, "boxes", "labels", "entity_ids")
    assert_holds(batch, items, {})


def test_features_of_several_lengths_beside_videos(tmp_path: Path) -> None:
    records = []
    for number, (rows, frames) in enumerate([(3, 5), (8, 4), (1, 7)]):
        table = np.random.default_rng(number).normal(size=(rows, 6)).astype(np.float32)
        np.save(tmp_path / f"{number}.npy", table)
        video = makers.video_bytes(size=(48, 32), frames=frames, seed=number)
        (tmp_path / f"{number}.mp4").write_bytes(video)
        segments = tuple((0.5 * n, 0.5 * n + 1) for n in range(number))
        records.append(
            ActivityNetRecord(
                segments=segments,
                segment_labels=("dive",) * number,
                duration_s=7.5,
                features=f"{number}.npy",
                video=f"{number}.mp4",
                id=f"v{number}",
            )
        )
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    batch, items = read_both(open_dataset(tmp_path / "set"), CLIP)
    assert_unlike(items, "feature", "segments", "segment_labels")
    assert_holds(batch, items, {"feature": "feature_mask"})
    assert batch["frames"].shape == (3, 3, 32, 48, 3)


def test_videos_of_several_sizes_or_lengths_name_the_remedy(tmp_path: Path) -> None:
    shapes = {"wide.mp4": (64, 48), "small.mp4": (32, 48)}
    for name, size in shapes.items():
        (tmp_path / name).write_bytes(makers.video_bytes(size=size, frames=4 + len(name)))
    records = [VideoRecord(name, (0,)) for name in shapes]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    split = open_dataset(tmp_path / "set")
    with pytest.raises(ValueError, match=r"'frames': train-0.* size .*transform=.*--short-side"):
        read_both(split, CLIP)
    with pytest.raises(ValueError, match=r"'frames': .*; pass clip=.*transform="):
        read_both(split, None)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_loader_process_hands_masks_on(tmp_path: Path) -> None:
    for number, rows in enumerate((2, 7)):
        np.save(tmp_path / f"{number}.npy", np.ones((rows, 4), np.float32))
    records = [AudioRecord(path=f"{n}.npy", total_frames=4, labels=(n,)) for n in range(2)]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    dataset = ShardDataset(open_dataset(tmp_path / "set"), batch_size=2, clip=CLIP)
    (batch,) = dataset.loader(workers=1)
    due = torch.zeros(2, 7, 4)
    for place, label in enumerate(batch["label"].tolist()):
        due[place, : (2, 7)[label]] = 1
    assert torch.equal(batch["audios"], due)
    assert torch.equal(batch["audios_mask"], due[..., 0].bool())
