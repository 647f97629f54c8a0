"""A damaged data set is made whole again from a copy: the tree that was packed, and no other."""

import random
import shutil
from pathlib import Path

import makers
import pytest
from s3_bucket import Bucket
from s3_server import S3Server
from split_damage import DAMAGE, MADE, flip, shard, tree

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.copying import DamagedSourceError, copy
from clipshards.packer.format.errors import NotFoundError, PlanError, StorageError
from clipshards.packer.one_call import pack
from clipshards.packer.repairing import repair
from clipshards.readers.integrity import verify
from clipshards.readers.opening import open_dataset


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the splits train and val."""
    media = makers.write_media_root(tmp_path_factory.mktemp("media"), 12)
    place = tmp_path_factory.mktemp("intact") / "set"
    records = VideoList(media.annotation)
    pack(records, place, split="train", media_root=media.root, shard_size=60_000)
    pack(records, place, split="val", media_root=media.root, seed=1)
    return place


@pytest.fixture
def damaged(intact: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(intact, tmp_path / "set")
    return tmp_path / "set"


def lose_both(split: Path) -> None:
    flip(split / "manifest.json")
    shard(split, 1).unlink()


WITH_MANIFEST = DAMAGE | {
    "manifest": lambda split: flip(split / "manifest.json"),
    "no manifest": lambda split: (split / "manifest.json").unlink(),
    "both": lose_both,
}


@pytest.mark.parametrize("kind", WITH_MANIFEST)
def test_the_tree_is_that_of_the_copy_again(kind: str, intact: Path, damaged: Path) -> None:
    untouched = shard(damaged / "train", 2)
    before = untouched.stat()
    WITH_MANIFEST[kind](damaged / "train")
    report = repair(damaged, intact)
    assert tree(damaged) == tree(intact)
    assert verify(damaged).whole
    replaced = sum(one.shards_copied for one in report.splits)
    assert replaced == (MADE | {"manifest": 0, "no manifest": 0}).get(kind, 1)
    after = untouched.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_random_damage_is_repaired(intact: Path, damaged: Path) -> None:
    rng = random.Random(0)
    for _ in range(20):
        path = rng.choice(sorted((damaged / "train").iterdir()))
        flip(path, rng.randrange(path.stat().st_size)) if path.stat().st_size else None
        repair(damaged, intact)
        assert tree(damaged) == tree(intact)


def test_a_folder_in_place_of_a_shard_is_told(intact: Path, damaged: Path) -> None:
    shard(damaged / "train", 1).unlink()
    shard(damaged / "train", 1).mkdir()
    with pytest.raises(StorageError, match=r"train-000001\.tar"):
        repair(damaged, intact)
    shard(damaged / "train", 1).rmdir()
    repair(damaged, intact)
    assert tree(damaged) == tree(intact)


def test_files_of_others_stay(intact: Path, damaged: Path) -> None:
    (damaged / "train" / "notes.txt").write_text("mine")
    (damaged / "test").mkdir()
    shutil.copy(shard(damaged / "train", 0), damaged / "train" / "train-000099.tar")
    shard(damaged / "train", 0).unlink()
    others = tree(damaged)
    repair(damaged, intact)
    assert tree(damaged) == others | tree(intact)


def test_one_split_is_repaired_alone(intact: Path, damaged: Path) -> None:
    flip(shard(damaged / "train", 0))
    flip(damaged / "val" / "val-000000.tar")
    repair(damaged, intact, split="val")
    assert {finding.split for finding in verify(damaged).damage} == {"train"}
    with pytest.raises(NotFoundError):
        repair(damaged, intact, split="test")


def test_another_split_is_left_as_it_is(intact: Path, tmp_path: Path) -> None:
    media = makers.write_media_root(tmp_path / "media", 4)
    place = tmp_path / "other"
    pack(VideoList(media.annotation), place, split="train", media_root=media.root, seed=7)
    for lost in (False, True):
        if lost:
            flip(place / "train" / "manifest.json")
        before = tree(place)
        with pytest.raises(PlanError, match="nothing was changed"):
            repair(place, intact, split="train")
        assert tree(place) == before


def test_nothing_is_made_where_nothing_stands(intact: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="clipshards copy"):
        repair(tmp_path / "nowhere", intact)
    assert not (tmp_path / "nowhere").exists()


def test_what_is_damaged_in_the_copy_too_is_told(
    intact: Path, damaged: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(intact, copied)
    for place in (copied, damaged):
        flip(shard(place / "train", 0))
    shard(damaged / "train", 1).unlink()
    kept = shard(damaged / "train", 0).read_bytes()
    with pytest.raises(DamagedSourceError, match=r"train-000000\.tar"):
        repair(damaged, copied)
    assert shard(damaged / "train", 0).read_bytes() == kept
    assert {finding.shard for finding in verify(damaged).damage} == {"train-000000.tar"}


def test_one_place_does_not_repair_itself(intact: Path) -> None:
    with pytest.raises(ValueError, match="source"):
        repair(intact, intact)


@pytest.mark.parametrize("by_others", [False, True], ids=["", "by others"])
def test_a_store_is_repaired(
    by_others: bool, intact: Path, s3_server: S3Server, s3_location: str
) -> None:
    bucket = Bucket.of(s3_server, s3_location)
    copy(intact, s3_location)
    before = bucket.heads()
    name = "train/train-000001.tar"
    data = bytearray(bucket.read(name))
    if by_others:
        data[700] ^= 1
        bucket.client.put_object(**bucket.target(name), Body=bytes(data))
    else:
        bucket.client.delete_object(**bucket.target(name))
    repair(s3_location, intact)
    assert verify(s3_location).whole
    after = bucket.heads()
    assert {key for key in before if after.get(key) != before[key]} <= {name}
    assert open_dataset(s3_location, split="train", check="quick").manifest.samples > 0
