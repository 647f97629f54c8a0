"""Copying a data set: the same bytes, whatever comes between; nothing else is overwritten."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy
from pack_inputs import skeletons
from s3_bucket import Bucket, files

from clipshards.packer import (
    CorruptShardError,
    FormatError,
    NotFoundError,
    Packing,
    PlanError,
    Recipe,
    Reject,
    StorageError,
    VideoRecord,
    pack,
)
from clipshards.packer.copying import CopyReport, DamagedSourceError, copy, total_bytes
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.storage import s3_put
from clipshards.packer.storage.s3_put import checksum_text
from clipshards.readers import verify

PART = 5 * 2**20
"""The smallest part of a multipart upload that S3 takes."""
SHARD = "t/t-000003.tar"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The splits t, of many small shards, and u, with a reject: look, do not write."""
    out = tmp_path_factory.mktemp("made") / "set"
    assert pack(skeletons(), out, split="t", shard_size=25_000).shards >= 6
    report = pack([*skeletons(9), Reject("no path")], out, split="u", shard_size=60_000)
    assert len(report.rejects) == 1
    return out


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "own"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards that S3 takes in parts: look, do not write."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(6):
        (folder / f"{number}.mp4").write_bytes(bytes([number, 1, 2, 3]) * 680_000)
    pack(
        [VideoRecord(f"{number}.mp4", (number,)) for number in range(6)],
        folder / "set",
        split="t",
        media_root=folder,
        recipe=Recipe(frame_table="none"),
        shard_size=5_500_000,
    )
    assert len(manifest_of(folder / "set").shards) == 3
    return folder / "set"


def manifest_of(location: Path, split: str = "t") -> Manifest:
    return Manifest.decode((location / split / "manifest.json").read_bytes(), where=split)


def shards_copied(report: CopyReport) -> dict[str, int]:
    return {one.split: one.shards_copied for one in report.splits}


def flip(file: Path, place: int = 1000) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def written(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return which file stands under each name, and when it was last changed."""
    return {
        file: (file.stat().st_ino, file.stat().st_ctime_ns) for file in sorted(folder.rglob("*"))
    }


def without(found: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if name not in names}


def assert_described(bucket: Bucket, manifest: Manifest) -> None:
    """The store knows of each shard what it knows of one that was packed there."""
    for number, shard in enumerate(manifest.shards):
        name = f"{manifest.split}/{shard.name}"
        about = {"format": "1", "plan-digest": manifest.plan_digest, "shard": str(number)}
        assert bucket.about(name) == about
        assert bucket.crc32c(name) == shard.crc32c


# The same bytes


def test_a_copy_has_the_bytes_of_the_folder(made: Path, tmp_path: Path) -> None:
    told: list[int] = []
    report = copy(made, tmp_path / "copy", progress=told.append)
    assert files(tmp_path / "copy") == files(made)
    assert not list(tmp_path.rglob(".build"))
    assert sum(told) == total_bytes(made)
    manifests = [manifest_of(made, split) for split in ("t", "u")]
    assert [(one.split, one.content_digest) for one in report.splits] == [
        (manifest.split, manifest.content_digest) for manifest in manifests
    ]
    for one, manifest in zip(report.splits, manifests, strict=True):
        assert one.finished
        assert one.shards == one.shards_copied == len(manifest.shards)
        assert one.bytes == one.bytes_copied == manifest.size_bytes
    assert (report.source, report.target) == (str(made), str(tmp_path / "copy"))
    assert (report.damaged, report.unfinished) == ((), ())


def test_to_a_bucket_and_back(made: Path, tmp_path: Path, bucket: Bucket) -> None:
    copy(made, bucket.url)
    assert bucket.objects() == files(made)
    assert bucket.uploads() == []
    for split in ("t", "u"):
        assert_described(bucket, manifest_of(made, split))
    copy(bucket.url, tmp_path / "back")
    assert files(tmp_path / "back") == files(made)
    assert verify(bucket.url).whole


def test_from_one_bucket_to_another_place(large: Path, bucket: Bucket) -> None:
    other = replace(bucket, url=f"{bucket.url} beside")
    bucket.upload(large)
    copy(bucket.url, other.url)
    assert other.objects() == files(large)
    assert_described(other, manifest_of(large))


def test_other_files_are_not_copied(own: Path, tmp_path: Path, made: Path) -> None:
    (own / "t" / "notes.txt").write_text("mine")
    (own / "t" / "t-000099.tar").write_text("not of the manifest")
    (own / "t" / ".build").mkdir()
    (own / "README").write_text("mine")
    (own / "t.wids.json").write_text("of another tool")
    copy(own, tmp_path / "copy")
    assert files(tmp_path / "copy") == files(made)


def test_one_split_is_copied_beside_others(made: Path, tmp_path: Path) -> None:
    copy(made, tmp_path / "copy", split="u")
    assert files(tmp_path / "copy") == {
        name: data for name, data in files(made).items() if name.startswith("u")
    }
    assert total_bytes(made, split="u") == manifest_of(made, "u").size_bytes
    before = written(tmp_path / "copy" / "u")
    copy(made, tmp_path / "copy", split="t")
    assert files(tmp_path / "copy") == files(made)
    assert written(tmp_path / "copy" / "u") == before


def test_a_split_that_is_not_finished_is_named_and_left_out(
    own: Path, made: Path, tmp_path: Path
) -> None:
    Packing(skeletons(), own, split="half", shard_size=25_000).run_part(1, 2)
    report = copy(own, tmp_path / "copy")
    assert report.unfinished == ("half",)
    assert files(tmp_path / "copy") == files(made)
    with pytest.raises(NotFoundError, match="there is no split 'half'; packing has not ended"):
        copy(own, tmp_path / "copy", split="half")


# What stands already


def test_a_second_copy_writes_nothing(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    copy(made, out)
    before = written(out)
    told: list[int] = []
    report = copy(made, out, progress=told.append)
    assert shards_copied(report) == {"t": 0, "u": 0}
    assert written(out) == before
    assert sum(told) == total_bytes(made)


def test_a_second_copy_moves_no_byte_of_a_bucket(
    made: Path, tmp_path: Path, bucket: Bucket, s3_proxy: FaultProxy
) -> None:
    copy(made, bucket.url)
    copy(bucket.url, tmp_path / "back")
    before, seen = bucket.heads(), len(s3_proxy.requests)
    assert shards_copied(copy(made, bucket.url)) == {"t": 0, "u": 0}
    copy(bucket.url, tmp_path / "back")
    new = s3_proxy.requests[seen:]
    assert not [one for one in new if ".tar" in one.path and one.method != "HEAD"]
    assert not [one for one in new if one.method in ("PUT", "POST")]
    assert bucket.heads() == before


def test_objects_without_checksum_are_read(
    made: Path, bucket: Bucket, s3_proxy: FaultProxy
) -> None:
    bucket.upload(made)  # by a tool that leaves a CRC32
    bucket.remove("t/manifest.json")
    before = bucket.heads()
    assert shards_copied(copy(made, bucket.url)) == {"t": 0, "u": 0}
    after = bucket.heads()
    assert {name: after[name] for name in before} == before
    assert bucket.objects() == files(made)
    shards = [f"{split}/{s.name}" for split in "tu" for s in manifest_of(made, split).shards]
    assert {one.path.rpartition("/")[2] for one in s3_proxy.asked("GET", ".tar")} == {
        name.rpartition("/")[2] for name in shards
    }


@pytest.mark.parametrize("finished", [True, False])
def test_what_is_damaged_at_the_target_is_copied_again(
    made: Path, tmp_path: Path, finished: bool
) -> None:
    out = tmp_path / "copy"
    copy(made, out)
    flip(out / SHARD)
    (out / "t/t-000001.tar").unlink()
    (out / "u/t-nothing").mkdir()
    if finished:
        (out / "t/t-000002.tar").write_bytes(b"short")
        (out / "u/rejects.jsonl").write_text("")
        (out / "t.wids.json").unlink()
    else:
        (out / "t/manifest.json").unlink()
    report = copy(made, out)
    assert shards_copied(report) == {"t": 3 if finished else 2, "u": 0}
    assert report.splits[0].bytes_copied < report.splits[0].bytes
    assert files(out) == files(made)


def test_what_is_damaged_in_a_bucket_is_copied_again(made: Path, bucket: Bucket) -> None:
    copy(made, bucket.url)
    bucket.flip(SHARD, 1000)
    # With a checksum of the wrong bytes, as a store has it that was given them.
    wrong = bytes(len(bucket.read("t/t-000002.tar")))
    bucket.client.put_object(
        **bucket.target("t/t-000002.tar"),
        Body=wrong,
        ChecksumCRC32C=checksum_text(crc32c(wrong)),
        Metadata=bucket.about("t/t-000002.tar"),
    )
    bucket.remove("t/t-000001.tar")
    bucket.put("u/rejects.jsonl", b"")
    bucket.client.create_multipart_upload(**bucket.target(SHARD))
    assert shards_copied(copy(made, bucket.url)) == {"t": 3, "u": 0}
    assert bucket.objects() == files(made)
    assert bucket.uploads() == []


def test_an_object_of_somebody_else_is_not_overwritten(made: Path, bucket: Bucket) -> None:
    bucket.upload(made)
    bucket.flip(SHARD, 1000)
    with pytest.raises(StorageError, match=r"t-000003\.tar: a file that another job made"):
        copy(made, bucket.url)
    assert bucket.read(SHARD) != files(made)[SHARD]


def test_what_a_finished_job_left_is_tidied(made: Path, tmp_path: Path) -> None:
    copy(made, tmp_path / "copy")
    (tmp_path / "copy/t/.build").mkdir()
    (tmp_path / "copy/t/.build/0.partial").write_text("")
    copy(made, tmp_path / "copy")
    assert not (tmp_path / "copy/t/.build").exists()


# Damage at the source

DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped": (flip, "sha256 of the file is not the manifest's"),
    "last byte": (lambda file: flip(file, -1), "sha256 of the file is not the manifest's"),
    "cut": (lambda file: os.truncate(file, 4000), "4000 bytes, the manifest expects "),
    "longer": (
        lambda file: file.write_bytes(file.read_bytes() + b"x"),
        "bytes, the manifest expects ",
    ),
    "empty": (lambda file: os.truncate(file, 0), "0 bytes, the manifest expects "),
    "missing": (lambda file: file.unlink(), "missing"),
    "folder": (make_folder, "missing"),
}


def check_damage(source: str | Path, target: Path, clean: Path, file: str, words: str) -> None:
    with pytest.raises(CorruptShardError) as caught:
        copy(source, target)
    assert str(caught.value).startswith(f"{source}/{file}: ")
    assert words in str(caught.value)
    assert isinstance(caught.value, DamagedSourceError)
    report = caught.value.report
    (damage,) = report.damaged
    assert f"{damage.split}/{damage.file}" == file
    assert words in damage.message
    split = file[0]
    assert {one.split: one.finished for one in report.splits} == {
        "t": split != "t",
        "u": split != "u",
    }
    found = {name: data for name, data in files(target).items() if "/.build/" not in name}
    wids = f"{split}.wids.json"
    assert found == without(files(clean), file, f"{split}/manifest.json", wids)
    assert not list(target.rglob("*.partial"))


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_shard_is_named_and_all_others_are_copied(
    kind: str, own: Path, made: Path, tmp_path: Path
) -> None:
    damage, words = DAMAGES[kind]
    damage(own / SHARD)
    check_damage(own, tmp_path / "copy", made, SHARD, words)
    # Restored, only it is copied.
    shutil.rmtree(own)
    shutil.copytree(made, own)
    assert shards_copied(copy(own, tmp_path / "copy")) == {"t": 1, "u": 0}
    assert files(tmp_path / "copy") == files(made)


def test_a_flip_of_any_region_is_found(own: Path, made: Path, tmp_path: Path) -> None:
    size = (own / SHARD).stat().st_size
    clean = (own / SHARD).read_bytes()
    for number, place in enumerate(range(0, size, size // 9)):
        flip(own / SHARD, place)
        with pytest.raises(CorruptShardError, match=r"t-000003\.tar: sha256 of the file"):
            copy(own, tmp_path / str(number), split="t")
        assert not (tmp_path / str(number) / SHARD).exists()
        (own / SHARD).write_bytes(clean)


@pytest.mark.parametrize("kind", ["flipped", "missing"])
def test_damaged_rejects_are_named(kind: str, own: Path, made: Path, tmp_path: Path) -> None:
    damage, words = DAMAGES[kind]
    if kind == "flipped":
        flip(own / "u/rejects.jsonl", 10)
        words = "sha256 is not the manifest's"
    else:
        damage(own / "u/rejects.jsonl")
    check_damage(own, tmp_path / "copy", made, "u/rejects.jsonl", words)


def test_all_damage_is_named_in_order(own: Path, tmp_path: Path) -> None:
    (own / "u/rejects.jsonl").unlink()
    (own / "u/u-000000.tar").unlink()
    flip(own / "t/t-000004.tar")
    os.truncate(own / "t/t-000001.tar", 512)
    with pytest.raises(DamagedSourceError, match=r"t-000001\.tar: .* 3 more files") as caught:
        copy(own, tmp_path / "copy")
    assert [f"{one.split}/{one.file}" for one in caught.value.report.damaged] == [
        "t/t-000001.tar",
        "t/t-000004.tar",
        "u/u-000000.tar",
        "u/rejects.jsonl",
    ]


def test_damage_in_a_bucket_is_named_and_read_once(
    made: Path, tmp_path: Path, bucket: Bucket, s3_proxy: FaultProxy
) -> None:
    copy(made, bucket.url)
    data = bytearray(bucket.read(SHARD))
    data[1000] ^= 1
    # With the checksum of what is wrong: the store says itself that it is.
    bucket.client.put_object(
        **bucket.target(SHARD), Body=bytes(data), ChecksumCRC32C=checksum_text(crc32c(bytes(data)))
    )
    words = "sha256 of the file is not the manifest's"
    check_damage(bucket.url, tmp_path / "copy", made, SHARD, words)
    assert len(s3_proxy.asked("GET", "t-000003.tar")) == 1
    bucket.remove(SHARD)
    with pytest.raises(DamagedSourceError, match=r"t-000003\.tar: missing"):
        copy(bucket.url, tmp_path / "copy")


def test_damage_is_no_matter_where_the_shard_stands_already(
    own: Path, made: Path, tmp_path: Path
) -> None:
    copy(own, tmp_path / "copy")
    flip(own / SHARD)
    assert shards_copied(copy(own, tmp_path / "copy")) == {"t": 0, "u": 0}
    flip(tmp_path / "copy" / SHARD, 2000)
    with pytest.raises(DamagedSourceError, match=r"t-000003\.tar: sha256"):
        copy(own, tmp_path / "copy")
    assert (tmp_path / "copy/t/manifest.json").exists()


def test_a_damaged_manifest_is_an_error_before_anything_is_written(
    own: Path, tmp_path: Path
) -> None:
    flip(own / "u/manifest.json", 200)
    with pytest.raises(FormatError, match=r"u/manifest\.json"):
        copy(own, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


# Others at the target


def other_split(out: str | Path) -> None:
    pack(skeletons(7), out, split="u", shard_size=25_000)


def other_job(out: str | Path) -> None:
    Packing(skeletons(), out, split="u", shard_size=25_000).run_part(1, 2)


def same_job(out: str | Path) -> None:
    records: list[Any] = [*skeletons(9), Reject("no path")]
    Packing(records, out, split="u", shard_size=60_000).run_part(1, 1)


@pytest.mark.parametrize(
    ("stand", "words"),
    [
        (other_split, "another split stands here, [0-9a-f]{12}, not [0-9a-f]{12}"),
        (other_job, "a packing job that has not ended stands here"),
        (same_job, "a packing job that has not ended stands here"),
    ],
)
@pytest.mark.parametrize("far", [False, True])
def test_what_another_job_made_is_refused_before_anything_is_written(
    stand: Callable[[Any], None],
    words: str,
    far: bool,
    made: Path,
    tmp_path: Path,
    bucket: Bucket,
) -> None:
    target = bucket.url if far else str(tmp_path / "copy")
    stand(target)
    before = bucket.objects() if far else files(tmp_path / "copy")
    with pytest.raises(PlanError, match=rf"copy/u: {words}|data set/u: {words}"):
        copy(made, target)
    assert (bucket.objects() if far else files(tmp_path / "copy")) == before


def test_shards_of_something_else_are_refused(made: Path, tmp_path: Path) -> None:
    for name, data in (("t-000000.tar", b"x"), ("t-000777.tar", b"x"), ("mine.tar", b"x")):
        folder = tmp_path / name
        (folder / "t").mkdir(parents=True)
        (folder / "t" / name).write_bytes(data)
        with pytest.raises(PlanError, match=f"shards of something else stand here .{name}"):
            copy(made, folder)
        assert files(folder) == {f"t/{name}": data}


def test_shards_that_another_tool_copied_are_taken(made: Path, tmp_path: Path) -> None:
    (tmp_path / "copy/t").mkdir(parents=True)
    for name in ("t-000000.tar", "t-000004.tar"):
        shutil.copy(made / "t" / name, tmp_path / "copy/t")
    report = copy(made, tmp_path / "copy")
    assert shards_copied(report)["t"] == report.splits[0].shards - 2
    assert files(tmp_path / "copy") == files(made)


def test_an_unfinished_copy_of_another_split_is_refused(
    own: Path, made: Path, tmp_path: Path
) -> None:
    (own / "t/t-000000.tar").unlink()
    with pytest.raises(DamagedSourceError):
        copy(own, tmp_path / "copy", split="t")
    before = files(tmp_path / "copy")
    pack(skeletons(), tmp_path / "other", split="t", shard_size=25_000, seed=5)
    with pytest.raises(PlanError, match="an unfinished copy of another split stands here"):
        copy(tmp_path / "other", tmp_path / "copy")
    assert files(tmp_path / "copy") == before
    copy(made, tmp_path / "copy")
    assert files(tmp_path / "copy") == files(made)


def test_a_split_that_appears_meanwhile_is_not_overwritten(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"

    def others(_: int) -> None:
        if not (out / "u/manifest.json").exists():
            other_split(out)

    # Of t; when it is told, u has been looked at already.
    copy(made, tmp_path / "source", split="t")
    shutil.copytree(made / "u", tmp_path / "source/u")
    with pytest.raises(PlanError):
        copy(tmp_path / "source", out, progress=others)
    assert manifest_of(out, "u").samples == 7


def test_a_job_that_begins_meanwhile_gets_no_manifest_over_its_shards(
    made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy"

    def others(_: int) -> None:
        if not (out / "u/.build/plan.json").exists():
            other_job(out)

    with pytest.raises(PlanError, match="copy/u: a packing job that has not ended stands here"):
        copy(made, out, progress=others)
    assert not (out / "u/manifest.json").exists()
    assert manifest_of(out) == manifest_of(made)


def test_a_damaged_manifest_at_the_target_is_an_error(made: Path, tmp_path: Path) -> None:
    copy(made, tmp_path / "copy")
    flip(tmp_path / "copy/t/manifest.json", 300)
    before = files(tmp_path / "copy")
    with pytest.raises(FormatError, match=r"copy/t/manifest\.json"):
        copy(made, tmp_path / "copy")
    assert files(tmp_path / "copy") == before


# Wrong use


def test_source_and_target_must_be_apart(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(own)
    (tmp_path / "link").symlink_to(own)
    monkeypatch.chdir(tmp_path)
    for source, target in ((own, own), (own, f"{own}/"), (own, "link"), ("own", own)):
        with pytest.raises(ValueError, match="the same location"):
            copy(source, target)
    for target in (own / "t", own / "new", "link/new"):
        with pytest.raises(ValueError, match="lies inside the source"):
            copy(own, target)
    with pytest.raises(ValueError, match="the same location"):
        copy("s3://bucket/a", "s3://bucket/a/")
    with pytest.raises(ValueError, match="lies inside the source"):
        copy("s3://bucket", "s3://bucket/a")
    assert files(own) == before
    # A name that only begins the same is no folder in it.
    copy(own, f"{own}2")


def test_a_source_without_data_set_is_named(made: Path, tmp_path: Path) -> None:
    for source, split, words in (
        (tmp_path / "gone", None, "no data set here"),
        (made, "gone", "there is no split 'gone'"),
        (made / "t", None, "no data set here"),
    ):
        with pytest.raises(NotFoundError, match=words):
            copy(source, tmp_path / "copy", split=split)
    with pytest.raises(ValueError, match="split 'A B'"):
        copy(made, tmp_path / "copy", split="A B")
    other_job(tmp_path / "half")
    with pytest.raises(NotFoundError, match="packing of u has not ended"):
        copy(tmp_path / "half", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


# Faults, kills


def test_a_copy_goes_through_faults(
    large: Path, tmp_path: Path, bucket: Bucket, s3_proxy: FaultProxy
) -> None:
    s3_proxy.faults += [
        Fault(method="PUT", path=".tar", drop=True, times=2),
        Fault(method="PUT", path=".tar", status=503, skip=1),
        Fault(method="PUT", path=".tar", lose=True, skip=2),
        Fault(method="PUT", path="manifest.json", lose=True),
        Fault(method="PUT", path="copy.json", lose=True),
        Fault(method="HEAD", path=".tar", drop=True),
    ]
    copy(large, bucket.url)
    assert bucket.objects() == files(large)
    s3_proxy.faults += [
        Fault(method="GET", path="t-000000.tar", end_at=1_000_000, end="rst"),
        Fault(method="GET", path="t-000001.tar", status=500),
        # Changed on its way, where no length tells it.
        Fault(method="GET", path="t-000002.tar", flip_at=2_000_000),
        Fault(method="GET", path="rejects.jsonl", drop=True),
    ]
    copy(bucket.url, tmp_path / "back")
    assert files(tmp_path / "back") == files(large)
    assert len(s3_proxy.asked("GET", "t-000002.tar")) == 2
    assert all(not fault.times for fault in s3_proxy.faults)


def test_a_store_that_goes_away_is_an_error_and_no_damage(
    made: Path,
    tmp_path: Path,
    bucket: Bucket,
    s3_proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "0.5")
    copy(made, bucket.url)
    s3_proxy.faults.append(Fault(method="GET", path="t-000003.tar", drop=True, times=None))
    with pytest.raises(StorageError, match=r"t-000003\.tar: .* given up after"):
        copy(bucket.url, tmp_path / "back")
    assert not (tmp_path / "back/t/manifest.json").exists()
    assert not list(tmp_path.rglob("*.partial"))
    s3_proxy.faults.clear()
    copy(bucket.url, tmp_path / "back")
    assert files(tmp_path / "back") == files(made)


def test_an_interrupted_copy_leaves_nothing_unfinished(
    large: Path, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_put, "_PART", PART)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    for target in (bucket.url, tmp_path / "copy"):
        with pytest.raises(KeyboardInterrupt):
            copy(large, target, progress=stop)
    assert bucket.uploads() == []
    assert not list(tmp_path.rglob("*.partial"))
    assert not [name for name in bucket.names() if name.endswith("manifest.json")]
    copy(large, bucket.url)
    copy(large, tmp_path / "copy")
    assert bucket.objects() == files(tmp_path / "copy") == files(large)


# As tests/s3_killed_packing.py: for each (source, target, moments), one child after the other is
# killed at its moment, an integer n at the n-th change of a folder or the n-th request.
KILLED = """
import json, os, signal, sys, time
import clipshards.packer.storage.s3
from clipshards.packer.copying import copy
from clipshards.packer.storage import s3_put
from clipshards.packer.storage.s3_put import checksum_text
from killed_packing import kill_at_change
from s3_killed_packing import kill_at_request

os.fsync = lambda fd: None
s3_put._PART = 5 * 2**20

def run(source, target, moment):
    child = os.fork()
    if not child:
        code = 1
        try:
            if isinstance(moment, int):
                far = target.startswith("s3://")
                kill_at_request(moment) if far else kill_at_change(moment, target)
            copy(source, target)
            code = 0
        finally:
            os._exit(code)
    if isinstance(moment, float):
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

print(json.dumps([[run(a, b, m) for m in moments] for a, b, moments in json.loads(sys.argv[1])]))
"""


def run_and_kill(jobs: list[tuple[str, str, list[int | float]]]) -> list[int]:
    """Return how each process ended."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(jobs)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": f"{here}:{here.parent}"},
    )
    assert done.returncode == 0, done.stderr
    ends = [end for of_job in json.loads(done.stdout) for end in of_job]
    assert set(ends) <= {0, -signal.SIGKILL}, done.stderr
    return ends


def check_killed_locally(made: Path, out: Path, moments: list[list[int | float]]) -> int:
    """Return how many processes were killed."""
    expected = files(made)
    targets = [out / str(number) for number in range(len(moments))]
    ends = run_and_kill(
        [(str(made), str(to), some) for to, some in zip(targets, moments, strict=True)]
    )
    for target in targets:
        standing = {n: data for n, data in files(target).items() if "/.build/" not in n}
        assert standing.items() <= expected.items()
        if "t/manifest.json" in standing:
            assert {n for n in expected if n.startswith("t/") and n.endswith(".tar")} <= set(
                standing
            )
        report = copy(made, target)
        shards = [name for name in standing if name.endswith(".tar")]
        assert sum(one.shards - one.shards_copied for one in report.splits) == len(shards)
        assert files(target) == expected
        assert not list(target.rglob(".build"))
    return ends.count(-signal.SIGKILL)


def test_killed_copies_to_a_folder_go_on(made: Path, tmp_path: Path) -> None:
    moments: list[list[int | float]] = [[n] for n in (1, 2, 3, 7, 12, 20, 33)]
    moments += [[5, 9, 14], [0.004], [0.01, 0.006]]
    assert check_killed_locally(made, tmp_path, moments) >= 9


@pytest.mark.deep
def test_killed_copies_to_a_folder_go_on_from_everywhere(made: Path, tmp_path: Path) -> None:
    assert 45 <= check_killed_locally(made, tmp_path, [[n] for n in range(1, 80)]) < 79


def check_killed_far(large: Path, bucket: Bucket, moments: list[list[int | float]]) -> int:
    """Return how many processes were killed."""
    expected = files(large)
    buckets = [replace(bucket, url=f"{bucket.url}/{number}") for number in range(len(moments))]
    ends = run_and_kill(
        [(str(large), one.url, some) for one, some in zip(buckets, moments, strict=True)]
    )
    for one in buckets:
        standing = {n: data for n, data in one.objects().items() if "/.build/" not in n}
        assert standing.items() <= expected.items()
        before = one.heads()
        copy(large, one.url)
        after = one.heads()
        assert one.objects() == expected
        assert one.uploads() == []
        # What stood is what stands.
        shards = {name for name in standing if name.endswith(".tar")}
        assert {n: after[n] for n in shards} == {n: before[n] for n in shards}
        assert_described(one, manifest_of(large))
        for name in one.names():
            one.remove(name)
    return ends.count(-signal.SIGKILL)


def test_killed_copies_to_a_bucket_go_on(large: Path, bucket: Bucket) -> None:
    moments: list[list[int | float]] = [[3], [-8, 9], [14], [-18], [21], [0.15, 0.1]]
    assert check_killed_far(large, bucket, moments) >= 5


@pytest.mark.deep
def test_killed_copies_to_a_bucket_go_on_from_everywhere(large: Path, bucket: Bucket) -> None:
    moments: list[list[int | float]] = [[sign * n] for n in range(1, 45) for sign in (1, -1)]
    assert check_killed_far(large, bucket, moments) >= 40


# Two at once


def copy_together(source: Path, target: str | Path) -> None:
    barrier = threading.Barrier(2)

    def one() -> CopyReport:
        barrier.wait()
        return copy(source, target)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(one) for _ in range(2)]
        assert all(of.finished for future in futures for of in future.result().splits)


@pytest.mark.parametrize("rounds", [12, pytest.param(300, marks=pytest.mark.deep)])
def test_two_copies_at_once_end_well(made: Path, tmp_path: Path, rounds: int) -> None:
    for number in range(rounds):
        copy_together(made, tmp_path / str(number))
        assert files(tmp_path / str(number)) == files(made)


@pytest.mark.parametrize("rounds", [2, pytest.param(30, marks=pytest.mark.deep)])
def test_two_copies_to_a_bucket_at_once_end_well(
    large: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(s3_put, "_PART", PART)
    for number in range(rounds):
        one = replace(bucket, url=f"{bucket.url}/{number}")
        copy_together(large, one.url)
        assert one.objects() == files(large)
        assert one.uploads() == []


def test_a_packing_job_keeps_off_an_unfinished_copy(own: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    split = next(path.name for path in own.iterdir() if path.is_dir())
    mark = target / split / ".build" / "copy.json"
    mark.parent.mkdir(parents=True)
    mark.write_text('{"content_digest":"ab"}')
    with pytest.raises(PlanError, match="a copy that has not ended stands here"):
        pack(skeletons(2), target, split=split)
    assert mark.exists()
    assert pack(skeletons(2), target, split=split, replan=True).packed == 2
    assert not mark.exists()
