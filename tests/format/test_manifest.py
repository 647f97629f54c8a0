import hashlib
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipshards.packer.format.canonical import decode_json, encode_json
from clipshards.packer.format.errors import FormatError, UnsupportedVersionError
from clipshards.packer.format.manifest import Accounting, Manifest, ShardEntry

ENTRY = ShardEntry(
    name="val-000000.tar",
    bytes=20_480,
    records=3,
    entries=4,
    samples=2,
    items=3,
    index_at="inside",
    index_offset=10_752,
    index_bytes=900,
    index_crc32c=1,
    sha256="01" * 32,
    crc32c=2**32 - 1,
)
SECOND = replace(ENTRY, name="val-000001.tar", entries=0, samples=0, items=0)
MANIFEST = Manifest(
    task="video",
    split="val",
    labels="many",
    class_names=("walk", "run", "跳"),
    recipe={"media": "copy", "frame_table": "decode"},
    run_length=1,
    request_digest="23" * 32,
    plan_digest="45" * 32,
    accounting=Accounting(entries=8, packed=4, rejected=3, excluded={"exclude": 1}),
    rejects_sha256="67" * 32,
    made_with={"clipshards": "0.1.0", "python": "3.11.7"},
    shards=(ENTRY, SECOND),
)


def value_of(manifest: Manifest = MANIFEST) -> Any:
    return decode_json(manifest.encode()[:-1], where="made here")


def sealed(value: Any) -> bytes:
    """Return a manifest file whose content digest fits, whatever else stands in it."""
    body = {name: inner for name, inner in value.items() if name != "content_digest"}
    digest = hashlib.sha256(encode_json(body)).hexdigest()
    return encode_json(body | {"content_digest": digest}) + b"\n"


def decode(data: bytes) -> Manifest:
    return Manifest.decode(data, where="val/manifest.json")


def altered(path: tuple[Any, ...], new: Any) -> Any:
    value = inner = value_of()
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = new
    return value


def paths(value: Any) -> list[tuple[Any, ...]]:
    """Return the way to every place of a JSON value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [()] + [(step, *rest) for step, below in inner for rest in paths(below)]


PLACES = [path for path in paths(value_of()) if path]
TOTALS = [path for path in PLACES if path[0] == "totals" and len(path) == 2]

counts = st.integers(0, 2**40)
hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
entries = st.builds(
    ShardEntry,
    name=texts.filter(lambda name: name not in ("", ".", "..") and not set("/\0") & set(name)),
    bytes=st.just(2**42),
    records=st.integers(5, 8),
    entries=st.integers(5, 7),
    samples=st.integers(0, 5),
    items=st.integers(5, 9),
    index_at=st.just("inside"),
    index_offset=counts,
    index_bytes=counts,
    index_crc32c=st.integers(0, 2**32 - 1),
    sha256=hexes,
    crc32c=st.integers(0, 2**32 - 1),
)
shard_lists = st.lists(entries, max_size=4, unique_by=lambda entry: entry.name).map(tuple)
exclusions = st.dictionaries(texts, st.integers(1, 2**40), max_size=2)


def account(rejected: int, excluded: dict[str, int], shards: tuple[ShardEntry, ...]) -> Accounting:
    packed = sum(shard.entries for shard in shards)
    return Accounting(packed + rejected + sum(excluded.values()), packed, rejected, excluded)


manifests = st.builds(
    lambda rejected, excluded, shards, **rest: Manifest(
        accounting=account(rejected, excluded, shards), shards=shards, **rest
    ),
    counts,
    exclusions,
    shard_lists,
    task=st.just("video"),
    split=st.from_regex(r"[a-z0-9][a-z0-9_]{0,31}", fullmatch=True),
    labels=st.sampled_from(["one", "many", "none"]),
    class_names=st.lists(texts, max_size=3).map(tuple),
    recipe=st.dictionaries(texts, texts | st.integers(0, 9) | st.none(), max_size=3),
    run_length=st.integers(1, 100),
    request_digest=hexes,
    plan_digest=hexes,
    rejects_sha256=hexes,
    made_with=st.dictionaries(texts, texts, max_size=3),
)


@settings(max_examples=200, deadline=None)
@given(manifests)
def test_every_manifest_comes_back(manifest: Manifest) -> None:
    data = manifest.encode()
    assert decode(data) == manifest
    assert decode(data).encode() == data


def test_sums_are_those_of_the_shards() -> None:
    manifest = decode(MANIFEST.encode())
    assert (manifest.samples, manifest.items, manifest.size_bytes) == (2, 3, 40_960)
    assert value_of()["totals"] == {"samples": 2, "items": 3, "bytes": 40_960}


def test_a_split_may_have_no_shards() -> None:
    empty = replace(MANIFEST, shards=(), accounting=Accounting(0, 0, 0, {}), class_names=())
    assert decode(empty.encode()) == empty


def test_the_content_digest_is_the_sha256_of_the_rest() -> None:
    value = value_of()
    digest = value.pop("content_digest")
    assert digest == hashlib.sha256(encode_json(value)).hexdigest() == MANIFEST.content_digest
    assert MANIFEST.encode().endswith(b"}\n")


def test_two_contents_have_two_digests() -> None:
    others = [
        replace(MANIFEST, class_names=("walk", "run")),
        replace(MANIFEST, run_length=2),
        replace(MANIFEST, shards=(SECOND, ENTRY)),
        replace(MANIFEST, shards=(replace(ENTRY, sha256="02" * 32), SECOND)),
        replace(MANIFEST, rejects_sha256="68" * 32),
    ]
    assert len({manifest.content_digest for manifest in (MANIFEST, *others)}) == 6


@pytest.mark.parametrize(
    "path",
    [path for path in PLACES if path not in TOTALS],
    ids=lambda path: ".".join(map(str, path)),
)
def test_any_altered_value_is_refused(path: tuple[Any, ...]) -> None:
    inner = value_of()
    for step in path:
        inner = inner[step]
    other = {str: "x", int: 7, dict: {}, list: []}[type(inner)]
    if inner == other:
        return
    with pytest.raises(FormatError):
        decode(encode_json(altered(path, other)) + b"\n")


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("class_names", 1), "runs"),
        (("class_names",), []),
        (("recipe", "media"), "remux"),
        (("recipe",), {}),
        (("run_length",), 2),
        (("request_digest",), "24" * 32),
        (("plan_digest",), "46" * 32),
        (("rejects_sha256",), "68" * 32),
        (("made_with", "python"), "3.12.0"),
        (("accounting", "entries"), 7),
        (("shards", "name", 0), "val-000009.tar"),
        (("shards", "bytes", 0), 20_992),
        (("shards", "crc32c", 0), 0),
        (("shards", "sha256", 1), "00" * 32),
        (("shards", "index_offset", 1), 512),
        (("labels",), "one"),
        (("split",), "train"),
        (("content_digest",), "00" * 32),
        (("content_digest",), ""),
    ],
    ids=str,
)
def test_an_altered_value_shows_in_the_content_digest(path: tuple[Any, ...], new: Any) -> None:
    with pytest.raises(FormatError, match=r"content digest .* it was altered"):
        decode(encode_json(altered(path, new)) + b"\n")


@pytest.mark.parametrize("path", TOTALS, ids=str)
def test_altered_totals_are_refused(path: tuple[Any, ...]) -> None:
    with pytest.raises(FormatError):
        decode(encode_json(altered(path, 7)) + b"\n")
    with pytest.raises(FormatError):
        decode(sealed(altered(path, 7)))


def without(name: str) -> Any:
    value = value_of()
    del value[name]
    return value


def with_entry(**change: Any) -> Any:
    """Return the value of a manifest that encodes without complaint and breaks the format."""
    return value_of(replace(MANIFEST, shards=(replace(ENTRY, **change), SECOND)))


def with_column(name: str, column: list[Any]) -> Any:
    return altered(("shards", name), column)


REFUSED: dict[str, tuple[Any, str]] = {
    "not an object": ([], "expected a document of format 'clipshards-manifest'"),
    "another document": (altered(("format",), "clipshards-index"), "expected a document of format"),
    "key missing": (without("recipe"), "missing or unknown key 'recipe'"),
    "key unknown": (altered(("more",), 1), "missing or unknown key 'more'"),
    "task unknown": (altered(("task",), "speech"), "unknown task 'speech'"),
    "task not text": (altered(("task",), []), "task: expected str"),
    "label mode unknown": (altered(("labels",), "some"), "unknown label mode 'some'"),
    "class name as number": (altered(("class_names", 0), 1), r"class_names\[0\]: expected str"),
    "run length as float": (altered(("run_length",), 1.0), "run_length: expected int"),
    "accounting short": (altered(("accounting",), {}), "accounting: missing or unknown key"),
    "column missing": (altered(("shards",), {}), "shards: missing or unknown key"),
    "columns unequal": (with_column("bytes", [1]), "columns of shards are of unequal length"),
    "bytes as float": (with_column("bytes", [1.0, 2.0]), r"shards\.bytes\[0\]: expected int"),
    "split unfit": (value_of(replace(MANIFEST, split="Val")), "split 'Val': expected 1 to 32"),
    "split a path": (value_of(replace(MANIFEST, split="../val")), "split '../val'"),
    "run length 0": (value_of(replace(MANIFEST, run_length=0)), "run length 0, expected at least"),
    "name empty": (with_entry(name=""), "is not a plain file name"),
    "name .": (with_entry(name="."), "is not a plain file name"),
    "name ..": (with_entry(name=".."), "is not a plain file name"),
    "name a path": (with_entry(name="a/b.tar"), "is not a plain file name"),
    "name absolute": (with_entry(name="/etc/passwd"), "is not a plain file name"),
    "name out of the folder": (with_entry(name="../val-000000.tar"), "is not a plain file name"),
    "name with NUL": (with_entry(name="a\0.tar"), "is not a plain file name"),
    "name twice": (with_entry(name=SECOND.name), "a shard is listed twice"),
    "index nowhere": (with_entry(index_at="outside"), "index place 'outside', expected 'inside'"),
    "index beside": (with_entry(index_at="beside"), "index place 'beside', expected 'inside'"),
    "negative samples": (with_entry(samples=-1), "-1 samples with 3 items"),
    "items below samples": (with_entry(items=1), "2 samples with 1 items"),
    "index before the file": (with_entry(index_offset=-1), "the index lies outside the shard"),
    "index of less than nothing": (with_entry(index_bytes=-1), "the index lies outside"),
    "index behind the file": (with_entry(index_offset=20_480), "the index lies outside the shard"),
    "index across the end": (with_entry(index_bytes=20_480), "the index lies outside the shard"),
    "entries do not close": (
        value_of(replace(MANIFEST, accounting=Accounting(9, 4, 3, {"exclude": 1}))),
        "entries are not packed",
    ),
    "negative rejects": (
        value_of(replace(MANIFEST, accounting=Accounting(4, 4, -1, {"exclude": 1}))),
        "entries are not packed",
    ),
    "excluded by nothing": (
        value_of(replace(MANIFEST, accounting=Accounting(7, 4, 3, {"exclude": 0}))),
        "expected counts of 1 or more",
    ),
    "packed elsewhere": (
        value_of(replace(MANIFEST, accounting=Accounting(9, 5, 3, {"exclude": 1}))),
        "5 entries are counted as packed, the shards hold 4",
    ),
    "more samples than entries": (with_entry(entries=1), "3 items of 1 entries"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_manifest_that_breaks_the_format_is_refused(what: str) -> None:
    value, message = REFUSED[what]
    data = sealed(value) if isinstance(value, dict) else encode_json(value) + b"\n"
    with pytest.raises(FormatError, match=rf"^val/manifest\.json.*{message}"):
        decode(data)


@pytest.mark.parametrize("version", [0, 2, -1, "1", None, [], {}])
def test_another_version_is_refused_and_both_are_named(version: Any) -> None:
    with pytest.raises(UnsupportedVersionError, match=r"version .* this release reads 1") as caught:
        decode(sealed(altered(("version",), version)))
    assert repr(version) in str(caught.value)


def test_the_version_is_looked_at_before_anything_else() -> None:
    other = {"format": "clipshards-manifest", "version": 2, "unknown": []}
    with pytest.raises(UnsupportedVersionError):
        decode(encode_json(other) + b"\n")


def test_another_end_of_the_file_is_refused() -> None:
    data = MANIFEST.encode()
    with pytest.raises(FormatError, match="cut short, expected a line end"):
        decode(data[:-1])
    for other in (data + b"\n", data[:-1] + b"\r\n", data[:-1] + b" \n", b"\n", b""):
        with pytest.raises(FormatError):
            decode(other)


def test_every_truncation_is_refused() -> None:
    data = MANIFEST.encode()
    for length in range(len(data)):
        with pytest.raises(FormatError):
            decode(data[:length])


def test_every_changed_byte_is_refused() -> None:
    data = MANIFEST.encode()
    for place in range(len(data)):
        for change in (1, 0x10, 0x80):
            with pytest.raises(FormatError):
                decode(data[:place] + bytes([data[place] ^ change]) + data[place + 1 :])


@pytest.mark.parametrize(
    "change",
    [
        {"crc32c": -1},
        {"crc32c": 2**32},
        {"index_crc32c": 2**32},
        {"sha256": "01" * 31},
        {"sha256": "AB" * 32},
        {"bytes": -512, "index_offset": -1536},
        {"name": "manifest.json"},
        {"name": "rejects.jsonl"},
    ],
    ids=str,
)
def test_a_value_of_a_shard_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        decode(sealed(with_entry(**change)))


@pytest.mark.parametrize(
    "change",
    [
        {"made_with": {"python": 3}},
        {"request_digest": "23" * 31},
        {"plan_digest": "x" * 64},
        {"rejects_sha256": ""},
    ],
    ids=str,
)
def test_a_value_of_the_split_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        decode(sealed(value_of(replace(MANIFEST, **change))))


def test_sums_of_huge_numbers_are_refused() -> None:
    huge = int("9" * 4300)
    value = with_column("bytes", [huge, huge])
    with pytest.raises(FormatError):
        decode(encode_json(value) + b"\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(PLACES), json_values)
@example(("totals", "samples"), 3)
@example(("task",), [])
@example(("shards", "name", 0), "..")
def test_any_value_in_any_place_is_read_back_or_refused(path: tuple[Any, ...], new: Any) -> None:
    try:
        data = sealed(altered(path, new))
    except ValueError:  # an infinity
        return
    try:
        manifest = decode(data)
    except FormatError:
        return
    assert manifest.encode() == data
    assert manifest.content_digest.encode() in data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_with_our_error(data: bytes) -> None:
    for hostile in (data, data + b"\n"):
        with pytest.raises(FormatError):
            decode(hostile)


def test_the_columns_are_the_fields_of_an_entry() -> None:
    assert set(value_of()["shards"]) == {field.name for field in fields(ShardEntry)}
