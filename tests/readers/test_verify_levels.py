"""What each level of a check sees, what it reads for that, and how it goes on."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import makers
import pytest
from fault_proxy import FaultProxy
from s3_bucket import Bucket
from s3_server import S3Server

from clipshards.packer.copying import copy
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError, StateError, StorageError
from clipshards.packer.format.frame_table import RANK, FrameTable, empty_frame_table
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_parts import VideoJson
from clipshards.packer.format.npy import encode_npy
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.scan import scan_video
from clipshards.packer.samples.base import Sample
from clipshards.packer.storage.s3_put import checksum_text
from clipshards.readers.findings import Level, VerifyReport
from clipshards.readers.integrity import total_bytes, verify
from clipshards.readers.opening import open_dataset
from clipshards.readers.split import Split


def shard_of(place: Path, number: int) -> Path:
    return place / "train" / f"train-{number:06d}.tar"


def flip(path: Path, place: int = 700) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def damaged_shards(report: VerifyReport) -> set[str]:
    return {finding.shard for finding in report.findings if finding.severity == "error"}


@pytest.fixture
def at_s3(copied: Path, s3_server: S3Server, s3_proxy: FaultProxy, s3_location: str) -> Bucket:
    """The split train in a store, and who asks for what."""
    copy(copied, s3_location)
    s3_proxy.requests.clear()
    return Bucket.of(s3_server, s3_location)


class TestQuick:
    def test_it_reads_no_byte_of_a_shard(self, copied: Path) -> None:
        flip(shard_of(copied, 1))
        report = verify(copied, level="quick")
        assert (report.findings, report.bytes, report.samples) == ([], 0, 0)
        assert report.shards == len(open_dataset(copied).manifest.shards)
        assert report.stored_checksums == 0
        assert total_bytes(copied, level="quick") == 0

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda path: path.unlink(), "missing"),
            (lambda path: os.truncate(path, 1024), "got 1024 bytes"),
            (lambda path: (path.unlink(), path.mkdir()), "missing"),
            (lambda path: path.write_bytes(b""), "got 0 bytes"),
        ],
        ids=["missing", "cut", "a folder", "empty"],
    )
    def test_it_names_what_sizes_tell(
        self, damage: Callable[[Path], object], words: str, copied: Path
    ) -> None:
        path = shard_of(copied, 1)
        damage(path)
        (finding,) = verify(copied, level="quick").findings
        assert (finding.split, finding.shard) == ("train", path.name)
        assert words in finding.message
        with pytest.raises(CorruptShardError, match=rf"{path.name}: .*{words}"):
            open_dataset(copied, check="quick")

    def test_files_too_many_or_missing_are_named(self, copied: Path) -> None:
        shutil.copy(shard_of(copied, 0), copied / "train" / "train-000099.tar")
        (copied / "train" / "rejects.jsonl").unlink()
        report = verify(copied, level="quick")
        assert damaged_shards(report) == {"train-000099.tar", "rejects.jsonl"}

    def test_an_intact_data_set_opens_with_a_check(self, copied: Path) -> None:
        assert len(open_dataset(copied, check="quick")) == len(open_dataset(copied))
        with pytest.raises(ValueError, match="'deep': expected 'quick'"):
            open_dataset(copied, check="deep")  # type: ignore[arg-type]

    def test_a_store_tells_checksums_without_a_byte_of_the_shards(
        self, at_s3: Bucket, s3_proxy: FaultProxy
    ) -> None:
        report = verify(at_s3.url, level="quick")
        assert report.findings == []
        assert report.stored_checksums == report.shards > 2
        asked = {(request.method, request.path.endswith(".tar")) for request in s3_proxy.requests}
        assert ("HEAD", True) in asked
        assert ("GET", True) not in asked

    def test_a_checksum_that_a_store_tells_finds_what_no_size_does(self, at_s3: Bucket) -> None:
        name = "train/train-000001.tar"
        data = bytearray(at_s3.read(name))
        data[700] ^= 1
        target = at_s3.target(name)
        told = checksum_text(crc32c(bytes(data)))
        at_s3.client.put_object(**target, Body=bytes(data), ChecksumCRC32C=told)
        (finding,) = verify(at_s3.url, level="quick").findings
        assert finding.shard == "train-000001.tar"
        assert finding.what == "crc32c that the store keeps of the file"
        with pytest.raises(CorruptShardError, match="crc32c that the store keeps"):
            open_dataset(at_s3.url, check="quick")
        # Some tools have the store keep another checksum, or none: it says for how many it knew.
        at_s3.client.put_object(**target, Body=bytes(data), ChecksumAlgorithm="SHA256")
        report = verify(at_s3.url, level="quick")
        assert (report.findings, report.stored_checksums) == ([], report.shards - 1)
        assert damaged_shards(verify(at_s3.url)) == {"train-000001.tar"}

    def test_a_store_that_is_away_is_no_damage(
        self, at_s3: Bucket, s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "0.2")
        split = open_dataset(at_s3.url)
        s3_proxy.refuse()
        with pytest.raises(StorageError, match="Could not connect"):
            open_dataset(at_s3.url, check="quick")
        assert len(split) > 0


class TestProcesses:
    @pytest.mark.parametrize("level", ["full", "deep"])
    def test_several_find_what_one_finds(self, copied: Path, level: Level) -> None:
        flip(shard_of(copied, 0))
        os.truncate(shard_of(copied, 2), 3000)
        ticks: list[int] = []
        one = verify(copied, level=level, workers=1)
        assert damaged_shards(one) == {"train-000000.tar", "train-000002.tar"}
        assert verify(copied, level=level, workers=2, progress=ticks.append) == one
        assert sum(ticks) == one.bytes

    def test_shards_of_a_store_are_checked_too(self, at_s3: Bucket) -> None:
        report = verify(at_s3.url, workers=2)
        assert report.findings == []
        assert report.bytes == open_dataset(at_s3.url).manifest.size_bytes


class TestSample:
    def test_a_share_is_the_same_each_time(self, location: Path) -> None:
        shards = len(open_dataset(location, split="train").manifest.shards)
        first = verify(location, split="train", sample=0.4)
        assert first == verify(location, split="train", sample=0.4)
        assert first.shards == round(0.4 * shards)
        assert first.left_out == shards - first.shards
        assert first.bytes == total_bytes(location, split="train", sample=0.4)
        least = verify(location, split="train", sample=1e-9)
        assert least.shards == 1

    def test_a_damaged_shard_is_found_when_it_is_read(self, copied: Path) -> None:
        for path in sorted((copied / "train").glob("*.tar")):
            flip(path)
        report = verify(copied, sample=0.4)
        assert len(damaged_shards(report)) == report.shards

    @pytest.mark.parametrize("share", [0.0, -1.0, 1.1, float("nan")])
    def test_other_shares_are_refused(self, share: float, copied: Path) -> None:
        with pytest.raises(ValueError, match="share above 0"):
            verify(copied, sample=share)


class TestJournal:
    def test_what_was_whole_is_not_read_again(self, copied: Path, tmp_path: Path) -> None:
        flip(shard_of(copied, 1))
        kept = tmp_path / "journal"
        first = verify(copied, journal=kept)
        assert (first.skipped, damaged_shards(first)) == (0, {"train-000001.tar"})
        flip(shard_of(copied, 1))
        # Not looked at, and so not found: it was whole.
        flip(shard_of(copied, 0))
        ticks: list[int] = []
        second = verify(copied, journal=kept, progress=ticks.append)
        assert (second.findings, second.skipped) == ([], first.shards - 1)
        assert (second.bytes, second.samples) == (first.bytes, first.samples)
        assert sum(ticks) == total_bytes(copied)
        assert verify(copied, journal=kept).skipped == first.shards

    def test_a_line_that_was_cut_off_is_read_again(self, copied: Path, tmp_path: Path) -> None:
        kept = tmp_path / "journal"
        shards = verify(copied, journal=kept).shards
        data = kept.read_bytes()
        for size in (0, 1, data.index(b"\n"), data.index(b"\n") + 1, len(data) - 1):
            kept.write_bytes(data[:size])
            report = verify(copied, journal=kept)
            assert report.skipped == max(data[:size].count(b"\n") - 1, 0)
            assert (report.findings, report.shards) == ([], shards)
            assert sorted(kept.read_bytes().splitlines()) == sorted(data.splitlines())

    def test_another_data_set_shares_no_shard(
        self, copied: Path, location: Path, tmp_path: Path
    ) -> None:
        verify(copied, journal=tmp_path / "journal")
        assert verify(location, split="multi", journal=tmp_path / "journal").skipped == 0

    @pytest.mark.parametrize(
        "text", ["{}\n", "a list\n", '{"format":"clipshards-verify","level":"full","version":9}\n']
    )
    def test_other_files_are_left_as_they_are(
        self, text: str, copied: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text(text)
        with pytest.raises(StateError, match=r"file:1: .*give another journal"):
            verify(copied, journal=tmp_path / "file")
        assert (tmp_path / "file").read_text() == text

    def test_one_of_another_level_is_refused(self, copied: Path, tmp_path: Path) -> None:
        verify(copied, journal=tmp_path / "journal")
        with pytest.raises(StateError, match="level full, expected deep"):
            verify(copied, level="deep", journal=tmp_path / "journal")

    @pytest.mark.parametrize("name", ["nowhere/journal", "folder"])
    def test_one_that_cannot_be_written_is_told(
        self, name: str, copied: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(StorageError, match=name):
            verify(copied, journal=tmp_path / name)

    def test_a_killed_check_goes_on(self, location: Path, tmp_path: Path) -> None:
        kept = tmp_path / "journal"
        code = (
            "import sys; from clipshards.readers import verify; "
            "verify(sys.argv[1], journal=sys.argv[2])"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(location), str(kept)])
        deadline = time.monotonic() + 60
        while not kept.exists() or kept.read_bytes().count(b"\n") < 3:
            assert time.monotonic() < deadline
            assert process.poll() in (None, 0)
        process.kill()
        process.wait()
        report = verify(location, journal=kept)
        assert report.skipped >= 2
        assert report == replace(verify(location), skipped=report.skipped)


class TestDoubles:
    def test_media_that_stand_twice_are_warnings(self, craft: Callable[..., Path]) -> None:
        # Encoded once: libx264 does not give the same bytes twice on every processor.
        first, other = (makers.video_bytes(seed=seed) for seed in (0, 1))
        place = craft([[video(first), video(other)], [], [video(first)]])
        report = verify(place)
        (finding,) = report.findings
        assert report.whole
        assert (finding.severity, finding.shard) == ("warning", "train-000002.tar")
        assert finding.key == "train-00000002"
        assert "train/train-000000.tar: train-00000000 (id 'v.mp4')" in finding.message

    def test_media_of_another_split_are_a_leak(self, craft: Callable[..., Path]) -> None:
        data = makers.video_bytes()
        craft([[video(data)]], split="train")
        place = craft([[video(data)]], split="val")
        (finding,) = verify(place).findings
        assert (finding.split, finding.severity) == ("val", "warning")
        assert "what one split trains on, the other measures" in finding.message
        assert verify(place, split="val").findings == []

    def test_sums_that_meet_are_compared_by_sha256(self, craft: Callable[..., Path]) -> None:
        # Two texts of one size and one crc32c, found by trying.
        first, second = b"\x00" * 4 + b"abcd", forged(b"\x01" * 4, b"\x00" * 4 + b"abcd")
        assert first != second
        report = verify(craft([[video(first), video(second)]]))
        assert not any("the same media" in finding.message for finding in report.findings)

    def test_an_index_is_read_once_for_all_doubles_in_its_shard(
        self, craft: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = craft([[video(b"a"), video(b"b")], [video(b"a"), video(b"b")] * 10])
        read: list[int] = []
        whole = Split.read_index

        def counted(split: Split, shard: int) -> ShardIndex:
            read.append(shard)
            return whole(split, shard)

        monkeypatch.setattr(Split, "read_index", counted)
        assert len(verify(place).findings) == 20
        # Once when the shard is checked, once for its doubles.
        assert sorted(read) == [0, 0, 1, 1]

    def test_many_doubles_are_counted(
        self, craft: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("clipshards.readers.doubles._TOLD", 2)
        place = craft([[video(b"a")] * 3 + [video(b"b")] * 4])
        doubles = [f for f in verify(place).findings if f.severity == "warning"]
        assert len(doubles) == 3
        assert any("3 more samples" in finding.message for finding in doubles)


def forged(start: bytes, like: bytes) -> bytes:
    """Return bytes of the size and crc32c of others that begin otherwise."""
    # The checksum is affine in the last four bytes: solve by Gaussian elimination over bits.
    base = crc32c(start + bytes(4)) ^ crc32c(like)
    rows = [
        (crc32c(start + (1 << bit).to_bytes(4, "little")) ^ crc32c(start + bytes(4)), 1 << bit)
        for bit in range(32)
    ]
    last = 0
    for bit in reversed(range(32)):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows.remove(pivot)
        rows = [
            (value ^ pivot[0], mask ^ pivot[1]) if value >> bit & 1 else (value, mask)
            for value, mask in rows
        ]
        if base >> bit & 1:
            base ^= pivot[0]
            last ^= pivot[1]
    found = start + last.to_bytes(4, "little")
    assert crc32c(found) == crc32c(like)
    return found


def video(data: bytes, change: Callable[[FrameTable], None] | None = None) -> Sample:
    """Return a sample; bytes that are no video get no frame table."""
    if len(data) < 100:
        info, table = VideoInfo(), empty_frame_table()
    else:
        scan = scan_video(data)
        info, table = scan.info, scan.table.copy()
    if change is not None:
        change(table)
    about = VideoJson("v.mp4", "list.txt:1", (0,), info)
    parts = {"json": about.encode(), "frames.npy": encode_npy(table), "mp4": data}
    return Sample("v.mp4", "list.txt:1", 1, about.summary(), parts)


class TestDeep:
    def test_all_kinds_of_splits_are_whole(self, location: Path) -> None:
        report = verify(location, level="deep")
        assert report.whole
        assert report.bytes == total_bytes(location)

    def test_it_sees_what_only_a_decode_tells(self, craft: Callable[..., Path]) -> None:
        def swap(table: FrameTable) -> None:
            table[[1, 2], RANK] = table[[2, 1], RANK]

        data = makers.video_bytes()
        place = craft([[video(data), video(makers.video_bytes(seed=1), swap)]])
        assert verify(place).whole
        (finding,) = verify(place, level="deep").findings
        assert (finding.key, finding.part) == ("train-00000001", "mp4")

    def test_a_key_frame_decoder_is_loaded_for_deep_only(self, location: Path) -> None:
        code = (
            "import sys; from clipshards.readers import verify; "
            f"verify({str(location)!r}, level=sys.argv[1], workers=1); "
            "print(sorted({'torch', 'av', 'boto3'} & set(sys.modules)))"
        )
        for level, loaded in (("quick", "[]\n"), ("full", "[]\n"), ("deep", "['av']\n")):
            done = subprocess.run(
                [sys.executable, "-c", code, level], capture_output=True, text=True, check=True
            )
            assert done.stdout == loaded


def test_unknown_levels_and_workers_are_refused(copied: Path) -> None:
    with pytest.raises(ValueError, match="'slow': expected one of quick, full, deep"):
        verify(copied, level="slow")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers 0"):
        verify(copied, workers=0)


def test_a_report_is_json(copied: Path) -> None:
    flip(shard_of(copied, 1))
    text = json.dumps(verify(copied).to_json())
    assert json.loads(text)["findings"][0]["shard"] == "train-000001.tar"
    assert all(finding["remedy"] for finding in json.loads(text)["findings"])
