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
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.names import VERSION, member_name
from clipshards.packer.format.rejects import decode_rejects, encode_rejects
from clipshards.packer.format.tar import BLOCK, decode_header, padding
from clipshards.packer.format.tasks import TASKS

GOLDEN = Path(__file__).parents[1] / "golden"
SPLITS = sorted(path.parent for path in GOLDEN.glob(f"v{VERSION}/*/*/manifest.json"))

splits = pytest.mark.parametrize("folder", SPLITS, ids=lambda path: f"{path.parent.name}")


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
    assert [path.name for path in SPLITS] == ["val", "test_2"]
    assert sum(map(len, files_below(GOLDEN / f"v{VERSION}").values())) < 30_000


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
        assert (index.task, index.split, index.number) == ("video", folder.name, number)
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
            (media,) = set(values) & set(TASKS["video"].media)
            about = values["json"]
            assert (about.id, about.origin) == (index.ids[row], index.origins[row])
            assert index.summary["labels"][row] == list(about.labels)
            for column in ("frames", "duration_s", "width", "height"):
                assert index.summary[column][row] == getattr(about.video, column)
            assert (about.video.frame_table == "decode") == (about.video.frames >= 0)
            table = check_frame_table(
                values["frames.npy"], part_bytes=len(values[media]), where=key
            )
            if len(table):
                assert np.count_nonzero(table[:, 3] >= 0) == about.video.frames
            else:
                assert bool(about.video.no_table_because) == (about.video.frame_table == "decode")


@splits
def test_python_reads_the_shards(folder: Path) -> None:
    for path in folder.glob("*.tar"):
        with tarfile.open(path, mode="r:") as tar:
            assert [(info.name, info.offset_data) for info in tar] == [
                (name, at) for name, at, _ in members(path.read_bytes())
            ]
