"""Every kind of damage to a data set: found, and pinned on what is damaged and nothing else."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_regions import BLOCK, Region, regions

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.errors import NotFoundError
from clipshards.packer.format.frame_table import empty_frame_table
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_parts import VideoJson
from clipshards.packer.format.manifest import Accounting, Manifest
from clipshards.packer.format.npy import encode_npy
from clipshards.packer.format.tar import encode_header
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.media.synthetic import write_video
from clipshards.packer.one_call import pack
from clipshards.packer.samples.base import Sample
from clipshards.readers.findings import REPAIR, Finding
from clipshards.readers.integrity import total_bytes, verify
from clipshards.readers.opening import open_dataset

DAMAGED = "train-000001.tar"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three shards with two videos each, and one reject."""
    folder = tmp_path_factory.mktemp("tiny")
    for number in range(6):
        write_video(
            folder / f"{number}.mp4", frames=3, width=32, height=32, seed=number, sound=False
        )
    (folder / "list.txt").write_text("".join(f"{number}.mp4 0\n" for number in range(7)))
    report = pack(
        VideoList(folder / "list.txt"),
        folder / "set",
        split="train",
        media_root=folder,
        shard_size=40_000,
    )
    assert (report.shards, report.packed, len(report.rejects)) == (3, 6, 1)
    return folder / "set"


@pytest.fixture
def copy(intact: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(intact, tmp_path / "set")
    return tmp_path / "set"


def damaged_parts(findings: list[Finding]) -> set[tuple[str, str]]:
    return {
        (finding.key, finding.part)
        for finding in findings
        if finding.key and finding.severity == "error"
    }


def errors(place: Path) -> list[Finding]:
    """Return the damage that a check finds: media that stand twice are none."""
    return verify(place).damage


def messages(findings: list[Finding]) -> str:
    return "\n".join(map(str, findings))


def test_an_intact_data_set_is_whole(intact: Path) -> None:
    ticks: list[int] = []
    report = verify(intact, progress=ticks.append)
    manifest = open_dataset(intact).manifest
    assert report.whole
    assert report.findings == []
    assert report.location == str(intact)
    assert report.splits == {"train": manifest.content_digest}
    assert (report.shards, report.samples) == (3, 6)
    size = sum(path.stat().st_size for path in intact.glob("train/*.tar"))
    assert report.bytes == size == sum(ticks) == total_bytes(intact)


@pytest.mark.parametrize("split", ["train", "multi", "bare", "gaps", None])
def test_every_kind_of_split_is_whole(location: Path, split: str | None) -> None:
    report = verify(location, split=split)
    assert report.whole
    # The splits were packed of the same videos.
    assert {finding.severity for finding in report.findings} == (
        {"warning"} if split is None else set()
    )
    expected = ["bare", "gaps", "multi", "train"] if split is None else [split]
    assert list(report.splits) == expected
    assert report.samples == sum(len(open_dataset(location, split=name)) for name in expected)
    assert total_bytes(location, split=split) == report.bytes


def test_the_regions_are_all_of_the_shard(intact: Path) -> None:
    for number in range(3):
        found = regions(intact, number)
        size = (intact / "train" / f"train-00000{number}.tar").stat().st_size
        ends = [0, *(region.stop for region in found)]
        assert [region.start for region in found] == ends[:-1]
        assert ends[-1] == size


def check_flip(findings: list[Finding], region: Region) -> None:
    assert {finding.shard for finding in findings} == {DAMAGED}, messages(findings)
    if region.key:
        assert damaged_parts(findings) == {(region.key, region.part)}, messages(findings)
    else:
        assert damaged_parts(findings) == set(), messages(findings)
    # The file's own two checksums, and what the damage is.
    about_file = [finding for finding in findings if "of the file" in finding.message]
    assert len(about_file) == 2, messages(findings)
    assert len(findings) > 2, messages(findings)


def test_a_flipped_bit_is_pinned_on_its_part(intact: Path, copy: Path) -> None:
    rng = random.Random(0)
    path = copy / "train" / DAMAGED
    data = path.read_bytes()
    kinds = set()
    for region in regions(intact, 1):
        kinds.add(region.kind)
        inner = [rng.randrange(region.start, region.stop) for _ in range(3)]
        for place in {region.start, region.stop - 1, *inner}:
            changed = bytearray(data)
            changed[place] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            report = verify(copy)
            assert not report.whole, (region, place)
            assert report.shards == 3
            check_flip(report.findings, region)
    assert len(kinds) == 7


@pytest.mark.deep
def test_every_flipped_byte_of_a_shard_is_pinned_on_its_part(intact: Path, copy: Path) -> None:
    path = copy / "train" / DAMAGED
    data = path.read_bytes()
    for region in regions(intact, 1):
        for place in range(region.start, region.stop):
            changed = bytearray(data)
            changed[place] ^= 1 << place % 8
            path.write_bytes(changed)
            check_flip(verify(copy).findings, region)


def test_several_damages_in_one_shard_are_all_named(intact: Path, copy: Path) -> None:
    path = copy / "train" / DAMAGED
    data = bytearray(path.read_bytes())
    members = [region for region in regions(intact, 1) if region.key]
    hit = [
        next(region for region in members if region.kind == "header"),
        next(region for region in members if region.kind == "padding"),
        next(region for region in reversed(members) if region.kind == "header"),
        next(region for region in reversed(members) if region.kind == "payload"),
    ]
    for region in hit:
        data[region.start + 3] ^= 0x40
    path.write_bytes(data)
    findings = verify(copy).findings
    assert damaged_parts(findings) == {(region.key, region.part) for region in hit}
    assert {finding.shard for finding in findings} == {DAMAGED}


def test_a_hole_of_zeros_accuses_only_what_lay_there(intact: Path, copy: Path) -> None:
    # What a crash leaves of a page that never reached the disk.
    path = copy / "train" / DAMAGED
    data = bytearray(path.read_bytes())
    hole = range(2048, 2048 + 1024)
    data[hole.start : hole.stop] = bytes(len(hole))
    path.write_bytes(data)
    lay_there = {
        (region.key, region.part)
        for region in regions(intact, 1)
        if region.kind != "padding" and region.start < hole.stop and hole.start < region.stop
    }
    findings = verify(copy).findings
    assert damaged_parts(findings) == lay_there, messages(findings)
    untouched = {region.key for region in regions(intact, 1)} - {key for key, _ in lay_there}
    assert not any(key in messages(findings) for key in untouched if key)


def test_a_header_that_is_valid_and_not_the_right_one_is_named(intact: Path, copy: Path) -> None:
    path = copy / "train" / DAMAGED
    data = bytearray(path.read_bytes())
    header = next(region for region in regions(intact, 1) if region.part == "frames.npy")
    size = open_dataset(intact).read_index(1).parts["frames.npy"].size[0]
    for name, said in ((f"{header.key}.other", size), (f"{header.key}.frames.npy", size + 8)):
        data[header.start : header.stop] = encode_header(name, said)
        path.write_bytes(data)
        findings = verify(copy).findings
        assert damaged_parts(findings) == {(header.key, "frames.npy")}, messages(findings)


def test_a_truncated_shard_is_found_wherever_it_ends(intact: Path, copy: Path) -> None:
    path = copy / "train" / DAMAGED
    data = path.read_bytes()
    found = regions(intact, 1)
    inside = {place for region in found for place in (region.start + 1, region.stop - 1)}
    for size in sorted({*range(0, len(data), BLOCK), *inside}):
        path.write_bytes(data[:size])
        report = verify(copy)
        text = (size, messages(report.findings))
        assert {finding.shard for finding in report.findings} == {DAMAGED}, text
        assert f"size: expected {len(data)} bytes, got {size} bytes" in text[1]
        # The index is gone, but a header says which part the file ends in.
        cut = next(region for region in found if region.start <= size < region.stop)
        named = damaged_parts(report.findings)
        if cut.kind == "payload":
            assert named == {(cut.key, cut.part)}, text
        else:
            assert named <= {(cut.key, cut.part)}, text


@pytest.mark.parametrize("more", [b"\0", bytes(512), bytes(10240), b"x", b"x" * 1000])
def test_bytes_behind_the_end_are_found(copy: Path, more: bytes) -> None:
    path = copy / "train" / DAMAGED
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(more)
    findings = verify(copy).findings
    assert {finding.shard for finding in findings} == {DAMAGED}
    assert damaged_parts(findings) == set()
    assert f"size: expected {size} bytes, got {size + len(more)} bytes" in messages(findings)


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "train" / DAMAGED).unlink()
    report = verify(copy)
    assert [str(finding) for finding in report.findings] == [
        f"error: train/{DAMAGED}: missing; {REPAIR}"
    ]
    assert (report.shards, report.samples) == (3, 4)


@pytest.mark.parametrize("name", ["train-000003.tar", "other.tar"])
def test_a_shard_too_many_is_named(copy: Path, name: str) -> None:
    shutil.copy(copy / "train" / DAMAGED, copy / "train" / name)
    (finding,) = verify(copy).findings
    assert finding.shard == name
    assert "does not list" in finding.message


def test_swapped_shards_are_both_named(copy: Path) -> None:
    first, second = copy / "train" / "train-000000.tar", copy / "train" / DAMAGED
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    findings = verify(copy).findings
    assert {finding.shard for finding in findings} == {first.name, second.name}


def test_a_shard_of_the_same_name_from_another_pack_is_named(
    intact: Path, copy: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    pack(
        VideoList(intact.parent / "list.txt"),
        other,
        split="train",
        media_root=intact.parent,
        shard_size=40_000,
        seed=7,
    )
    shutil.copy(other / "train" / DAMAGED, copy / "train" / DAMAGED)
    findings = verify(copy).findings
    assert {finding.shard for finding in findings} == {DAMAGED}


def test_an_altered_manifest_is_named(copy: Path) -> None:
    path = copy / "train" / "manifest.json"
    data = path.read_bytes()
    rng = random.Random(1)
    for place in {0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(40))}:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        report = verify(copy)
        (finding,) = report.findings
        assert (finding.split, finding.shard, finding.key) == ("train", "manifest.json", "")
        assert "manifest.json" in str(finding)
        assert report.splits == {}
        total_bytes(copy)
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        (finding,) = verify(copy).findings
        assert "manifest.json" in str(finding)


def test_altered_or_missing_rejects_are_named(copy: Path) -> None:
    path = copy / "train" / "rejects.jsonl"
    data = path.read_bytes()
    assert data.count(b"\n") == 1
    for changed in (b"", data * 2, data.replace(b"6.mp4", b"5.mp4"), b"\xff", data[:-1], None):
        if changed is None:
            path.unlink()
        else:
            path.write_bytes(changed)
        report = verify(copy)
        assert not report.whole, changed
        assert {(f.split, f.shard, f.key) for f in report.findings} == {
            ("train", "rejects.jsonl", "")
        }
        assert report.samples == 6, "the shards were not looked at"


def test_damage_in_one_split_does_not_hide_another(copy: Path) -> None:
    pack_small(copy, "a")
    pack_small(copy, "z")
    (copy / "train" / "manifest.json").write_bytes(b"")
    (copy / "z" / "z-000000.tar").write_bytes(b"")
    report = verify(copy)
    assert list(report.splits) == ["a", "z"]
    assert {finding.split for finding in report.findings} == {"train", "z"}
    assert {finding.split for finding in verify(copy, split="z").findings} == {"z"}
    assert verify(copy, split="a").whole


def pack_small(location: Path, split: str) -> None:
    media = location.parent / "media"
    media.mkdir(exist_ok=True)
    write_video(media / "v.mp4", frames=2, width=32, height=32, sound=False)
    (media / "list.txt").write_text("v.mp4 0\n")
    pack(VideoList(media / "list.txt"), location, split=split, media_root=media)


def test_a_split_in_a_folder_of_another_name_is_not_whole(copy: Path) -> None:
    # By its own name it would be sought, and found whole, in the folder it was copied from.
    shutil.copytree(copy / "train", copy / "val")
    (copy / "val" / DAMAGED).write_bytes(b"junk")
    report = verify(copy)
    assert {finding.split for finding in report.findings} == {"val"}
    assert list(report.splits) == ["train"]


def test_a_folder_that_cannot_be_a_split_is_passed_over(copy: Path) -> None:
    shutil.copytree(copy / "train", copy / "train.bak")
    report = verify(copy)
    assert report.whole
    assert list(report.splits) == ["train"]
    assert total_bytes(copy) == report.bytes


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails to read")
def test_what_cannot_be_read_is_a_finding(copy: Path) -> None:
    # Reading this file at 0 fails, whoever tries.
    path = copy / "train" / DAMAGED
    path.unlink()
    path.symlink_to("/proc/self/mem")
    report = verify(copy)
    assert {finding.shard for finding in report.findings} == {DAMAGED}
    assert "Input/output error" in messages(report.findings)
    assert report.samples == 4
    manifest = copy / "train" / "manifest.json"
    manifest.unlink()
    manifest.symlink_to("/proc/self/mem")
    (finding,) = verify(copy).findings
    assert finding.split == "train"
    assert "manifest.json" in str(finding)


def test_a_folder_in_place_of_a_shard_is_named(copy: Path) -> None:
    path = copy / "train" / DAMAGED
    path.unlink()
    path.mkdir()
    findings = verify(copy).findings
    assert {finding.shard for finding in findings} == {DAMAGED}


def test_where_there_is_no_data_set_nothing_is_verified(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no data set here"):
        verify(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="no split 'val'"):
        verify(copy, split="val")
    (copy / "train" / "manifest.json").unlink()
    with pytest.raises(NotFoundError, match="packing has not ended"):
        verify(copy, split="train")


def test_random_damage_never_raises(copy: Path) -> None:
    rng = random.Random(2)
    path = copy / "train" / DAMAGED
    data = path.read_bytes()
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(changed))
            length = rng.choice([1, 8, 100, 512, 5000])
            kind = rng.randrange(4)
            if kind == 0:
                changed[start : start + length] = rng.randbytes(length)
            elif kind == 1:
                del changed[start : start + length]
            elif kind == 2:
                changed[start:start] = rng.randbytes(length)
            else:
                blocks = changed[:BLOCK] + bytes(BLOCK)
                changed[start - start % BLOCK :][:BLOCK] = blocks
        path.write_bytes(changed)
        report = verify(copy)
        assert report.whole == (changed == data)
        assert {finding.shard for finding in report.findings} <= {DAMAGED}


# Shards with right checksums whose content is wrong: only a writer's bug makes them.


def sample(**changes: Any) -> Sample:
    info = VideoInfo()
    about = VideoJson("v.mp4", "list.txt:1", changes.pop("labels", (0,)), info)
    parts = {
        "json": about.encode(),
        "frames.npy": encode_npy(empty_frame_table()),
        "mp4": b"video",
    } | changes.pop("parts", {})
    return replace(Sample("v.mp4", "list.txt:1", 1, about.summary(), parts), **changes)


@pytest.mark.parametrize(
    ("changes", "part", "message"),
    [
        ({"parts": {"json": b"{}"}}, "json", "missing or unknown key"),
        ({"parts": {"frames.npy": b"\x93NUMPY"}}, "frames.npy", "npy"),
        (
            {"parts": {"frames.npy": encode_npy(np.zeros((1, 4), dtype=np.int64))}},
            "frames.npy",
            "expected int64 of shape",
        ),
        (
            {"parts": {"frames.npy": encode_npy(np.array([[0, 9, 1, 0, 0, 0]]))}},
            "frames.npy",
            "outside the part",
        ),
        (
            {"parts": {"frames.npy": encode_npy(np.array([[0, 5, 1, 0, 0, 0]]))}},
            "frames.npy",
            "the json says that no frame table was made",
        ),
        ({"labels": (1, 2)}, "json", "2 labels in a split of mode 'one'"),
        ({"labels": ()}, "json", "0 labels in a split of mode 'one'"),
        ({"id": "w.mp4"}, "json", "id is 'v.mp4', the index says 'w.mp4'"),
        ({"origin": "list.txt:2"}, "json", "origin is 'list.txt:1'"),
        (
            {"summary": sample().summary | {"frames": 7}},
            "json",
            "frames is -1, the index says 7",
        ),
    ],
)
def test_parts_that_break_the_format_are_named(
    craft: Callable[..., Path], changes: dict[str, Any], part: str, message: str
) -> None:
    place = craft([[sample(), sample(**changes)], [sample()]])
    findings = errors(place)
    assert findings, "nothing was found"
    assert damaged_parts(findings) == {("train-00000001", part)}
    assert {finding.shard for finding in findings} == {"train-000000.tar"}
    assert message in messages(findings)


def test_a_crafted_split_is_whole(craft: Callable[..., Path]) -> None:
    assert errors(craft([[sample(), sample()], [], [sample()]])) == []


def test_rejects_that_do_not_add_up_are_named(
    craft: Callable[..., Path], rewrite_manifest: Callable[..., Manifest]
) -> None:
    place = craft([[sample(), sample()]])
    rewrite_manifest(place / "train", accounting=Accounting(3, 2, 1, {}))
    (finding,) = errors(place)
    assert (finding.shard, "expected 1 as the manifest counts, got 0" in finding.message) == (
        "rejects.jsonl",
        True,
    )


def test_a_label_without_a_class_is_named(
    craft: Callable[..., Path], rewrite_manifest: Callable[..., Manifest]
) -> None:
    place = craft([[sample(), sample(labels=(2,))]])
    rewrite_manifest(place / "train", class_names=("walk", "run"))
    (finding,) = errors(place)
    assert (finding.key, finding.message) == ("train-00000001", "label 2 of 2 classes")


def test_a_key_in_two_shards_is_named(
    craft: Callable[..., Path], rewrite_manifest: Callable[..., Manifest]
) -> None:
    place = craft([[sample()], [sample()]])
    folder = place / "train"
    again = (folder / "train-000001.tar").read_bytes().replace(b"train-00000001", b"train-00000000")
    # The name stands in three headers, whose checksums change with it.
    for part in ("json", "frames.npy", "mp4"):
        name = f"train-00000000.{part}"
        start = again.index(name.encode())
        size = decode_size(again[start:][:BLOCK])
        again = again[:start] + encode_header(name, size) + again[start + BLOCK :]
    first, entry = open_dataset(place).manifest.shards
    start, stop = entry.index_offset, entry.index_offset + entry.index_bytes
    fixed = replace(
        entry,
        index_crc32c=crc32c(again[start:stop]),
        sha256=sha256_hex(again),
        crc32c=crc32c(again),
    )
    (folder / "train-000001.tar").write_bytes(again)
    rewrite_manifest(folder, shards=(first, fixed))
    (finding,) = errors(place)
    assert (finding.shard, finding.key) == ("train-000001.tar", "train-00000000")
    assert finding.message == "a sample of this key stands in another shard too"


def decode_size(header: bytes) -> int:
    return int(header[124:135], 8)


def test_a_lost_manifest_is_named(copied: Path) -> None:
    shutil.copytree(copied / "train", copied / "other")
    for shard in list((copied / "other").glob("*.tar")):
        shard.rename(shard.with_name(shard.name.replace("train", "other")))
    assert [str(found) for found in verify(copied).findings] != []
    (copied / "other" / "manifest.json").unlink()
    (finding,) = verify(copied).findings
    assert (finding.split, finding.shard) == ("other", "")
    assert "shards without manifest.json" in finding.message


def test_an_index_that_is_not_the_shards_is_named(
    craft: Callable[..., Path], rewrite_manifest: Callable[..., Manifest]
) -> None:
    place = craft([[sample(), sample()]])
    path = place / "train" / "train-000000.tar"
    (entry,) = open_dataset(place).manifest.shards
    data = path.read_bytes()
    start, stop = entry.index_offset, entry.index_offset + entry.index_bytes
    index = ShardIndex.decode(data[start:stop], where="index")
    index.number = 1
    changed = data[:start] + index.encode() + data[stop:]
    path.write_bytes(changed)
    fixed = replace(
        entry,
        index_crc32c=crc32c(index.encode()),
        sha256=sha256_hex(changed),
        crc32c=crc32c(changed),
    )
    rewrite_manifest(place / "train", shards=(fixed,))
    (finding,) = errors(place)
    assert finding.shard == path.name
    assert "number is 1, the manifest expects 0" in finding.message


def test_finding_reads_as_one_line() -> None:
    finding = Finding(
        "train", "train-000001.tar", "gone", key="train-00000007", part="mp4", remedy="weep"
    )
    place = "train/train-000001.tar: train-00000007.mp4"
    assert str(finding) == f"error: {place}: gone; weep"
    assert str(replace(finding, id="a b")) == f"error: {place} (id 'a b'): gone; weep"
    of_shard = replace(finding, key="", part="", expected="1", found="2")
    assert str(of_shard) == "error: train/train-000001.tar: gone: expected 1, got 2; weep"
    assert str(replace(of_shard, shard="", severity="warning")).startswith("warning: train: gone:")


def test_verifying_loads_neither_torch_nor_pyav(intact: Path) -> None:
    code = (
        "import sys; from clipshards.readers import verify; "
        f"assert verify({str(intact)!r}).whole; "
        "print(sorted({'torch', 'av', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_verifying_writes_nothing(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    verify(copy)
    os.truncate(copy / "train" / DAMAGED, 1000)
    before[copy / "train" / DAMAGED] = (copy / "train" / DAMAGED).stat().st_mtime_ns
    verify(copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
