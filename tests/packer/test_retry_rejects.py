"""A finished split that lacks samples, the media mended, and the same job with a retry."""

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import pytest
from PIL import Image

from clipshards.packer import (
    AvaCsv,
    FormatError,
    FrameRange,
    Packing,
    PackReport,
    PlanError,
    RawframesRecord,
    Recipe,
    Reject,
    RejectsError,
    VideoRecord,
    finish_split,
    pack,
)
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.interop import wids_index
from clipshards.readers import verify

Tree = Callable[[Path], dict[str, str]]
Samples = Callable[[Path], dict[str, dict[str, bytes]]]

RECORDS = [VideoRecord(f"v{number}.mp4", (number,)) for number in range(8)]
# Of the videos of `media`: 4 shards or so.
OPTIONS: dict[str, Any] = {"split": "t", "shard_size": 50_000}


def pack_videos(out: Path, media: Path, records: Any = RECORDS, **options: Any) -> PackReport:
    return pack(records, out, **(OPTIONS | {"media_root": media} | options))


def break_videos(media: Path, *numbers: int) -> dict[Path, bytes]:
    """Break videos and keep their lengths, which the plan is made of; return what they were."""
    whole = {
        media / f"v{number}.mp4": (media / f"v{number}.mp4").read_bytes() for number in numbers
    }
    for file, data in whole.items():
        file.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    return whole


def mend(whole: dict[Path, bytes], *numbers: int) -> None:
    for number, (file, data) in enumerate(whole.items()):
        if not numbers or number in numbers:
            file.write_bytes(data)


def times_of(out: Path) -> dict[str, int]:
    """Return when each file of a data set was written."""
    files = (file for file in out.rglob("*") if file.is_file())
    return {str(file.relative_to(out)): file.stat().st_mtime_ns for file in files}


def shards_of(out: Path) -> set[str]:
    """Return the shards of split t that lack samples."""
    manifest = Manifest.decode((out / "t" / "manifest.json").read_bytes(), where="manifest")
    return {f"t/{shard.name}" for shard in manifest.shards if shard.samples < shard.records}


@pytest.mark.parametrize("workers", [1, 2])
def test_only_the_shards_that_lack_samples_are_made_anew(
    tmp_path: Path, media: Path, tree: Tree, workers: int
) -> None:
    clean = pack_videos(tmp_path / "clean", media)
    whole = break_videos(media, 1, 6)
    out = tmp_path / "out"
    first = pack_videos(out, media)
    assert [row.id for row in first.rejects] == ["v1.mp4", "v6.mp4"]
    affected, before = shards_of(out), times_of(out)
    assert 0 < len(affected) <= 2 < clean.shards
    mend(whole)
    report = pack_videos(out, media, retry_rejects=True, workers=workers)
    after = times_of(out)
    assert {name for name in after if name.endswith(".tar") and after[name] != before[name]} == (
        affected
    )
    assert replace(report, location="", shards_made=0) == replace(clean, location="", shards_made=0)
    assert report.shards_made == len(affected)
    assert tree(out) == tree(tmp_path / "clean")


def test_mending_some_leaves_the_others_rejected(tmp_path: Path, media: Path, tree: Tree) -> None:
    whole = break_videos(media, 1, 6)
    out = tmp_path / "out"
    pack_videos(out, media)
    mend(whole, 1)
    pack_videos(tmp_path / "clean", media)
    report = pack_videos(out, media, retry_rejects=True)
    assert [row.id for row in report.rejects] == ["v1.mp4"]
    assert report.packed == 7
    assert tree(out) == tree(tmp_path / "clean")
    # And the rest at another time.
    mend(whole, 0)
    assert pack_videos(out, media, retry_rejects=True).rejects == ()
    pack_videos(tmp_path / "clean", media, replan=True)
    assert tree(out) == tree(tmp_path / "clean")


@pytest.mark.parametrize("seed", [0, 5, None])
def test_borders_stay_where_a_missing_file_put_them(
    tmp_path: Path, media: Path, read_samples: Samples, seed: int | None
) -> None:
    out = tmp_path / "out"
    for number in (0, 3):
        (media / f"v{number}.mp4").rename(tmp_path / f"v{number}.mp4")
    pack_videos(out, media, seed=seed)
    old = Manifest.decode((out / "t" / "manifest.json").read_bytes(), where="manifest")
    # Larger than the mean of the others, which the plan took it for.
    long = makers.video_bytes(size=(96, 64), frames=40)
    for number in (0, 3):
        (media / f"v{number}.mp4").write_bytes(long)
    report = pack_videos(out, media, seed=seed, retry_rejects=True)
    new = Manifest.decode((out / "t" / "manifest.json").read_bytes(), where="manifest")
    assert (report.packed, report.rejects) == (8, ())
    assert new.plan_digest == old.plan_digest
    assert [shard.records for shard in new.shards] == [shard.records for shard in old.shards]
    assert verify(out).damage == []
    pack_videos(tmp_path / "clean", media, seed=seed)
    samples, expected = read_samples(out / "t"), read_samples(tmp_path / "clean" / "t")
    assert samples == expected
    assert list(samples) == list(expected)


def test_kept_order_gives_the_clean_tree_too(tmp_path: Path, media: Path, tree: Tree) -> None:
    pack_videos(tmp_path / "clean", media, seed=None)
    whole = break_videos(media, 0, 7)
    pack_videos(tmp_path / "out", media, seed=None)
    mend(whole)
    pack_videos(tmp_path / "out", media, seed=None, retry_rejects=True)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


def test_retry_without_mending_gives_the_same_tree(tmp_path: Path, media: Path, tree: Tree) -> None:
    out = tmp_path / "out"
    break_videos(media, 1, 6)
    (media / "v3.mp4").unlink()
    first = pack_videos(out, media)
    affected, before = shards_of(out), tree(out)
    report = pack_videos(out, media, retry_rejects=True)
    assert report.shards_made == len(affected)
    assert report.rejects == first.rejects
    assert tree(out) == before


def test_without_rejects_nothing_is_done(tmp_path: Path, media: Path) -> None:
    out = tmp_path / "out"
    first = pack_videos(out, media)
    before = times_of(out)
    shutil.rmtree(media)
    report = pack_videos(out, media, retry_rejects=True)
    assert (report.shards_made, report.content_digest) == (0, first.content_digest)
    assert times_of(out) == before


def test_rejects_of_the_annotation_are_not_tried_again(
    tmp_path: Path, media: Path, tree: Tree
) -> None:
    records: list[Any] = list(RECORDS)
    records[2:2] = [Reject("blank line")]
    out = tmp_path / "out"
    first = pack_videos(out, media, records)
    before = times_of(out)
    report = pack_videos(out, media, records, retry_rejects=True)
    assert (report.shards_made, report.rejects) == (0, first.rejects)
    assert len(report.rejects) == 1
    assert times_of(out) == before
    # Beside one that is, the others stay what they are.
    pack_videos(tmp_path / "clean", media, records)
    whole = break_videos(media, 5)
    pack_videos(out, media, records, replan=True)
    affected = shards_of(out)
    mend(whole)
    report = pack_videos(out, media, records, retry_rejects=True)
    assert (report.shards_made, report.rejects) == (len(affected), first.rejects)
    assert tree(out) == tree(tmp_path / "clean")


def test_unfinished_job_goes_on_as_without(tmp_path: Path, media: Path, tree: Tree) -> None:
    out = tmp_path / "out"
    whole = pack_videos(tmp_path / "clean", media)
    job = Packing(RECORDS, out, media_root=media, **OPTIONS)
    made = job.run_part(1, 2).shards_made
    report = pack_videos(out, media, retry_rejects=True)
    assert report.shards_made == whole.shards - made
    assert tree(out) == tree(tmp_path / "clean")


def test_retry_where_nothing_stands_packs(tmp_path: Path, media: Path, tree: Tree) -> None:
    pack_videos(tmp_path / "clean", media)
    pack_videos(tmp_path / "out", media, retry_rejects=True)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


def test_retry_of_another_request_is_refused(tmp_path: Path, media: Path, tree: Tree) -> None:
    out = tmp_path / "out"
    break_videos(media, 1)
    pack_videos(out, media)
    before = tree(out)
    with pytest.raises(PlanError, match="a split that another request made"):
        pack_videos(out, media, retry_rejects=True, seed=1)
    assert tree(out) == before


def test_retry_without_media_root_changes_nothing(tmp_path: Path, media: Path, tree: Tree) -> None:
    out = tmp_path / "out"
    break_videos(media, 1)
    pack_videos(out, media)
    before = tree(out)
    shutil.rmtree(media)
    with pytest.raises(ValueError, match="no such folder"):
        pack_videos(out, media, retry_rejects=True)
    assert tree(out) == before


def test_shards_that_were_cut_by_other_rules_are_left_alone(
    tmp_path: Path, media: Path, tree: Tree
) -> None:
    out = tmp_path / "out"
    break_videos(media, 1)
    pack_videos(out, media)
    file = out / "t" / "manifest.json"
    manifest = Manifest.decode(file.read_bytes(), where="manifest")
    file.write_bytes(replace(manifest, plan_digest="0" * 64).encode())
    before = tree(out)
    with pytest.raises(PlanError, match="another release cut these shards"):
        pack_videos(out, media, retry_rejects=True)
    assert tree(out) == before


def test_damaged_list_of_rejects_is_named(tmp_path: Path, media: Path, tree: Tree) -> None:
    out = tmp_path / "out"
    break_videos(media, 1)
    pack_videos(out, media)
    (out / "t" / "rejects.jsonl").write_bytes(b"{}\n")
    before = tree(out)
    with pytest.raises(FormatError, match=r"t/rejects\.jsonl"):
        pack_videos(out, media, retry_rejects=True)
    assert tree(out) == before


def test_more_rejects_than_may_be_leave_no_manifest_and_the_way_back(
    tmp_path: Path, media: Path, tree: Tree
) -> None:
    out = tmp_path / "out"
    whole = break_videos(media, 1)
    pack_videos(out, media)
    before = tree(out)
    with pytest.raises(RejectsError, match="1 of 8 entries cannot be packed, 0 may"):
        pack_videos(out, media, retry_rejects=True, max_rejects=0)
    assert not (out / "t" / "manifest.json").exists()
    # It can be finished as it was, or mended.
    shutil.copytree(out, tmp_path / "other")
    finish_split(tmp_path / "other", split="t")
    assert tree(tmp_path / "other") == before
    mend(whole)
    pack_videos(out, media, max_rejects=0)
    pack_videos(tmp_path / "clean", media)
    assert tree(out) == tree(tmp_path / "clean")


def test_no_file_names_the_old_shards_while_new_ones_are_made(tmp_path: Path, media: Path) -> None:
    out = tmp_path / "out"
    whole = break_videos(media, 1)
    pack_videos(out, media)
    mend(whole)
    seen = []

    def progress(_entries: int, _bytes: int) -> None:
        names = ("t/manifest.json", "t.wids.json")
        seen.append([name for name in names if (out / name).exists()])

    pack_videos(out, media, retry_rejects=True, progress=progress)
    assert seen
    assert not any(seen)


def padded(data: bytes, size: int) -> bytes:
    """Return an mp4 of exactly so many bytes."""
    return data + struct.pack(">I4s", size - len(data), b"free") + bytes(size - len(data) - 8)


class TestItems:
    """Samples of several entries, of which some are left out."""

    def test_moments_behind_the_end_of_a_video(self, tmp_path: Path, tree: Tree) -> None:
        media = tmp_path / "media"
        media.mkdir()
        long = makers.video_bytes(size=(64, 48), frames=60, rate=25)
        short = makers.video_bytes(size=(64, 48), frames=10, rate=25)
        size = len(long) + 1000
        for number in range(6):
            (media / f"{number}.mp4").write_bytes(padded(long, size))
        boxes = ("0.1,0.2,0.3,0.4", "0.5,0.2,0.9,0.4")
        # Two persons, then one, in frames 3, 20 and 40 of each.
        rows = [
            f"{video}.mp4,{frame},{box},1,{n}"
            for video in range(6)
            for frame in (3, 20, 40)
            for n, box in enumerate(boxes if frame != 20 else boxes[:1])
        ]
        (tmp_path / "a.csv").write_text("".join(f"{row}\n" for row in rows))

        def run(out: str, **options: Any) -> PackReport:
            records = AvaCsv(
                tmp_path / "a.csv",
                fps=1,
                timestamp_start=0,
                timestamp_end=None,
                group="video",
                clip_frames=6,
            )
            given: dict[str, Any] = {"split": "t", "media_root": media, "max_rejects": 25}
            return pack(records, tmp_path / out, shard_size=2 * size, **(given | options))

        clean = run("clean")
        assert (clean.entries, clean.packed, clean.shards > 2) == (30, 30, True)
        for number in (1, 5):
            (media / f"{number}.mp4").write_bytes(padded(short, size))
        (media / "2.mp4").write_bytes(bytes(size))
        report = run("out")
        rejected = {row.ordinal: row.entries for row in report.rejects}
        # Of videos 1 and 5 what stands behind the second row, of video 2 all.
        assert rejected == {7: 1, 8: 2, 10: 5, 27: 1, 28: 2}
        assert report.packed == 30 - 11
        before = tree(tmp_path / "out")
        assert run("out", retry_rejects=True).rejects == report.rejects
        assert tree(tmp_path / "out") == before
        (media / "5.mp4").write_bytes(padded(long, size))
        again = run("out", retry_rejects=True)
        assert {row.ordinal for row in again.rejects} == {7, 8, 10}
        for number in (1, 2):
            (media / f"{number}.mp4").write_bytes(padded(long, size))
        last = run("out", retry_rejects=True)
        assert 0 < last.shards_made < last.shards
        assert last.rejects == ()
        assert tree(tmp_path / "out") == tree(tmp_path / "clean")

    def test_stretches_behind_the_end_of_a_folder(
        self, tmp_path: Path, read_samples: Samples
    ) -> None:
        media = tmp_path / "media"
        self.write_frames(media, {0: 8, 1: 8, 2: 3, 3: 8})
        records = [
            RawframesRecord(
                folder=f"f{number}",
                ranges=tuple(
                    FrameRange(offset=offset, total_frames=2, labels=(offset,))
                    for offset in (0, 2, 4, 6)
                ),
            )
            for number in range(4)
        ]
        options: dict[str, Any] = {"split": "t", "media_root": media, "shard_size": 12_000}
        first = pack(records, tmp_path / "out", **options)
        assert [(row.ordinal, row.entries) for row in first.rejects] == [(9, 1), (10, 1), (11, 1)]
        self.write_frames(media, {2: 8})
        report = pack(records, tmp_path / "out", retry_rejects=True, **options)
        assert (report.shards_made, report.packed, report.rejects) == (1, 16, ())
        assert report.shards > 1
        assert verify(tmp_path / "out").damage == []
        pack(records, tmp_path / "clean", **options)
        assert read_samples(tmp_path / "out" / "t") == read_samples(tmp_path / "clean" / "t")

    def write_frames(self, media: Path, counts: dict[int, int]) -> None:
        for number, count in counts.items():
            folder = media / f"f{number}"
            folder.mkdir(parents=True, exist_ok=True)
            for place, picture in enumerate(makers.pictures(count, (48, 32), seed=number)):
                Image.fromarray(picture).save(folder / f"img_{place + 1:05}.jpg")


class TestKilled:
    """Killed at every change of the folder during a retry."""

    NAMES = tuple(f"j{number:02d}.mp4" for number in range(12))
    BROKEN = (2, 7, 8)

    def kill(self, folder: Path, runs: Sequence[tuple[dict[str, Any], list[int]]]) -> list[int]:
        """Run killed_packing.py."""
        request = folder / "request.json"
        request.write_text(json.dumps(runs))
        script = Path(__file__).with_name("killed_packing.py")
        done = subprocess.run(
            [sys.executable, script, request], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        killed: list[int] = json.loads(done.stdout)
        return killed

    def options(self, out: Path, junk: Path, **more: Any) -> dict[str, Any]:
        return {
            "records": [(name, number) for number, name in enumerate(self.NAMES)],
            "out": str(out),
            "split": "train",
            "media_root": str(junk),
            "frame_table": "none",
            "shard_size": 120_000,
        } | more

    def pack(self, options: dict[str, Any]) -> PackReport:
        options = dict(options)
        records = [VideoRecord(path, (label,)) for path, label in options.pop("records")]
        recipe = Recipe(frame_table=options.pop("frame_table"))
        return pack(records, options.pop("out"), recipe=recipe, **options)

    def test_the_way_on_ends_in_the_tree_of_one_retry_or_the_one_before(
        self, tmp_path: Path, junk: Path, tree: Tree
    ) -> None:
        for number in self.BROKEN:
            file = junk / self.NAMES[number]
            file.rename(f"{file}.away")
        self.pack(self.options(tmp_path / "failed", junk))
        before = tree(tmp_path / "failed")
        for number in self.BROKEN:
            file = junk / self.NAMES[number]
            file.with_name(f"{file.name}.away").rename(file)
        shutil.copytree(tmp_path / "failed", tmp_path / "retried")
        report = self.pack(self.options(tmp_path / "retried", junk, retry_rejects=True))
        assert 1 < report.shards_made < report.shards
        retried = tree(tmp_path / "retried")
        outs = {number: tmp_path / f"out-{number}" for number in range(1, 110)}
        for out in outs.values():
            shutil.copytree(tmp_path / "failed", out)
        killed = self.kill(
            tmp_path,
            [
                (self.options(out, junk, retry_rejects=True), [number])
                for number, out in outs.items()
            ],
        )
        assert killed == sorted(killed, reverse=True)
        assert 40 < sum(killed) < len(outs)
        ends = []
        for out in outs.values():
            old_stands = self.check_what_stands(out, before, retried, tree)
            other = Path(shutil.copytree(out, f"{out}-again"))
            self.pack(self.options(out, junk))
            assert tree(out) == (before if old_stands else retried)
            self.pack(self.options(other, junk, retry_rejects=True))
            assert tree(other) == retried
            ends.append(old_stands)
            shutil.rmtree(out)
            shutil.rmtree(other)
        # First all before the manifest went, then all behind it.
        assert ends == sorted(ends, reverse=True)
        assert {True, False} == set(ends)

    def check_what_stands(
        self, out: Path, before: dict[str, str], retried: dict[str, str], tree: Tree
    ) -> bool:
        """Check what a killed retry left; return whether the old manifest is there."""
        found = {name: digest for name, digest in tree(out).items() if "/.build/" not in name}
        for name, digest in found.items():
            assert digest in (before.get(name), retried.get(name)), name
        file = out / "train" / "manifest.json"
        if not file.exists():
            return False
        assert verify(out).damage == []
        wids = out / "train.wids.json"
        if wids.exists():
            manifest = Manifest.decode(file.read_bytes(), where="manifest")
            assert wids.read_bytes() == wids_index(manifest)
        return found["train/manifest.json"] == before["train/manifest.json"]


def test_retry_from_the_command_line(tmp_path: Path, media: Path, tree: Tree) -> None:
    (tmp_path / "list.txt").write_text("".join(f"v{n}.mp4 {n}\n" for n in range(8)))

    def clipshards(out: str, *options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "clipshards.tools.cli", "pack", "video", "list.txt"]
        place = ["--media-root", "media", "--out", out, "--split", "t", "--shard-size", "50kB"]
        return subprocess.run(
            [*command, *place, "--workers", "1", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert clipshards("clean").returncode == 0
    whole = break_videos(media, 4)
    first = clipshards("out")
    assert first.returncode == 1
    assert "listed in t/rejects.jsonl (once they are mended: --retry-rejects):" in first.stdout
    mend(whole)
    plain = clipshards("out")
    assert (plain.returncode, "7 of 8 entries already packed" in plain.stdout) == (1, True)
    again = clipshards("out", "--retry-rejects")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("8 of 8 entries packed in ")
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
