import json
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.errors import FormatError

TABLE: list[tuple[Any, bytes]] = [
    (None, b"null"),
    (True, b"true"),
    (False, b"false"),
    (0, b"0"),
    (-1, b"-1"),
    (2**63 - 1, b"9223372036854775807"),
    (-(2**63), b"-9223372036854775808"),
    (0.0, b"0.0"),
    (-0.0, b"-0.0"),
    (1.0, b"1.0"),
    (25.5, b"25.5"),
    (0.1, b"0.1"),
    (1 / 3, b"0.3333333333333333"),
    (30000 / 1001, b"29.97002997002997"),
    (0.0001, b"0.0001"),
    (0.00001, b"1e-05"),
    (1.5e-7, b"1.5e-07"),
    (9999999999999998.0, b"9999999999999998.0"),
    (1e16, b"1e+16"),
    (1.5e16, b"1.5e+16"),
    (1e100, b"1e+100"),
    (5e-324, b"5e-324"),
    (1.7976931348623157e308, b"1.7976931348623157e+308"),
    ("", b'""'),
    ("a/b", b'"a/b"'),
    ('"\\', b'"\\"\\\\"'),
    ("\b\t\n\f\r", b'"\\b\\t\\n\\f\\r"'),
    ("\0\x0b\x1f", b'"\\u0000\\u000b\\u001f"'),
    ("\x7f\x80\u2028", b'"\x7f\xc2\x80\xe2\x80\xa8"'),
    ("é€", b'"\xc3\xa9\xe2\x82\xac"'),
    ("\U0001f600", b'"\xf0\x9f\x98\x80"'),
    ("\ufeff", b'"\xef\xbb\xbf"'),
    ([], b"[]"),
    ({}, b"{}"),
    ([1, [2.0, "3"], {}], b'[1,[2.0,"3"],{}]'),
    ({"b": 1, "a": 2, "": 3, "B": 4, "aa": 5}, b'{"":3,"B":4,"a":2,"aa":5,"b":1}'),
    # By code point: U+FF5E stands before U+1F600, by UTF-16 unit it would not.
    ({"\U0001f600": 1, "\uff5e": 2}, b'{"\xef\xbd\x9e":2,"\xf0\x9f\x98\x80":1}'),
]

REFUSED = {
    "nothing": b"",
    "not JSON": b"{",
    "two values": b"1 2",
    "duplicate key": b'{"a":1,"a":1}',
    "duplicate key in another spelling": b'{"a":1,"\\u0061":1}',
    "keys unsorted": b'{"b":1,"a":1}',
    "keys by UTF-16 unit": b'{"\xf0\x9f\x98\x80":1,"\xef\xbd\x9e":2}',
    "NaN": b"NaN",
    "Infinity": b"[Infinity]",
    "-Infinity": b"-Infinity",
    "float that overflows": b"1e400",
    "space behind a colon": b'{"a": 1}',
    "space behind a comma": b"[1, 2]",
    "space in front": b" 1",
    "line feed behind": b"1\n",
    "1e3": b"1e3",
    "1E+16": b"1E+16",
    "1e16": b"1e16",
    "1e-5": b"1e-5",
    "1.50": b"1.50",
    "1000.0 as an exponent": b"1e+03",
    "too many digits": b"0.10000000000000001",
    "minus zero integer": b"-0",
    "leading zero": b"01",
    "plus": b"+1",
    "point first": b".5",
    "point last": b"5.",
    "single quotes": b"'a'",
    "trailing comma": b"[1,]",
    "comment": b"1/**/",
    "escaped slash": b'"\\/"',
    "escape of a plain letter": b'"\\u0061"',
    "escape outside ASCII": b'"\\u00e9"',
    "escaped surrogate pair": b'"\\ud83d\\ude00"',
    "upper-case escape": b'"\\u001F"',
    "long escape of a line feed": b'"\\u000a"',
    "raw line feed in a string": b'"\n"',
    "lone surrogate, escaped": b'"\\ud800"',
    "lone surrogate, raw": b'"\xed\xa0\x80"',
    "surrogate pair, raw": b'"\xed\xa0\xbd\xed\xb8\x80"',
    "overlong UTF-8": b'"\xc0\x80"',
    "Latin-1": b'"\xe9"',
    "byte order mark": b"\xef\xbb\xbf1",
    "UTF-16": '"a"'.encode("utf-16"),
    "UTF-16 without a mark": '"a"'.encode("utf-16-le"),
    "UTF-32": '"a"'.encode("utf-32-be"),
    "integer of 5000 digits": b"9" * 5000,
    "lists without end": b"[" * 1_000_000,
    "objects without end": b'{"a":' * 1_000_000,
    "a million lists": b"[" * 1_000_000 + b"]" * 1_000_000,
}


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal, types and signs of zero included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(("value", "data"), TABLE, ids=lambda value: ascii(value)[:30])
def test_one_value_has_one_spelling(value: Any, data: bytes) -> None:
    assert encode_json(value) == data
    assert same(decode_json(data, where="x"), value)


@pytest.mark.parametrize("what", REFUSED)
def test_another_spelling_is_refused(what: str) -> None:
    with pytest.raises(FormatError, match=r"^index\.json: expected canonical JSON"):
        decode_json(REFUSED[what], where="index.json")


@settings(max_examples=300, deadline=None)
@given(values)
def test_every_value_comes_back(value: Any) -> None:
    data = encode_json(value)
    assert same(decode_json(data, where="x"), value)
    assert same(json.loads(data), value)


@settings(max_examples=300, deadline=None)
@given(values, st.sampled_from([{"indent": 1}, {"separators": (", ", ": ")}, {"sort_keys": False}]))
def test_only_the_canonical_spelling_of_a_value_is_read(value: Any, how: dict[str, Any]) -> None:
    options: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False} | how
    other = json.dumps(value, **options).encode()
    if other == encode_json(value):
        return
    with pytest.raises(FormatError):
        decode_json(other, where="x")


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=40)
    | st.text('[]{}",:0123456789.eE+-aflnrstu\\ \n', max_size=30).map(str.encode)
)
@example(b"-")
def test_arbitrary_bytes_are_refused_with_our_error_or_canonical(data: bytes) -> None:
    try:
        value = decode_json(data, where="x")
    except FormatError:
        return
    assert encode_json(value) == data


@settings(max_examples=500, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_spelled_as_the_specification_says(number: float) -> None:
    text = encode_json(number).decode()
    size = abs(number)
    mantissa, _, exponent = text.removeprefix("-").partition("e")
    assert float(text) == number
    if size == 0 or 1e-4 <= size < 1e16:
        whole, fraction = mantissa.split(".")
        assert not exponent
        assert whole
        assert fraction
    else:
        assert len(mantissa.split(".")[0]) == 1
        assert exponent[0] in "+-"
        assert len(exponent) >= 3
        assert not mantissa.endswith(".0")


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, [-math.inf], "\ud800", {"\udfff": 1}], ids=ascii
)
def test_what_has_no_canonical_spelling_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|surrogates"):
        encode_json(value)


@pytest.mark.parametrize(
    "value",
    [b"a", {1, 2}, object(), np.int64(1), {(1, 2): 3}],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_a_json_value_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        encode_json(value)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, int),
        (1.0, float),
        ("", str),
        (True, bool),
        ({"any": [None]}, dict),
        ([], [int]),
        ([1, 2], [int]),
        ([[1], []], [[int]]),
        ([1, 2], (int, int)),
        (["a", 1], (str, int)),
        ([], ()),
        ({}, {}),
        ({"a": 1, "b": {"c": [0.5]}}, {"b": {"c": [float]}, "a": int}),
        ([{"a": 1}], [{"a": int}]),
        ([{}], [dict]),
    ],
)
def test_values_of_a_schema_pass(value: Any, schema: Any) -> None:
    check_schema(value, schema, where="x")


@pytest.mark.parametrize(
    ("value", "schema", "message"),
    [
        (True, int, "x: expected int, got bool True"),
        (1, bool, "x: expected bool, got int 1"),
        (1, float, "x: expected float, got int 1"),
        (1.0, int, "x: expected int, got float 1.0"),
        (None, str, "x: expected str, got NoneType None"),
        (None, dict, "x: expected dict, got NoneType None"),
        ([], dict, "x: expected dict, got list []"),
        ([], {}, "x: expected an object, got list []"),
        ({}, [int], "x: expected a list, got dict {}"),
        ("ab", [str], "x: expected a list, got str 'ab'"),
        ((1, 2), (int, int), "x: expected a list, got tuple (1, 2)"),
        ([1, True], [int], "x[1]: expected int, got bool True"),
        ([[1], [1.0]], [[int]], "x[1][0]: expected int, got float 1.0"),
        ([[1], 2], [[int]], "x[1]: expected a list, got int 2"),
        ([1], (int, int), "x: expected 2 values, got 1"),
        ([1, 2, 3], (int, int), "x: expected 2 values, got 3"),
        ([1, "2"], (int, int), "x[1]: expected int, got str '2'"),
        ({"a": 1}, {"a": int, "b": int}, "x: missing or unknown key 'b'"),
        ({"a": 1, "c": 1}, {"a": int}, "x: missing or unknown key 'c'"),
        ({"a": {"b": [0]}}, {"a": {"b": [str]}}, "x.a.b[0]: expected str, got int 0"),
        ("y" * 100, int, "x: expected int, got str '" + "y" * 56 + "..."),
    ],
)
def test_another_value_is_refused_with_its_place(value: Any, schema: Any, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        check_schema(value, schema, where="x")
    assert str(caught.value) == message


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_never_brings_a_foreign_error(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    for depth in range(1, sys.getrecursionlimit() + 10):
        data = opening * depth + b"1" + closing * depth
        with pytest.raises(FormatError):
            check_schema(decode_json(data, where="x"), {"a": {"a": [str]}}, where="x")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**4000])
def test_integers_beyond_64_bits_are_refused(value: int) -> None:
    with pytest.raises(FormatError):
        check_schema(value, int, where="x")
    with pytest.raises(FormatError):
        check_schema([1, value], [int], where="x")
