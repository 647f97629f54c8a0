"""A schema read the fast way gives what the slow way gives: the same value, or the same error."""

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipshards.packer.format.canonical import (
    _PLAIN,
    Schema,
    check_schema,
    decode_json,
    encode_json,
)
from clipshards.packer.format.errors import FormatError

FIELDS = {
    "id": str,
    "labels": [int],
    "total": int,
    "compressed": bool,
    "shape": (int, int),
    "valid": [(float, int)],
    "threshold": float,
    "absent": [str],
}

texts = st.text(max_size=6) | st.sampled_from(["", 'a"b', "\\", "\x7f", "é漢", "\u2028"])
integers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 10**17, 10**18, 10**19])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 0.1, 0.0001, 0.00001, 0.1 + 0.2, 1e16, 1e-7, 9999999.9, 12345678.5]
)
values = st.fixed_dictionaries(
    {
        "id": texts,
        "labels": st.lists(integers, max_size=3),
        "total": integers,
        "compressed": st.booleans(),
        "shape": st.tuples(integers, integers).map(list),
        "valid": st.lists(st.tuples(floats, integers).map(list), max_size=2),
        "threshold": floats,
        "absent": st.lists(texts, max_size=2),
    }
)
# What is done to a document: where (as a share of its length), and with which byte.
edits = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["replace", "delete", "insert"]),
        st.sampled_from([bytes([byte]) for byte in b'0123456789.-+eE,[]{}":tfn \x00\xff\xc3\\a']),
    ),
    max_size=3,
)
SCHEMA = Schema(FIELDS)


def slow(data: bytes) -> Any:
    value = decode_json(data, where="w")
    check_schema(value, FIELDS, where="w")
    return value


def outcome(read: Any, data: bytes) -> str:
    try:
        return repr(read(data))
    except FormatError as exc:
        return f"refused: {exc}"


@given(values, edits)
@example({"id": "", "labels": [], "total": 0, "compressed": True, "shape": [0, 0], "valid": [],
          "threshold": 0.0, "absent": []}, [(0.0, "insert", b" ")])  # fmt: skip
def test_the_fast_way_gives_what_the_slow_way_gives(value: dict[str, Any], changes: Any) -> None:
    data = encode_json(value)
    for share, how, byte in changes:
        place = round(share * len(data))
        behind = place if how == "insert" else place + 1
        data = data[:place] + (b"" if how == "delete" else byte) + data[behind:]
    assert outcome(lambda text: SCHEMA.decode(text, where="w"), data) == outcome(slow, data)


def test_common_documents_go_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {
        "id": "kitchen/v_0001.mp4",
        "labels": [3, 17],
        "total": 300,
        "compressed": False,
        "shape": [1080, 1920],
        "valid": [[0.5, 12]],
        "threshold": 0.25,
        "absent": ["box_score.npy"],
    }

    def never(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("clipshards.packer.format.canonical.decode_json", never)
    assert SCHEMA.decode(encode_json(value), where="w") == value


@given(st.from_regex(_PLAIN[float], fullmatch=True))
def test_a_plain_float_is_the_only_text_of_its_value(text: str) -> None:
    assert repr(float(text)) == text


@given(st.from_regex(_PLAIN[int], fullmatch=True))
def test_a_plain_integer_is_the_only_text_of_its_value_and_has_64_bits(text: str) -> None:
    assert str(int(text)) == text
    assert -(2**63) <= int(text) < 2**63


def test_a_long_hostile_text_takes_no_time() -> None:
    # Steps of the expression must not multiply.
    data = b'{"absent":[' + b",".join([b'"a"'] * 50_000) + b',"compressed":'
    with pytest.raises(FormatError):
        SCHEMA.decode(data, where="w")
    assert re.fullmatch(_PLAIN[str], '"' + "a" * 100_000) is None
