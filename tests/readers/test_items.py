import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.errors import DecodeError, FormatError
from clipshards.packer.format.frame_table import empty_frame_table
from clipshards.packer.format.json_parts import VideoJson
from clipshards.packer.format.npy import encode_npy
from clipshards.packer.format.video import FrameTableMode, VideoInfo
from clipshards.packer.media.synthetic import write_video
from clipshards.packer.one_call import pack
from clipshards.packer.recipe import Recipe
from clipshards.packer.samples.base import Sample
from clipshards.readers.clips import DenseClip, UniformClip
from clipshards.readers.items import ItemReader
from clipshards.readers.opening import open_dataset
from clipshards.readers.video import VideoItem

Frames = npt.NDArray[np.uint8]
Decoded = Callable[[str], Frames]

CLIPS = [
    UniformClip(8),
    UniformClip(40),
    UniformClip(3, jitter=False),
    DenseClip(5, 2),
    DenseClip(16, 4, jitter=False),
]


@pytest.mark.parametrize("clip", CLIPS, ids=repr)
@pytest.mark.parametrize("split", ["train", "multi", "bare"])
def test_frames_equal_a_plain_decode_of_the_source(
    location: Path, decoded: Decoded, split: str, clip: UniformClip | DenseClip
) -> None:
    reader = ItemReader(open_dataset(location, split=split), clip=clip, seed=5)
    for number in range(15):
        for epoch in (0, 1):
            item = reader.read(number, number=epoch)
            source = decoded(item["id"])
            assert item["total_frames"] == len(source)
            assert item["frames"].dtype == np.uint8
            assert item["frames"].shape == (clip.length, 48, 64, 3)
            assert item["frame_numbers"].dtype == np.int64
            np.testing.assert_array_equal(item["frames"], source[item["frame_numbers"]])


def test_an_item_is_the_same_in_whatever_order_items_are_read(location: Path) -> None:
    split = open_dataset(location, split="train")
    there = ItemReader(split, clip=UniformClip(4), seed=1)
    back = ItemReader(open_dataset(location, split="train"), clip=UniformClip(4), seed=1)
    forward = [there.read(number, number=2) for number in range(15)]
    backward = [back.read(number, number=2) for number in reversed(range(15))][::-1]
    for first, second in zip(forward, backward, strict=True):
        assert first["key"] == second["key"]
        np.testing.assert_array_equal(first["frame_numbers"], second["frame_numbers"])
        np.testing.assert_array_equal(first["frames"], second["frames"])


def test_epoch_seed_and_item_choose_other_frames(location: Path) -> None:
    split = open_dataset(location, split="train")

    def numbers(seed: int, epoch: int) -> list[Any]:
        reader = ItemReader(split, clip=UniformClip(8), seed=seed)
        return [reader.read(n, number=epoch)["frame_numbers"].tolist() for n in range(15)]

    assert numbers(0, 0) == numbers(0, 0)
    assert numbers(0, 0) != numbers(0, 1)
    assert numbers(0, 0) != numbers(1, 0)
    # Two videos of one length do not share their choice.
    by_length: dict[int, list[Any]] = {}
    reader = ItemReader(split, clip=UniformClip(8))
    for number in range(15):
        item = reader.read(number, number=0)
        by_length.setdefault(item["total_frames"], []).append(item["frame_numbers"].tolist())
    twins = [chosen for chosen in by_length.values() if len(chosen) > 1]
    assert all(first != second for first, second, *_ in twins)


def test_a_split_without_frame_tables_gives_the_same_frames(location: Path) -> None:
    by_id: dict[str, list[dict[str, Any]]] = {}
    for split in ("train", "bare"):
        reader = ItemReader(open_dataset(location, split=split), clip=UniformClip(6, jitter=False))
        for number in range(15):
            item = reader.read(number, number=0)
            by_id.setdefault(item["id"], []).append(item)
    assert len(by_id) == 15
    for with_table, without in by_id.values():
        np.testing.assert_array_equal(with_table["frame_numbers"], without["frame_numbers"])
        np.testing.assert_array_equal(with_table["frames"], without["frames"])


def test_one_label_is_a_number(location: Path) -> None:
    reader = ItemReader(open_dataset(location, split="train"), clip=UniformClip(1))
    for number in range(15):
        item = reader.read(number, number=0)
        assert item["label"] == int(item["id"][1:3]) % 4
        assert type(item["label"]) is int
        assert item.keys() == {"key", "id", "frames", "frame_numbers", "total_frames", "label"}


def test_several_labels_are_an_array(location: Path) -> None:
    reader = ItemReader(open_dataset(location, split="multi"), clip=UniformClip(1))
    for number in range(15):
        item = reader.read(number, number=0)
        assert item["labels"].tolist() == list(range(int(item["id"][1:3]) % 3 + 1))
        assert item["labels"].dtype == np.int64
        assert "label" not in item


def test_without_labels_there_is_no_key_for_them(location: Path) -> None:
    item = ItemReader(open_dataset(location, split="bare"), clip=UniformClip(1)).read(0, number=0)
    assert item.keys() == {"key", "id", "frames", "frame_numbers", "total_frames"}


def test_a_transform_takes_the_place_of_the_item(location: Path) -> None:
    def transform(item: VideoItem) -> dict[str, Any]:
        return {"mean": float(item["frames"].mean()), "id": item["id"]}

    split = open_dataset(location, split="train")
    item = ItemReader(split, clip=UniformClip(2), transform=transform).read(3, number=0)
    plain = ItemReader(split, clip=UniformClip(2)).read(3, number=0)
    assert item == {"mean": plain["frames"].mean(), "id": plain["id"]}


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(location: Path, seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed {seed}: expected 0 to"):
        ItemReader(open_dataset(location, split="train"), clip=UniformClip(1), seed=seed)


def test_the_largest_seed_works(location: Path) -> None:
    split = open_dataset(location, split="train")
    reader = ItemReader(split, clip=UniformClip(4), seed=2**63 - 1)
    assert reader.read(14, number=2**40)["frames"].shape == (4, 48, 64, 3)


def turned(data: bytes, degrees_clockwise: int, *, width: int, height: int) -> bytes:
    """Return an mp4 whose display matrix (ISO/IEC 14496-12, 8.3.2) turns the picture."""
    one = 1 << 16
    # x' = a x + c y + tx and y' = b x + d y + ty, y pointing down; rows are a b 0, c d 0, tx ty 1.
    a, b, c, d, tx, ty = {
        0: (one, 0, 0, one, 0, 0),
        90: (0, one, -one, 0, height * one, 0),
        180: (-one, 0, 0, -one, width * one, height * one),
        270: (0, -one, one, 0, 0, width * one),
    }[degrees_clockwise]
    identity = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    # The first track header holds the pictures; the matrix stands 40 bytes behind its type and
    # version (times, track, duration, layer, group, volume).
    place = data.index(b"tkhd") + 44
    assert data[place : place + 36] == identity
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, tx, ty, 1 << 30)
    return data[:place] + matrix + data[place + 36 :]


@pytest.mark.parametrize("mode", ["decode", "none"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_rotated_video_comes_out_upright(
    tmp_path: Path, degrees: int, mode: FrameTableMode
) -> None:
    plain = tmp_path / "plain.mp4"
    write_video(plain, frames=6, width=64, height=48, seed=3, sound=False)
    (tmp_path / "turned.mp4").write_bytes(turned(plain.read_bytes(), degrees, width=64, height=48))
    (tmp_path / "list.txt").write_text("plain.mp4 0\nturned.mp4 1\n")
    pack(
        VideoList(tmp_path / "list.txt"),
        tmp_path / "out",
        split="train",
        media_root=tmp_path,
        seed=None,
        recipe=Recipe(frame_table=mode),
    )
    reader = ItemReader(open_dataset(tmp_path / "out"), clip=UniformClip(6, jitter=False))
    stored, upright = reader.read(0, number=0)["frames"], reader.read(1, number=0)["frames"]
    # np.rot90 turns counter-clockwise.
    expected = np.rot90(stored, -degrees // 90, axes=(1, 2))
    assert upright.shape == expected.shape
    np.testing.assert_array_equal(upright, expected)
    assert upright.flags.c_contiguous


def bad_sample(**changes: Any) -> Sample:
    """Return a sample of one text file that calls itself a video."""
    info = replace(VideoInfo(), **changes.pop("info", {}))
    parts = {
        "json": VideoJson("bad", "hand[0]", (0,), info).encode(),
        "frames.npy": encode_npy(empty_frame_table()),
        "mp4": b"this is no video",
    } | changes
    summary = {"labels": [0], "frames": -1, "duration_s": 0.0, "width": 0, "height": 0}
    return Sample("bad", "hand[0]", 1, summary, parts)


NO_TABLE = {"frames": 10, "frame_table": "decode", "no_table_because": "of a test"}


@pytest.mark.parametrize("info", [{}, NO_TABLE], ids=["unopened", "opened"])
def test_an_undecodable_video_is_named(craft: Callable[..., Path], info: dict[str, Any]) -> None:
    place = craft([[bad_sample(info=info)]])
    reader = ItemReader(open_dataset(place), clip=UniformClip(2))
    with pytest.raises(DecodeError, match=r"train/train-000000\.tar: train-00000000 \(bad\): "):
        reader.read(0, number=0)


def test_a_table_that_leads_out_of_the_video_is_named(craft: Callable[..., Path]) -> None:
    table = np.array([[0, 10_000, 1, 0, 0, 0]], dtype=np.int64)
    sample = bad_sample(
        **{"frames.npy": encode_npy(table)}, info={"frames": 1, "frame_table": "decode"}
    )
    reader = ItemReader(open_dataset(craft([[sample]])), clip=UniformClip(2))
    with pytest.raises(
        FormatError, match=r"train-00000000\.frames\.npy: the frame table: packet 0"
    ):
        reader.read(0, number=0)


def test_a_damaged_json_is_named(craft: Callable[..., Path]) -> None:
    reader = ItemReader(open_dataset(craft([[bad_sample(json=b"{}")]])), clip=UniformClip(2))
    with pytest.raises(FormatError, match=r"train-00000000\.json: missing or unknown key"):
        reader.read(0, number=0)
