import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer import AnnotationError
from clipshards.packer.annotations.json_file import JsonObject, read_json

# File, the line that the message names (0 for none), and what it says.
REFUSED: list[tuple[bytes, int, str]] = [
    (b"", 1, "expected JSON, got the end of the file"),
    (b" \n\n", 3, "expected JSON, got the end of the file"),
    (b'{"a": 1}\nx', 2, "expected JSON, got 'x' (Extra data)"),
    (b'{"a" 1}', 1, "expected JSON, got '1}'"),
    (b'{"a": 1,\n}', 2, "expected JSON, got '}'"),
    (b'{"a": 1\n"b": 2}', 2, "expected JSON, got '\"b\": 2}'"),
    (b"{a: 1}", 1, "expected JSON, got 'a: 1}'"),
    (b"{'a': 1}", 1, "expected JSON, got \"'a': 1}\""),
    (b'{"a": 1', 1, "expected JSON, got the end of the file"),
    (b'{"a":\n{"b": [1, 2}}', 2, "expected JSON, got '}}'"),
    (b'["abc', 1, "expected JSON"),
    (b'["a\nb"]', 1, "expected JSON"),
    (b'["\\x"]', 1, "expected JSON"),
    (b"[1] // note", 1, "expected JSON, got '// note'"),
    (b"[01]", 1, "expected JSON"),
    (b"\0", 1, "expected JSON, got '\\x00'"),
    (b"nan", 1, "expected JSON, got 'nan'"),
    (b"]" * 10 + b"[" * 100, 1, "expected JSON, got ']]]"),
    (b'["' + b"[" * 100, 1, "expected JSON"),
    (b"[NaN]", 1, "expected a number, got NaN"),
    (b'{"a": [1,\n-Infinity]}', 2, "expected a number, got -Infinity"),
    (b'{"a": {"b": {"c":\nInfinity}}}', 2, "expected a number, got Infinity"),
    (b"[1,\n\n1e999]", 3, "expected a number within 64 bits, got 1e999"),
    (b"[-1e999]", 1, "expected a number within 64 bits, got -1e999"),
    (
        b"[\n" + b"1" * 5000 + b"]",
        2,
        "expected an integer of at most 100 characters, got one of 5000",
    ),
    (b"[-" + b"1" * 1_000_000 + b"]", 1, "at most 100 characters, got one of 1000001"),
    (b'{"a": 1,\n"b": 2,\n"a": 1}', 3, "expected each key once in an object, got 'a' again"),
    (b'{"v": {"b": 1,\n"b": 2}}', 2, "expected each key once in an object, got 'b' again"),
    (b'{"v": {"b": [{"c": 1,\n"c": 2}]}}', 2, "got 'c' again"),
    (b'[{"c": {},\n"c": {}}]', 2, "got 'c' again"),
    (b'{"a": 1, "\\u0061": 2}', 1, "got 'a' again"),
    (b'{"a": ["b", "b", "a"], "c": "a",\n"a": 2}', 2, "got 'a' again"),
    (b'["x",\n"\\ud800"]', 2, 'expected valid Unicode, got half a surrogate pair in "\\ud800"'),
    (b'{"\\uDFFF":\n1}', 1, "half a surrogate pair"),
    (b'["\\ude00\\ud83d"]', 1, "half a surrogate pair"),
    (b"[" * 65 + b"]" * 65, 1, "expected at most 64 levels of lists and objects, got more"),
    (b"\n" + b"[" * 1_000_000, 2, "expected at most 64 levels"),
    (b'{"a":' * 1_000_000, 1, "expected at most 64 levels"),
    (b'[{"a":' * 100_000 + b"1" + b"}]" * 100_000, 1, "expected at most 64 levels"),
    (codecs.BOM_UTF8 + b"{}", 1, "expected UTF-8 without a byte order mark"),
    (codecs.BOM_UTF16_LE + "{}".encode("utf-16-le"), 1, "without a byte order mark"),
    (codecs.BOM_UTF32_LE + "{}".encode("utf-32-le"), 1, "without a byte order mark"),
    ("{}".encode("utf-16-le"), 1, "expected JSON"),
    (b'{"a":\n"\xe9"}', 2, "expected UTF-8, got byte 0xe9"),
    (b'["\xed\xa0\x80"]', 1, "expected UTF-8, got byte 0xed"),
]


def file_of(folder: Path, data: bytes) -> Path:
    file = folder / "anno.json"
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(("data", "line", "says"), REFUSED, ids=range(len(REFUSED)))
def test_file_is_refused_with_line_and_reason(
    tmp_path: Path, data: bytes, line: int, says: str
) -> None:
    file = file_of(tmp_path, data)
    with pytest.raises(AnnotationError) as caught:
        read_json(file)
    message = str(caught.value)
    assert message.startswith(f"{file}:{line}: ")
    assert says in message
    assert len(message) < 400


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        " null ",
        "-0.0",
        '"\\ud83d\\ude00"',
        '"\\\\ud800"',
        '{"a": {}, "b": [{}], "": {"": ""}}',
        '\r\n{ "a"\t:\n[1, 2.5e3, -7, true, false, null] , "\\n{[": "]}\\"" }\n',
        '{"a": {"x": {"a": 1}}, "b": {"x": {"a": 1}}}',
        '{"e\u0301": 1, "\u00e9": 2}',
        "[" * 64 + "]" * 64,
        '["' + "[" * 100 + '"]',
        f"[{'9' * 100}, 1.{'9' * 5000}, 1e-999]",
    ],
)
def test_value_is_that_of_the_standard_reader(tmp_path: Path, text: str) -> None:
    value = read_json(file_of(tmp_path, text.encode()))
    assert value == json.loads(text)
    assert repr(value) == repr(json.loads(text))


def test_keys_of_the_two_outer_levels_know_their_lines(tmp_path: Path) -> None:
    text = '\n{"a": {"x": 1,\n\n"y": {"z":\n[1,\n2]}}, "b":\n7,\n"c": [{"d": 1}],\n"e": {}}'
    value = read_json(file_of(tmp_path, text.encode()))
    assert isinstance(value, JsonObject)
    assert value.lines == {"a": 2, "b": 6, "c": 8, "e": 9}
    assert value["a"].lines == {"x": 2, "y": 4}
    assert value["e"].lines == {}
    assert type(value["a"]["y"]) is dict
    assert type(value["c"][0]) is dict


def test_file_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    file = file_of(tmp_path, b"[1, 2, 3]")
    assert read_json(file, max_bytes=9) == [1, 2, 3]
    with pytest.raises(AnnotationError, match="expected at most 8 bytes, the file is larger"):
        read_json(file, max_bytes=8)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"none\.json: cannot be read: No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(AnnotationError, match="cannot be read: Is a directory"):
        read_json(tmp_path)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(values, st.sampled_from([None, 0, 1]), st.booleans())
def test_what_the_standard_writer_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = read_json(file_of(tmp_path_factory.getbasetemp(), text.encode()))
    assert repr(found) == repr(value)
    if isinstance(found, JsonObject):
        lines = text.split("\n")
        assert all(
            json.dumps(key, ensure_ascii=ascii_only) in lines[line - 1]
            for key, line in found.lines.items()
        )


pieces = st.sampled_from(
    [
        *'{}[]:,"\\\n 1-\0\ufeff',
        *('"a"', '"b"', '{"a":1,"a":1}', '{"a":', '"\\ud800"'),
        *("1e999", "1.5", "1" * 101, "NaN", "Infinity", "null"),
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(pieces, max_size=30).map("".join))
def test_arbitrary_text_is_read_like_the_standard_reader_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    try:
        found = read_json(file_of(tmp_path_factory.getbasetemp(), text.encode()))
    except AnnotationError:
        return
    assert found == json.loads(text)
