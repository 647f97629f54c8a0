"""Packing AVA: rows that add up, videos that are scanned once, the same bytes every time."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from PIL import Image

from clipshards.packer import AvaCsv, PackReport, RejectsError, pack
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.frames import scan
from clipshards.packer.media import cut
from clipshards.packer.media.clip_size import clip_bytes
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.reports import PlanSummary
from clipshards.readers import open_dataset, verify
from clipshards.readers.data import ShardMapDataset
from clipshards.tools.cli import main

Tree = Callable[[Path], dict[str, str]]

ANY: dict[str, Any] = {"timestamp_start": 0, "timestamp_end": None, "clip_frames": 8}
BOX = "0.1,0.2,0.3,0.4"
VIDEOS = tuple("abcd")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of 3 to 4 seconds: look, do not write."""
    folder = tmp_path_factory.mktemp("ava")
    for seed, name in enumerate(VIDEOS):
        data = makers.video_bytes(
            frames=80 + 5 * seed, size=(64, 48), seed=seed, options={"g": "10", "bf": "2"}
        )
        (folder / f"{name}.mp4").write_bytes(data)
    return folder


@pytest.fixture
def media(videos: Path, tmp_path: Path) -> Path:
    """The test's own copy of them."""
    return Path(shutil.copytree(videos, tmp_path / "media"))


def row(video: str, timestamp: object, box: str = BOX, action: int = 1, entity: int = 0) -> str:
    return f"{video}.mp4,{timestamp},{box},{action},{entity}"


ROWS = [row(video, second) for video in VIDEOS for second in (2, 0, 3, 1)]


def write_csv(folder: Path, rows: Sequence[str], name: str = "a.csv") -> Path:
    file = folder / name
    file.write_text("".join(f"{line}\n" for line in rows))
    return file


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """Count how often each video is scanned."""
    counted: Counter[bytes] = Counter()
    real = scan.scan_video

    def count(data: bytes) -> scan.VideoScan:
        counted[data] += 1
        return real(data)

    # Under each name that it is called by.
    monkeypatch.setattr(scan, "scan_video", count)
    monkeypatch.setattr(cut, "scan_video", count)
    return counted


def check_accounting(out: Path, report: PackReport) -> None:
    """Every row is packed, rejected or excluded, and all that count them agree."""
    rejected = sum(reject.entries for reject in report.rejects)
    assert report.entries == report.packed + rejected + sum(report.excluded.values())
    split = open_dataset(out)
    accounting = split.manifest.accounting
    assert (accounting.entries, accounting.packed) == (report.entries, report.packed)
    assert (accounting.rejected, accounting.excluded) == (rejected, report.excluded)
    lines = (out / "train" / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(json.loads(line)["entries"] for line in lines) == rejected
    indexes = [split.read_index(number) for number in range(len(split.manifest.shards))]
    assert sum(sum(index.entries) for index in indexes) == report.packed
    assert sum(sum(index.items) for index in indexes) == len(split)
    assert verify(out).damage == []


def sample_ids(out: Path) -> list[list[str]]:
    """Return the ids of each shard's samples, in order."""
    split = open_dataset(out)
    return [split.read_index(number).ids for number in range(len(split.manifest.shards))]


# Rows add up


MIXED = [
    row("a", 0),  # 1: packed with 2
    row("a", 0, action=2),
    row("a", 1, box="nan,0.2,0.3,0.4"),  # 3: rejected by line
    row("a", 1),
    row("a", "0001", box="0.3,0.2,0.3,0.4"),  # 5: rejected by line
    row("gone", 0),  # 6: no such video, with the two below
    row("gone", 0, box="0,0,1,1"),
    row("gone", 2),
    row("b", 2),  # 9: with 11
    row("b", 77),  # 10: beyond the end
    row("b", 2, box="0,0,1,1"),
    row("b", 77, box="0,0,1,1"),
    row("b", 77),
    row("c", 1),  # 14: excluded by moment
    row("c", 2, action=9),  # 15: excluded by class
    row("c", 2, action=1),
    "c.mp4,3,0.1,0.2",  # 17: rejected by line
    row("d", -1),
]


def pack_mixed(tmp_path: Path, videos: Path, group: Any) -> PackReport:
    records = AvaCsv(
        write_csv(tmp_path, MIXED),
        exclude=write_csv(tmp_path, ["c.mp4,1"], "e.csv"),
        custom_classes=(1, 2),
        group=group,
        **ANY,
    )
    report = pack(records, tmp_path / "set", split="train", media_root=videos, max_rejects=15)
    assert (report.entries, report.excluded) == (18, {"exclude": 1, "custom_classes": 1})
    check_accounting(tmp_path / "set", report)
    return report


def test_every_row_is_accounted_for_in_clips(tmp_path: Path, videos: Path) -> None:
    report = pack_mixed(tmp_path, videos, "clip")
    assert report.packed == 6
    assert [(reject.origin, reject.entries, reject.id) for reject in report.rejects] == [
        ("a.csv:3", 1, "a.mp4,0001"),
        ("a.csv:5", 1, "a.mp4,0001"),
        ("a.csv:6", 2, "gone.mp4,0000"),
        ("a.csv:8", 1, "gone.mp4,0002"),
        ("a.csv:10", 3, "b.mp4,0077"),
        ("a.csv:17", 1, ""),
        ("a.csv:18", 1, "d.mp4,-001"),
    ]
    messages = [reject.message for reject in report.rejects]
    assert "got nan" in messages[0]
    assert "got 0.3, 0.2, 0.3, 0.4" in messages[1]
    assert "'gone.mp4': no such file" in messages[2]
    assert "77 lies outside the video of 3.400 s" in messages[4]
    items = ShardMapDataset(open_dataset(tmp_path / "set"))
    found = {(items[n]["id"], len(items[n]["boxes"])) for n in range(len(items))}
    assert found == {("a.mp4,0000", 1), ("a.mp4,0001", 1), ("b.mp4,0002", 2), ("c.mp4,0002", 1)}


def test_every_row_is_accounted_for_in_videos(tmp_path: Path, videos: Path) -> None:
    report = pack_mixed(tmp_path, videos, "video")
    assert report.packed == 6
    assert [(reject.origin, reject.entries, reject.id) for reject in report.rejects] == [
        ("a.csv:3", 1, "a.mp4,0001"),
        ("a.csv:5", 1, "a.mp4,0001"),
        # All of a video's rows: it is one sample.
        ("a.csv:6", 3, "gone.mp4"),
        # Of this video, only the moment that it does not have.
        ("a.csv:10", 3, "b.mp4,0077"),
        ("a.csv:17", 1, ""),
        ("a.csv:18", 1, "d.mp4,-001"),
    ]
    assert "timestamp 77" in report.rejects[3].message
    assert [len(ids) for ids in sample_ids(tmp_path / "set")] == [3]
    assert verify(tmp_path / "set").damage == []


def test_a_broken_video_rejects_all_of_its_rows(tmp_path: Path, media: Path) -> None:
    data = (media / "b.mp4").read_bytes()
    (media / "b.mp4").write_bytes(data[: len(data) * 2 // 3])
    (media / "c.mp4").write_bytes(b"")
    (media / "d.mp4").write_bytes(b"no video" * 50)
    records = AvaCsv(write_csv(tmp_path, ROWS), **ANY)
    report = pack(records, tmp_path / "set", split="train", media_root=media, max_rejects=12)
    assert (report.packed, len(report.rejects)) == (4, 12)
    assert all(reject.id[0] in "bcd" for reject in report.rejects)
    check_accounting(tmp_path / "set", report)


@pytest.mark.parametrize("template", ["img_{:05}.jpg", "{}.png"])
def test_bad_folders_reject_their_rows(tmp_path: Path, template: str) -> None:
    kind = "JPEG" if template.endswith("jpg") else "PNG"
    for folder, numbers in {
        "good": range(1, 7),
        "gap": (1, 2, 4, 5, 6),
        "cut": range(1, 7),
    }.items():
        (tmp_path / folder).mkdir()
        for number, picture in enumerate(makers.pictures(6, (24, 16)), start=1):
            if number in numbers:
                file = tmp_path / folder / template.format(number)
                Image.fromarray(picture).save(file, kind)
    file = tmp_path / "cut" / template.format(5)
    file.write_bytes(file.read_bytes()[:-40])
    rows = [f"{f},{t},{BOX},1,0" for f in ("good", "gap", "cut", "gone") for t in (0, 1, 2)]
    records = AvaCsv(
        write_csv(tmp_path, rows), fps=2, filename_tmpl=template, **ANY | {"clip_frames": 2}
    )
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    # The moment whose clip does not reach the broken picture stays.
    assert [(reject.origin, reject.entries) for reject in report.rejects] == [
        *((f"a.csv:{line}", 1) for line in (4, 5, 6, 9, 10, 11, 12)),
    ]
    assert template.format(3) in report.rejects[0].message
    assert template.format(5) in report.rejects[3].message
    check_accounting(tmp_path / "set", report)


@pytest.mark.parametrize("fps", [1, 30, 1.7e308])
def test_moments_beyond_all_frames_are_rejected(tmp_path: Path, media: Path, fps: float) -> None:
    (media / "folder").mkdir()
    for number, picture in enumerate(makers.pictures(3, (24, 16)), start=1):
        Image.fromarray(picture).save(media / "folder" / f"{number}.png")
    far = 2**63 - 1
    options = ANY | {"fps": fps}
    records = AvaCsv(write_csv(tmp_path, [row("a", 0), row("a", far)]), **options)
    report = pack(records, tmp_path / "set", split="train", media_root=media)
    assert [reject.origin for reject in report.rejects] == ["a.csv:2"]
    lines = [f"folder,{timestamp},{BOX},1,0" for timestamp in (0, far)]
    records = AvaCsv(write_csv(tmp_path, lines), filename_tmpl="{}.png", **options)
    report = pack(records, tmp_path / "folders", split="train", media_root=media)
    assert [reject.origin for reject in report.rejects] == ["a.csv:2"]
    assert f"timestamp {far} is frame " in report.rejects[0].message
    check_accounting(tmp_path / "folders", report)


def test_the_limit_of_rejects_counts_rows(tmp_path: Path, videos: Path) -> None:
    rows = [row("a", 0), *[row("gone", 1, box=f"0.{n},0.1,1,1") for n in range(1, 5)]]
    records = AvaCsv(write_csv(tmp_path, rows), **ANY)
    with pytest.raises(RejectsError, match="4 of 5 entries cannot be packed, 3 may be rejected"):
        pack(records, tmp_path / "set", split="train", media_root=videos, max_rejects=3)
    report = pack(records, tmp_path / "set", split="train", media_root=videos, max_rejects=4)
    assert [reject.entries for reject in report.rejects] == [4]
    check_accounting(tmp_path / "set", report)


def test_nothing_left_says_what_was_rejected(tmp_path: Path, videos: Path) -> None:
    records = AvaCsv(
        write_csv(tmp_path, [row("a", 0), row("a", 1, box="0,0,nan,1")]),
        exclude=write_csv(tmp_path, ["a.mp4,0"], "e.csv"),
        **ANY,
    )
    with pytest.raises(AnnotationError, match=r"got 0\.0, 0\.0, nan, 1\.0"):
        pack(records, tmp_path / "set", split="train", media_root=videos)


def test_labels_beyond_the_class_names_reject_the_moment(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "map.txt").write_text("1: one\n2: two\n")
    rows = [row("a", 0, action=2), row("a", 1, action=3), row("a", 1, action=1)]
    records = AvaCsv(write_csv(tmp_path, rows), label_map=tmp_path / "map.txt", **ANY)
    report = pack(records, tmp_path / "set", split="train", media_root=videos)
    assert [(reject.origin, reject.entries) for reject in report.rejects] == [("a.csv:2", 2)]
    assert "class id below 3" in report.rejects[0].message
    check_accounting(tmp_path / "set", report)


# The plan


@pytest.mark.parametrize("seed", [0, 1, 2, None])
def test_clips_of_a_video_stand_together_and_it_is_scanned_once(
    tmp_path: Path, videos: Path, scans: Counter[bytes], seed: int | None
) -> None:
    records = AvaCsv(write_csv(tmp_path, ROWS), **ANY)
    report = pack(records, tmp_path / "set", split="train", media_root=videos, seed=seed)
    assert (report.shards, report.packed) == (1, 16)
    (ids,) = sample_ids(tmp_path / "set")
    order = [name.split(".")[0] for name in ids]
    assert sorted(order[::4]) == list(VIDEOS)
    assert order == [video for video in order[::4] for _ in range(4)]
    # Within a video they keep the annotation's order.
    assert [name[-4:] for name in ids] == ["0002", "0000", "0003", "0001"] * 4
    assert (order[::4] == list(VIDEOS)) == (seed is None)
    sources = {(videos / f"{video}.mp4").read_bytes() for video in VIDEOS}
    assert {data: scans[data] for data in sources} == dict.fromkeys(sources, 1)


@pytest.mark.parametrize("broken", ["cut short", "damaged", "no video"])
def test_a_broken_video_is_scanned_once_for_all_of_its_clips(
    tmp_path: Path, media: Path, scans: Counter[bytes], broken: str
) -> None:
    data = (media / "a.mp4").read_bytes()
    if broken == "cut short":
        data = data[: len(data) // 2]
    elif broken == "damaged":
        # It decodes, with errors: there is no frame table to cut by.
        place = data.index(b"mdat") + len(data) // 3
        data = data[:place] + bytes(60) + data[place + 60 :]
    else:
        data = b"no video" * 50
    (media / "a.mp4").write_bytes(data)
    rows = [*[row("a", second) for second in (0, 1, 2, 3)], row("b", 0)]
    report = pack(
        AvaCsv(write_csv(tmp_path, rows), **ANY),
        tmp_path / "set",
        split="train",
        media_root=media,
    )
    assert [reject.id for reject in report.rejects] == [f"a.mp4,000{n}" for n in range(4)]
    assert len({reject.message for reject in report.rejects}) == 1
    assert scans[data] == 1


@pytest.mark.parametrize("group", ["clip", "video"])
def test_a_video_that_was_replaced_is_read_again(tmp_path: Path, media: Path, group: Any) -> None:
    records = AvaCsv(write_csv(tmp_path, [row("a", 1)]), group=group, **ANY)
    pack(records, tmp_path / "first", split="train", media_root=media)
    shutil.copyfile(media / "c.mp4", media / "a.mp4")
    pack(records, tmp_path / "second", split="train", media_root=media)
    frames = np.stack(makers.frames_of((media / "c.mp4").read_bytes()))
    item = ShardMapDataset(open_dataset(tmp_path / "second"))[0]
    assert item["total_frames"] == len(frames)
    np.testing.assert_array_equal(item["frames"], frames[item["frame_numbers"]])


def test_a_video_that_was_mended_is_read_again(tmp_path: Path, media: Path) -> None:
    good = (media / "a.mp4").read_bytes()
    (media / "a.mp4").write_bytes(good[:5000])
    records = AvaCsv(write_csv(tmp_path, [row("a", 1)]), **ANY)
    out = tmp_path / "set"
    with pytest.raises(RejectsError):
        pack(records, out, split="train", media_root=media)
    (media / "a.mp4").write_bytes(good)
    report = pack(records, out, split="train", media_root=media)
    assert (report.packed, report.rejects) == (1, ())
    check_accounting(out, report)


def test_a_shard_may_end_inside_a_video(
    tmp_path: Path, videos: Path, scans: Counter[bytes], tree: Tree
) -> None:
    records = AvaCsv(write_csv(tmp_path, ROWS), **ANY)
    options: dict[str, Any] = {"split": "train", "media_root": videos, "shard_size": 28_000}
    report = pack(records, tmp_path / "set", **options)
    check_accounting(tmp_path / "set", report)
    shards = [[name.split(".")[0] for name in ids] for ids in sample_ids(tmp_path / "set")]
    assert len(shards) > 3
    assert any(before[-1] == after[0] for before, after in itertools.pairwise(shards))
    for video in VIDEOS:
        data = (videos / f"{video}.mp4").read_bytes()
        assert scans[data] <= sum(video in shard for shard in shards)
    # A run that ended anywhere goes on inside a video, and comes to the same bytes.
    whole = tree(tmp_path / "set")
    for stop in (2, 5, 10, 15):
        ticks = itertools.count()

        def end(
            _entries: int, _bytes: int, *, ticks: Iterator[int] = ticks, at: int = stop
        ) -> None:
            if next(ticks) == at:
                raise KeyboardInterrupt

        out = tmp_path / f"out{stop}"
        with pytest.raises(KeyboardInterrupt):
            pack(records, out, progress=end, **options)
        report = pack(records, out, **options)
        assert 0 < report.shards_made <= report.shards
        assert tree(out) == whole


def test_shards_of_every_size_hold_the_same_samples(
    tmp_path: Path,
    videos: Path,
    read_samples: Callable[[Path], dict[str, dict[str, bytes]]],
) -> None:
    records = AvaCsv(write_csv(tmp_path, ROWS), **ANY)
    found = []
    for number, (size, seed) in enumerate([(1, 0), (45_000, 0), (10**9, 0), (45_000, 5)]):
        out = tmp_path / f"out{number}"
        pack(records, out, split="train", media_root=videos, shard_size=size, seed=seed)
        found.append(read_samples(out / "train"))
    assert found[0] == found[1] == found[2] == found[3]
    assert len(found[0]) == 16
    ordinals = {int(key.split("-")[1]) for key in found[0]}
    assert ordinals == set(range(16))


@pytest.mark.parametrize("group", ["clip", "video"])
def test_packing_twice_gives_the_same_tree(
    tmp_path: Path, videos: Path, tree: Tree, group: Any
) -> None:
    trees = []
    for name in ("here", "elsewhere/deeper"):
        folder = tmp_path / name
        shutil.copytree(videos, folder / "media")
        rows = [*ROWS, row("gone", 1), row("a", 1, box="0,0,nan,1"), row("b", 99)]
        records = AvaCsv(write_csv(folder, rows), group=group, **ANY)
        out = folder / "set"
        options: dict[str, Any] = {"split": "train", "media_root": folder / "media"}
        report = pack(records, out, shard_size=60_000, **options)
        check_accounting(out, report)
        assert (report.shards > 1, report.shards_made) == (True, report.shards)
        trees.append(tree(out))
        again = pack(records, out, shard_size=60_000, **options)
        assert (again.shards_made, again.packed) == (0, report.packed)
        assert tree(out) == trees[-1]
    assert trees[0] == trees[1]


def test_keep_order_keeps_the_order_of_the_rows(tmp_path: Path, videos: Path) -> None:
    rows = [row(v, t) for t in (0, 1) for v in ("c", "a", "b")]
    records = AvaCsv(write_csv(tmp_path, rows), **ANY)
    report = pack(records, tmp_path / "set", split="train", media_root=videos, seed=None)
    check_accounting(tmp_path / "set", report)
    (ids,) = sample_ids(tmp_path / "set")
    assert ids == [f"{v}.mp4,000{t}" for t in (0, 1) for v in ("c", "a", "b")]
    dataset = ShardMapDataset(open_dataset(tmp_path / "set"))
    keys = [dataset[number]["key"] for number in range(6)]
    assert keys == [f"train-0000000{number}" for number in range(6)]


KILLED = """
import sys
from pathlib import Path
import killed_packing
from clipshards.packer import AvaCsv, pack

def pack_with(options):
    options = dict(options)
    csv = options.pop("csv")
    pack(AvaCsv(**csv), options.pop("out"), **options)

killed_packing.pack_with = pack_with
killed_packing.main(Path(sys.argv[1]))
"""


def test_packing_goes_on_after_a_kill(
    tmp_path: Path, videos: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    rows = [row(v, t) for v in ("a", "b") for t in (0, 1, 2)] + [row("gone", 0)]
    csv: dict[str, Any] = {"file": str(write_csv(tmp_path, rows))} | ANY
    options: dict[str, Any] = {
        "split": "train",
        "media_root": str(videos),
        "shard_size": 18_000,
    }
    report = pack(AvaCsv(**csv), tmp_path / "clean", **options)
    assert report.shards > 2
    clean = tree(tmp_path / "clean")
    moments = [[1], [4], [6], [8], [10], [12], [5, 4, 3], [20]]
    outs = [tmp_path / f"out-{number}" for number in range(len(moments))]
    request = tmp_path / "request.json"
    runs = [
        (options | {"out": str(out), "csv": csv}, kills)
        for out, kills in zip(outs, moments, strict=True)
    ]
    request.write_text(json.dumps(runs))
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, request],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout)) > 6
    for out in outs:
        found = tree(out) if out.exists() else {}
        final = {name: digest for name, digest in found.items() if "/.build/" not in name}
        assert final.items() <= clean.items()
        pack(AvaCsv(**csv), out, **options)
        assert tree(out) == clean


# Growth


def dense_rows(count: int) -> list[str]:
    return [row("a", number) for number in range(count)]


def test_clips_that_grow_beyond_three_times_name_the_remedy(tmp_path: Path, videos: Path) -> None:
    options = ANY | {"fps": 1, "clip_frames": 64}
    few = AvaCsv(write_csv(tmp_path, dense_rows(1)), **options)
    report = pack(few, tmp_path / "few", split="train", media_root=videos)
    assert report.source_bytes == (videos / "a.mp4").stat().st_size
    assert (report.bytes < 3 * report.source_bytes, report.warnings) == (True, ())
    many = AvaCsv(write_csv(tmp_path, dense_rows(20)), **options)
    report = pack(many, tmp_path / "many", split="train", media_root=videos)
    (warning,) = report.warnings
    assert "--group video" in warning
    assert f"{report.bytes / report.source_bytes:.1f} times" in warning


def test_videos_that_are_stored_once_do_not_grow(tmp_path: Path, videos: Path) -> None:
    records = AvaCsv(
        write_csv(tmp_path, dense_rows(80)), group="video", **ANY | {"fps": 1, "clip_frames": 64}
    )
    report = pack(records, tmp_path / "set", split="train", media_root=videos)
    assert report.bytes < 1.5 * (videos / "a.mp4").stat().st_size + 40_000
    # Each sample has its own video: there is nothing to compare, and no remedy to name.
    assert (report.source_bytes, report.warnings) == (0, ())


def test_the_report_says_how_much_the_media_grow(
    tmp_path: Path,
    videos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_csv(tmp_path, [*dense_rows(20), row("b", 99)])
    arguments = ["clipshards", "pack", "ava", file, "--media-root", videos, "--fps", 1]
    arguments += ["--timestamp-start", 0, "--timestamp-end", -1, "--split", "train"]

    def run(*more: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(word) for word in (*arguments, *more)])
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, capsys.readouterr().out

    code, out = run("--out", tmp_path / "clips")
    # One row was rejected.
    assert code == 1
    (line,) = [line for line in out.splitlines() if "growth" in line]
    size = sum(file.stat().st_size for file in (tmp_path / "clips" / "train").glob("*.tar"))
    source = sum((videos / name).stat().st_size for name in ("a.mp4", "b.mp4"))
    assert f"{size / source:.1f} times" in line
    assert "warning: " in out
    assert "--group video" in out
    assert "20 of 21 entries packed" in out
    code, out = run("--out", tmp_path / "again", "--json", "--group", "video")
    report = json.loads(out)
    assert (code, report["entries"], report["packed"]) == (1, 21, 20)
    assert report["warnings"] == []


def test_sizes_of_missing_videos_do_not_stop_the_plan(tmp_path: Path, videos: Path) -> None:
    assert MediaRoot(videos).size("gone.mp4") is None
    records = AvaCsv(write_csv(tmp_path, [row("gone", 1), *ROWS[:4], row("gone", 0)]), **ANY)
    report = pack(records, tmp_path / "set", split="train", media_root=videos, shard_size=30_000)
    assert [reject.id for reject in report.rejects] == ["gone.mp4,0001", "gone.mp4,0000"]
    check_accounting(tmp_path / "set", report)


def test_a_new_plan_says_what_it_comes_to_before_anything_is_cut(
    tmp_path: Path, videos: Path
) -> None:
    out = tmp_path / "set"
    options = ANY | {"fps": 1, "clip_frames": 16}
    csv = write_csv(tmp_path, [*dense_rows(20), row("b", 3)])
    plans: list[PlanSummary] = []

    def stop(plan: PlanSummary) -> None:
        plans.append(plan)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(AvaCsv(csv, **options), out, split="train", media_root=videos, planning=stop)
    assert not out.exists() or not [*out.rglob("*.*")]
    report = pack(
        AvaCsv(csv, **options), out, split="train", media_root=videos, planning=plans.append
    )
    plan = plans.pop()
    assert plans == [plan]
    assert (plan.samples, plan.shards) == (21, report.shards)
    assert plan.source_bytes == report.source_bytes > 0
    assert report.bytes / 1.5 < plan.bytes < report.bytes * 1.5
    assert plan.bytes > 3 * plan.source_bytes
    (warning,) = plan.warnings
    assert warning.startswith("the clips will take about ")
    # A plan that stands is not made anew.
    pack(AvaCsv(csv, **options), out, split="train", media_root=videos, planning=plans.append)
    assert plans == [plan]


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_clips_are_expected_to_be_as_large_as_they_become(tmp_path: Path, container: str) -> None:
    data = makers.video_bytes(container, options={"g": "25"}, frames=250)
    (tmp_path / "video").write_bytes(data)
    expected = clip_bytes(tmp_path / "video", 50)
    assert expected is not None
    cutter = cut.VideoCutter(data)
    sizes = [len(cutter.cut(start, start + 50).data) for start in range(0, 200, 7)]
    assert 0.6 < expected / (sum(sizes) / len(sizes)) < 1.6
    assert clip_bytes(tmp_path / "video", 1000) == len(data)


def test_size_of_a_clip_is_not_known_of_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("#EXTM3U\nhttp://localhost/a.ts\n")
    assert clip_bytes(tmp_path / "text.mp4", 50) is None
    assert clip_bytes(tmp_path / "gone.mp4", 50) is None
    assert clip_bytes(tmp_path, 50) is None


def test_sound_that_a_clip_cannot_hold_is_reported_once(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    data = makers.with_half_a_second_of("pcm_u8", np.uint8, "u8")
    (media / "a.mkv").write_bytes(data)
    csv = write_csv(tmp_path, [f"a.mkv,{number},{BOX},1,0" for number in (2, 5, 30)])
    records = AvaCsv(csv, **ANY | {"fps": 1, "clip_frames": 4})
    report = pack(
        records, tmp_path / "set", split="train", media_root=media, shard_size=1, seed=None
    )
    assert report.shards == 3
    (warning,) = report.warnings
    assert warning.startswith("a.csv:1: the sound cannot be copied into an mp4: ")
    # Of the third there is no sound any more.
    assert warning.endswith("(2 samples)")
