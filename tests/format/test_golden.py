"""The golden files are what the code writes, and the code reads them.

The reader below follows docs/format.md section by section and shares no code with a writer.
"""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.make_golden import make_golden

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.frame_table import check_frame_table
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    RawframesJson,
    SkeletonJson,
    VideoJson,
)
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.names import VERSION, member_name
from clipshards.packer.format.rejects import decode_rejects, encode_rejects
from clipshards.packer.format.tar import BLOCK, decode_header, padding
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VIDEO_SUFFIXES

GOLDEN = Path(__file__).parents[1] / "golden"
SPLITS = sorted(path.parent for path in GOLDEN.glob(f"v{VERSION}/*/*/manifest.json"))

splits = pytest.mark.parametrize("folder", SPLITS, ids=lambda path: f"{path.parent.name}")

# Folder -> task, items of each sample in the order of the shards.
CONTENTS = {
    "activitynet/untrimmed": ("activitynet", [1]),
    "audio/sounds": ("audio", [1, 1]),
    "ava/moments": ("ava", [2, 1]),
    "demuxed/0": ("video", [1]),
    "encoded/encoded": ("video", [1]),
    "flac/flac": ("audio", [1]),
    "flow/flow": ("rawframes", [1]),
    "joints/joints": ("skeleton", [1]),
    "kept/kept": ("audio", [1, 1, 1]),
    "many/many_1": ("video", [1, 1, 1, 1]),
    "mixed/val": ("video", [1, 1, 1]),
    "pictures/pictures": ("ava", [1]),
    "rawframes/frames": ("rawframes", [2]),
    "skeleton/poses": ("skeleton", [1, 1]),
    "unopened/test_2": ("video", [1]),
    "watched/watched": ("activitynet", [1]),
    "wav/wav": ("audio", [1]),
}
# Video part -> its frame table.
TABLE_OF = {
    **dict.fromkeys(VIDEO_SUFFIXES, "frames.npy"),
    "flow_x.mp4": "flow_x.frames.npy",
    "flow_y.mp4": "flow_y.frames.npy",
}


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def members(shard: bytes) -> list[tuple[str, int, bytes]]:
    """Return (name, offset of the payload, payload) of a shard, and check what is around them."""
    found = []
    place = 0
    while (header := decode_header(shard[place : place + BLOCK], where=str(place))) is not None:
        name, size = header
        start = place + BLOCK
        place = start + size + padding(size)
        found.append((name, start, shard[start : start + size]))
        assert shard[start + size : place] == bytes(padding(size))
    assert shard[place:] == bytes(1024)
    return found


def read_index(shard: bytes, entry: ShardEntry) -> ShardIndex:
    data = shard[entry.index_offset : entry.index_offset + entry.index_bytes]
    assert crc32c(data) == entry.index_crc32c
    return ShardIndex.decode(data, where=entry.name)


def test_the_script_makes_the_files_that_stand_here(tmp_path: Path) -> None:
    make_golden(tmp_path)
    made = files_below(tmp_path / f"v{VERSION}")
    kept = files_below(GOLDEN / f"v{VERSION}")
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == []


def test_there_are_golden_files_and_they_are_small() -> None:
    assert [f"{path.parent.name}/{path.name}" for path in SPLITS] == sorted(CONTENTS)
    files = [path for path in GOLDEN.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 400_000


def test_there_is_a_golden_split_of_every_task() -> None:
    manifests = [
        Manifest.decode((folder / "manifest.json").read_bytes(), where="x") for folder in SPLITS
    ]
    assert {manifest.task for manifest in manifests} == set(TASKS)


@pytest.mark.parametrize("name", CONTENTS)
def test_the_golden_splits_hold_what_they_are_for(name: str) -> None:
    folder = GOLDEN / f"v{VERSION}" / name
    manifest = Manifest.decode((folder / "manifest.json").read_bytes(), where="x")
    indexes = [read_index((folder / e.name).read_bytes(), e) for e in manifest.shards]
    items = [count for index in indexes for count in index.items]
    assert (manifest.task, items) == CONTENTS[name]


@splits
def test_the_manifest_knows_its_files(folder: Path) -> None:
    data = (folder / "manifest.json").read_bytes()
    manifest = Manifest.decode(data, where="manifest.json")
    assert manifest.encode() == data
    assert manifest.split == folder.name
    body = json.loads(data)
    digest = body.pop("content_digest")
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert digest == hashlib.sha256(text.encode()).hexdigest()
    names = {entry.name for entry in manifest.shards}
    assert names == {path.name for path in folder.glob("*.tar")}
    for entry in manifest.shards:
        shard = (folder / entry.name).read_bytes()
        assert len(shard) == entry.bytes
        assert hashlib.sha256(shard).hexdigest() == entry.sha256
        assert crc32c(shard) == entry.crc32c


@splits
def test_the_rejects_are_those_that_the_manifest_counts(folder: Path) -> None:
    manifest = Manifest.decode((folder / "manifest.json").read_bytes(), where="x")
    data = (folder / "rejects.jsonl").read_bytes()
    assert hashlib.sha256(data).hexdigest() == manifest.rejects_sha256
    rows = decode_rejects(data, where="rejects.jsonl")
    assert encode_rejects(rows) == data
    assert sum(row.entries for row in rows) == manifest.accounting.rejected
    assert [row.ordinal for row in rows] == sorted({row.ordinal for row in rows})


@splits
def test_every_member_stands_where_the_index_says(folder: Path) -> None:
    manifest = Manifest.decode((folder / "manifest.json").read_bytes(), where="x")
    for number, entry in enumerate(manifest.shards):
        shard = (folder / entry.name).read_bytes()
        index = read_index(shard, entry)
        assert (index.task, index.split) == (manifest.task, folder.name)
        assert index.number == number
        assert (index.plan_digest, index.recipe) == (manifest.plan_digest, manifest.recipe)
        assert (len(index.keys), sum(index.items)) == (entry.samples, entry.items)
        assert sum(index.entries) == entry.entries
        promised = [
            (member_name(key, part), columns.offset[row], columns.size[row], columns.crc32c[row])
            for row, key in enumerate(index.keys)
            for part, columns in index.parts.items()
            if columns.offset[row] >= 0
        ]
        *parts, last = members(shard)
        assert [(name, at, len(data), crc32c(data)) for name, at, data in parts] == promised
        assert last[:2] == ("__index__", entry.index_offset)


@splits
def test_every_part_is_read_and_written_back(folder: Path) -> None:
    manifest = Manifest.decode((folder / "manifest.json").read_bytes(), where="x")
    for entry in manifest.shards:
        shard = (folder / entry.name).read_bytes()
        index = read_index(shard, entry)
        for row, key in enumerate(index.keys):
            values: dict[str, Any] = {}
            for name, columns in index.parts.items():
                if columns.offset[row] < 0:
                    continue
                data = shard[columns.offset[row] :][: columns.size[row]]
                values[name] = TASKS[manifest.task].decode(name, data, where=f"{key}.{name}")
                assert TASKS[manifest.task].encode(name, values[name]) == data
            about = values["json"]
            assert (about.id, about.origin) == (index.ids[row], index.origins[row])
            assert about.items == index.items[row]
            summary = about.summary()
            assert {name: column[row] for name, column in index.summary.items()} == summary
            check_summary(about, summary)
            check_videos(key, values)


def check_summary(about: Any, summary: dict[str, Any]) -> None:
    """The summary columns are those of docs/format.md, with the values of the `json`."""
    expected: dict[str, Any] = {}
    if isinstance(about, VideoJson | RawframesJson | AvaJson):
        expected = {name: getattr(about.video, name) for name in ("frames", "width", "height")}
    if isinstance(about, VideoJson):
        expected |= {"labels": list(about.labels), "duration_s": about.video.duration_s}
    elif isinstance(about, RawframesJson):
        expected["labels"] = [list(stretch.labels) for stretch in about.stretches]
    elif isinstance(about, AvaJson):
        expected["timestamps"] = [moment.timestamp for moment in about.key_frames]
        expected["persons"] = [moment.persons for moment in about.key_frames]
    elif isinstance(about, ActivityNetJson):
        expected["labels"] = list(about.segment_labels)
        expected |= {"duration_s": about.duration_s, "frames": about.duration_frames}
    else:
        assert isinstance(about, AudioJson | SkeletonJson)
        expected = {"labels": list(about.labels), "frames": about.total_frames}
        if isinstance(about, SkeletonJson):
            expected["height"], expected["width"] = about.image_shape
    assert summary == expected


def check_videos(key: str, values: dict[str, Any]) -> None:
    for media, table_part in TABLE_OF.items():
        if media not in values:
            continue
        info = values["json"].video
        assert (info.frame_table != "none") == (info.frames >= 0)
        table = check_frame_table(values[table_part], part_bytes=len(values[media]), where=key)
        if len(table):
            assert np.count_nonzero(table[:, 3] >= 0) == info.frames
        else:
            assert bool(info.no_table_because) == (info.frame_table == "decode")


@splits
def test_python_reads_the_shards(folder: Path) -> None:
    for path in folder.glob("*.tar"):
        with tarfile.open(path, mode="r:") as tar:
            assert [(info.name, info.offset_data) for info in tar] == [
                (name, at) for name, at, _ in members(path.read_bytes())
            ]


def test_arrays_of_golden_samples_come_back_exactly() -> None:
    keypoint = read_values("skeleton/poses", 0)["keypoint.npy"]
    assert (keypoint.dtype, keypoint.shape) == (np.float16, (2, 3, 5, 2))
    assert keypoint.ravel().tolist() == [number / 4 for number in range(60)]
    compressed = read_values("skeleton/poses", 1)
    assert compressed["keypoint.npy"].dtype == np.float64
    assert compressed["frame_inds.npy"].tolist() == [0, 0, 4]
    assert compressed["frame_inds.npy"].dtype == np.int16
    assert compressed["keypoint_score.npy"].shape == (0,)
    mel = read_values("audio/sounds", 0)["mel.npy"]
    assert (mel.dtype, mel.shape) == (np.float32, (6, 80))


def test_pictures_of_golden_samples_are_cut_out_by_the_table() -> None:
    values = read_values("rawframes/frames", 0)
    files = [values["mp4"][row[0] : row[0] + row[1]] for row in values["frames.npy"].tolist()]
    assert len(files) == 4
    assert all(file[:2] == b"\xff\xd8" and file[-2:] == b"\xff\xd9" for file in files)
    assert values["mp4"].endswith(b"".join(files))
    assert [stretch.offset for stretch in values["json"].stretches] == [0, 1]


def read_values(name: str, row: int) -> dict[str, Any]:
    """Return the decoded parts of a sample of a split's first shard."""
    folder = GOLDEN / f"v{VERSION}" / name
    manifest = Manifest.decode((folder / "manifest.json").read_bytes(), where="x")
    shard = (folder / manifest.shards[0].name).read_bytes()
    index = read_index(shard, manifest.shards[0])
    parts = {
        part: shard[columns.offset[row] :][: columns.size[row]]
        for part, columns in index.parts.items()
        if columns.offset[row] >= 0
    }
    return TASKS[manifest.task].decode_all(parts, where=name)
