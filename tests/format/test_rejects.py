from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.format.canonical import encode_json
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.rejects import RejectRow, decode_rejects, encode_rejects

FIRST = RejectRow(3, 1, "val-00000003", "a/b.mp4", "val.txt:4", "MediaError", "'a/b.mp4': missing")
SECOND = RejectRow(
    20, 2, "val-00000020", "", "val.txt:21", "AnnotationError", "line\nbreak\r\u2028"
)
LINES = (
    b'{"entries":1,"error":"MediaError","id":"a/b.mp4","key":"val-00000003",'
    b'"message":"\'a/b.mp4\': missing","ordinal":3,"origin":"val.txt:4"}\n'
    b'{"entries":2,"error":"AnnotationError","id":"","key":"val-00000020",'
    b'"message":"line\\nbreak\\r\xe2\x80\xa8","ordinal":20,"origin":"val.txt:21"}\n'
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
rows = st.lists(
    st.builds(
        RejectRow, st.integers(0, 2**40), st.integers(1, 9), texts, texts, texts, texts, texts
    ),
    max_size=5,
    unique_by=lambda row: row.ordinal,
)


def test_each_row_is_one_line() -> None:
    assert encode_rejects([FIRST, SECOND]) == LINES
    assert decode_rejects(LINES, where="x") == [FIRST, SECOND]


def test_no_rejects_are_an_empty_file() -> None:
    assert encode_rejects([]) == b""
    assert decode_rejects(b"", where="x") == []


def test_rows_are_sorted_by_ordinal() -> None:
    assert encode_rejects(iter([SECOND, FIRST])) == LINES


@settings(max_examples=200, deadline=None)
@given(rows)
def test_all_rows_come_back(rejects: list[RejectRow]) -> None:
    data = encode_rejects(rejects)
    assert data.count(b"\n") == len(rejects)
    back = decode_rejects(data, where="x")
    assert back == sorted(rejects, key=lambda row: row.ordinal)
    assert encode_rejects(back) == data


@pytest.mark.parametrize(
    "change", [{"ordinal": 3.0}, {"ordinal": "3"}, {"key": 3}, {"message": None}, {"line": 4}]
)
def test_a_row_of_another_schema_is_refused_with_its_line(change: dict[str, Any]) -> None:
    row = encode_json(asdict(SECOND) | change) + b"\n"
    with pytest.raises(FormatError, match=r"^rejects\.jsonl:2"):
        decode_rejects(encode_rejects([FIRST]) + row, where="rejects.jsonl")


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        LINES + b"\n",
        b"\n" + LINES,
        LINES.replace(b"\n{", b"\n\n{"),
        LINES.replace(b'"error":', b'"error": '),
        LINES[:-2] + b"\n",
        LINES[:60],
        b"\xef\xbb\xbf" + LINES,
    ],
)
def test_lines_in_another_spelling_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_rejects(data, where="x")


@pytest.mark.parametrize(
    "data",
    [
        LINES[:-1],
        LINES.replace(b"\n", b"\r\n"),
        LINES.replace(b"\n", b"\r"),
        encode_rejects([SECOND]) + encode_rejects([FIRST]),
        encode_rejects([FIRST]) * 2,
    ],
    ids=["no last line end", "CRLF", "CR", "not sorted", "ordinal twice"],
)
def test_files_in_another_spelling_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_rejects(data, where="x")


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=60))
def test_arbitrary_bytes_are_refused_with_our_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_rejects(data, where="x")
