import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError
from clipshards.packer.media.synthetic import write_video
from clipshards.packer.one_call import pack
from clipshards.readers.batches import BatchPosition
from clipshards.readers.clips import DenseClip, UniformClip
from clipshards.readers.data import ShardDataset, ShardMapDataset
from clipshards.readers.opening import open_dataset
from clipshards.readers.video import VideoItem

Frames = npt.NDArray[np.uint8]

# torch and Python warn where a machine has fewer processors than workers, or other threads run.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


class Seen(NamedTuple):
    """What two equal batches have in common."""

    position: BatchPosition
    keys: list[str]
    numbers: list[list[int]]
    frames: int
    labels: Any


def seen(batch: dict[str, Any]) -> Seen:
    labels = batch["label"].tolist() if "label" in batch else None
    if "labels" in batch:
        labels = [values.tolist() for values in batch["labels"]]
    return Seen(
        batch["position"],
        batch["key"],
        batch["frame_numbers"].tolist(),
        crc32c(batch["frames"].numpy().tobytes()),
        labels,
    )


def seen_all(batches: Iterable[dict[str, Any]]) -> list[Seen]:
    return [seen(batch) for batch in batches]


def read_all(dataset: ShardDataset, epoch: int) -> list[Seen]:
    return seen_all(dataset.read_batch(epoch, number) for number in range(len(dataset)))


@pytest.fixture
def dataset(location: Path) -> ShardDataset:
    split = open_dataset(location, split="train")
    return ShardDataset(split, batch_size=4, clip=UniformClip(5), seed=3)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("split", ["train", "multi", "bare"])
def test_batches_are_the_same_for_any_number_of_workers(
    location: Path, split: str, workers: int
) -> None:
    opened = open_dataset(location, split=split)
    dataset = ShardDataset(opened, batch_size=4, clip=DenseClip(4, 2), seed=8)
    expected = [read_all(dataset, epoch) for epoch in range(3)]
    loader = dataset.loader(workers=workers)
    for epoch in (0, 1, 2, 0):
        dataset.set_epoch(epoch)
        assert seen_all(loader) == expected[epoch]
    assert len({str(batches) for batches in expected}) == 3


def test_workers_live_as_long_as_their_loader(dataset: ShardDataset) -> None:
    loader = dataset.loader(workers=2)
    lived = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        seen_all(loader)
        lived.append({process.pid for process in multiprocessing.active_children()})
    assert len(lived[0]) == 2
    assert lived[0] == lived[1]


def test_two_data_sets_of_one_seed_give_the_same_batches(
    location: Path, dataset: ShardDataset
) -> None:
    split = open_dataset(location, split="train")
    again = ShardDataset(split, batch_size=4, clip=UniformClip(5), seed=3)
    other = ShardDataset(split, batch_size=4, clip=UniformClip(5), seed=4)
    assert seen_all(again) == seen_all(dataset)
    assert seen_all(other) != seen_all(dataset)


def test_spawned_workers_give_the_same_batches(dataset: ShardDataset) -> None:
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=1,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        assert seen_all(loader) == read_all(dataset, epoch)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_data_loader_gives_the_same_batches(dataset: ShardDataset, workers: int) -> None:
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    assert len(loader) == len(dataset.loader()) == 4
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        assert seen_all(loader) == read_all(dataset, epoch)


@pytest.mark.parametrize("batch_size", [1, 4, 15, 100])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_comes_once_a_pass(location: Path, batch_size: int, workers: int) -> None:
    split = open_dataset(location, split="train")
    dataset = ShardDataset(split, batch_size=batch_size, clip=UniformClip(1), seed=1, tail="ragged")
    loader = dataset.loader(workers=workers)
    orders = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        batches = seen_all(loader)
        assert len(batches) == len(dataset) == -(-15 // batch_size)
        assert [len(batch.keys) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        keys = [key for batch in batches for key in batch.keys]
        assert sorted(keys) == [f"train-{number:08d}" for number in range(15)]
        orders.append([sorted(batch.keys) for batch in batches])
    # Inside a batch items stand in storage order, so one batch of all tells no order.
    assert (orders[0] != orders[1]) == (batch_size < 15)


def test_a_split_with_empty_shards_comes_whole(location: Path) -> None:
    split = open_dataset(location, split="gaps")
    dataset = ShardDataset(split, batch_size=4, clip=UniformClip(1), tail="ragged")
    keys = [key for batch in dataset for key in batch["key"]]
    assert sorted(keys) == [f"gaps-{number:08d}" for number in (0, 1, 2, 12, 13, 14)]


def test_without_shuffle_every_epoch_has_the_order_of_storage(location: Path) -> None:
    split = open_dataset(location, split="train")
    stored = [key for shard in range(4) for key in split.read_index(shard).keys]
    dataset = ShardDataset(split, batch_size=4, clip=UniformClip(3), shuffle=False)
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append(seen_all(dataset))
        assert [key for batch in epochs[-1] for key in batch.keys] == stored
    assert epochs[0][0].numbers != epochs[1][0].numbers, "the frames are drawn anew"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_carry_their_position(dataset: ShardDataset, workers: int) -> None:
    dataset.set_epoch(6)
    positions = [batch["position"] for batch in dataset.loader(workers=workers)]
    assert positions == [(6, 0, 0), (6, 1, 4), (6, 2, 8), (6, 3, 12)]
    assert all(isinstance(position, BatchPosition) for position in positions)
    assert positions[1].start == 4


def test_any_batch_can_be_read_at_once(dataset: ShardDataset) -> None:
    dataset.set_epoch(2)
    expected = seen_all(dataset.loader(workers=2))
    # In any order, and whatever epoch the iteration is at.
    dataset.set_epoch(0)
    for number in (3, 0, 2, 1):
        assert seen(dataset.read_batch(2, number)) == expected[number]


@pytest.mark.parametrize("batch", [-1, 4])
def test_a_batch_outside_the_epoch_is_refused(dataset: ShardDataset, batch: int) -> None:
    with pytest.raises(IndexError, match=f"batch {batch} of 4"):
        dataset.read_batch(0, batch)


def test_an_abandoned_epoch_leaves_nothing_behind(dataset: ShardDataset) -> None:
    loader = dataset.loader(workers=2)
    for batch in loader:
        assert batch["position"].epoch == 0
        break
    dataset.set_epoch(1)
    assert seen_all(loader) == read_all(dataset, 1)


def test_a_running_epoch_is_not_changed_by_the_next_number(dataset: ShardDataset) -> None:
    expected = read_all(dataset, 0)
    iterator = iter(dataset)
    found = [seen(next(iterator))]
    dataset.set_epoch(1)
    found += seen_all(iterator)
    assert found == expected
    assert dataset.epoch == 1


def test_a_negative_epoch_is_refused(dataset: ShardDataset) -> None:
    with pytest.raises(ValueError, match="epoch -1: expected 0 to 2"):
        dataset.set_epoch(-1)
    assert dataset.epoch == 0


def test_wrong_arguments_are_refused(location: Path) -> None:
    split = open_dataset(location, split="train")
    with pytest.raises(ValueError, match="batch_size 0: expected at least 1"):
        ShardDataset(split, batch_size=0, clip=UniformClip(1))
    with pytest.raises(ValueError, match="seed -1: expected"):
        ShardDataset(split, batch_size=1, clip=UniformClip(1), seed=-1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_has_the_documented_keys_shapes_and_types(
    dataset: ShardDataset, decoded: Callable[[str], Frames], workers: int
) -> None:
    for batch in dataset.loader(workers=workers):
        count = len(batch["key"])
        assert batch.keys() == {
            "key",
            "id",
            "frames",
            "frame_numbers",
            "total_frames",
            "label",
            "position",
            "valid",
        }
        assert batch["valid"].dtype == torch.bool
        assert batch["frames"].shape == (count, 5, 48, 64, 3)
        assert batch["frames"].dtype == torch.uint8
        assert batch["frame_numbers"].shape == (count, 5)
        assert batch["frame_numbers"].dtype == torch.int64
        assert batch["label"].dtype == batch["total_frames"].dtype == torch.int64
        for row, name in enumerate(batch["id"]):
            source = decoded(name)
            assert batch["total_frames"][row] == len(source)
            assert batch["label"][row] == int(name[1:3]) % 4
            expected = source[batch["frame_numbers"][row].numpy()]
            np.testing.assert_array_equal(batch["frames"][row].numpy(), expected)


def test_labels_come_as_the_split_has_them(location: Path) -> None:
    for split in ("train", "multi", "bare"):
        dataset = ShardDataset(
            open_dataset(location, split=split), batch_size=15, clip=UniformClip(1)
        )
        (batch,) = dataset
        names = [int(name[1:3]) for name in batch["id"]]
        if split == "train":
            assert batch["label"].tolist() == [number % 4 for number in names]
        elif split == "multi":
            expected = [list(range(number % 3 + 1)) for number in names]
            assert [labels.tolist() for labels in batch["labels"]] == expected
        else:
            assert not {"label", "labels"} & batch.keys()


def test_transform_and_collate_make_the_batch(location: Path) -> None:
    def transform(item: VideoItem) -> dict[str, Any]:
        return {"key": item["key"], "mean": float(item["frames"].mean())}

    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"pairs": [(item["key"], item["mean"]) for item in items]}

    split = open_dataset(location, split="train")
    plain = ShardDataset(split, batch_size=15, clip=UniformClip(2))
    dataset = ShardDataset(
        split, batch_size=15, clip=UniformClip(2), transform=transform, collate=collate
    )
    (expected,) = plain
    (batch,) = dataset.loader(workers=1)
    assert batch.keys() == {"pairs", "position", "valid"}
    assert [key for key, _ in batch["pairs"]] == expected["key"]
    means = [float(frames.double().mean()) for frames in expected["frames"]]
    assert [mean for _, mean in batch["pairs"]] == pytest.approx(means)


@pytest.fixture
def two_sizes(tmp_path: Path) -> Path:
    """A data set of a wide and a narrow video."""
    for name, width in (("wide.mp4", 64), ("narrow.mp4", 48)):
        write_video(tmp_path / name, frames=5, width=width, height=48, sound=False)
    (tmp_path / "list.txt").write_text("wide.mp4 0\nnarrow.mp4 1\n")
    pack(VideoList(tmp_path / "list.txt"), tmp_path / "out", split="train", media_root=tmp_path)
    return tmp_path / "out"


def test_videos_of_different_sizes_are_refused_by_their_keys(two_sizes: Path) -> None:
    dataset = ShardDataset(open_dataset(two_sizes), batch_size=2, clip=UniformClip(3))
    with pytest.raises(ValueError, match=r"'frames': .*transform=") as caught:
        dataset.read_batch(0, 0)
    message = str(caught.value)
    assert "train-00000000" in message
    assert "(3, 48, 64, 3)" in message
    assert "train-00000001" in message
    assert "(3, 48, 48, 3)" in message


def test_a_transform_brings_videos_to_one_size(two_sizes: Path) -> None:
    def crop(item: VideoItem) -> dict[str, Any]:
        return {**item, "frames": item["frames"][:, :48, :48]}

    dataset = ShardDataset(
        open_dataset(two_sizes), batch_size=2, clip=UniformClip(3), transform=crop
    )
    for workers in (0, 1):
        (batch,) = dataset.loader(workers=workers)
        assert batch["frames"].shape == (2, 3, 48, 48, 3)


# After an error in a worker torch waits 5 seconds for each to end: one is enough.
@pytest.mark.parametrize("workers", [0, 1])
def test_damage_reaches_the_user_with_the_samples_name(copied: Path, workers: int) -> None:
    index = open_dataset(copied).read_index(2)
    path = copied / "train" / "train-000002.tar"
    data = bytearray(path.read_bytes())
    data[index.parts["mp4"].offset[0] + 50] ^= 1
    path.write_bytes(data)
    dataset = ShardDataset(open_dataset(copied), batch_size=1, clip=UniformClip(2))
    loader = dataset.loader(workers=workers)
    with pytest.raises(CorruptShardError, match=rf"train-000002\.tar: {index.keys[0]}\.mp4: "):
        seen_all(loader)


def test_the_map_style_face_has_length_and_items(
    location: Path, decoded: Callable[[str], Frames]
) -> None:
    split = open_dataset(location, split="train")
    dataset = ShardMapDataset(split, clip=UniformClip(4, jitter=False))
    stored = [key for shard in range(4) for key in split.read_index(shard).keys]
    assert len(dataset) == 15
    assert [dataset[number]["key"] for number in range(15)] == stored
    assert [dataset[number]["key"] for number in range(-15, 0)] == stored
    item = dataset[7]
    assert item["frames"].shape == (4, 48, 64, 3)
    np.testing.assert_array_equal(item["frames"], decoded(item["id"])[item["frame_numbers"]])


@pytest.mark.parametrize("item", [15, -16, 10**9])
def test_the_map_style_face_refuses_items_outside(location: Path, item: int) -> None:
    dataset = ShardMapDataset(open_dataset(location, split="train"), clip=UniformClip(4))
    with pytest.raises(IndexError, match=f"item {item} of 15"):
        dataset[item]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_map_style_face_works_with_samplers(
    location: Path, workers: int, shuffled: bool
) -> None:
    dataset = ShardMapDataset(open_dataset(location, split="train"), clip=UniformClip(4))
    generator = torch.Generator().manual_seed(0)
    sampler = (
        RandomSampler(dataset, generator=generator) if shuffled else SequentialSampler(dataset)
    )
    loader = DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=workers)
    keys = []
    for batch in loader:
        keys += batch["key"]
        for row, key in enumerate(batch["key"]):
            alone = next(item for item in map(dataset.__getitem__, range(15)) if item["key"] == key)
            np.testing.assert_array_equal(batch["frames"][row].numpy(), alone["frames"])
    stored = [dataset[number]["key"] for number in range(15)]
    assert sorted(keys) == sorted(stored)
    assert (keys == stored) != shuffled


def test_the_map_style_face_applies_a_transform(location: Path) -> None:
    dataset = ShardMapDataset(
        open_dataset(location, split="train"),
        clip=UniformClip(4),
        transform=lambda item: {"key": item["key"]},
    )
    assert dataset[0].keys() == {"key"}
