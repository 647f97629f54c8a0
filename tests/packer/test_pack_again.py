"""Packing where something stands already: a finished split, a plan, shards, an old failure."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipshards.packer import (
    FormatError,
    PackReport,
    PlanError,
    Recipe,
    RejectsError,
    VideoRecord,
    pack,
)
from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.manifest import Manifest
from clipshards.readers import verify

Tree = Callable[[Path], dict[str, str]]

RECORDS = [VideoRecord(f"j{number:02d}.mp4", (number,)) for number in range(20)]
OPTIONS: dict[str, Any] = {
    "split": "train",
    "recipe": Recipe(frame_table="none"),
    "shard_size": 100_000,
}


def pack_junk(out: Path, junk: Path, records: Any = RECORDS, **options: Any) -> PackReport:
    return pack(records, out, **(OPTIONS | {"media_root": junk} | options))


def leave_unfinished(out: Path, junk: Path) -> None:
    """Pack into `out` up to the plan and half of the shards, as a killed run leaves them."""

    left = len(RECORDS) // 2

    class KilledError(Exception):
        pass

    def die(entries: int, _bytes: int) -> None:
        nonlocal left
        left -= entries
        if left < 0:
            raise KilledError

    with pytest.raises(KilledError):
        pack_junk(out, junk, progress=die)
    assert (out / "train" / ".build" / "plan.json").exists()
    assert not (out / "train" / "manifest.json").exists()
    assert list((out / "train").glob("*.tar"))


def test_second_run_finds_all_done(tmp_path: Path, junk: Path, tree: Tree) -> None:
    first = pack_junk(tmp_path / "out", junk)
    before = tree(tmp_path / "out")
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.tar")}
    second = pack_junk(tmp_path / "out", junk)
    assert second.shards_made == 0
    assert first.shards_made == first.shards > 1
    assert second.content_digest == first.content_digest
    assert (second.packed, second.entries, second.bytes) == (20, 20, first.bytes)
    assert tree(tmp_path / "out") == before
    assert {file: file.stat().st_mtime_ns for file in times} == times


def test_second_run_opens_no_media(tmp_path: Path, junk: Path) -> None:
    first = pack_junk(tmp_path / "out", junk)
    shutil.rmtree(junk)
    assert pack_junk(tmp_path / "out", junk).content_digest == first.content_digest


def test_second_run_reports_the_same_rejects(tmp_path: Path, junk: Path) -> None:
    (junk / "j03.mp4").unlink()
    first = pack_junk(tmp_path / "out", junk)
    second = pack_junk(tmp_path / "out", junk)
    assert len(first.rejects) == 1
    assert second.rejects == first.rejects


def test_unfinished_run_goes_on(tmp_path: Path, junk: Path, tree: Tree) -> None:
    whole = pack_junk(tmp_path / "whole", junk)
    leave_unfinished(tmp_path / "out", junk)
    standing = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.tar")}
    report = pack_junk(tmp_path / "out", junk)
    assert report.shards_made == whole.shards - len(standing)
    assert {file: file.stat().st_mtime_ns for file in standing} == standing
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["gone", "cut short", "receipt of another plan"])
def test_shard_that_does_not_fit_its_receipt_is_made_again(
    tmp_path: Path, junk: Path, tree: Tree, damage: str
) -> None:
    whole = pack_junk(tmp_path / "whole", junk)
    leave_unfinished(tmp_path / "out", junk)
    shard = tmp_path / "out" / "train" / "train-000000.tar"
    receipt = shard.parent / ".build" / f"{shard.name}.json"
    if damage == "gone":
        shard.unlink()
    elif damage == "cut short":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        value = json.loads(receipt.read_bytes())
        value |= {"plan_digest": "0" * 64}
        del value["crc32c"]
        receipt.write_bytes(encode_json(value | {"crc32c": crc32c(encode_json(value))}))
        shard.write_bytes(bytes(shard.stat().st_size))
    standing = len(list((tmp_path / "out").rglob("*.tar.json")))
    report = pack_junk(tmp_path / "out", junk)
    assert report.shards_made == whole.shards - standing + 1
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_an_altered_receipt_is_refused(tmp_path: Path, junk: Path) -> None:
    leave_unfinished(tmp_path / "out", junk)
    receipt = tmp_path / "out" / "train" / ".build" / "train-000000.tar.json"
    data = receipt.read_bytes()
    place = data.index(b'"sha256":"') + 15
    receipt.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(FormatError, match=r"train-000000\.tar\.json: its checksum"):
        pack_junk(tmp_path / "out", junk)


def test_order_of_the_plan_stays_when_media_grow_meanwhile(tmp_path: Path, junk: Path) -> None:
    leave_unfinished(tmp_path / "out", junk)
    plan = (tmp_path / "out" / "train" / ".build" / "plan.json").read_bytes()
    for record in RECORDS:
        (junk / record.path).write_bytes(bytes(100_000))
    pack_junk(tmp_path / "out", junk)
    manifest = Manifest.decode(
        (tmp_path / "out" / "train" / "manifest.json").read_bytes(), where="manifest"
    )
    assert manifest.plan_digest == hashlib.sha256(plan).hexdigest()
    assert verify(tmp_path / "out").damage == []


OTHER_REQUESTS: list[dict[str, Any]] = [
    {"seed": 1},
    {"seed": None},
    {"shard_size": 100_001},
    {"recipe": Recipe()},
    {"records": RECORDS[:-1]},
    {"records": [*RECORDS[:-1], VideoRecord("j19.mp4", (0,))]},
    {"class_names": [f"class {number}" for number in range(20)]},
    {"labels": "many"},
    {"allow_outside": True},
]
names = ["seed", "order", "size", "recipe", "fewer", "label", "classes", "mode", "outside"]


@pytest.mark.parametrize("other", OTHER_REQUESTS, ids=names)
def test_another_request_on_a_finished_split_is_refused(
    tmp_path: Path, junk: Path, tree: Tree, other: dict[str, Any]
) -> None:
    digest = pack_junk(tmp_path / "out", junk).content_digest
    before = tree(tmp_path / "out")
    with pytest.raises(PlanError, match="a split that another request made stands here") as caught:
        pack_junk(tmp_path / "out", junk, **other)
    assert digest[:12] in str(caught.value)
    assert f"{tmp_path}/out/train: " in str(caught.value)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("other", "says"),
    list(
        zip(
            OTHER_REQUESTS,
            [
                "order: ",
                "order: ",
                "shard_size: planned 100000, now 100001",
                "recipe.frame_table: ",
                "the entries of the annotation",
                "the entries of the annotation",
                "class_names: ",
                "labels: ",
                "allow_outside: ",
            ],
            strict=True,
        )
    ),
    ids=names,
)
def test_another_request_on_an_unfinished_plan_is_refused_with_the_difference(
    tmp_path: Path, junk: Path, tree: Tree, other: dict[str, Any], says: str
) -> None:
    leave_unfinished(tmp_path / "out", junk)
    before = tree(tmp_path / "out")
    with pytest.raises(PlanError, match="an unfinished plan of another request") as caught:
        pack_junk(tmp_path / "out", junk, **other)
    text = str(caught.value)
    assert f"stands here ({says}" in text
    assert ";" not in text[text.index("(") : text.index(")")]
    assert "or replace it (--replan)" in text
    assert tree(tmp_path / "out") == before
    pack_junk(tmp_path / "out", junk)


def test_stray_shards_are_not_taken_over(tmp_path: Path, junk: Path, tree: Tree) -> None:
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "train-000005.tar").write_bytes(b"whose is this?")
    before = tree(tmp_path / "out")
    with pytest.raises(PlanError, match=r"shards stand here \(train-000005\.tar"):
        pack_junk(tmp_path / "out", junk)
    assert tree(tmp_path / "out") == before


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path, junk: Path) -> None:
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "README.md").write_text("mine too")
    (tmp_path / "out" / "train" / "train-backup.tar").write_text("mine as well")
    pack_junk(tmp_path / "out", junk)
    pack_junk(tmp_path / "out", junk, seed=1, replan=True)
    assert (tmp_path / "out" / "train" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "README.md").read_text() == "mine too"
    assert (tmp_path / "out" / "train" / "train-backup.tar").read_text() == "mine as well"


def test_replanning_that_fails_leaves_no_file_that_names_old_shards(
    tmp_path: Path, junk: Path
) -> None:
    pack_junk(tmp_path / "out", junk)
    shutil.rmtree(junk)
    junk.mkdir()
    with pytest.raises(RejectsError):
        pack_junk(tmp_path / "out", junk, seed=1, replan=True)
    assert not (tmp_path / "out" / "train.wids.json").exists()


def test_replanning_without_media_throws_nothing_away(
    tmp_path: Path, junk: Path, tree: Tree
) -> None:
    pack_junk(tmp_path / "out", junk)
    before = tree(tmp_path / "out")
    shutil.rmtree(junk)
    with pytest.raises(ValueError, match="no such folder"):
        pack_junk(tmp_path / "out", junk, seed=1, replan=True)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("standing", ["finished", "unfinished", "strays", "damaged", "nothing"])
def test_replan_replaces_whatever_stands_there(
    tmp_path: Path, junk: Path, tree: Tree, standing: str
) -> None:
    out = tmp_path / "out"
    if standing == "unfinished":
        leave_unfinished(out, junk)
    elif standing != "nothing":
        pack_junk(out, junk)
    if standing == "strays":
        (out / "train" / "manifest.json").unlink()
    if standing == "damaged":
        (out / "train" / "manifest.json").write_text("{}")
    options: dict[str, Any] = {"seed": 3, "shard_size": 300_000}
    report = pack_junk(out, junk, replan=True, **options)
    pack_junk(tmp_path / "clean", junk, **options)
    assert report.shards_made == report.shards
    assert tree(out) == tree(tmp_path / "clean")


def test_replan_of_one_split_leaves_the_others(tmp_path: Path, junk: Path, tree: Tree) -> None:
    pack_junk(tmp_path, junk)
    pack_junk(tmp_path, junk, split="val")
    before = tree(tmp_path / "val")
    pack_junk(tmp_path, junk, replan=True, seed=9)
    assert tree(tmp_path / "val") == before


def test_damaged_manifest_is_named(tmp_path: Path, junk: Path) -> None:
    pack_junk(tmp_path / "out", junk)
    manifest = tmp_path / "out" / "train" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"packed":20', b'"packed":21'))
    with pytest.raises(FormatError, match=r"manifest\.json: content digest"):
        pack_junk(tmp_path / "out", junk)


def test_build_folder_left_beside_a_manifest_is_cleared(
    tmp_path: Path, junk: Path, tree: Tree
) -> None:
    out = tmp_path / "out"
    digest = pack_junk(out, junk).content_digest
    clean = tree(out)
    (out / "train" / ".build").mkdir()
    (out / "train" / ".build" / "plan.json").write_bytes(b"of the killed run")
    (out / "train" / ".build" / "0123.partial").write_bytes(b"half of something")
    (out / "train.wids.json").unlink()
    report = pack_junk(out, junk)
    assert report.content_digest == digest
    assert report.shards_made == 0
    assert tree(out) == clean
    assert not (out / "train" / ".build").exists()


class TestMending:
    """A run that ended over its rejects, the media mended, and the same command again."""

    BROKEN = (1, 2, 6, 11, 17)

    def fail(self, tmp_path: Path, junk: Path) -> str:
        for number in self.BROKEN:
            (junk / f"j{number:02d}.mp4").rename(tmp_path / f"j{number:02d}.mp4")
        with pytest.raises(RejectsError) as caught:
            pack_junk(tmp_path / "out", junk, max_rejects=2)
        return str(caught.value)

    def mend(self, tmp_path: Path, junk: Path, *numbers: int) -> None:
        for number in numbers:
            (tmp_path / f"j{number:02d}.mp4").rename(junk / f"j{number:02d}.mp4")

    def test_shards_and_receipts_are_kept(self, tmp_path: Path, junk: Path) -> None:
        text = self.fail(tmp_path, junk)
        split = tmp_path / "out" / "train"
        shards = sorted(file.name for file in split.glob("*.tar"))
        assert "the finished shards are kept" in text
        receipts = sorted(file.name for file in (split / ".build").glob("*.tar.json"))
        assert receipts == [f"{name}.json" for name in shards]
        assert not (split / "manifest.json").exists()
        assert not (tmp_path / "out" / "train.wids.json").exists()

    def test_mended_media_complete_the_split(self, tmp_path: Path, junk: Path, tree: Tree) -> None:
        self.fail(tmp_path, junk)
        self.mend(tmp_path, junk, *self.BROKEN)
        untouched = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.tar")}
        report = pack_junk(tmp_path / "out", junk, max_rejects=2)
        assert report.rejects == ()
        assert report.packed == 20
        assert 0 < report.shards_made <= len(self.BROKEN)
        kept = [file for file, time in untouched.items() if file.stat().st_mtime_ns == time]
        assert len(kept) == report.shards - report.shards_made > 0
        assert verify(tmp_path / "out").damage == []

    def test_result_has_the_samples_of_a_clean_run(
        self,
        tmp_path: Path,
        junk: Path,
        read_samples: Callable[[Path], dict[str, dict[str, bytes]]],
    ) -> None:
        self.fail(tmp_path, junk)
        self.mend(tmp_path, junk, *self.BROKEN)
        pack_junk(tmp_path / "out", junk)
        pack_junk(tmp_path / "clean", junk)
        # The plan was cut while sizes were missing: the borders may differ, nothing else.
        mended = read_samples(tmp_path / "out" / "train")
        assert mended == read_samples(tmp_path / "clean" / "train")
        assert list(mended) == list(read_samples(tmp_path / "clean" / "train"))

    def test_files_that_were_there_but_broken_give_the_tree_of_a_clean_run(
        self, tmp_path: Path, media: Path, tree: Tree
    ) -> None:
        records = [VideoRecord(f"v{number}.mp4", (number,)) for number in range(8)]
        whole = {number: (media / f"v{number}.mp4").read_bytes() for number in (1, 4, 6)}
        options: dict[str, Any] = {
            "split": "train",
            "media_root": media,
            "shard_size": 50_000,
            "max_rejects": 2,
        }
        pack(records, tmp_path / "clean", **options)
        for number, data in whole.items():
            # As long as before: the plan is made of sizes.
            (media / f"v{number}.mp4").write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
        with pytest.raises(RejectsError, match="3 of 8 entries cannot be packed, 2 may"):
            pack(records, tmp_path / "out", **options)
        for number, data in whole.items():
            (media / f"v{number}.mp4").write_bytes(data)
        pack(records, tmp_path / "out", **options)
        assert tree(tmp_path / "out") == tree(tmp_path / "clean")

    def test_still_broken_media_fail_again_and_mending_some_may_suffice(
        self, tmp_path: Path, junk: Path
    ) -> None:
        self.fail(tmp_path, junk)
        with pytest.raises(RejectsError, match="5 of 20"):
            pack_junk(tmp_path / "out", junk, max_rejects=2)
        self.mend(tmp_path, junk, 1, 6, 17)
        report = pack_junk(tmp_path / "out", junk, max_rejects=2)
        assert [reject.id for reject in report.rejects] == ["j02.mp4", "j11.mp4"]
        assert report.packed == 18

    def test_allowing_more_rejects_finishes_without_mending(
        self, tmp_path: Path, junk: Path
    ) -> None:
        self.fail(tmp_path, junk)
        report = pack_junk(tmp_path / "out", junk, max_rejects=5)
        assert report.packed == 15
        assert [reject.ordinal for reject in report.rejects] == list(self.BROKEN)
