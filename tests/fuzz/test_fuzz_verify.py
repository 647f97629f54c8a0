"""Whole data sets with altered bytes: a check finds them, a reader never gives another value."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_inputs import JSON_TOKENS, altered, arrays, fuzzed, mutated, read
from fuzz_shards import (
    Golden,
    golden_splits,
    members_of,
    sealed_manifest,
    sealed_shard,
    with_digest,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.errors import DatasetError
from clipshards.packer.format.names import INDEX_MEMBER, MANIFEST_NAME, REJECTS_NAME
from clipshards.packer.format.tar import BLOCK, END, encode_header
from clipshards.readers import Span, open_dataset, verify
from clipshards.readers.findings import Level
from clipshards.readers.items import DECODERS

by_split = pytest.mark.parametrize("golden", golden_splits(), ids=lambda golden: golden.name)
TOKENS = [
    *(encode_header("val-00000000.json", 8**11 - 1), encode_header(INDEX_MEMBER, 10), END),
    *(bytes(BLOCK), END * 3, b"\0"),
]


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder that each example writes its split into."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def whole(location: Path, golden: Golden, level: Level, size: int) -> bool:
    """Return whether a check of the split finds no damage; it never fails."""
    # An error of ours would be one too many.
    report = read(lambda: verify(location, split=golden.name, level=level), size, errors=())
    for finding in report.findings:
        assert finding.message
        str(finding).encode()
    json.dumps(report.to_json())
    return bool(report.whole)


@by_split
@fuzzed(6)
@given(data=st.data())
def test_altered_bytes_are_found(golden: Golden, location: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(golden.files)))
    sound = golden.files[name]
    tokens = TOKENS if name.endswith(".tar") else JSON_TOKENS
    others = [other for file, other in golden.files.items() if file.endswith(".tar")]
    new = data.draw(mutated([sound, *others] if name.endswith(".tar") else [sound], tokens))
    golden.write(location, {name: new})
    size = len(new) + sum(map(len, golden.files.values()))
    assert whole(location, golden, "full", size) == (new == sound)
    assert whole(location, golden, "quick", size) or new != sound


def first_three(span: Span) -> Any:
    return np.arange(min(span.total_frames, 3), dtype=np.int64)


def read_all(location: Path, golden: Golden) -> None:
    """Read and decode every item, as training does."""
    split = open_dataset(location, split=golden.name)
    for item in range(min(len(split), 10)):
        place = split.place_of(item)
        raw = split.read_sample(place.shard, place.sample)
        DECODERS[golden.task](raw, place.item, first_three)


def hostile_part(draw: st.DataObject, part: str, sound: bytes) -> bytes:
    if part == "json":
        return encode_json(draw.draw(altered([json.loads(sound)])))
    if part.endswith(".npy"):
        return draw.draw(arrays([sound]) | mutated([sound]))
    return draw.draw(mutated([sound]))


@by_split
@fuzzed(8)
@given(data=st.data())
def test_what_a_hostile_writer_seals_is_found_or_sound(
    golden: Golden, location: Path, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(golden.shards) - 1))
    shard = golden.shards[number]
    members = members_of(golden.files[shard])
    index = json.loads(members.pop(INDEX_MEMBER))
    parts = {}
    # One shard of `val` has no sample.
    choices = ["parts", "parts", "index", "manifest"] if members else ["index", "manifest"]
    what = data.draw(st.sampled_from(choices))
    if what == "parts":
        for _ in range(data.draw(st.integers(1, 2))):
            name = data.draw(st.sampled_from(sorted(members)))
            parts[name] = hostile_part(data, name.partition(".")[2], members[name])
    elif what == "index":
        index = data.draw(altered([index]))
        assume(isinstance(index, dict))
    sealed = sealed_shard(golden, number, parts, index)
    manifest: Any = sealed_manifest(golden, {shard: sealed})
    if what != "parts" and data.draw(st.booleans()):
        manifest = data.draw(altered([manifest]))
    new = {shard: sealed, MANIFEST_NAME: with_digest(manifest)}
    golden.write(location, new)
    size = sum(map(len, {**golden.files, **new}.values()))
    sound = [whole(location, golden, level, size) for level in ("quick", "full", "deep")]
    # Golden videos may be made-up bytes, of which nothing more can be said.
    promised = sound[1] and golden.task in ("skeleton", "audio")
    read(lambda: read_all(location, golden), size, errors=() if promised else DatasetError)


@by_split
@fuzzed(2)
@given(data=st.data())
def test_rejects_of_any_kind_are_found_or_sound(
    golden: Golden, location: Path, data: st.DataObject
) -> None:
    row = {
        **{"ordinal": 1, "entries": 1, "key": "k", "id": "", "origin": "a:1"},
        **{"error": "MediaError", "message": "gone"},
    }
    rejects = encode_json(data.draw(altered([row]))) + b"\n"
    golden.write(location, {REJECTS_NAME: rejects})
    size = len(rejects) + sum(map(len, golden.files.values()))
    assert not whole(location, golden, "full", size)
