from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipshards.packer.format.canonical import decode_json, encode_json
from clipshards.packer.format.errors import FormatError, UnsupportedVersionError
from clipshards.packer.format.index import PartColumns, ShardIndex
from clipshards.packer.format.tar import BLOCK, MAX_SIZE, member_bytes
from clipshards.packer.format.tasks import TASKS

PARTS = TASKS["video"].parts
MEDIA = TASKS["video"].media


def make_index(samples: list[dict[str, int]]) -> ShardIndex:
    """Return the index of samples given as {part name: size}, laid out as the format says."""
    index = ShardIndex(
        task="video",
        split="val",
        number=3,
        plan_digest="ab" * 32,
        recipe={"media": "copy", "frame_table": "decode"},
        summary={name: [] for name in TASKS["video"].summary},
        parts={
            name: PartColumns()
            for name in PARTS
            if any(name in sample and samples for sample in samples)
        },
    )
    place = 0
    for number, sample in enumerate(samples):
        index.keys.append(f"val-{number:08d}")
        index.ids.append(f"clip {number % 2}.mp4")
        index.origins.append(f"val.txt:{number + 1}")
        index.entries.append(1 + number % 2)
        index.items.append(1)
        row = {"labels": [number, 0], "frames": 8, "duration_s": 0.32, "width": 64, "height": 48}
        for name, value in row.items():
            index.summary[name].append(value)
        for name, columns in index.parts.items():
            there = name in sample
            columns.offset.append(place + BLOCK if there else -1)
            columns.size.append(sample[name] if there else -1)
            columns.crc32c.append(number if there else -1)
            place += member_bytes(sample[name]) if there else 0
    return index


MIXED = [
    {"json": 700, "frames.npy": 128, "mp4": 5000},
    {"json": 701, "frames.npy": 512, "mkv": 0},
    {"json": 1, "frames.npy": 128, "mp4": 512},
]


def value_of(samples: list[dict[str, int]] = MIXED) -> Any:
    return decode_json(make_index(samples).encode(), where="made here")


def decode(value: Any) -> ShardIndex:
    return ShardIndex.decode(encode_json(value), where="val-000003.tar")


def altered(path: tuple[Any, ...], new: Any) -> Any:
    """Return the value of the mixed index with one place changed."""
    value = inner = value_of()
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = new
    return value


shapes = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 2000), st.sampled_from(MEDIA)).map(
        lambda made: {"json": made[0], "frames.npy": made[1], made[2]: made[0] * 3}
    ),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(shapes)
def test_every_index_comes_back(samples: list[dict[str, int]]) -> None:
    index = make_index(samples)
    data = index.encode()
    back = ShardIndex.decode(data, where="x")
    assert asdict(back) == asdict(index)
    assert back.encode() == data


def test_samples_may_have_different_containers() -> None:
    index = decode(value_of())
    assert list(index.parts) == ["json", "frames.npy", "mkv", "mp4"]
    assert index.parts["mkv"].offset == [-1, index.parts["mkv"].offset[1], -1]
    assert index.parts["mp4"].crc32c == [0, -1, 2]
    assert index.parts["json"].offset[0] == BLOCK


def test_a_shard_may_be_empty() -> None:
    index = decode(value_of([]))
    assert (index.keys, index.parts) == ([], {})
    assert index.summary == {name: [] for name in TASKS["video"].summary}


def test_a_part_may_have_any_size_of_a_tar_member() -> None:
    largest = [{"json": 1, "frames.npy": 1, "mp4": MAX_SIZE}] * 3
    assert decode(value_of(largest)).parts["mp4"].size == [MAX_SIZE] * 3


def test_keys_ids_and_origins_are_any_text() -> None:
    for text in ("", "a.b/c", "日本\n", "__index__"):
        for column in ("key", "id", "origin"):
            index = decode(altered(("samples", column, 1), text))
            assert text in (*index.keys, *index.ids, *index.origins)


def columns_swapped() -> Any:
    """Return an index whose first sample has its frame table before its json."""
    value = value_of([{"json": 100, "frames.npy": 100, "mp4": 5}])
    parts = value["parts"]
    parts["json"]["offset"], parts["frames.npy"]["offset"] = (
        parts["frames.npy"]["offset"],
        parts["json"]["offset"],
    )
    return value


def without_samples_but(part: str) -> Any:
    value = value_of([])
    value["parts"][part] = {"offset": [], "size": [], "crc32c": []}
    return value


def dropped(path: tuple[Any, ...]) -> Any:
    value = inner = value_of()
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return value


def with_two_videos() -> Any:
    value = value_of([{"json": 100, "frames.npy": 100, "mp4": 5}])
    value["parts"]["webm"] = {"offset": [4 * 1024 - 512], "size": [5], "crc32c": [0]}
    return value


REFUSED: dict[str, tuple[Any, str]] = {
    # Types and keys.
    "not an object": ([], "expected a document of format"),
    "another document": (altered(("format",), "clipshards-manifest"), "expected a document of"),
    "no format": (dropped(("format",)), "expected a document of"),
    "task unknown": (altered(("task",), "speech"), "unknown task 'speech'"),
    "task missing": (dropped(("task",)), "unknown task ''"),
    "key missing": (dropped(("number",)), "missing or unknown key 'number'"),
    "key unknown": (altered(("more",), 1), "missing or unknown key 'more'"),
    "column missing": (dropped(("samples", "id")), "samples: missing or unknown key 'id'"),
    "summary missing": (dropped(("summary", "frames")), "summary: missing or unknown key 'frames'"),
    "summary unknown": (altered(("summary", "rate"), []), "missing or unknown key 'rate'"),
    "number as float": (altered(("number",), 3.0), "number: expected int"),
    "recipe as list": (altered(("recipe",), []), "recipe: expected dict"),
    "key as number": (altered(("samples", "key", 1), 7), r"samples\.key\[1\]: expected str"),
    "items as bool": (altered(("samples", "items", 0), True), r"samples\.items\[0\]: expected int"),
    "labels flat": (altered(("summary", "labels", 2), 1), r"labels\[2\]: expected a list"),
    "duration as int": (altered(("summary", "duration_s", 0), 1), "expected float, got int 1"),
    "parts as list": (altered(("parts",), []), "parts: expected dict"),
    "part unknown": (altered(("parts", "flow_x.mp4"), {}), "'flow_x.mp4' is not a part of task"),
    "part's column missing": (dropped(("parts", "mp4", "size")), "missing or unknown key 'size'"),
    "part's column unknown": (
        altered(("parts", "mp4", "sha"), []),
        "parts.mp4: missing or unknown",
    ),
    "part as list": (altered(("parts", "mp4"), []), "parts.mp4: expected an object"),
    "size as float": (altered(("parts", "mp4", "size", 0), 5e3), r"mp4\.size\[0\]: expected int"),
    # Lengths.
    "a key more": (altered(("samples", "key"), list("abcd")), "has 3 values for 4 keys"),
    "an id less": (altered(("samples", "id"), ["a", "b"]), "column id has 2 values"),
    "an origin less": (altered(("samples", "origin"), ["a"]), "column origin has 1 values"),
    "items less": (altered(("samples", "items"), []), "column items has 0 values"),
    "a width more": (altered(("summary", "width"), [1] * 4), "column summary.width has 4"),
    "an offset less": (altered(("parts", "json", "offset"), [512]), "column json.offset has 1"),
    "a size more": (altered(("parts", "json", "size"), [1] * 4), "column json.size has 4 values"),
    "a crc32c less": (altered(("parts", "mkv", "crc32c"), []), "column mkv.crc32c has 0 values"),
    # Values.
    "key twice": (altered(("samples", "key", 2), "val-00000000"), "a key occurs twice"),
    "no item": (altered(("samples", "items", 1), 0), "less than one item"),
    "negative items": (altered(("samples", "items", 1), -1), "less than one item"),
    "samples without parts": (altered(("parts",), {}), "samples without parts"),
    "no video": (dropped(("parts", "mkv")), "a sample lacks a part"),
    "no frame table in one": (
        altered(("parts", "frames.npy", "offset", 1), -1),
        "a sample lacks a part",
    ),
    "two videos": (with_two_videos(), "a sample lacks a part"),
    "offset of an absent part": (
        altered(("parts", "mp4", "offset", 1), -2),
        "an absent part must be -1 in all three columns",
    ),
    "size of an absent part": (altered(("parts", "mp4", "size", 1), 0), "an absent part must be"),
    "crc32c of an absent part": (altered(("parts", "mp4", "crc32c", 1), 0), "an absent part must"),
    "size of -1": (altered(("parts", "mp4", "size", 2), -1), "size is out of range"),
    "size of 8 GiB": (altered(("parts", "mp4", "size", 2), MAX_SIZE + 1), "size is out of range"),
    "crc32c of -1": (altered(("parts", "mp4", "crc32c", 2), -1), "crc32c is out of range"),
    "crc32c of 33 bits": (altered(("parts", "mp4", "crc32c", 2), 2**32), "crc32c is out of range"),
    "offset of 64 bits": (
        altered(("parts", "mp4", "offset", 2), 2**63),
        "(is not an int64|64 bits)",
    ),
    "size of 64 bits": (
        altered(("parts", "mp4", "size", 2), -(2**70)),
        "(is not an int64|64 bits)",
    ),
    # Layout.
    "first part not at 512": (
        altered(("parts", "json", "offset", 0), 1024),
        "a part starts at 1024, expected 512",
    ),
    "first part at 0": (altered(("parts", "json", "offset", 0), 0), "starts at 0, expected 512"),
    "gap": (altered(("parts", "mkv", "offset", 1), 2**40), "starts at 1099511627776, expected"),
    "overlap": (altered(("parts", "frames.npy", "offset", 2), 512), "a part starts at 512"),
    "size that moves the next part": (altered(("parts", "json", "size", 0), 1500), "a part starts"),
    "size that ends in another block": (altered(("parts", "mkv", "size", 1), 1), "a part starts"),
    "parts of a sample out of order": (columns_swapped(), "a part starts at"),
    "offsets near 64 bits": (
        altered(("parts", "mp4", "offset", 2), 2**63 - 1),
        "a part starts at 9223372036854775807",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_index_that_breaks_the_format_is_refused(what: str) -> None:
    value, message = REFUSED[what]
    with pytest.raises(FormatError, match=rf"^val-000003\.tar.*{message}"):
        decode(value)


@pytest.mark.parametrize("version", [0, 2, -1, "1", None, [], {}, 0.5])
def test_another_version_is_refused_and_both_are_named(version: Any) -> None:
    with pytest.raises(UnsupportedVersionError, match=r"version .* this release reads 1") as caught:
        decode(altered(("version",), version))
    assert repr(version) in str(caught.value)


def test_the_version_is_looked_at_before_anything_else() -> None:
    with pytest.raises(UnsupportedVersionError):
        decode({"format": "clipshards-index", "version": 9, "columns": "unknown"})
    with pytest.raises(FormatError):
        decode(altered(("version",), True))
    with pytest.raises(FormatError):
        decode(altered(("version",), 1.0))


def test_an_index_with_a_line_end_is_refused() -> None:
    with pytest.raises(FormatError):
        ShardIndex.decode(make_index(MIXED).encode() + b"\n", where="x")


@pytest.mark.parametrize("task", [[], {}, 1, None])
def test_a_task_that_is_not_text_is_refused(task: Any) -> None:
    with pytest.raises(FormatError):
        decode(altered(("task",), task))
    with pytest.raises(FormatError):
        decode(altered(("task",), [{}]))


@pytest.mark.parametrize("names", [["mp4"], ["json", "mp4"], ["frames.npy", "mp4"]])
def test_a_part_that_every_sample_lacks_is_refused(names: list[str]) -> None:
    with pytest.raises(FormatError, match="lacks a part"):
        decode(value_of([dict.fromkeys(names, 5)] * 2))


@pytest.mark.parametrize(
    "value",
    [
        altered(("parts", "webm"), {name: [-1] * 3 for name in ("offset", "size", "crc32c")}),
        without_samples_but("json"),
        without_samples_but("mp4"),
    ],
    ids=["absent in all samples", "json of no sample", "mp4 of no sample"],
)
def test_columns_of_a_part_that_does_not_occur_are_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        decode(value)


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("number",), -1),
        (("split",), "../train"),
        (("split",), ""),
        (("plan_digest",), "AB" * 32),
        (("plan_digest",), "ab" * 31),
    ],
    ids=str,
)
def test_a_name_number_or_digest_out_of_range_is_refused(path: tuple[Any, ...], new: Any) -> None:
    with pytest.raises(FormatError):
        decode(altered(path, new))


@pytest.mark.parametrize("count", [1, 3])
def test_every_changed_number_of_the_layout_is_refused(count: int) -> None:
    for name, columns in value_of(MIXED[:count])["parts"].items():
        for column in ("offset", "size"):
            for row, number in enumerate(columns[column]):
                for new in {number - 512, number + 512, -number - 2} - {number}:
                    value = value_of(MIXED[:count])
                    value["parts"][name][column][row] = new
                    if column == "size" and name == "mp4" and row == count - 1 and new >= 0:
                        continue  # nothing in the index stands behind the last part
                    with pytest.raises(FormatError):
                        decode(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def paths(value: Any) -> list[tuple[Any, ...]]:
    """Return the way to every place of a JSON value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [()] + [(step, *rest) for step, below in inner for rest in paths(below)]


PLACES = [path for path in paths(value_of()) if path]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(PLACES), json_values)
@example(("task",), [])
def test_any_value_in_any_place_is_read_back_or_refused(path: tuple[Any, ...], new: Any) -> None:
    try:
        data = encode_json(altered(path, new))
    except ValueError:  # an infinity
        return
    try:
        index = ShardIndex.decode(data, where="x")
    except FormatError:
        return
    assert index.encode() == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_with_our_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        ShardIndex.decode(data, where="x")


def test_every_truncation_is_refused() -> None:
    data = make_index(MIXED).encode()
    for length in range(len(data)):
        with pytest.raises(FormatError):
            ShardIndex.decode(data[:length], where="x")
