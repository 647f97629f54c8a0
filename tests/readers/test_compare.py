"""What two data sets differ in: every difference is told, and none that is not there."""

import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_proxy import FaultProxy
from pack_inputs import skeletons
from s3_bucket import Bucket, files
from s3_server import S3Server

from clipshards.packer import Excluded, PackReport, Reject, SkeletonRecord, pack
from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.errors import (
    CorruptShardError,
    FormatError,
    NotFoundError,
)
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import Accounting, Manifest
from clipshards.readers.comparing import compare
from clipshards.readers.comparison import (
    ClassDifference,
    CompareReport,
    FieldDifference,
    Listed,
    PartDifference,
    SampleName,
    SplitComparison,
)
from clipshards.readers.opening import open_dataset

NONE: Listed[Any] = Listed(0, ())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The split t of 40 skeletons in at least six shards: look, do not write."""
    out = tmp_path_factory.mktemp("made") / "set"
    assert pack_skeletons(out).shards >= 6
    return out


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def pack_skeletons(out: Path, records: Any = None, **options: Any) -> PackReport:
    given: dict[str, Any] = {"split": "t", "shard_size": 25_000}
    return pack(skeletons() if records is None else records, out, **(given | options))


def shorter(one: SkeletonRecord, frames: int) -> SkeletonRecord:
    assert one.keypoint is not None
    return replace(one, keypoint=one.keypoint[:, :frames], total_frames=frames)


def only(report: CompareReport) -> SplitComparison:
    assert (report.only_in_a, report.only_in_b) == ((), ())
    (one,) = report.splits
    return one


def fields(one: SplitComparison) -> dict[str, tuple[Any, Any]]:
    return {field.name: (field.a, field.b) for field in one.fields}


LISTS = (
    "class_names",
    "shards_differ",
    "shards_only_in_a",
    "shards_only_in_b",
    "samples_only_in_a",
    "samples_only_in_b",
    "samples_differ",
)


def assert_no_lists(one: SplitComparison) -> None:
    assert {name: getattr(one, name) for name in LISTS} == dict.fromkeys(LISTS, NONE)
    assert one.samples_moved == 0


def mirrored(one: SplitComparison) -> SplitComparison:
    """Return what is told when A and B are given the other way round."""
    return replace(
        one,
        digest_a=one.digest_b,
        digest_b=one.digest_a,
        fields=tuple(FieldDifference(field.name, field.b, field.a) for field in one.fields),
        class_names=Listed(
            one.class_names.count,
            tuple(ClassDifference(name.id, name.b, name.a) for name in one.class_names.first),
        ),
        shards_only_in_a=one.shards_only_in_b,
        shards_only_in_b=one.shards_only_in_a,
        samples_only_in_a=one.samples_only_in_b,
        samples_only_in_b=one.samples_only_in_a,
    )


def alter_index(split: Path, number: int, change: Callable[[ShardIndex], None]) -> None:
    """Change the index of a shard, in place, and what the manifest says of it; no part."""
    manifest = Manifest.decode((split / "manifest.json").read_bytes(), where="manifest")
    shard = manifest.shards[number]
    data = (split / shard.name).read_bytes()
    end = shard.index_offset + shard.index_bytes
    index = ShardIndex.decode(data[shard.index_offset : end], where="index")
    change(index)
    encoded = index.encode()
    assert len(encoded) == shard.index_bytes
    data = data[: shard.index_offset] + encoded + data[end:]
    (split / shard.name).write_bytes(data)
    changed = replace(
        shard, sha256=sha256_hex(data), crc32c=crc32c(data), index_crc32c=crc32c(encoded)
    )
    shards = (*manifest.shards[:number], changed, *manifest.shards[number + 1 :])
    (split / "manifest.json").write_bytes(replace(manifest, shards=shards).encode())


# The same


def test_a_data_set_is_the_same_as_its_copy(location: Path, tmp_path: Path) -> None:
    shutil.copytree(location, tmp_path / "copy")
    report = compare(location, tmp_path / "copy")
    assert report.same
    assert report.same_samples
    assert (report.a, report.b) == (str(location), str(tmp_path / "copy"))
    assert (report.only_in_a, report.only_in_b) == ((), ())
    assert [one.split for one in report.splits] == ["bare", "gaps", "multi", "train"]
    for one in report.splits:
        digest = open_dataset(location, split=one.split).manifest.content_digest
        assert (one.digest_a, one.digest_b, one.fields) == (digest, digest, ())
        assert_no_lists(one)
        assert one.same
        assert one.same_samples
    assert compare(location, location).same


def test_of_equal_digests_only_the_manifests_are_read(own: Path, made: Path) -> None:
    for shard in (own / "t").glob("*.tar"):
        shard.unlink()
    assert compare(made, own).same


def test_one_split_is_compared_alone(location: Path, copied: Path) -> None:
    report = compare(location, copied, split="train")
    assert report.same
    assert [one.split for one in report.splits] == ["train"]
    report = compare(location, copied)
    assert (report.only_in_a, report.only_in_b) == (("bare", "gaps", "multi"), ())
    assert not report.same
    assert not report.same_samples
    assert only(replace(report, only_in_a=())).same
    report = compare(copied, location)
    assert (report.only_in_a, report.only_in_b) == ((), ("bare", "gaps", "multi"))
    assert not report.same


# Values of the manifests

CHANGES: dict[str, tuple[dict[str, Any], dict[str, tuple[Any, Any]]]] = {
    "labels": ({"labels": "many"}, {"labels": ("one", "many")}),
    "run length": ({"run_length": 7}, {"run_length": (..., 7)}),
    "request": ({"request_digest": "a" * 64}, {"request_digest": (..., "a" * 64)}),
    "plan": ({"plan_digest": "b" * 64}, {"plan_digest": (..., "b" * 64)}),
    "rejects": ({"rejects_sha256": "c" * 64}, {"rejects_sha256": (..., "c" * 64)}),
    "tools": (
        {"made_with": {"clipshards": "99", "x": "1"}},
        {
            "made_with.clipshards": (..., "99"),
            "made_with.python": (..., None),
            "made_with.numpy": (..., None),
            "made_with.av": (..., None),
            "made_with.platform": (..., None),
            "made_with.x": (None, "1"),
        },
    ),
    "recipe": (
        {"recipe": {"media": {"codec": "h264"}, "new": 1}},
        {"recipe.media.codec": (None, "h264"), "recipe.new": (None, 1)},
    ),
    "accounting": (
        {"accounting": Accounting(45, 40, 2, {"--option": 3})},
        {
            "accounting.entries": (40, 45),
            "accounting.rejected": (0, 2),
            "accounting.excluded.--option": (None, 3),
        },
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_value_of_the_manifest_is_told(
    name: str, own: Path, made: Path, rewrite_manifest: Callable[..., Manifest]
) -> None:
    changed, expected = CHANGES[name]
    rewrite_manifest(own / "t", **changed)
    # The indexes hold the plan: their reader would object, and need not be asked.
    report = compare(made, own)
    assert not report.same
    one = only(report)
    found = fields(one)
    assert found.keys() == expected.keys()
    for field, (a, b) in expected.items():
        assert found[field][1] == b
        assert found[field][0] not in (b, ...)
        if a is not ...:
            assert found[field][0] == a
    assert_no_lists(one)
    assert one.same_samples
    assert report.same_samples
    other = only(compare(own, made))
    assert set(other.fields) == set(mirrored(one).fields)
    assert replace(other, fields=()) == replace(mirrored(one), fields=())


def test_class_names_are_told_by_their_numbers(
    own: Path, made: Path, rewrite_manifest: Callable[..., Manifest]
) -> None:
    shutil.copytree(own, own.parent / "other")
    rewrite_manifest(own / "t", class_names=("a", "b", "c"))
    rewrite_manifest(own.parent / "other" / "t", class_names=("a", "x", "c", "d"))
    one = only(compare(own, own.parent / "other"))
    expected = (ClassDifference(1, "b", "x"), ClassDifference(3, None, "d"))
    assert one.class_names == Listed(2, expected)
    assert one.fields == ()
    rewrite_manifest(own / "t", class_names=tuple(map(str, range(400))))
    one = only(compare(made, own))
    assert one.class_names.count == 400
    assert len(one.class_names.first) == 20
    assert one.class_names.first[7] == ClassDifference(7, None, "7")


def test_another_order_of_shards_is_told(
    own: Path, made: Path, rewrite_manifest: Callable[..., Manifest]
) -> None:
    shards = open_dataset(made).manifest.shards
    rewrite_manifest(own / "t", shards=(shards[0], shards[2], shards[1], *shards[3:]))
    one = only(compare(made, own))
    assert fields(one) == {"shards.order": ("t-000001.tar", "t-000002.tar")}
    assert one.same_samples


def test_real_accounting_and_rejects_are_told(made: Path, tmp_path: Path) -> None:
    records = [*skeletons(), Reject("no path"), Excluded("--some-option")]
    pack_skeletons(tmp_path / "more", records)
    found = fields(only(compare(made, tmp_path / "more")))
    assert found["accounting.entries"] == (40, 42)
    assert found["accounting.rejected"] == (0, 1)
    assert found["accounting.excluded.--some-option"] == (None, 1)
    assert "rejects_sha256" in found
    assert "accounting.packed" not in found


def test_another_task_is_told(location: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(location / "train", tmp_path / "video" / "train")
    pack_skeletons(tmp_path / "skeleton", split="train")
    one = only(compare(tmp_path / "video", tmp_path / "skeleton"))
    assert fields(one)["task"] == ("video", "skeleton")
    # The first 15 keys are the same, and nothing behind them.
    assert (one.samples_differ.count, one.samples_only_in_b.count) == (15, 25)
    names = {part.name for part in one.samples_differ.first[0].parts}
    assert names == {"json", "frames.npy", "mp4", "keypoint.npy"}


# Shards and samples


def test_the_same_samples_cut_otherwise(made: Path, tmp_path: Path) -> None:
    pack_skeletons(tmp_path / "other", shard_size=60_000, seed=3)
    report = compare(made, tmp_path / "other")
    assert not report.same
    assert report.same_samples
    one = only(report)
    counts = (
        len(open_dataset(made).manifest.shards),
        len(open_dataset(tmp_path / "other").manifest.shards),
    )
    assert fields(one)["totals.shards"] == counts
    assert "plan_digest" in fields(one)
    assert one.shards_differ.count == counts[1]
    assert one.shards_only_in_a.count == counts[0] - counts[1]
    assert one.shards_only_in_b == NONE
    assert one.samples_moved > 30
    assert only(compare(tmp_path / "other", made)).samples_moved == one.samples_moved


def test_the_same_samples_at_the_same_places(own: Path, made: Path) -> None:
    def change(index: ShardIndex) -> None:
        index.origins[0] = index.origins[0].translate({ord("["): "("})

    alter_index(own / "t", 2, change)
    one = only(compare(made, own))
    assert one.shards_differ == Listed(1, ("t-000002.tar",))
    assert one.same_samples
    assert one.samples_moved == 0


def test_samples_that_one_lacks_are_named(made: Path, tmp_path: Path) -> None:
    pack_skeletons(tmp_path / "more", skeletons(43))
    one = only(compare(made, tmp_path / "more"))
    assert (one.samples_only_in_a, one.samples_differ) == (NONE, NONE)
    assert one.samples_only_in_b.count == 3
    split = open_dataset(tmp_path / "more")
    expected = set()
    for key, name in (("t-00000040", "s40"), ("t-00000041", "s41"), ("t-00000042", "s42")):
        (place,) = split.find(key)
        expected.add(SampleName(key, name, split.manifest.shards[place.shard].name))
    assert set(one.samples_only_in_b.first) == expected
    assert not one.same_samples
    other = only(compare(tmp_path / "more", made))
    assert other.samples_only_in_a == one.samples_only_in_b
    assert other.samples_only_in_b == NONE


@pytest.mark.parametrize("shard_size", [25_000, 60_000])
def test_parts_that_differ_are_named(made: Path, tmp_path: Path, shard_size: int) -> None:
    """However the shards are cut."""
    records = skeletons()
    records[4] = replace(records[4], keypoint=records[5].keypoint)
    records[9] = replace(records[9], id="renamed")
    records[20] = replace(records[20], labels=(9,))
    records[30] = shorter(records[30], 5)
    pack_skeletons(tmp_path / "other", records, shard_size=shard_size)
    one = only(compare(made, tmp_path / "other"))
    assert (one.samples_only_in_a, one.samples_only_in_b) == (NONE, NONE)
    assert one.samples_differ.count == 4
    found = {sample.key: sample for sample in one.samples_differ.first}
    names = {key: [part.name for part in found[key].parts] for key in found}
    assert names == {
        "t-00000004": ["keypoint.npy"],
        "t-00000009": ["json"],
        "t-00000020": ["json"],
        "t-00000030": ["json", "keypoint.npy"],
    }
    assert (found["t-00000009"].id_a, found["t-00000009"].id_b) == ("s9", "renamed")
    assert (found["t-00000004"].id_a, found["t-00000004"].id_b) == ("s4", "s4")
    expected = []
    for location in (made, tmp_path / "other"):
        split = open_dataset(location)
        (place,) = split.find("t-00000030")
        data = split.read_sample(place.shard, place.sample).parts["keypoint.npy"]
        expected.append((len(data), crc32c(data)))
    (bytes_a, crc_a), (bytes_b, crc_b) = expected
    assert bytes_a > bytes_b
    assert found["t-00000030"].parts[1] == PartDifference(
        "keypoint.npy", bytes_a, bytes_b, crc_a, crc_b
    )


def test_a_part_that_one_lacks_is_named(made: Path, tmp_path: Path) -> None:
    score = np.ones((1, 9, 17), dtype=np.float16)
    records = [replace(one, keypoint_score=score) for one in skeletons()]
    pack_skeletons(tmp_path / "other", records)
    one = only(compare(tmp_path / "other", made))
    assert one.samples_differ.count == 40
    part = one.samples_differ.first[0].parts[-1]
    assert part.name == "keypoint_score.npy"
    assert (part.bytes_b, part.crc32c_b) == (None, None)
    assert part.bytes_a is not None
    assert part.crc32c_a is not None


def test_lists_are_cut_short_and_counted(made: Path, tmp_path: Path) -> None:
    records = [replace(one, labels=(7,)) for one in skeletons(70)]
    report = pack_skeletons(tmp_path / "other", records, shard_size=8_000)
    assert report.shards > 45
    one = only(compare(made, tmp_path / "other"))
    assert (one.samples_differ.count, len(one.samples_differ.first)) == (40, 20)
    assert (one.samples_only_in_b.count, len(one.samples_only_in_b.first)) == (30, 20)
    assert one.shards_only_in_b.count == report.shards - one.shards_differ.count
    assert len(one.shards_only_in_b.first) == 20
    # The first ones, in the order of A's shards, or of B's where A has none.
    keys = [key for shard in range(9) for key in keys_of(made, shard)][:20]
    assert [sample.key for sample in one.samples_differ.first] == keys
    there = [key for shard in range(report.shards) for key in keys_of(tmp_path / "other", shard)]
    more = [key for key in there if key >= "t-00000040"][:20]
    assert [sample.key for sample in one.samples_only_in_b.first] == more


def keys_of(location: Path, shard: int) -> list[str]:
    split = open_dataset(location)
    return split.read_index(shard).keys if shard < len(split.manifest.shards) else []


def test_a_key_that_stands_twice_is_no_agreement(own: Path, made: Path) -> None:
    first = keys_of(made, 0)[0]

    def change(index: ShardIndex) -> None:
        index.keys[0] = first

    other = keys_of(made, 1)[0]
    alter_index(own / "t", 1, change)
    # So that the shard it stood in before is looked at too.
    alter_index(own / "t", 0, lambda index: index.origins.__setitem__(0, index.origins[0].upper()))
    one = only(compare(made, own))
    assert [sample.key for sample in one.samples_only_in_a.first] == [other]
    (twice,) = one.samples_differ.first
    assert (twice.key, twice.parts) == (first, ())
    assert not one.same_samples


def brute_force(a: Path, b: Path) -> tuple[set[str], set[str], set[str], int]:
    """Return keys only in A, only in B, those with other parts, and how many moved."""
    found: list[dict[str, tuple[Any, tuple[str, int]]]] = []
    for location in (a, b):
        split = open_dataset(location)
        samples = {}
        for number, shard in enumerate(split.manifest.shards):
            index = split.read_index(number)
            for row, key in enumerate(index.keys):
                parts = {
                    name: hashlib.sha256(data).hexdigest()
                    for name, data in split.read_sample(number, row).parts.items()
                }
                samples[key] = (parts, (shard.name, row))
        found.append(samples)
    one, other = found
    common = one.keys() & other.keys()
    differ = {key for key in common if one[key][0] != other[key][0]}
    moved = sum(one[key][1] != other[key][1] for key in common - differ)
    return one.keys() - other.keys(), other.keys() - one.keys(), differ, moved


@pytest.mark.parametrize("seed", range(5))
def test_what_is_told_is_what_a_look_at_all_bytes_tells(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    for side in "ab":
        records: list[Any] = []
        for one in skeletons(25):
            kind = draw.choice(["as it is"] * 5 + ["gone", "labels", "frames"])
            if kind == "gone":
                records.append(Excluded("--drawn"))
            elif kind == "labels":
                records.append(replace(one, labels=(draw.randrange(2),)))
            elif kind == "frames":
                records.append(shorter(one, 8))
            else:
                records.append(one)
        size = draw.choice([9_000, 20_000, 50_000])
        pack_skeletons(tmp_path / side, records, shard_size=size, seed=draw.randrange(2))
    told = only(compare(tmp_path / "a", tmp_path / "b"))
    only_in_a, only_in_b, differ, moved = brute_force(tmp_path / "a", tmp_path / "b")
    assert {sample.key for sample in told.samples_only_in_a.first} == only_in_a
    assert {sample.key for sample in told.samples_only_in_b.first} == only_in_b
    assert {sample.key for sample in told.samples_differ.first} == differ
    assert told.samples_moved == moved
    assert told.same_samples == (not (only_in_a or only_in_b or differ))


def test_payloads_are_not_read(own: Path, made: Path, tmp_path: Path) -> None:
    """Nor is their damage seen."""
    pack_skeletons(tmp_path / "other", shard_size=60_000)
    before = compare(made, tmp_path / "other")
    for number, shard in enumerate(open_dataset(own).manifest.shards):
        data = (own / "t" / shard.name).read_bytes()
        blank = bytes(shard.index_offset)
        assert len(data) == shard.bytes, number
        (own / "t" / shard.name).write_bytes(blank + data[shard.index_offset :])
    assert only(compare(own, tmp_path / "other")) == only(before)


# Errors


def test_what_is_not_there_is_named(made: Path, location: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no data set here"):
        compare(made, tmp_path / "gone")
    with pytest.raises(NotFoundError, match="no data set here"):
        compare(tmp_path / "gone", made)
    for a, b in ((location, made), (made, location)):
        with pytest.raises(NotFoundError, match=f"{made}: there is no split 'train'"):
            compare(a, b, split="train")
    with pytest.raises(ValueError, match="split 'A B'"):
        compare(made, made, split="A B")


def test_a_damaged_manifest_is_an_error(own: Path, made: Path) -> None:
    (own / "t/manifest.json").write_bytes(b"{}\n")
    with pytest.raises(FormatError, match=r"own/t/manifest\.json"):
        compare(made, own)


def test_a_damaged_index_is_an_error(own: Path, made: Path, tmp_path: Path) -> None:
    shard = open_dataset(own).manifest.shards[3]
    data = bytearray((own / "t" / shard.name).read_bytes())
    data[shard.index_offset + 5] ^= 1
    (own / "t" / shard.name).write_bytes(bytes(data))
    pack_skeletons(tmp_path / "other", shard_size=60_000)
    with pytest.raises(CorruptShardError, match=r"own/t/t-000003\.tar: index"):
        compare(own, tmp_path / "other")
    assert compare(made, own).same


# S3


def test_a_bucket_is_compared_by_few_small_reads(
    made: Path, tmp_path: Path, s3_server: S3Server, s3_location: str, s3_proxy: FaultProxy
) -> None:
    bucket = Bucket.of(s3_server, s3_location)
    bucket.upload(made)
    assert compare(made, bucket.url).same
    assert not s3_proxy.asked("GET", ".tar")
    records = skeletons(42)
    records[3] = replace(records[3], labels=(9,))
    pack_skeletons(tmp_path / "other", records, shard_size=60_000)
    near = only(compare(made, tmp_path / "other"))
    assert only(compare(bucket.url, tmp_path / "other")) == near
    asked = s3_proxy.asked("GET", ".tar")
    shards = {f"t/{shard.name}": shard for shard in open_dataset(made).manifest.shards}
    assert len(asked) >= len(shards)
    for request in asked:
        shard = shards["t/" + request.path.rpartition("/")[2].partition("?")[0]]
        last = shard.index_offset + shard.index_bytes - 1
        assert request.headers["Range"] == f"bytes={shard.index_offset}-{last}"
    assert files(made) == bucket.objects()
