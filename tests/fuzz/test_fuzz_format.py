"""Headers, JSON documents and arrays of the format, whatever their bytes claim."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from fuzz_inputs import JSON_TOKENS, LARGE, altered, arrays, fuzzed, mutated, nested, read, values
from fuzz_shards import golden_parts, golden_splits, with_digest
from hypothesis import example, given
from hypothesis import strategies as st

from clipshards.packer.format.canonical import Schema, check_schema, decode_json, encode_json
from clipshards.packer.format.errors import CorruptShardError, FormatError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_parts import AudioJson, SkeletonJson
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import MANIFEST_NAME, REJECTS_NAME
from clipshards.packer.format.npy import decode_npy, encode_npy
from clipshards.packer.format.ranges import range_faults
from clipshards.packer.format.rejects import decode_rejects, encode_rejects
from clipshards.packer.format.tar import BLOCK, decode_header, encode_header
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.plan import Plan

MANIFESTS = [golden.files[MANIFEST_NAME] for golden in golden_splits()]
REJECTS = [golden.files[REJECTS_NAME] for golden in golden_splits()]
INDEXES = [data for (_, part), found in golden_parts().items() if not part for data in found]
PLAN = Plan({"split": "a", "task": "video", "recipe": {}}, 7, ((1, 2), (3,))).encode()

# Field of a tar header to what others write there, or a liar.
FIELDS: dict[tuple[int, int], list[bytes]] = {
    (0, 100): [
        b"",
        b"a" * 100,
        b"././@LongLink",
        b"../a.json",
        b"\xff.json",
        b"a\0b",
        b"__index__",
    ],
    (124, 12): [
        *(b"77777777777\0", b"777777777777", b"-0000000001\0", b"0o000000010\0", b"         10\0"),
        *(b"\x80" + bytes(10) + b"\x01", b"\x80" + b"\xff" * 11, b"\xff" * 12, bytes(12)),
    ],
    (156, 1): [bytes([kind]) for kind in b"\x001234567xgLKSVDM"],
    (157, 100): [b"target"],
    (257, 8): [b"ustar  \0", bytes(8)],
    (345, 155): [b"folder", b"\xff" * 155],
}


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    block = bytearray(encode_header("val-00000007.json", draw(st.integers(0, 8**11 - 1))))
    for _ in range(draw(st.integers(1, 2))):
        (place, width), written = draw(st.sampled_from(sorted(FIELDS.items())))
        block[place : place + width] = draw(st.sampled_from(written)).ljust(width, b"\0")
    if draw(st.booleans()):
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@fuzzed(120)
@given(headers() | mutated([encode_header("a.json", 8), bytes(BLOCK)]))
def test_a_header_is_the_one_of_its_name_and_size_or_refused(block: bytes) -> None:
    found = read(lambda: decode_header(block, where="x"), len(block), errors=CorruptShardError)
    if found is not None:
        assert encode_header(*found) == block


def schemas() -> list[tuple[type[SkeletonJson] | type[AudioJson], list[bytes]]]:
    return [
        (SkeletonJson, golden_parts()["skeleton", "json"]),
        (AudioJson, golden_parts()["audio", "json"]),
    ]


@fuzzed(60)
@given(st.data())
def test_what_is_read_by_one_expression_is_what_is_read_step_by_step(data: st.DataObject) -> None:
    part, sound = data.draw(st.sampled_from(schemas()))
    schema = part._FIELDS
    text = data.draw(
        mutated(sound, JSON_TOKENS) | altered([json.loads(one) for one in sound]).map(encode_json)
    )
    quick: Schema = part._SCHEMA
    found = read(lambda: quick.decode(text, where="x"), len(text), errors=FormatError)
    try:
        slow = decode_json(text, where="x")
        check_schema(slow, schema, where="x")
    except FormatError:
        slow = None
    assert repr(found) == repr(slow)


def test_a_long_list_takes_memory_by_its_size() -> None:
    part, sound = schemas()[0]
    text = encode_json(json.loads(sound[0]) | {"labels": [7] * 200_000})
    for data in (text, text[:-1], text.replace(b"7]", b"07]")):
        read(partial(part.decode, data, where="x"), len(data), errors=FormatError)


Decode = Callable[..., Any]

DOCUMENTS: dict[str, tuple[Decode, list[bytes]]] = {
    "index": (ShardIndex.decode, INDEXES),
    "manifest": (Manifest.decode, MANIFESTS),
    "rejects": (decode_rejects, REJECTS),
    "plan": (Plan.decode, [PLAN]),
    **{
        f"{task}.json": (TASKS[task].about.decode, found)
        for (task, part), found in golden_parts().items()
        if part == "json"
    },
}


def encoded(found: Any) -> bytes:
    data: bytes = encode_rejects(found) if isinstance(found, list) else found.encode()
    return data


@pytest.mark.parametrize("kind", DOCUMENTS)
@fuzzed(25)
@given(data=st.data())
def test_a_document_is_read_back_or_refused(kind: str, data: st.DataObject) -> None:
    decode, sound = DOCUMENTS[kind]
    text = data.draw(mutated(sound, JSON_TOKENS))
    found = read(lambda: decode(text, where="x"), len(text), errors=FormatError)
    if found is not None:
        assert encoded(found) == text


@pytest.mark.parametrize("kind", [kind for kind in DOCUMENTS if kind != "rejects"])
@fuzzed(40)
@given(data=st.data())
def test_canonical_json_of_any_values_is_read_back_or_refused(
    kind: str, data: st.DataObject
) -> None:
    decode, sound = DOCUMENTS[kind]
    value = data.draw(altered([json.loads(one) for one in sound]))
    text = with_digest(value) if kind == "manifest" else encode_json(value)
    found = read(lambda: decode(text, where="x"), len(text), errors=FormatError)
    if found is not None:
        assert encoded(found) == text


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_any_depth_is_refused(kind: str) -> None:
    decode, sound = DOCUMENTS[kind]
    value = json.loads(max(sound).splitlines()[0])
    # About Python's own limit a step more or less decides where it is met.
    for depth in (31, 33, 300, *range(880, 1001), 100_000):
        for key in (next(iter(value)), "recipe", "version", "task"):
            field = json.dumps(key).encode() + b":" + b"[" * depth + b"]" * depth
            text = b"{" + field + b"}" + b"\n" * (kind in ("manifest", "rejects"))
            with pytest.raises(FormatError):
                decode(text, where="x")


def test_depth_is_counted_alike_for_lists_and_objects() -> None:
    deepest = encode_json(nested(30, [{"a": 1}] * 40))
    assert encode_json(decode_json(deepest, where="x")) == deepest
    for too_deep in (nested(31, [{"a": 1}] * 40), nested(30, [1, {"a": {}}] * 40)):
        with pytest.raises(FormatError, match="expected at most 32 levels"):
            decode_json(encode_json(too_deep), where="x")


SHAPES = ["()", "(5,)", "(5)", "(0, 99999999999999999999)", "(-1,)", "(1e3,)", "(True,)", "[5]"]
DESCRS = ["'|O'", "'<f8'", "'>f8'", "'<U9'", "'|V8'", "'<m8[s]'", "[('a', '<f8')]", "'|S0'", "1"]


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    shape = draw(
        st.sampled_from(SHAPES)
        | st.lists(st.integers(0, 4) | st.sampled_from(LARGE), max_size=40).map(
            lambda axes: str(tuple(axes))
        )
    )
    descr = draw(st.sampled_from(DESCRS) | st.sampled_from(["'<f4'", "'|b1'", "'|u1'"]))
    fortran = draw(st.sampled_from(["False", "False", "False", "True", "0", "[" * 300]))
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    head = text.encode() + b" " * (-(11 + len(text)) % 64) + b"\n"
    length = draw(st.just(len(head)) | st.sampled_from([0, 1, 65535])).to_bytes(2, "little")
    version = draw(st.sampled_from([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\0\0"]))
    content = draw(st.binary(max_size=40) | st.integers(0, 5).map(lambda count: bytes(4 * count)))
    return b"\x93NUMPY" + version + length + head + content


ARRAYS = [data for (_, part), found in golden_parts().items() if "npy" in part for data in found]


@fuzzed(150)
@given(npy_files() | mutated(ARRAYS))
@example(b"\x93NUMPY\x01\x00" + b"\xff\xff" + b"{'descr': '<i8'," + b"(" * 60_000)
def test_an_array_is_read_back_or_refused(data: bytes) -> None:
    found = read(lambda: decode_npy(data, where="x"), len(data), errors=FormatError)
    if found is not None:
        assert encode_npy(found) == data


@pytest.mark.parametrize("task", TASKS)
@fuzzed(35)
@given(data=st.data())
def test_the_parts_of_a_sample_fit_or_are_refused(task: str, data: st.DataObject) -> None:
    kind, found = TASKS[task], golden_parts()
    own = [part for (name, part) in found if name == task and part]
    # Readers ask for what the index promises: the required parts, and one of the media.
    media = [part for part in own if part in kind.media]
    chosen = data.draw(st.sampled_from(media if kind.media_required else ["", *media]))
    present = {}
    for part in own:
        sound = found[task, part]
        if part in media and part != chosen:
            continue
        if part in kind.optional and not data.draw(st.integers(0, 4)):
            continue
        if data.draw(st.booleans()):
            present[part] = data.draw(st.sampled_from(sound))
        elif part == "json":
            present[part] = encode_json(data.draw(altered([json.loads(one) for one in sound])))
        elif part.endswith(".npy"):
            present[part] = data.draw(arrays(sound))
        else:
            present[part] = data.draw(st.binary(max_size=20))
    size = sum(map(len, present.values()))
    decoded = read(lambda: kind.decode_all(present, where="x"), size, errors=FormatError)
    if decoded is not None:
        read(lambda: list(range_faults(task, decoded)), size)


def test_frame_numbers_that_overflow_are_refused() -> None:
    task = TASKS["skeleton"]
    about = next(
        value
        for value in map(json.loads, golden_parts()["skeleton", "json"])
        if value["compressed"]
    )
    boxes = encode_npy(np.zeros((2, 3, 3), np.float32))
    parts = {
        "json": encode_json(about | {"absent": [], "valid": []}),
        "keypoint.npy": boxes,
        "frame_inds.npy": encode_npy(np.array([2**63 - 1, -2])),
    }
    with pytest.raises(FormatError, match="expected ascending frame numbers"):
        task.decode_all(parts, where="x")


@fuzzed(40)
@given(values)
def test_any_value_is_held_against_a_schema(value: Any) -> None:
    schema = {"a": [(int, float)], "b": {"c": str}}
    for one in (value, {"a": value, "b": value}, {"a": [value], "b": {"c": value}}):
        check = partial(check_schema, one, schema, where="x")
        read(check, 1000, errors=FormatError)
