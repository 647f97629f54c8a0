"""Packing ActivityNet: entries that add up, bad features and videos, the same bytes."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest

from clipshards.packer import (
    ActivityNetFile,
    ActivityNetRecord,
    Excluded,
    PackReport,
    Reject,
    RejectsError,
    pack,
)
from clipshards.readers import open_dataset, verify
from clipshards.readers.data import ShardMapDataset
from clipshards.tools.cli import main

Tree = Callable[[Path], dict[str, str]]


def entry(*labels: str, **changes: Any) -> dict[str, Any]:
    """Return a video of 10 s, a segment of a second for each label."""
    segments = [{"segment": [n, n + 1.0], "label": label} for n, label in enumerate(labels)]
    return {
        "duration_second": 10.0,
        "duration_frame": 250,
        "feature_frame": 240,
        "annotations": segments,
    } | changes


def write_json(folder: Path, value: Any) -> Path:
    file = folder / "anno.json"
    file.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return file


def write_features(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        rows = np.random.default_rng(number).normal(size=(4 + number, 6))
        text = "\n".join(",".join(map(repr, row)) for row in rows.tolist())
        (folder / name).write_text(f"a,b,c,d,e,f\n{text}\n")


def check_accounting(out: Path, report: PackReport) -> None:
    """Every entry is packed, rejected or excluded, and all that count them agree."""
    rejected = sum(reject.entries for reject in report.rejects)
    assert report.entries == report.packed + rejected + sum(report.excluded.values())
    split = open_dataset(out)
    accounting = split.manifest.accounting
    assert (accounting.entries, accounting.packed) == (report.entries, report.packed)
    assert (accounting.rejected, accounting.excluded) == (rejected, report.excluded)
    lines = (out / "train" / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["message"] for line in lines] == [r.message for r in report.rejects]
    assert len(split) == report.packed
    assert verify(out).damage == []


BAD_FEATURES: dict[str, tuple[bytes, str]] = {
    "gone": (b"", "no such file under the media root"),
    "ragged": (b"a,b\n1,2\n3\n", "'ragged.csv'|ragged.csv:3"),
    "long": (b"1,2\n3,4,5\n", "long.csv:2"),
    "nan": (b"1,2\nnan,4\n", "nan.csv:2"),
    "huge": (b"1,2\n1e39,4\n", "huge.csv:2"),
    "text": (b"1,2\n3,four\n", "text.csv:2"),
    "header": (b"a,b\n", "header.csv:2: expected at least one row"),
    "npy": (b"\x93NUMPY\x01\x00", "npy.csv: "),
    "blank": (b"1,2\n\n3,4\n", "blank.csv:2"),
}


def test_bad_features_are_rejected_and_the_others_stay(tmp_path: Path) -> None:
    root = tmp_path / "features"
    write_features(root, "good.csv", "fine.csv")
    for name, (data, _) in BAD_FEATURES.items():
        if data:
            (root / f"{name}.csv").write_bytes(data)
    names = ["good", *BAD_FEATURES, "fine"]
    file = write_json(tmp_path, {name: entry("x") for name in names})
    out = tmp_path / "set"
    report = pack(ActivityNetFile(file), out, split="train", media_root=root, max_rejects=20)
    assert (report.entries, report.packed) == (len(names), 2)
    for reject, (name, (_, message)) in zip(report.rejects, BAD_FEATURES.items(), strict=True):
        assert (reject.id, reject.error) == (name, "MediaError")
        assert any(piece in reject.message for piece in message.split("|")), reject.message
        assert reject.origin.startswith("anno.json:")
    check_accounting(out, report)
    split = open_dataset(out)
    assert {ShardMapDataset(split)[number]["id"] for number in range(2)} == {"good", "fine"}


def test_bad_entries_are_rejected_by_video_and_counted(tmp_path: Path) -> None:
    root = tmp_path / "features"
    write_features(root, "good.csv", "late.csv", "backwards.csv", "zero.csv", "keys.csv")
    late = [{"segment": [8.0, 10.4], "label": "x"}]
    annotation = {
        "zero": entry("x", duration_second=0),
        "good": entry("x", "y"),
        "backwards": entry(annotations=[{"segment": [3, 2], "label": "only here"}]),
        "late": entry(annotations=late),
        "beyond": entry(annotations=[{"segment": [8, 18], "label": "x"}]),
        "keys": {"duration_second": 3},
        "../out": entry("x"),
    }
    report = pack(
        ActivityNetFile(write_json(tmp_path, annotation)),
        tmp_path / "set",
        split="train",
        media_root=root,
    )
    assert [reject.id for reject in report.rejects] == [
        "zero",
        "backwards",
        "beyond",
        "keys",
        "../out",
    ]
    assert "leads out of the media root" in report.rejects[-1].message
    check_accounting(tmp_path / "set", report)
    # Names that only rejected videos have are no classes.
    assert open_dataset(tmp_path / "set").manifest.class_names == ("x", "y")
    assert any("end after the video does" in warning for warning in report.warnings)


@pytest.mark.parametrize("broken", ["gone", "cut short", "no video"])
def test_bad_videos_are_rejected(tmp_path: Path, broken: str) -> None:
    write_features(tmp_path, "good.csv", "bad.csv")
    data = makers.short_video(1, sound=False)
    (tmp_path / "good.mp4").write_bytes(data)
    if broken == "cut short":
        (tmp_path / "bad.mp4").write_bytes(data[: len(data) // 2])
    elif broken == "no video":
        (tmp_path / "bad.mp4").write_bytes(b"no video" * 40)
    file = write_json(tmp_path, {"bad": entry("x"), "good": entry("x")})
    records = ActivityNetFile(file, video_tmpl="{}.mp4")
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path)
    assert [(reject.id, reject.error) for reject in report.rejects] == [("bad", "MediaError")]
    assert "'bad.mp4'" in report.rejects[0].message
    check_accounting(tmp_path / "set", report)


def record(name: str, **changes: Any) -> ActivityNetRecord:
    fields: dict[str, Any] = {
        "id": name,
        "segments": ((0.0, 1.0),),
        "segment_labels": ("x",),
        "duration_s": 3.0,
        "features": f"{name}.csv",
    }
    return ActivityNetRecord(**fields | changes)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"video": "b.mp4"}),
        ({"video": "b.mp4"}, {"video": "b.mp4", "features": ""}),
        ({"video": "b.mp4", "features": ""}, {}),
    ],
)
def test_videos_or_features_of_some_only_are_refused(
    tmp_path: Path, first: dict[str, str], second: dict[str, str]
) -> None:
    write_features(tmp_path, "a.csv", "b.csv")
    (tmp_path / "b.mp4").write_bytes(makers.short_video(1))
    records = [record("a", **first), record("b", **second)]
    with pytest.raises(ValueError, match="features of all videos or of none, and videos of all"):
        pack(records, tmp_path / "set", split="train", media_root=tmp_path, labels="none")
    # Nothing was begun.
    assert not (tmp_path / "set").exists()


def test_records_that_cannot_be_packed_do_not_decide_the_parts(tmp_path: Path) -> None:
    write_features(tmp_path, "a.csv")
    entries: list[Any] = [
        record("b", duration_s=0.0, video="b.mp4"),
        record("a"),
        Reject("unreadable", id="c"),
        Excluded("subset", "d"),
        record("e", segments=((2.0, 1.0),), features="", video="e.mp4"),
    ]
    report = pack(entries, tmp_path / "set", split="train", media_root=tmp_path, labels="none")
    assert (report.entries, report.packed, report.excluded) == (5, 1, {"subset": 1})
    assert [reject.id for reject in report.rejects] == ["b", "c", "e"]
    check_accounting(tmp_path / "set", report)


def test_rejects_and_exclusions_alone_are_no_question_of_parts(tmp_path: Path) -> None:
    entries: list[Any] = [record("a", duration_s=0.0), Excluded("subset", "d")]
    report = pack(entries, tmp_path / "set", split="train", media_root=tmp_path, labels="none")
    assert (report.packed, report.excluded) == (0, {"subset": 1})
    assert "duration above 0" in report.rejects[0].message
    check_accounting(tmp_path / "set", report)


BAD_RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"id": "", "features": "a.csv"}, "expected an id"),
    "no media": ({"features": ""}, "features or a video"),
    "more labels": ({"segment_labels": ("x", "y")}, "1 segments with 2 labels"),
    "a start below 0": ({"segments": ((-0.5, 1.0),)}, " start "),
    "an empty segment": ({"segments": ((1.0, 1.0),)}, " start "),
    "three numbers": ({"segments": ((0.0, 1.0, 2.0),)}, "segments"),
    "nan": ({"segments": ((0.0, float("nan")),)}, "finite"),
    "inf": ({"duration_s": float("inf")}, "finite"),
    "no duration": ({"duration_s": -1.0}, "duration above 0"),
    "negative rate": ({"fps": -25.0}, "counts and rates"),
    "negative frames": ({"duration_frames": -1}, "counts and rates"),
    "a huge count": ({"feature_frames": 2**63}, "64 bits"),
    "a lone surrogate": ({"segment_labels": ("\ud800",)}, "Unicode"),
}


@pytest.mark.parametrize("bad", BAD_RECORDS)
def test_records_that_cannot_be_packed_are_rejected(tmp_path: Path, bad: str) -> None:
    changes, message = BAD_RECORDS[bad]
    write_features(tmp_path, "a.csv", "good.csv")
    report = pack(
        [record("good"), record("a", **changes)],
        tmp_path / "set",
        split="train",
        media_root=tmp_path,
        labels="none",
    )
    (reject,) = report.rejects
    assert message in reject.message
    check_accounting(tmp_path / "set", report)


def test_labels_that_are_none_of_the_class_names_are_rejected(tmp_path: Path) -> None:
    write_features(tmp_path, "a.csv", "b.csv")
    records = [record("a"), record("b", segment_labels=("z",))]
    report = pack(
        records,
        tmp_path / "set",
        split="train",
        media_root=tmp_path,
        labels="none",
        class_names=("w", "x"),
    )
    (reject,) = report.rejects
    assert (reject.id, "'z'" in reject.message) == ("b", True)
    check_accounting(tmp_path / "set", report)


def test_class_names_stand_in_the_manifest_of_every_subset(tmp_path: Path) -> None:
    write_features(tmp_path, "a.csv", "b.csv")
    file = write_json(
        tmp_path,
        {
            "database": {
                name: {
                    "duration": 9.0,
                    "subset": subset,
                    "annotations": entry(*labels)["annotations"],
                }
                for name, subset, labels in (
                    ("a", "training", ("z", "y")),
                    ("b", "validation", ("x",)),
                )
            }
        },
    )
    for subset in ("training", "validation"):
        records = ActivityNetFile(file, source_split=subset)
        report = pack(records, tmp_path / "set", split=subset, media_root=tmp_path)
        assert (report.entries, report.packed) == (1, 1)
        split = open_dataset(tmp_path / "set", split=subset)
        assert split.manifest.class_names == ("x", "y", "z")
        assert verify(tmp_path / "set", split=subset).damage == []


def make_set(folder: Path) -> ActivityNetFile:
    names = [f"v{number}" for number in range(12)]
    write_features(folder / "media", *(f"{name}.csv" for name in names[:-1]))
    for number, name in enumerate(names):
        data = makers.short_video(number % 3, frames=4, sound=False)
        (folder / "media" / f"{name}.mp4").write_bytes(data)
    annotation = {name: entry(name[-1], "x") for name in names}
    annotation["bad"] = entry("x", duration_second=-1)
    return ActivityNetFile(write_json(folder, annotation), video_tmpl="{}.mp4")


def test_packing_twice_gives_the_same_tree(tmp_path: Path, tree: Tree) -> None:
    trees = []
    for name in ("here", "elsewhere/deeper"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        records = make_set(folder)
        out = folder / "set"
        options: dict[str, Any] = {"media_root": folder / "media", "shard_size": 60_000}
        report = pack(records, out, split="train", **options)
        assert (report.shards > 2, report.packed) == (True, 11)
        assert [reject.id for reject in report.rejects] == ["v11", "bad"]
        # Nothing is cut from anything.
        assert report.source_bytes == 0
        check_accounting(out, report)
        trees.append(tree(out))
        again = pack(records, out, split="train", **options)
        assert (again.shards_made, tree(out)) == (0, trees[-1])
    assert trees[0] == trees[1]


def test_keep_order_and_seeds_hold_the_same_samples(
    tmp_path: Path, read_samples: Callable[[Path], dict[str, dict[str, bytes]]]
) -> None:
    records = make_set(tmp_path)
    found = []
    for number, seed in enumerate((0, 1, None)):
        out = tmp_path / f"out{number}"
        pack(records, out, split="train", media_root=tmp_path / "media", seed=seed)
        found.append(read_samples(out / "train"))
    assert found[0] == found[1] == found[2]
    assert list(found[2]) == sorted(found[2])
    assert list(found[0]) != list(found[1])
    for parts in found[0].values():
        assert list(parts) == ["json", "frames.npy", "feature.npy", "mp4"]


def test_mended_features_are_packed_by_the_same_call(tmp_path: Path) -> None:
    write_features(tmp_path, "a.csv", "b.csv")
    shutil.move(tmp_path / "b.csv", tmp_path / "b.away")
    records = [record("a"), record("b")]
    options: dict[str, Any] = {"media_root": tmp_path, "labels": "none", "max_rejects": 0}
    with pytest.raises(RejectsError, match=r"'b\.csv': no such file"):
        pack(records, tmp_path / "set", split="train", **options)
    shutil.move(tmp_path / "b.away", tmp_path / "b.csv")
    report = pack(records, tmp_path / "set", split="train", **options)
    assert (report.packed, report.rejects) == (2, ())
    check_accounting(tmp_path / "set", report)


def test_the_command_packs_and_says_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path / "f", "v_a.csv")
    annotation = {
        "a": {"duration": 9.0, "subset": "training", "annotations": [], "url": "u"},
        "b": {"duration": 9.0, "subset": "training", "annotations": []},
        "c": {"duration": 9.0, "subset": "validation", "annotations": []},
    }
    file = write_json(tmp_path, {"database": annotation})
    arguments = ["pack", "activitynet", file, "--media-root", tmp_path / "f", "--split", "train"]
    arguments += ["--feature-tmpl", "v_{}.csv", "--source-split", "training"]
    arguments += ["--out", tmp_path / "set", "--json"]
    monkeypatch.setattr(sys, "argv", ["clipshards", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    report = json.loads(capsys.readouterr().out)
    assert (caught.value.code, report["entries"], report["packed"]) == (1, 2, 1)
    assert [reject["id"] for reject in report["rejects"]] == ["b"]
    assert any("'url'" in warning for warning in report["warnings"])
