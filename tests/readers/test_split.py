import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import (
    CorruptShardError,
    FormatError,
    NotFoundError,
    StorageError,
    UnsupportedVersionError,
)
from clipshards.packer.format.frame_table import RANDOM_ACCESS
from clipshards.packer.format.json_parts import RawframesJson, StretchJson, VideoJson
from clipshards.packer.format.manifest import Accounting, Manifest
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.one_call import pack
from clipshards.packer.samples.base import Sample, make_sample
from clipshards.readers.opening import open_dataset
from clipshards.readers.split import Place, Split


def sample(name: str, *, items: int = 1) -> Sample:
    stretch = StretchJson(offset=0, total_frames=1, labels=(0,), origin="hand[0]")
    about = RawframesJson(
        id=name,
        origin="hand[0]",
        filename_tmpl="{}.jpg",
        start_index=0,
        stretches=(stretch,) * items,
        video=VideoInfo(codec="mjpeg", frames=1, frame_table="decode"),
    )
    table = np.array([[0, len(name), RANDOM_ACCESS, 0, 0, crc32c(name.encode())]])
    return make_sample("rawframes", about, {"frames.npy": table, "mp4": name.encode()})


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def shard_path(location: Path, split: Split, shard: int) -> Path:
    return location / split.name / split.manifest.shards[shard].name


def test_a_split_opens_by_name(location: Path) -> None:
    for name, items in (("train", 15), ("multi", 15), ("bare", 15), ("gaps", 6)):
        split = open_dataset(location, split=name)
        assert split.name == name
        assert len(split) == items


def test_the_only_split_needs_no_name(copied: Path) -> None:
    assert open_dataset(copied).name == "train"
    assert open_dataset(str(copied)).name == "train"


def test_of_several_splits_one_must_be_named(location: Path) -> None:
    with pytest.raises(ValueError, match="has the splits bare, gaps, multi, train: name one"):
        open_dataset(location)


def test_a_folder_that_cannot_be_a_split_is_passed_over(copied: Path) -> None:
    shutil.copytree(copied / "train", copied / "train.bak")
    assert open_dataset(copied).name == "train"


def test_a_split_that_is_not_there_is_named(location: Path) -> None:
    with pytest.raises(NotFoundError, match="no split 'val', there are: bare, gaps, multi, train"):
        open_dataset(location, split="val")


@pytest.mark.parametrize("split", [None, "train"])
def test_an_empty_or_missing_location_holds_no_split(tmp_path: Path, split: str | None) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotFoundError, match=r"no data set here|no split 'train'"):
            open_dataset(place, split=split)


@pytest.mark.parametrize("split", ["Train", "", "../train", "train/", "_", "a" * 33])
def test_a_name_that_no_split_can_have_is_refused(location: Path, split: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 32 characters"):
        open_dataset(location, split=split)


def test_an_unfinished_split_is_not_read(videos: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    done = 0

    def stop(entries: int, size: int) -> None:
        nonlocal done
        done += entries
        if done > 10:
            raise KilledError

    records = VideoList(videos / "one.txt")
    with pytest.raises(KilledError):
        pack(records, tmp_path, split="train", media_root=videos, shard_size=50_000, progress=stop)
    assert list((tmp_path / "train").glob("*.tar"))
    with pytest.raises(NotFoundError, match="packing has not ended there"):
        open_dataset(tmp_path, split="train")
    with pytest.raises(NotFoundError, match="packing of train has not ended; give the pack"):
        open_dataset(tmp_path)


def test_a_split_given_as_the_location_is_recognised(location: Path) -> None:
    for split in (None, "train"):
        with pytest.raises(NotFoundError, match="this is one split, give the folder above it"):
            open_dataset(location / "train", split=split)


def test_a_split_under_another_name_is_refused(copied: Path) -> None:
    # Its shards would be sought in the folder that the manifest names.
    shutil.copytree(copied / "train", copied / "val")
    with pytest.raises(FormatError, match="'train'"):
        open_dataset(copied, split="val")


def test_a_split_says_what_it_is(location: Path) -> None:
    split = open_dataset(location, split="train")
    digest = split.manifest.content_digest[:12]
    assert repr(split) == f"<split train of {location}, 15 items, {digest}>"


def test_items_are_counted_through_all_shards(location: Path) -> None:
    split = open_dataset(location, split="train")
    expected = [
        Place(shard, number, 0)
        for shard, entry in enumerate(split.manifest.shards)
        for number in range(entry.samples)
    ]
    assert len(split.manifest.shards) == 4
    assert [split.place_of(item) for item in range(len(split))] == expected


def test_a_shard_without_samples_is_passed_over(location: Path) -> None:
    split = open_dataset(location, split="gaps")
    assert 0 in [entry.samples for entry in split.manifest.shards]
    places = [split.place_of(item) for item in range(len(split))]
    keys = [split.read_sample(place.shard, place.sample).key for place in places]
    assert keys == [f"gaps-{number:08d}" for number in (0, 1, 2, 12, 13, 14)]


def test_a_sample_may_hold_several_items(craft: Callable[..., Path]) -> None:
    shards = [
        [sample("a", items=3), sample("b")],
        [],
        [sample("c"), sample("d", items=2)],
    ]
    split = open_dataset(craft(shards, task="rawframes"))
    assert len(split) == 7
    assert [split.place_of(item) for item in range(7)] == [
        Place(0, 0, 0),
        Place(0, 0, 1),
        Place(0, 0, 2),
        Place(0, 1, 0),
        Place(2, 0, 0),
        Place(2, 1, 0),
        Place(2, 1, 1),
    ]
    assert split.read_sample(2, 1).parts["mp4"] == b"d"


@pytest.mark.parametrize("item", [-1, 15, 10**12])
def test_an_item_outside_the_split_has_no_place(location: Path, item: int) -> None:
    with pytest.raises(IndexError, match=f"item {item} of <split train"):
        open_dataset(location, split="train").place_of(item)


@pytest.mark.parametrize("name", ["train", "multi", "bare", "gaps"])
def test_a_sample_holds_the_bytes_of_its_source(location: Path, videos: Path, name: str) -> None:
    split = open_dataset(location, split=name)
    seen = []
    for item in range(len(split)):
        place = split.place_of(item)
        raw = split.read_sample(place.shard, place.sample)
        about = VideoJson.decode(raw.parts["json"], where="json")
        assert list(raw.parts) == ["json", "frames.npy", "mp4"]
        assert raw.parts["mp4"] == (videos / about.id).read_bytes()
        assert raw.where.endswith(f"{split.manifest.shards[place.shard].name}: {raw.key}")
        seen.append(raw.key)
    assert len(set(seen)) == len(split)


def test_a_sample_is_found_by_key_and_by_id(location: Path) -> None:
    split = open_dataset(location, split="train")
    for number in range(15):
        by_key = list(split.find(f"train-{number:08d}"))
        assert by_key == list(split.find(f"v{number:02d}.mp4"))
        (place,) = by_key
        assert split.read_sample(place.shard, place.sample).key == f"train-{number:08d}"
    assert not list(split.find("train-00000015"))


def test_an_id_may_belong_to_several_samples(craft: Callable[..., Path]) -> None:
    shards = [[sample("twin"), sample("single")], [sample("twin", items=2)]]
    split = open_dataset(craft(shards, task="rawframes"))
    assert list(split.find("twin")) == [Place(0, 0, 0), Place(1, 0, 0)]


def test_a_split_can_be_pickled(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.parent)
    split = open_dataset("copied")
    before = split.read_sample(1, 0)
    data = pickle.dumps(split)
    # A worker may start elsewhere.
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert again.manifest == split.manifest
    assert len(again) == len(split)
    assert again.read_sample(1, 0).parts == before.parts
    assert again.read_sample(0, 1).parts == split.read_sample(0, 1).parts


def test_a_split_keeps_no_ids_in_memory(craft: Callable[..., Path]) -> None:
    long = "x" * 10_000
    samples = [sample(f"{number}{long}") for number in range(20)]
    split = open_dataset(craft([samples], task="rawframes"))
    split.place_of(0)
    assert len(pickle.dumps(split)) < 20_000


@pytest.mark.parametrize("part", ["json", "frames.npy", "mp4"])
def test_an_altered_part_is_named(copied: Path, part: str) -> None:
    index = open_dataset(copied).read_index(1)
    columns = index.parts[part]
    split = open_dataset(copied)
    path = shard_path(copied, split, 1)
    for place in (columns.offset[1], columns.offset[1] + columns.size[1] - 1):
        flip(path, place)
        with pytest.raises(CorruptShardError) as caught:
            split.read_sample(1, 1)
        assert f"{path.parent.name}/{path.name}: {index.keys[1]}.{part}: " in str(caught.value)
        assert "crc32c differs" in str(caught.value)
        assert split.read_sample(1, 0).key == index.keys[0], "an intact sample is refused"
        flip(path, place)
        split.read_sample(1, 1)


def test_a_truncated_shard_is_named(copied: Path) -> None:
    split = open_dataset(copied)
    index = split.read_index(1)
    split.read_sample(1, 0)  # the index is kept from now on
    path = shard_path(copied, split, 1)
    there = index.parts["mp4"].offset[1] + 100
    os.truncate(path, there)
    with pytest.raises(CorruptShardError, match=rf"{path.name}: {index.keys[1]}\.mp4: .*100 bytes"):
        split.read_sample(1, 1)
    assert split.read_sample(1, 0).key == index.keys[0]
    with pytest.raises(CorruptShardError, match=f"{path.name}: index: .*0 bytes there"):
        open_dataset(copied).read_sample(1, 0)


def test_a_missing_shard_is_named(copied: Path) -> None:
    path = shard_path(copied, open_dataset(copied), 2)
    path.unlink()
    split = open_dataset(copied)
    with pytest.raises(StorageError, match=path.name):
        split.read_sample(2, 0)
    assert split.read_sample(1, 0).parts, "the other shards are read as ever"


def test_swapped_shards_are_refused(copied: Path) -> None:
    split = open_dataset(copied)
    first, second = shard_path(copied, split, 0), shard_path(copied, split, 1)
    spare = copied / "spare"
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    for number in (0, 1):
        with pytest.raises(CorruptShardError, match=f"train-00000{number}.tar: index"):
            open_dataset(copied).read_sample(number, 0)
    assert open_dataset(copied).read_sample(2, 0).parts


def test_an_altered_index_is_refused(copied: Path) -> None:
    split = open_dataset(copied)
    entry = split.manifest.shards[0]
    flip(shard_path(copied, split, 0), entry.index_offset + entry.index_bytes // 2)
    with pytest.raises(CorruptShardError, match=f"{entry.name}: index: .*crc32c differs"):
        split.read_sample(0, 0)


def test_an_intact_index_of_another_place_is_refused(
    copied: Path, rewrite_manifest: Callable[..., Manifest]
) -> None:
    intact = open_dataset(copied).manifest
    cases: dict[str, dict[str, object]] = {
        "number is 3, the manifest expects 0": {"shards": intact.shards[::-1]},
        "plan digest is ": {"plan_digest": "0" * 64},
    }
    for message, fields in cases.items():
        rewrite_manifest(copied / "train", **{"shards": intact.shards, **fields})
        with pytest.raises(CorruptShardError, match=f"index: {message}") as caught:
            open_dataset(copied).read_sample(0, 0)
        assert "belongs elsewhere" in str(caught.value)


@pytest.mark.parametrize(("counted", "said"), [("samples", 1), ("items", 4), ("entries", 4)])
def test_an_index_with_another_count_is_refused(
    craft: Callable[..., Path],
    rewrite_manifest: Callable[..., Manifest],
    counted: str,
    said: int,
) -> None:
    place = craft([[sample("a"), sample("b", items=2)]], task="rawframes")
    (entry,) = open_dataset(place).manifest.shards
    # mypy cannot know the types of fields given by name.
    wrong = replace(entry, **{counted: said})  # type: ignore[arg-type]
    accounting = Accounting(wrong.entries, wrong.entries, 0, {})
    rewrite_manifest(place / "train", shards=(wrong,), accounting=accounting)
    with pytest.raises(CorruptShardError, match=f"{counted} is "):
        open_dataset(place).read_sample(0, 0)


def test_another_version_of_the_manifest_is_refused(copied: Path) -> None:
    path = copied / "train" / "manifest.json"
    data = path.read_bytes()
    assert data.count(b'"version":1') == 1
    path.write_bytes(data.replace(b'"version":1', b'"version":2'))
    with pytest.raises(UnsupportedVersionError, match="version 2, this release reads 1"):
        open_dataset(copied)


def test_another_version_of_the_index_is_refused(
    copied: Path, rewrite_manifest: Callable[..., Manifest]
) -> None:
    split = open_dataset(copied)
    path = shard_path(copied, split, 0)
    entry = split.manifest.shards[0]
    data = path.read_bytes()
    start, stop = entry.index_offset, entry.index_offset + entry.index_bytes
    index = data[start:stop].replace(b'"version":1', b'"version":2')
    path.write_bytes(data[:start] + index + data[stop:])
    changed = replace(entry, index_crc32c=crc32c(index))
    rewrite_manifest(copied / "train", shards=(changed, *split.manifest.shards[1:]))
    with pytest.raises(UnsupportedVersionError, match=f"{entry.name}: index: .*version 2"):
        open_dataset(copied).read_sample(0, 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"rejected":0', b'"rejected":1', "it was altered"),
        (b'"task":"video"', b'"task":"tasks"', "unknown task 'tasks'"),
        (b"}\n", b"}", "cut short"),
        (b'"labels":"one"', b'"labels":"two"', "unknown label mode 'two'"),
        (b"{", b"[", "expected canonical JSON"),
    ],
)
def test_an_altered_manifest_is_refused(copied: Path, old: bytes, new: bytes, message: str) -> None:
    path = copied / "train" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(FormatError, match=message) as caught:
        open_dataset(copied)
    assert str(path) in str(caught.value)
