"""`clipshards bench`: what it prints of each kind of data set, and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from pack_inputs import moments, small_skeletons, write_videos
from PIL import Image

from clipshards.packer import (
    ActivityNetRecord,
    AudioRecord,
    FrameRange,
    RawframesRecord,
    SkeletonRecord,
    VideoRecord,
    pack,
)
from clipshards.packer.format.manifest import Accounting, Manifest
from clipshards.readers.measuring import ways

Run = Callable[..., tuple[int, str, str]]

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

QUICK = ("--seconds", 0.1, "--batch-size", 4)


def of_skeletons(folder: Path) -> tuple[Any, Path | None]:
    return small_skeletons(20), None


def of_sounds(folder: Path) -> tuple[Any, Path | None]:
    for number in range(6):
        np.save(folder / f"{number}.npy", np.full((9 + number, 8), number, np.float32))
    return [AudioRecord(path=f"{n}.npy", total_frames=9, labels=(n,)) for n in range(6)], folder


def of_folders(folder: Path) -> tuple[Any, Path | None]:
    records = []
    for clip in range(4):
        (folder / f"{clip}").mkdir()
        for number, picture in enumerate(makers.pictures(6, (32, 24), seed=clip)):
            Image.fromarray(picture).save(folder / f"{clip}" / f"{number}.png")
        ranges = (FrameRange(total_frames=6, labels=(clip,)),)
        records.append(
            RawframesRecord(folder=f"{clip}", ranges=ranges, filename_tmpl="{}.png", start_index=0)
        )
    return records, folder


def of_moments(folder: Path) -> tuple[Any, Path | None]:
    return replace(moments(write_videos(folder)), group="video"), folder


def of_segments(folder: Path) -> tuple[Any, Path | None]:
    records = []
    for number in range(6):
        np.save(folder / f"{number}.npy", np.full((3 + number, 5), number, np.float32))
        records.append(
            ActivityNetRecord(
                id=f"v{number}",
                segments=((0.5, 1.0),),
                segment_labels=("run",),
                duration_s=2.0,
                features=f"{number}.npy",
            )
        )
    return records, folder


KINDS = [of_skeletons, of_sounds, of_folders, of_moments, of_segments]


def packed_from(folder: Path, kind: Callable[[Path], tuple[Any, Path | None]]) -> Path:
    records, root = kind(folder)
    pack(records, folder / "set", split="train", media_root=root)
    return folder / "set"


def test_a_table_and_a_line_of_advice_are_printed(run: Run, packed: Path) -> None:
    code, out, err = run("bench", packed, "--split", "train", *QUICK)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"<split train of {packed}, 16 items, ")
    assert lines[0].endswith(", batches of 4")
    assert lines[1].split() == [
        *("items/s", "MB/s", "first", "batch", "s"),
        *("CPU", "s", "per", "1,000", "items"),
    ]
    names = ["bytes", *(f"{name}={count}" for way in ways() for name, count in way.items())]
    assert [line.split()[0] for line in lines[2 : 2 + len(names)]] == names
    for line in lines[2 : 2 + len(names)]:
        numbers = [float(word.replace(",", "")) for word in line.split()[1:]]
        assert len(numbers) == 4
        assert min(numbers) >= 0
        assert numbers[0] > 0
    assert lines[-1].startswith("the fastest is loader(")
    assert " is the limit: " in lines[-1]
    assert len(lines) == 3 + len(names)
    assert err.splitlines() == [f"measuring {name}, 0.1 s ..." for name in names]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_data_set_can_be_measured(
    run: Run, tmp_path: Path, kind: Callable[[Path], tuple[Any, Path | None]]
) -> None:
    place = packed_from(tmp_path, kind)
    code, out, _ = run("bench", place, *QUICK, "--clip", "uniform:3", "--json")
    assert code == 0
    found = json.loads(out, parse_constant=pytest.fail)
    assert found.keys() == {"rows", "stacked", "impossible", "advice"}
    assert found["stacked"] is True
    rows = found["rows"]
    assert [row["how"] for row in rows] == [
        "bytes",
        *(f"{name}={count}" for way in ways() for name, count in way.items()),
    ]
    for row in rows:
        assert row["items_per_s"] > 0
        assert row["batches"] >= 1
        assert row["items"] == 4 * row["batches"]
        assert row["first_s"] > 0
        assert row["cpu_s_per_1000_items"] > 0
        assert row["bytes_fetched"] >= row["bytes_used"] > 0
    best = max(rows[1:], key=lambda row: row["items_per_s"])
    assert found["advice"].startswith(f"the fastest is loader({best['how']}), ")
    limit = "decoding" if best["making_decode_s"] > best["making_storage_s"] else "storage"
    assert f"; {limit} is the limit: " in found["advice"]
    assert found["impossible"] == []


@pytest.mark.parametrize("clip", ["all", "uniform:2", "dense:3x2"])
def test_clips_can_be_chosen(run: Run, tmp_path: Path, clip: str) -> None:
    place = packed_from(tmp_path, of_folders)
    code, out, _ = run("bench", place, *QUICK, "--clip", clip)
    assert code == 0
    assert "the fastest is" in out


@pytest.mark.parametrize("wide", [(0, 1), (5,)], ids=["many", "one"])
def test_videos_of_unlike_sizes_are_measured_unstacked(
    run: Run, tmp_path: Path, wide: tuple[int, ...]
) -> None:
    """Of which the first batch may tell nothing."""
    for number in range(6):
        size = (80, 48) if number in wide else (64, 48)
        data = makers.video_bytes(size=size, frames=8, seed=number)
        (tmp_path / f"{number}.mp4").write_bytes(data)
    records = [VideoRecord(f"{number}.mp4", (0,)) for number in range(6)]
    pack(records, tmp_path / "set", split="train", media_root=tmp_path, seed=None)
    for seed in range(3):
        options = ("--seconds", 0.2, "--batch-size", 2, "--seed", seed)
        code, out, err = run("bench", tmp_path / "set", *options)
        assert code == 0, err
        assert "items differ in size and were not stacked: a transform= has to" in out
        assert out.splitlines()[-1].startswith("the fastest is loader(")


WRONG: list[tuple[tuple[object, ...], str]] = [
    (("--clip", "dense:0x1"), "--clip dense:0x1: expected uniform:N, dense:NxSTRIDE or all"),
    (("--clip", "dense:4"), "expected uniform:N"),
    (("--clip", "uniform:-1"), "expected uniform:N"),
    (("--clip", "uniform:8 "), "expected uniform:N"),
    (("--clip", ""), "expected uniform:N"),
    (("--batch-size", 0), "not in the range"),
    (("--seconds", 0), "not in the range"),
    (("--seconds", "nan"), "--seconds"),
    (("--seconds", "inf"), "--seconds"),
    (("--seed", -1), "not in the range"),
    (("--split", "test"), "there is no split 'test'"),
    ((), "has the splits train, val: name one of them"),
]


@pytest.mark.parametrize(("options", "says"), WRONG, ids=str)
def test_wrong_use_is_said(
    run: Run,
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    says: str,
) -> None:
    # One that would be measured for ever ends here.
    monkeypatch.setattr("clipshards.readers.measuring.ways", lambda: pytest.fail("measured"))
    monkeypatch.setattr("clipshards.readers.measuring._bytes", lambda *_: pytest.fail("measured"))
    split = () if "--split" in options or not options else ("--split", "train")
    code, out, err = run("bench", packed, *split, *options)
    assert (code, out) == (2, "")
    assert says in err


def test_a_place_without_a_data_set_is_said(run: Run, tmp_path: Path) -> None:
    code, out, err = run("bench", tmp_path)
    assert (code, out) == (2, "")
    assert "no data set here" in err


def test_an_empty_split_is_said(run: Run, packed: Path, tmp_path: Path) -> None:
    manifest = Manifest.decode((packed / "val" / "manifest.json").read_bytes(), where="manifest")
    entries = manifest.accounting.entries
    empty = replace(
        manifest, shards=(), accounting=Accounting(entries, 0, 0, {"--some-option": entries})
    )
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "manifest.json").write_bytes(empty.encode())
    code, out, err = run("bench", tmp_path)
    assert (code, out) == (2, "")
    assert "has no items" in err


def test_damage_is_said(run: Run, damaged: Path) -> None:
    code, out, err = run("bench", damaged, "--split", "train", "--seconds", 0.5)
    assert (code, out) == (1, "")
    assert "error: " in err
    assert "train-000001.tar" in err


def test_the_help_says_what_is_measured(run: Run) -> None:
    code, out, _ = run("bench", "--help")
    assert code == 0
    for word in ("LOCATION", "--split", "--batch-size", "--clip", "--seconds", "--seed", "--json"):
        assert word in out


def test_a_way_without_room_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    # Threads hand nothing over; processes need room for whole batches.
    script = """
import sys
from clipshards.readers.measuring import measure
from clipshards.readers.opening import open_dataset
if __name__ == "__main__":
    found = measure(
        open_dataset(sys.argv[1], split="wide"),
        batch_size=64, clip=None, seed=0, seconds=0.1, told=lambda how: None,
    )
    print(len(found.rows), *found.impossible)
"""
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("no mounts of its own")
    wide = SkeletonRecord(
        id="wide", total_frames=1, keypoint=np.zeros((1, 1, 50_000, 2), np.float32), labels=(0,)
    )
    pack([replace(wide, id=f"{n}") for n in range(64)], tmp_path, split="wide")
    mounted = "mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            mounted + '"$@"',
            "sh",
            sys.executable,
            "-c",
            script,
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows, words = done.stdout.split(maxsplit=1)
    assert int(rows) == len(ways())
    assert "--shm-size" in words
