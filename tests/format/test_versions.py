"""Drafts and later versions are refused wherever a data set is opened, both numbers named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipshards.packer import copy, finish_split, repair
from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.errors import PlanError, UnsupportedVersionError
from clipshards.packer.format.names import BUILD_FOLDER, VERSION
from clipshards.packer.plan import Plan
from clipshards.readers import ShardDataset, compare, open_dataset, verify
from clipshards.readers.webdataset import samples

GOLDEN = Path(__file__).parents[1] / "golden"
WHOLE = GOLDEN / f"v{VERSION}" / "unopened"
SPLIT = "test_2"

OTHERS = [0, VERSION + 1]
others = pytest.mark.parametrize("version", OTHERS)


def said(version: int) -> str:
    """Return what every error must say."""
    return f"format version {version}, this release reads {VERSION};"


def sealed(value: dict[str, Any]) -> bytes:
    """Return a manifest whose digest is right."""
    body = {key: inner for key, inner in value.items() if key != "content_digest"}
    return encode_json(body | {"content_digest": sha256_hex(encode_json(body))}) + b"\n"


def manifest_at(location: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((location / SPLIT / "manifest.json").read_bytes())
    return value


def of_version(version: int, place: Path, *, manifest: bool = True, index: bool = True) -> Path:
    """Return a copy of a golden split of another version, all its checksums right."""
    shutil.copytree(WHOLE, place)
    value = manifest_at(place)
    if index:
        shards = value["shards"]
        path = place / SPLIT / shards["name"][0]
        start, size = shards["index_offset"][0], shards["index_bytes"][0]
        data = path.read_bytes()
        payload = data[start : start + size]
        assert payload.count(b'"version":1}') == 1
        payload = payload.replace(b'"version":1}', b'"version":%d}' % version)
        data = data[:start] + payload + data[start + size :]
        path.write_bytes(data)
        shards["index_crc32c"][0] = crc32c(payload)
        shards["sha256"][0], shards["crc32c"][0] = sha256_hex(data), crc32c(data)
    if manifest:
        value["version"] = version
    (place / SPLIT / "manifest.json").write_bytes(sealed(value))
    return place


OPENINGS: dict[str, Callable[[Path], Any]] = {
    "open_dataset": open_dataset,
    "check": lambda place: open_dataset(place, check="quick"),
    "samples": samples,
    "compare": lambda place: compare(place, WHOLE),
    "compared with": lambda place: compare(WHOLE, place),
    "copy": lambda place: copy(place, place.parent / "target"),
    "copy onto": lambda place: copy(WHOLE, place),
    "repair from": lambda place: repair(shutil.copytree(WHOLE, place.parent / "mine"), place),
    "finish": lambda place: finish_split(place, split=SPLIT),
}


@pytest.mark.parametrize("way", OPENINGS)
@others
def test_a_manifest_of_another_version_is_refused(way: str, version: int, tmp_path: Path) -> None:
    place = of_version(version, tmp_path / "set")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.raises(UnsupportedVersionError, match=said(version)) as caught:
        OPENINGS[way](place)
    assert "manifest.json: " in str(caught.value)
    assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert not (tmp_path / "target").exists()


@others
@pytest.mark.parametrize("level", ["quick", "full", "deep"])
def test_verify_finds_a_manifest_of_another_version(
    version: int, level: Any, tmp_path: Path
) -> None:
    report = verify(of_version(version, tmp_path / "set"), level=level)
    (finding,) = report.findings
    assert said(version) in finding.what
    assert (finding.split, finding.shard) == (SPLIT, "manifest.json")


def read_one(place: Path) -> None:
    next(iter(samples(place)))


def decode_one(place: Path) -> None:
    next(iter(ShardDataset(open_dataset(place), batch_size=1)))


READINGS: dict[str, Callable[[Path], Any]] = {
    "index": lambda place: open_dataset(place).read_index(0),
    "sample": lambda place: open_dataset(place).read_sample(0, 0),
    "items": decode_one,
    "raw": read_one,
    "compare": lambda place: compare(place, WHOLE),
}


@pytest.mark.parametrize("way", READINGS)
@others
def test_an_index_of_another_version_is_refused(way: str, version: int, tmp_path: Path) -> None:
    place = of_version(version, tmp_path / "set", manifest=False)
    with pytest.raises(UnsupportedVersionError, match=said(version)) as caught:
        READINGS[way](place)
    assert f"{SPLIT}-000000.tar: index: " in str(caught.value)


@others
def test_verify_finds_an_index_of_another_version(version: int, tmp_path: Path) -> None:
    report = verify(of_version(version, tmp_path / "set", manifest=False))
    (finding,) = report.findings
    assert said(version) in finding.what
    assert (finding.split, finding.shard) == (SPLIT, f"{SPLIT}-000000.tar")


@others
def test_a_manifest_alone_of_another_version_is_refused(version: int, tmp_path: Path) -> None:
    place = of_version(version, tmp_path / "set", index=False)
    with pytest.raises(UnsupportedVersionError, match=said(version)):
        open_dataset(place)


@others
def test_a_split_of_another_version_is_not_repaired_over(version: int, tmp_path: Path) -> None:
    place = of_version(version, tmp_path / "set")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    # No intact index proves that the shards are those of the copy.
    with pytest.raises((UnsupportedVersionError, PlanError)):
        repair(place, WHOLE)
    assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_flipped_bit_in_the_version_is_repaired(tmp_path: Path) -> None:
    place = shutil.copytree(WHOLE, tmp_path / "set")
    path = place / SPLIT / "manifest.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"version":1', b'"version":3'))
    with pytest.raises(UnsupportedVersionError, match=said(3)):
        open_dataset(place)
    repair(place, WHOLE)
    assert path.read_bytes() == whole


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / SPLIT / BUILD_FOLDER
    folder.mkdir(parents=True)
    (folder / "plan.json").write_bytes(encode_json({"format": "clipshards-plan", "version": 0}))
    with pytest.raises(UnsupportedVersionError, match=said(0)):
        Plan.decode((folder / "plan.json").read_bytes(), where="plan.json")
    with pytest.raises(UnsupportedVersionError, match=said(0)):
        finish_split(tmp_path, split=SPLIT)


def test_the_manifest_of_a_draft_that_was_really_written_is_refused() -> None:
    for split in (SPLIT, None):
        with pytest.raises(UnsupportedVersionError, match=said(0)):
            open_dataset(GOLDEN / "draft", split=split)
    (finding,) = verify(GOLDEN / "draft").findings
    assert said(0) in finding.what
