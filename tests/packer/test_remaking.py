"""A damaged split made whole from its sources: the bytes that were packed, or none."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from pack_inputs import TASKS, job_of, write_world
from s3_bucket import Bucket
from s3_server import S3Server
from split_damage import DAMAGE, MADE, flip, shard, tree

from clipshards.packer import (
    FormatError,
    LocalEngine,
    Packing,
    PlanError,
    Recipe,
    SourcesDifferError,
)
from clipshards.packer import finish as finishing
from clipshards.packer.copying import copy
from clipshards.readers import open_dataset, verify


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media of all tasks: look, do not write."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def intact(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed split of each task."""
    place = tmp_path_factory.mktemp("intact")
    for task in TASKS:
        job_of(task, world, place / task).run()
    return place


@pytest.fixture
def damaged(intact: Path, tmp_path: Path) -> Path:
    """A copy of them, to be damaged."""
    return Path(shutil.copytree(intact, tmp_path / "damaged"))


@pytest.fixture
def media(world: Path, tmp_path: Path) -> Path:
    """A copy of the media, to be changed."""
    return Path(shutil.copytree(world, tmp_path / "media"))


@pytest.fixture
def newer_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tools are of other versions than those that packed."""
    monkeypatch.setattr(finishing, "version", lambda name: "99.9")


@pytest.mark.usefixtures("newer_tools")
@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("task", TASKS)
def test_the_tree_is_what_was_packed(
    task: str, kind: str, world: Path, intact: Path, damaged: Path
) -> None:
    place, original = damaged / task, tree(intact / task)
    untouched = shard(place / "t", 2)
    before = untouched.stat()
    DAMAGE[kind](place / "t")
    assert tree(place) != original
    report = job_of(task, world, place).repair()
    assert report.shards_made == MADE.get(kind, 1)
    assert tree(place) == original
    after = untouched.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_whole_split_is_left_as_it_is(world: Path, damaged: Path) -> None:
    files = sorted((damaged / "video").rglob("*"))
    before = [file.stat().st_mtime_ns for file in files]
    told: list[int] = []
    report = job_of("video", world, damaged / "video").repair(progress=told.append)
    assert (report.shards_made, report.bytes_made, report.refused) == (0, 0, ())
    assert [file.stat().st_mtime_ns for file in files] == before
    assert sum(told) == sum(file.stat().st_size for file in files if file.suffix == ".tar")


def test_everything_is_made_at_once_by_processes(world: Path, intact: Path, damaged: Path) -> None:
    for file in (damaged / "video").rglob("*.tar"):
        flip(file)
    (damaged / "video" / "t" / "rejects.jsonl").unlink()
    report = job_of("video", world, damaged / "video").repair(engine=LocalEngine(2))
    assert report.shards_made == report.shards >= 3
    assert tree(damaged / "video") == tree(intact / "video")


def test_files_of_others_stay(world: Path, intact: Path, damaged: Path) -> None:
    place = damaged / "video"
    (place / "t" / "notes.txt").write_text("mine")
    shutil.copy(shard(place / "t", 0), place / "t" / "t-000099.tar")
    flip(shard(place / "t", 0))
    job_of("video", world, place).repair()
    left = tree(place)
    assert left.pop("t/notes.txt") == b"mine"
    assert left.pop("t/t-000099.tar")
    assert left == tree(intact / "video")


class TestOtherSources:
    """What the sources do not give any more is not written."""

    def refused(self, job: Packing, place: Path, *words: str) -> SourcesDifferError:
        before = tree(place)
        with pytest.raises(SourcesDifferError) as caught:
            job.repair()
        for word in words:
            assert word in str(caught.value)
        assert tree(place) == before
        return caught.value

    def ids(self, place: Path) -> tuple[str, ...]:
        """Return the ids of the samples of shard 1."""
        return tuple(open_dataset(place, split="t").read_index(1).ids)

    @pytest.mark.usefixtures("newer_tools")
    def test_another_video_is_named(self, media: Path, damaged: Path) -> None:
        place = damaged / "video"
        name = self.ids(place)[-1]
        flip(shard(place / "t", 1), 600)
        other = "0.mp4" if name != "0.mp4" else "1.mp4"
        shutil.copy(media / other, media / name)
        error = self.refused(
            job_of("video", media, place),
            place,
            "t-000001.tar: made anew it has other bytes, first in ",
            f"(id {name!r}",
            "now 99.9",
            "--replan",
        )
        assert [name for name, _ in error.report.refused] == ["t-000001.tar"]

    def test_a_lost_video_is_named(self, media: Path, damaged: Path) -> None:
        place = damaged / "video"
        name = self.ids(place)[0]
        flip(shard(place / "t", 1))
        (media / name).unlink()
        self.refused(
            job_of("video", media, place),
            place,
            "cannot be made any more",
            name,
            "restore the media",
        )

    def test_a_video_that_can_be_packed_now_is_told(self, media: Path, damaged: Path) -> None:
        place = damaged / "video"
        for file in place.rglob("*.tar"):
            flip(file)
        shutil.copy(media / "0.mp4", media / "broken.mp4")
        with pytest.raises(SourcesDifferError, match="1 more entries can be packed now") as caught:
            job_of("video", media, place).repair()
        report = caught.value.report
        assert len(report.refused) == 1
        assert report.shards_made == report.shards - 1
        assert {finding.shard for finding in verify(place).damage} == {report.refused[0][0]}

    def test_other_rejects_are_not_written(self, media: Path, damaged: Path) -> None:
        place = damaged / "video"
        (place / "t" / "rejects.jsonl").unlink()
        (media / "broken.mp4").write_bytes(b"nothing like a video, in other words")
        (media / "gone.mp4").write_bytes(b"no video")
        error = self.refused(job_of("video", media, place), place, "rejects.jsonl")
        assert [name for name, _ in error.report.refused] == ["rejects.jsonl"]

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"seed": 7}, "another request"),
            ({"labels": "many"}, "labels"),
            ({"shard_size": 99_000}, "shard size"),
            ({"split": "other"}, "no finished split"),
        ],
    )
    def test_another_request_is_refused(
        self, changed: dict[str, Any], words: str, world: Path, damaged: Path
    ) -> None:
        place = damaged / "skeleton"
        flip(shard(place / "t", 1))
        before = tree(place)
        with pytest.raises(PlanError, match=words):
            job_of("skeleton", world, place, **changed).repair()
        assert tree(place) == before

    def test_another_recipe_is_refused(self, world: Path, damaged: Path) -> None:
        place = damaged / "video"
        flip(shard(place / "t", 1))
        records = TASKS["video"][0](world)
        job = Packing(
            records, place, split="t", media_root=world, shard_size=70_000, recipe=Recipe("remux")
        )
        with pytest.raises(PlanError, match=r"recipe.media: packed 'copy', now 'remux'"):
            job.repair()

    @pytest.mark.parametrize("lost", [False, True])
    def test_without_manifest_there_is_nothing_to_prove(
        self, lost: bool, world: Path, intact: Path, damaged: Path
    ) -> None:
        place = damaged / "video"
        manifest = place / "t" / "manifest.json"
        manifest.unlink() if lost else flip(manifest)
        before = tree(place)
        with pytest.raises((PlanError, FormatError)):
            job_of("video", world, place).repair()
        assert tree(place) == before
        job_of("video", world, place).run(replan=True)
        assert tree(place) == tree(intact / "video")


@pytest.mark.parametrize("by_others", [False, True], ids=["missing", "by others"])
@pytest.mark.parametrize("size", [700, 5_000_000], ids=["by a byte", "larger"])
def test_a_store_is_repaired(
    by_others: bool, size: int, world: Path, intact: Path, s3_server: S3Server, s3_location: str
) -> None:
    bucket = Bucket.of(s3_server, s3_location)
    copy(intact / "video", s3_location)
    before = bucket.heads()
    name = "t/t-000001.tar"
    if by_others:
        data = bytearray(bucket.read(name)).ljust(size, b"\0")
        data[600] ^= 1
        bucket.client.put_object(**bucket.target(name), Body=bytes(data))
    else:
        bucket.client.delete_object(**bucket.target(name))
    report = job_of("video", world, s3_location).repair()
    assert report.shards_made == 1
    assert verify(s3_location).whole
    after = bucket.heads()
    assert {key for key in before if after.get(key) != before[key]} <= {name}
    assert bucket.about(name)["shard"] == "1"
    assert bucket.uploads() == []
