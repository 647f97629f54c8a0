"""Packing every task: the same bytes, entries that add up, bad entries that stop nothing."""

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import makers
import numpy as np
import pytest
from PIL import Image

from clipshards.packer import (
    AnnotationError,
    AudioList,
    AudioRecord,
    Excluded,
    FrameRange,
    PackReport,
    RawframeList,
    RawframesRecord,
    Recipe,
    Reject,
    RejectsError,
    SkeletonFile,
    SkeletonRecord,
    VideoRecord,
    pack,
)
from clipshards.packer.format.rejects import RejectRow
from clipshards.readers import open_dataset, verify
from clipshards.readers.data import ShardMapDataset

Tree = Callable[[Path], dict[str, str]]


def jpeg(*, seed: int = 0, size: tuple[int, int] = (24, 16), kind: str = "JPEG") -> bytes:
    """Return one picture file."""
    (picture,) = makers.pictures(1, size, seed=seed)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind)
    return out.getvalue()


def write_frames(folder: Path, count: int, *, template: str = "img_{:05}.jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        (folder / template.format(number)).write_bytes(jpeg(seed=number))


def npy(array: Any, *, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


def mel(*, rows: int = 5) -> Any:
    return np.arange(rows * 80, dtype=np.float32).reshape(rows, 80)


def pose(name: str, *, frames: int = 6, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(len(name))
    return {
        "frame_dir": name,
        "label": 1,
        "total_frames": frames,
        "img_shape": (24, 32),
        "keypoint": rng.normal(size=(1, frames, 5, 2)).astype(np.float16),
        "keypoint_score": rng.random((1, frames, 5)).astype(np.float16),
    } | changes


def write_pickle(file: Path, value: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(value))
    return file


def write_list(file: Path, lines: Sequence[str]) -> Path:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def check_accounting(out: Path, split: str, report: PackReport) -> None:
    """Every entry is packed, rejected or excluded, and all that count them agree."""
    rejected = sum(row.entries for row in report.rejects)
    assert report.entries == report.packed + rejected + sum(report.excluded.values())
    opened = open_dataset(out, split=split)
    accounting = opened.manifest.accounting
    assert (accounting.entries, accounting.packed) == (report.entries, report.packed)
    assert (accounting.rejected, accounting.excluded) == (rejected, report.excluded)
    lines = (out / split / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(json.loads(line)["entries"] for line in lines) == rejected
    assert [json.loads(line)["message"] for line in lines] == [r.message for r in report.rejects]
    indexes = [opened.read_index(number) for number in range(len(opened.manifest.shards))]
    assert sum(sum(index.entries) for index in indexes) == report.packed
    assert sum(sum(index.items) for index in indexes) == len(opened)
    assert sum(shard.entries for shard in opened.manifest.shards) == report.packed
    assert verify(out, split=split).damage == []


# The same bytes


class Material(NamedTuple):
    """An annotation of one task with its media, and how it is packed."""

    records: Callable[[], Any]
    options: dict[str, Any]


def make_rawframes(folder: Path) -> Material:
    lines = []
    for number in range(6):
        write_frames(folder / "frames" / f"c{number}", 3 + number % 3)
        lines += [f"c{number} 0 2 {number}", f"c{number} 1 2 {number + 1}"]
    file = write_list(folder / "list.txt", [*lines, "gone 0 1 2", "bad line"])
    return Material(
        lambda: RawframeList(file, with_offset=True),
        {"media_root": folder / "frames", "shard_size": 9_000},
    )


def make_skeleton(folder: Path) -> Material:
    entries = [pose(f"p{number}", frames=3 + number % 4, label=number) for number in range(12)]
    entries[5]["keypoint"] = entries[5]["keypoint"][0]
    for entry in entries[8:]:
        arrays = {name: entry.pop(name) for name in ("keypoint", "keypoint_score")}
        write_pickle(folder / "media" / "kpts" / f"{entry['frame_dir']}.pkl", arrays)
    for entry in entries[:5] + entries[6:8]:
        write_pickle(folder / "media" / "kpts" / f"{entry['frame_dir']}.pkl", {})
    (folder / "media" / "kpts" / "p9.pkl").unlink()
    file = write_pickle(folder / "a.pkl", entries)
    return Material(
        lambda: SkeletonFile(file, skeleton_dir="kpts"),
        {"media_root": folder / "media", "shard_size": 9_000},
    )


def make_audio(folder: Path) -> Material:
    (folder / "mel").mkdir()
    for number in range(9):
        (folder / "mel" / f"{number}.npy").write_bytes(npy(mel(rows=3 + number)))
    lines = [f"{number}.npy {9 + number} {number}" for number in range(10)]
    file = write_list(folder / "list.txt", [*lines, "no count"])
    return Material(lambda: AudioList(file), {"media_root": folder / "mel", "shard_size": 9_000})


MATERIALS = {"rawframes": make_rawframes, "skeleton": make_skeleton, "audio": make_audio}
tasks = pytest.mark.parametrize("task", MATERIALS)


@tasks
def test_packing_twice_gives_the_same_tree(task: str, tmp_path: Path, tree: Tree) -> None:
    material = MATERIALS[task](tmp_path)
    trees = []
    for out in ("first", "second"):
        report = pack(material.records(), tmp_path / out, split="train", **material.options)
        assert (report.shards > 1, report.shards_made) == (True, report.shards)
        assert len(report.rejects) == 2
        check_accounting(tmp_path / out, "train", report)
        trees.append(tree(tmp_path / out))
    assert trees[0] == trees[1]
    again = pack(material.records(), tmp_path / "second", split="train", **material.options)
    assert (again.shards_made, again.packed) == (0, report.packed)
    assert tree(tmp_path / "second") == trees[0]


@tasks
def test_another_place_of_the_media_gives_the_same_tree(
    task: str, tmp_path: Path, tree: Tree
) -> None:
    trees = []
    for name in ("here", "elsewhere/deeper"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        material = MATERIALS[task](folder)
        pack(material.records(), folder / "set", split="train", **material.options)
        trees.append(tree(folder / "set"))
    assert trees[0] == trees[1]


@tasks
def test_other_orders_hold_the_same_samples_under_the_same_keys(
    task: str,
    tmp_path: Path,
    read_samples: Callable[[Path], dict[str, dict[str, bytes]]],
) -> None:
    material = MATERIALS[task](tmp_path)
    found = []
    for number, seed in enumerate((0, 1, None)):
        out = tmp_path / f"out{number}"
        pack(material.records(), out, split="train", seed=seed, **material.options)
        found.append(read_samples(out / "train"))
    assert found[0] == found[1] == found[2]
    assert list(found[2]) == sorted(found[2])
    assert list(found[0]) != list(found[1])


KILLED = """
import sys
from pathlib import Path
import killed_packing
from clipshards.packer import SkeletonFile, pack

def pack_with(options):
    options = dict(options)
    records = SkeletonFile(options.pop("file"), skeleton_dir="kpts")
    pack(records, options.pop("out"), **options)

killed_packing.pack_with = pack_with
killed_packing.main(Path(sys.argv[1]))
"""


def kill(folder: Path, runs: list[tuple[dict[str, Any], list[int]]]) -> list[int]:
    """Pack skeletons in children that are killed; see killed_packing.py."""
    request = folder / "request.json"
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
    killed: list[int] = json.loads(done.stdout)
    return killed


def test_skeleton_packing_goes_on_after_a_kill(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    material = make_skeleton(tmp_path)
    pack(material.records(), tmp_path / "clean", split="train", **material.options)
    clean = tree(tmp_path / "clean")
    draw = random.Random(0)
    moments = [[number] for number in range(1, 40, 2)]
    moments += [[draw.randrange(1, 20) for _ in range(3)] for _ in range(5)]
    options = material.options | {
        "media_root": str(material.options["media_root"]),
        "file": str(tmp_path / "a.pkl"),
        "split": "train",
    }
    outs = [tmp_path / f"out-{number}" for number in range(len(moments))]
    killed = kill(
        tmp_path, [(options | {"out": str(o)}, m) for o, m in zip(outs, moments, strict=True)]
    )
    assert sum(killed) > 15
    for out in outs:
        found = tree(out) if out.exists() else {}
        final = {name: digest for name, digest in found.items() if "/.build/" not in name}
        assert final.items() <= clean.items()
        pack(material.records(), out, split="train", **material.options)
        assert tree(out) == clean
        shutil.rmtree(out)


# Entries add up


def test_every_line_of_a_rejected_folder_is_an_entry(tmp_path: Path) -> None:
    write_frames(tmp_path / "good", 4)
    write_frames(tmp_path / "short", 2)
    lines = [
        "good 0 2 1",  # 0
        "short 0 2 1",  # 3, packed without the next of its folder
        "not-a-number x 2 1",  # 5
        "good 2 2 0",  # with 0
        "short 1 5 2",  # 4
        "good 1 1 7",  # with 0
        "gone 0 3 1",
    ]
    records = RawframeList(write_list(tmp_path / "list.txt", lines), with_offset=True)
    out = tmp_path / "set"
    report = pack(records, out, split="train", media_root=tmp_path, max_rejects=4)
    assert (report.entries, report.packed) == (7, 4)
    found = [(row.key, row.entries, row.origin) for row in report.rejects]
    assert found == [
        ("train-00000003", 1, "list.txt:5"),
        ("train-00000005", 1, "list.txt:3"),
        ("train-00000006", 1, "list.txt:7"),
    ]
    check_accounting(out, "train", report)
    split = open_dataset(out)
    assert (len(split), split.manifest.shards[0].samples) == (4, 2)
    dataset = ShardMapDataset(split)
    packed = [dataset[number] for number in range(4)]
    items = {(item["id"], item["offset"], item["label"]) for item in packed}
    assert items == {("good", 0, 1), ("good", 2, 0), ("good", 1, 7), ("short", 0, 1)}
    assert [row.ordinal for row in report.rejects] == [4, 5, 6]
    assert "short" in report.rejects[0].message


def test_the_limit_of_rejects_counts_entries_not_samples(tmp_path: Path) -> None:
    write_frames(tmp_path / "good", 2)
    lines = ["good 0 2 1", *["gone 0 2 1"] * 3]
    records = RawframeList(write_list(tmp_path / "list.txt", lines), with_offset=True)
    with pytest.raises(RejectsError, match="3 of 4 entries cannot be packed, 2 may be rejected"):
        pack(records, tmp_path / "set", split="train", media_root=tmp_path, max_rejects=2)
    report = pack(records, tmp_path / "set", split="train", media_root=tmp_path, max_rejects=3)
    assert [row.entries for row in report.rejects] == [3]
    check_accounting(tmp_path / "set", "train", report)


@tasks
def test_progress_counts_entries_to_the_last(task: str, tmp_path: Path) -> None:
    material = MATERIALS[task](tmp_path)
    ticks: list[tuple[int, int]] = []

    def tick(entries: int, size: int) -> None:
        ticks.append((entries, size))

    report = pack(
        material.records(), tmp_path / "set", split="train", progress=tick, **material.options
    )
    assert sum(entries for entries, _ in ticks) == report.entries
    assert 0 < sum(size for _, size in ticks) < report.bytes


def test_records_rejects_and_exclusions_of_every_kind_add_up(tmp_path: Path) -> None:
    (tmp_path / "good.npy").write_bytes(npy(mel()))
    (tmp_path / "text.npy").write_text("no array")
    write_frames(tmp_path / "good", 3)
    array = np.zeros((1, 3, 5, 2), dtype=np.float32)
    stretch = FrameRange(total_frames=3, labels=(0,))
    mixes: dict[str, list[Any]] = {
        "audio": [
            AudioRecord(path="good.npy", total_frames=3, labels=(0,)),
            AudioRecord(path="text.npy", total_frames=3, labels=(0,)),
            AudioRecord(path="good.npy", total_frames=3, labels=(0, 1)),
        ],
        "skeleton": [
            SkeletonRecord(id="a", total_frames=3, keypoint=array, labels=(0,)),
            SkeletonRecord(id="b", total_frames=3, path="text.npy", labels=(0,)),
            SkeletonRecord(id="c", total_frames=4, keypoint=array, labels=(0,)),
        ],
        "rawframes": [
            RawframesRecord(folder="good", ranges=(stretch, stretch)),
            RawframesRecord(folder="gone", ranges=(stretch, stretch)),
            RawframesRecord(folder="good", ranges=(stretch, FrameRange(total_frames=0))),
        ],
    }
    for task, (good, bad_media, bad_record) in mixes.items():
        out = tmp_path / "set"
        entries = [
            Excluded("subset", "x"),
            good,
            Reject("unreadable", id="y"),
            bad_media,
            Excluded("valid_ratio", "z"),
            bad_record,
            good,
            Excluded("subset", "w"),
        ]
        report = pack(iter(entries), out, split=task, media_root=tmp_path)
        each = 2 if task == "rawframes" else 1
        assert report.entries == 4 + 4 * each
        assert report.packed == 2 * each
        assert report.excluded == {"subset": 2, "valid_ratio": 1}
        assert [row.entries for row in report.rejects] == [1, each, each]
        check_accounting(out, task, report)


def test_an_annotation_of_which_all_is_excluded_says_so(tmp_path: Path) -> None:
    entry = pose("a", valid={0.5: 1}, box_score=np.ones(1, np.float16))
    file = write_pickle(tmp_path / "a.pkl", [entry])
    with pytest.raises(AnnotationError, match="all 1 entries are excluded"):
        pack(SkeletonFile(file, valid_ratio=0.9), tmp_path / "set", split="train")
    assert not (tmp_path / "set").exists()


# One bad entry stops nothing


class Bad(NamedTuple):
    """A broken entry, and what must be said of it."""

    make: Callable[[Path], None]
    """Writes the media under the name `bad` into a folder."""
    message: str
    """Piece of the reject's message."""


def bad_file(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: _write(folder / name, data)


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


class Payload:
    """Unpickled by a reader that is not careful, it leaves a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch executed",))


def huge_header(claimed: int) -> bytes:
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", claimed) + b"{" * 50


def claimed_shape(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)


def archive(array: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, array)
    return out.getvalue()


def make_loop(folder: Path) -> None:
    (folder / "bad.npy").symlink_to("bad.npy")


BAD_SOUNDS = {
    "missing": Bad(lambda folder: None, "no such file"),
    "empty": Bad(bad_file("bad.npy", b""), "the file is empty"),
    "text": Bad(bad_file("bad.npy", b"1,2,3\n"), "expected an npy file"),
    "magic alone": Bad(bad_file("bad.npy", b"\x93NUMPY"), "expected an npy file"),
    "cut short": Bad(bad_file("bad.npy", npy(mel())[:-1]), "bytes for the shape"),
    "too long": Bad(bad_file("bad.npy", npy(mel()) + b"x"), "bytes for the shape"),
    "archive": Bad(bad_file("bad.npy", archive(mel())), "expected an npy file"),
    "pickle": Bad(bad_file("bad.npy", pickle.dumps(Payload())), "expected an npy file"),
    "pickle inside": Bad(
        bad_file("bad.npy", npy(np.array([[Payload()]], dtype=object), allow_pickle=True)),
        "expected float16, float32 or float64, got '|O'",
    ),
    "record array": Bad(
        bad_file("bad.npy", npy(np.zeros((2, 2), dtype=[("a", "f4")]))), "expected an npy header"
    ),
    "integers": Bad(bad_file("bad.npy", npy(np.ones((5, 80), int))), "expected float16"),
    "complex": Bad(bad_file("bad.npy", npy(np.ones((5, 80), complex))), "expected float16"),
    "one axis": Bad(bad_file("bad.npy", npy(np.ones(80))), "expected 2 axes"),
    "three axes": Bad(bad_file("bad.npy", npy(np.ones((1, 5, 80)))), "expected 2 axes"),
    "no axis": Bad(bad_file("bad.npy", npy(np.array(1.0))), "expected 2 axes"),
    "no rows": Bad(bad_file("bad.npy", npy(np.ones((0, 80)))), "each axis at least 1"),
    "no bands": Bad(bad_file("bad.npy", npy(np.ones((5, 0)))), "each axis at least 1"),
    "huge header": Bad(bad_file("bad.npy", huge_header(2**32 - 1)), "header of at most"),
    "long header": Bad(bad_file("bad.npy", huge_header(60)), "header of at most"),
    "huge shape": Bad(bad_file("bad.npy", claimed_shape(f"({10**12}, 80)")), "bytes for the shape"),
    "absurd shape": Bad(bad_file("bad.npy", claimed_shape(f"({'9' * 500}, 80)")), "the shape"),
    "negative shape": Bad(bad_file("bad.npy", claimed_shape("(-1, 80)")), "npy header"),
    "code in header": Bad(
        bad_file("bad.npy", claimed_shape("__import__('os').system('touch executed')")),
        "npy header",
    ),
    "folder": Bad(lambda folder: (folder / "bad.npy").mkdir(), "not a regular file"),
    "pipe": Bad(lambda folder: os.mkfifo(folder / "bad.npy"), "not a regular file"),
    "link to itself": Bad(make_loop, "cannot be read"),
}


def check_one_bad(out: Path, report: PackReport, name: str, message: str) -> RejectRow:
    """The bad entry is the only reject and says what is wrong with which file."""
    assert (report.entries, report.packed) == (3, 2)
    (row,) = report.rejects
    assert (row.ordinal, row.entries) == (1, 1)
    assert message in row.message
    assert name in row.message
    assert row.error == "MediaError"
    check_accounting(out, "train", report)
    dataset = ShardMapDataset(open_dataset(out))
    assert [dataset[number]["key"] for number in range(2)] == ["train-00000000", "train-00000002"]
    return row


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, so that what a payload would leave there is seen."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def nothing_ran(folder: Path) -> bool:
    return not list(folder.rglob("executed"))


@pytest.mark.parametrize("name", BAD_SOUNDS)
def test_a_bad_sound_is_a_reject_and_the_rest_is_packed(name: str, folder: Path) -> None:
    bad = BAD_SOUNDS[name]
    for good in ("a.npy", "c.npy"):
        (folder / good).write_bytes(npy(mel()))
    bad.make(folder)
    file = write_list(folder / "list.txt", ["a.npy 9 0", "bad.npy 9 1", "c.npy 9 2"])
    report = pack(AudioList(file), folder / "set", split="train", media_root=folder, seed=None)
    row = check_one_bad(folder / "set", report, "bad.npy", bad.message)
    assert (row.id, row.origin) == ("bad.npy", "list.txt:2")
    assert nothing_ran(folder)


def kept(**changes: Any) -> bytes:
    arrays = {name: pose("b")[name] for name in ("keypoint", "keypoint_score")}
    return pickle.dumps({k: v for k, v in (arrays | changes).items() if v is not None})


def nested(depth: int) -> bytes:
    return b"]" * depth + b"a" * (depth - 1) + b"."


def with_nan() -> Any:
    array = pose("b")["keypoint"].copy()
    array[0, 3, 2, 1] = np.nan
    return array


BAD_POSES = {
    "missing": Bad(lambda folder: None, "no such file"),
    "empty": Bad(bad_file("bad.pkl", b""), "the file is empty"),
    "text": Bad(bad_file("bad.pkl", b"hello\n"), "bad.pkl"),
    "cut short": Bad(bad_file("bad.pkl", kept()[:-20]), "bad.pkl"),
    "call of the shell": Bad(bad_file("bad.pkl", pickle.dumps(Payload())), "system"),
    "call inside the dict": Bad(bad_file("bad.pkl", kept(extra=Payload())), "system"),
    "call in protocol 0": Bad(
        bad_file("bad.pkl", b"cos\nsystem\n(S'touch executed'\ntR."), "system"
    ),
    "eval": Bad(bad_file("bad.pkl", b'cbuiltins\neval\n(S\'open("executed","w")\'\ntR.'), "eval"),
    "object array": Bad(
        bad_file("bad.pkl", kept(keypoint=np.array([[None, {}]], dtype=object))), "bad.pkl"
    ),
    "deep": Bad(bad_file("bad.pkl", nested(100_000)), "bad.pkl"),
    "claims much": Bad(bad_file("bad.pkl", b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f."), "bad.pkl"),
    "a list": Bad(bad_file("bad.pkl", pickle.dumps([1, 2])), "expected a dict, got"),
    "no dict": Bad(bad_file("bad.pkl", pickle.dumps(None)), "expected a dict, got None"),
    "nothing in it": Bad(bad_file("bad.pkl", pickle.dumps({})), "expected keypoint"),
    "unknown key": Bad(bad_file("bad.pkl", kept(extra=1)), "got key 'extra' with 1"),
    "key of another kind": Bad(bad_file("bad.pkl", pickle.dumps({7: 1})), "got key 7"),
    "list for array": Bad(bad_file("bad.pkl", kept(keypoint=[[1.0]])), "expected an array"),
    "integers": Bad(
        bad_file("bad.pkl", kept(keypoint=np.ones((1, 6, 5, 2), int))), "expected one of float16"
    ),
    "other frames": Bad(
        bad_file("bad.pkl", kept(keypoint=np.ones((1, 7, 5, 2), np.float32))), "total_frames 6"
    ),
    "other score": Bad(
        bad_file("bad.pkl", kept(keypoint_score=np.ones((1, 6, 4), np.float32))),
        "expected shape (1, 6, 5), got (1, 6, 4)",
    ),
    "nobody": Bad(
        bad_file("bad.pkl", kept(keypoint=np.ones((0, 6, 5, 2), np.float32))),
        "expected at least one number",
    ),
    "not a number": Bad(bad_file("bad.pkl", kept(keypoint=with_nan())), "NaN or infinity 1 times"),
    "infinite": Bad(
        bad_file("bad.pkl", kept(keypoint_score=np.full((1, 6, 5), np.inf))), "NaN or infinity 30"
    ),
    "other count": Bad(bad_file("bad.pkl", kept(total_frames=5)), "6 as annotated, got 5"),
    "other size": Bad(bad_file("bad.pkl", kept(img_shape=(1, 2))), "as annotated, got (1, 2)"),
    "other video": Bad(bad_file("bad.pkl", kept(frame_dir="other")), "got key 'frame_dir'"),
    "boxes and scores": Bad(
        bad_file("bad.pkl", kept(frame_inds=np.zeros(1, np.int16))), "beside frame_inds"
    ),
    "folder": Bad(lambda folder: (folder / "bad.pkl").mkdir(), "not a regular file"),
    "pipe": Bad(lambda folder: os.mkfifo(folder / "bad.pkl"), "not a regular file"),
}


@pytest.mark.parametrize("name", BAD_POSES)
def test_a_bad_skeleton_file_is_a_reject_and_the_rest_is_packed(name: str, folder: Path) -> None:
    bad = BAD_POSES[name]
    (folder / "kpts").mkdir()
    for good in ("a", "c"):
        (folder / "kpts" / f"{good}.pkl").write_bytes(kept())
    bad.make(folder / "kpts")
    entries = [pose(name) for name in ("a", "bad", "c")]
    for entry in entries:
        del entry["keypoint"], entry["keypoint_score"]
    file = write_pickle(folder / "a.pkl", entries)
    records = SkeletonFile(file, skeleton_dir="kpts")
    report = pack(records, folder / "set", split="train", media_root=folder, seed=None)
    row = check_one_bad(folder / "set", report, "kpts/bad.pkl", bad.message)
    assert (row.id, row.origin) == ("bad", "a.pkl[1]")
    assert nothing_ran(folder)


BAD_ENTRIES: dict[str, tuple[Any, str]] = {
    "no dict": (7, "expected a dict, got 7"),
    "no id": ({"label": 1}, "expected an id in 'frame_dir'"),
    "empty id": (pose("b", frame_dir=""), "expected an id"),
    "id of another kind": (pose("b", frame_dir=3), "expected an id"),
    "no label": (pose("b", label=None), "expected a class id"),
    "negative label": (pose("b", label=-1), "expected a class id, 0 or more, got -1"),
    "two labels": (pose("b", label=[1, 2]), "expected one label"),
    "true": (pose("b", label=True), "expected a class id"),
    "no keypoint": (pose("b", keypoint=None), "expected keypoint"),
    "frames": (pose("b", total_frames=7), "by total_frames 7"),
    "no frames": (pose("b", total_frames=0), "expected total_frames of 1 or more, got 0"),
    "one joint axis less": (pose("b", keypoint=np.ones((1, 6, 2), "f4")), "or frame_inds"),
    "four coordinates": (pose("b", keypoint=np.ones((1, 6, 5, 4), "f4")), "joints, 2 or 3"),
    "integers": (pose("b", keypoint=np.ones((1, 6, 5, 2), np.int64)), "convert it"),
    "bad size": (pose("b", img_shape=(0, 5)), "expected img_shape (height, width)"),
    "frames out of order": (
        pose(
            "b",
            keypoint=np.ones((2, 5, 3), "f2"),
            keypoint_score=None,
            frame_inds=np.array([3, 1], "i2"),
        ),
        "out of order",
    ),
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_a_bad_skeleton_entry_is_a_reject_and_the_rest_is_packed(name: str, folder: Path) -> None:
    entry, message = BAD_ENTRIES[name]
    file = write_pickle(folder / "a.pkl", [pose("a"), entry, pose("c")])
    report = pack(SkeletonFile(file), folder / "set", split="train", seed=None)
    assert (report.entries, report.packed) == (3, 2)
    (row,) = report.rejects
    assert (row.origin, row.error) == ("a.pkl[1]", "AnnotationError")
    assert message in row.message
    check_accounting(folder / "set", "train", report)


def frames_with(number: int, data: bytes | None) -> Callable[[Path], None]:
    """Return what writes six frames, of which one is other than it should be, or missing."""

    def make(folder: Path) -> None:
        write_frames(folder / "bad", 6)
        file = folder / "bad" / f"img_{number:05}.jpg"
        if data is None:
            file.unlink()
        else:
            file.write_bytes(data)

    return make


def make_far_frame(folder: Path) -> None:
    frames_with(900_000, jpeg())(folder)


def make_number_zero(folder: Path) -> None:
    frames_with(0, jpeg())(folder)


def make_frame_folder(folder: Path) -> None:
    frames_with(3, None)(folder)
    (folder / "bad" / "img_00003.jpg").mkdir()


def make_frame_pipe(folder: Path) -> None:
    frames_with(3, None)(folder)
    os.mkfifo(folder / "bad" / "img_00003.jpg")


def make_other_names(folder: Path) -> None:
    write_frames(folder / "bad", 6, template="frame{:d}.jpg")


def bomb() -> bytes:
    """Return a JPEG whose header claims 60,000 x 60,000 pixels."""
    data = bytearray(jpeg())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def scrambled() -> bytes:
    """Return a JPEG of sound structure whose Huffman tables are nonsense."""
    data = bytearray(jpeg())
    place = data.index(b"\xff\xc4")
    data[place + 5 : place + 21] = b"\xfe" * 16
    return bytes(data)


BAD_FRAMES = {
    "no folder": Bad(lambda folder: None, "no such folder"),
    "empty folder": Bad(lambda folder: (folder / "bad").mkdir(), "img_00001.jpg: missing"),
    "a file for a folder": Bad(bad_file("bad", b"x"), "no such folder"),
    "other names": Bad(make_other_names, "img_00001.jpg: missing"),
    "first missing": Bad(frames_with(1, None), "img_00001.jpg: missing"),
    "gap": Bad(frames_with(4, None), "img_00004.jpg: missing"),
    "last missing": Bad(frames_with(6, None), "img_00006.jpg: missing, expected 6"),
    "one too many": Bad(frames_with(7, jpeg()), "img_00007.jpg: expected 6 frames"),
    "far away": Bad(make_far_frame, "img_00007.jpg: missing"),
    "before the first": Bad(make_number_zero, "img_00000.jpg: stands before"),
    "zero bytes": Bad(frames_with(3, b""), "img_00003.jpg"),
    "text": Bad(frames_with(3, b"This is no picture."), "img_00003.jpg: expected JPEG or PNG"),
    "cut short": Bad(frames_with(3, jpeg()[:-40]), "img_00003.jpg"),
    "start alone": Bad(frames_with(3, b"\xff\xd8\xff"), "img_00003.jpg"),
    "other size": Bad(frames_with(3, jpeg(size=(24, 18))), "img_00003.jpg: expected 24x16"),
    "png among them": Bad(frames_with(3, jpeg(kind="PNG")), "img_00003.jpg: expected JPEG"),
    "gif": Bad(frames_with(3, jpeg(kind="GIF")), "img_00003.jpg: expected JPEG or PNG"),
    "script": Bad(frames_with(3, b"#!/bin/sh\ntouch executed\n"), "img_00003.jpg"),
    "bomb": Bad(frames_with(1, bomb()), "img_00001.jpg"),
    "nonsense inside": Bad(frames_with(3, scrambled()), "img_00003.jpg: cannot be decoded"),
    "folder for a file": Bad(make_frame_folder, "img_00003.jpg"),
    "pipe": Bad(make_frame_pipe, "img_00003.jpg"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames_are_a_reject_and_the_rest_is_packed(name: str, folder: Path) -> None:
    bad = BAD_FRAMES[name]
    for good in ("a", "c"):
        write_frames(folder / good, 6)
    bad.make(folder)
    file = write_list(folder / "list.txt", ["a 6 0", "bad 6 1", "c 6 2"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = pack(
            RawframeList(file), folder / "set", split="train", media_root=folder, seed=None
        )
    row = check_one_bad(folder / "set", report, "bad", bad.message)
    assert (row.id, row.origin) == ("bad", "list.txt:2")
    assert nothing_ran(folder)


def test_flow_of_which_one_half_is_short_is_a_reject(folder: Path) -> None:
    for name in ("a", "bad", "c"):
        for axis in "xy":
            write_frames(folder / name, 4, template=f"flow_{axis}_{{:05d}}.jpg")
    (folder / "bad" / "flow_y_00004.jpg").unlink()
    file = write_list(folder / "list.txt", ["a 4 0", "bad 4 1", "c 4 2"])
    records = RawframeList(file, filename_tmpl="flow_{}_{:05d}.jpg")
    report = pack(records, folder / "set", split="train", media_root=folder, seed=None)
    check_one_bad(folder / "set", report, "bad", "flow_y_00004.jpg: missing")


def test_flow_of_two_sizes_is_a_reject(folder: Path) -> None:
    for name in ("a", "bad", "c"):
        for axis in "xy":
            write_frames(folder / name, 2, template=f"flow_{axis}_{{:05d}}.jpg")
    for number in (1, 2):
        (folder / "bad" / f"flow_y_{number:05d}.jpg").write_bytes(jpeg(size=(32, 16)))
    file = write_list(folder / "list.txt", ["a 2 0", "bad 2 1", "c 2 2"])
    records = RawframeList(file, filename_tmpl="flow_{}_{:05d}.jpg")
    report = pack(records, folder / "set", split="train", media_root=folder, seed=None)
    check_one_bad(folder / "set", report, "bad", "x and y differ in size or kind")


def test_pictures_and_flow_do_not_mix_in_a_split(folder: Path) -> None:
    stretch = FrameRange(total_frames=1, labels=(0,))
    records = [
        RawframesRecord(folder="a", ranges=(stretch,)),
        RawframesRecord(folder="b", ranges=(stretch,), filename_tmpl="flow_{}_{}.jpg"),
    ]
    with pytest.raises(ValueError, match="cannot stand in one split; pack two"):
        pack(records, folder / "set", split="train", media_root=folder)


def test_frames_that_are_not_decoded_when_packed_are_packed_as_they_are(folder: Path) -> None:
    write_frames(folder / "a", 3)
    (folder / "a" / "img_00002.jpg").write_bytes(scrambled())
    file = write_list(folder / "list.txt", ["a 3 0"])
    recipe = Recipe(frame_table="none")
    report = pack(
        RawframeList(file), folder / "set", split="train", media_root=folder, recipe=recipe
    )
    assert report.rejects == ()
    assert verify(folder / "set").damage == []


WRONG_USE: list[tuple[Any, type[Exception]]] = [
    (RawframesRecord(folder="a", ranges=((0, 10),)), TypeError),  # type: ignore[arg-type]
    (RawframesRecord(folder="a", ranges=None), TypeError),  # type: ignore[arg-type]
    (
        RawframesRecord(folder="a", ranges=(FrameRange(total_frames=1.0),)),  # type: ignore[arg-type]
        TypeError,
    ),
    (
        RawframesRecord(
            folder="a",
            ranges=(FrameRange(total_frames=1, labels=(0,), origin="x:1"),),  # type: ignore[arg-type]
        ),
        TypeError,
    ),
    (AudioRecord(path="a.npy", total_frames="9", labels=(0,)), TypeError),  # type: ignore[arg-type]
    (SkeletonRecord(id=b"a", total_frames=3, labels=(0,)), TypeError),  # type: ignore[arg-type]
    (
        SkeletonRecord(id="a", total_frames=3, path="a", labels=(0,), valid=None),  # type: ignore[arg-type]
        TypeError,
    ),
]


@pytest.mark.parametrize(("record", "error"), WRONG_USE)
def test_a_record_of_wrong_types_is_wrong_use(
    record: Any, error: type[Exception], folder: Path
) -> None:
    with pytest.raises(error, match=r"records\[0\]: "):
        pack([record], folder / "set", split="train", media_root=folder)
    assert not (folder / "set").exists()


def test_a_file_that_changes_after_the_plan_is_rejected_or_packed_whole(folder: Path) -> None:
    for name in ("a.npy", "b.npy", "c.npy"):
        (folder / name).write_bytes(npy(mel()))
    file = write_list(folder / "list.txt", [f"{name}.npy 9 0" for name in "abc"])

    def cut(_entries: int, _bytes: int) -> None:
        (folder / "c.npy").write_bytes(npy(mel())[:100])

    report = pack(
        AudioList(file), folder / "set", split="train", media_root=folder, seed=None, progress=cut
    )
    (row,) = report.rejects
    assert row.id == "c.npy"
    check_accounting(folder / "set", "train", report)


def test_tasks_of_several_splits_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(makers.short_video(frames=3))
    for task, make in MATERIALS.items():
        folder = tmp_path / task
        folder.mkdir()
        material = make(folder)
        pack(material.records(), tmp_path / "set", split=task, **material.options)
    pack([VideoRecord("v.mp4", (0,))], tmp_path / "set", split="video", media_root=tmp_path)
    report = verify(tmp_path / "set")
    assert report.damage == []
    assert set(report.splits) == {*MATERIALS, "video"}
    digests = [hashlib.sha256(f.read_bytes()).digest() for f in (tmp_path / "set").rglob("*.tar")]
    assert len(set(digests)) == len(digests)
