"""Files and states of unfinished work: receipts, notes, journals of checks, positions of runs."""

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_inputs import JSON_TOKENS, altered, fuzzed, mutated, nested, numbers, read, values
from fuzz_shards import golden_splits
from hypothesis import given
from hypothesis import strategies as st

from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import FormatError, StateError, UnsupportedVersionError
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import MANIFEST_NAME
from clipshards.packer.format.rejects import RejectRow
from clipshards.packer.notes import Notes, load_notes, store_notes
from clipshards.packer.plan import Plan
from clipshards.packer.receipts import Receipt, find_receipts, store_receipt, warnings_of
from clipshards.packer.storage import open_storage
from clipshards.readers import verify
from clipshards.readers.checkpoint import make_state, read_state
from clipshards.readers.verify_journal import VerifyJournal

AUDIO = next(golden for golden in golden_splits() if golden.name == "sounds")
MANIFEST = Manifest.decode(AUDIO.files[MANIFEST_NAME], where="golden")
SHARD = MANIFEST.shards[0].name
REJECT = RejectRow(3, 1, "a-00000003", "", "a.txt:4", "AnnotationError", "expected 'path label'")
RECEIPT = Receipt(MANIFEST.plan_digest, MANIFEST.shards[0], (REJECT,), (("a.txt:1", "no sound"),))
PLAN = Plan({"split": "sounds", "task": "audio"}, 3, ((0, 1),))


def written(folder: Path, store: Any) -> tuple[Path, bytes]:
    """Return the one file that `store` writes, and its bytes."""
    before = set(folder.rglob("*"))
    store()
    (path,) = [path for path in set(folder.rglob("*")) - before if path.is_file()]
    return path, path.read_bytes()


def hostile(sound: bytes) -> st.SearchStrategy[bytes]:
    return mutated([sound], JSON_TOKENS) | altered([json.loads(sound)]).map(encode_json)


@fuzzed(30)
@given(st.data())
def test_a_receipt_is_read_or_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        AUDIO.write(Path(folder))
        storage = open_storage(folder)
        path, sound = written(Path(folder), lambda: store_receipt(storage, "sounds", RECEIPT))
        text = data.draw(hostile(sound))
        path.write_bytes(text)

        def find() -> dict[str, Receipt]:
            return find_receipts(storage, "sounds", [SHARD], MANIFEST.plan_digest)

        found = read(find, len(text), errors=FormatError)
        if found:
            warnings_of(found.values())
            # A shard is not made again if it has a receipt, so this one must be of it.
            entry = found[SHARD].entry
            assert (entry.name, entry.bytes) == (SHARD, len(AUDIO.files[SHARD]))


def test_a_receipt_of_another_shard_is_none_of_this_one(tmp_path: Path) -> None:
    AUDIO.write(tmp_path)
    storage = open_storage(tmp_path)
    path, _ = written(tmp_path, lambda: store_receipt(storage, "sounds", RECEIPT))
    other = replace(RECEIPT, entry=replace(RECEIPT.entry, name=SHARD.replace("0", "1")))
    other_path, data = written(tmp_path, lambda: store_receipt(storage, "sounds", other))
    assert other_path != path
    path.write_bytes(data)
    assert find_receipts(storage, "sounds", [SHARD], MANIFEST.plan_digest) == {}


@fuzzed(25)
@given(st.data())
def test_notes_are_read_or_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(folder)
        notes = Notes((REJECT,), {"exclude": 1}, 17, ("a warning",))
        path, sound = written(Path(folder), lambda: store_notes(storage, PLAN, notes))
        text = data.draw(hostile(sound))
        path.write_bytes(text)
        read(lambda: load_notes(storage, PLAN), len(text), errors=FormatError)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Return a data set, and the journal of a check that found it whole."""
    folder = tmp_path_factory.mktemp("checked")
    AUDIO.write(folder / "location")
    assert verify(folder / "location", journal=folder / "journal").whole
    return folder, (folder / "journal").read_bytes()


def with_checksum(line: Any) -> bytes:
    if isinstance(line, dict) and "crc32c" in line:
        body = {key: value for key, value in line.items() if key != "crc32c"}
        line = body | {"crc32c": crc32c(encode_json(body))}
    return encode_json(line) + b"\n"


@fuzzed(35)
@given(st.data())
def test_a_journal_is_gone_on_with_or_refused(
    journal: tuple[Path, bytes], data: st.DataObject
) -> None:
    folder, sound = journal
    lines = sound.splitlines(keepends=True)
    lies = data.draw(st.booleans())
    if lies:
        line = with_checksum(data.draw(altered([json.loads(one) for one in lines])))
        place = data.draw(st.integers(0, len(lines)))
        text = b"".join([*lines[:place], line, *lines[place + 1 :]])
    else:
        text = data.draw(mutated([sound], JSON_TOKENS))
    path = folder / "hostile"
    path.write_bytes(text)

    def check() -> bool:
        return verify(folder / "location", journal=path).whole

    whole = read(check, len(text) + 10_000, errors=StateError)
    assert lies or whole in (True, None)
    if whole is None:
        assert path.read_bytes() == text, "a file that is not a journal was changed"


@pytest.mark.parametrize("text", [b"x", b"\x89PNG\r", b'{"format":"clipshards-verify"}', b"[1]"])
def test_a_file_of_one_line_without_an_end_is_no_journal(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "mine"
    path.write_bytes(text)
    with pytest.raises(StateError, match="give another journal"):
        VerifyJournal(path, "full")
    assert path.read_bytes() == text


def test_any_altered_byte_of_a_journal_is_found(journal: tuple[Path, bytes]) -> None:
    folder, sound = journal
    path = folder / "altered"
    # A line without its end was cut off by a crash, and is taken away.
    for place in range(len(sound) - 1):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(StateError, match="give another journal"):
            VerifyJournal(path, "full")


def test_a_journal_with_more_marks_than_samples_is_refused(journal: tuple[Path, bytes]) -> None:
    folder, sound = journal
    head, line = sound.splitlines()[:2]
    value = json.loads(line)
    for changed in ({"keys": value["keys"] * 2}, {"samples": 10**12}, {"contents": ""}):
        (folder / "lying").write_bytes(head + b"\n" + with_checksum(value | changed))
        with pytest.raises(StateError, match="give another journal"):
            VerifyJournal(folder / "lying", "full")


IDENTITY = {"content_digest": "0" * 64, "seed": 0, "concat": [{"a": 1}], "shuffle": True}
STATE = make_state(IDENTITY, 3, 17, workers=2)
# Other programs' checkpoints hold values that are no JSON.
OBJECTS: list[Any] = [
    *(np.arange(3), np.float32(1), np.array(["a"]), {1: 2, "a": 3}, {None: 1, (1, 2): 3}),
    *(10**5000, -(10**5000), nested(3000), float("nan"), b"bytes", "\ud800", object()),
]


@fuzzed(120)
@given(
    altered([STATE, asdict(RECEIPT)])
    | values
    | st.builds(
        lambda key, value: {**STATE, key: value},
        st.sampled_from([*STATE, 1, None]),
        st.sampled_from(OBJECTS)
        | numbers
        | st.builds(lambda o: {"seed": o, 1: 2}, st.sampled_from(OBJECTS)),
    )
    | st.sampled_from(OBJECTS)
)
def test_a_state_is_gone_on_from_or_refused(state: Any) -> None:
    found = read(
        lambda: read_state(state, IDENTITY), 1000, errors=(StateError, UnsupportedVersionError)
    )
    if found is not None:
        assert state == make_state(IDENTITY, *found[:2], workers=found.workers)


@pytest.mark.parametrize("place", [*STATE, "seed"])
def test_a_state_with_values_that_are_no_json_is_refused(place: str) -> None:
    for value in OBJECTS:
        state = {**STATE, "identity": IDENTITY | {place: value, 1: 2}}
        if place in STATE:
            state = {**STATE, place: value}
        with pytest.raises((StateError, UnsupportedVersionError)):
            read_state(state, IDENTITY)
