"""Canonical JSON: one value, one byte string; and the strict reading of it."""

import json
import re
from itertools import chain
from typing import Any

from clipshards.packer.format.errors import FormatError


def encode_json(value: Any) -> bytes:
    r"""Return the only encoding of `value` that the format allows.

    Keys sorted by code point, no spaces, UTF-8 unescaped, integers and floats kept
    apart (a float is the shortest text that reads back to it, with `.0` or an exponent).

    Raises:
        ValueError: NaN, an infinity, or text that is not valid Unicode.

    >>> encode_json({"b": 1.0, "a": [1, "é"]}).decode()
    '{"a":[1,"é"],"b":1.0}'
    """
    return _ENCODER.encode(value).encode()


# Made once: json.dumps makes one with each call.
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)

_DECODER = json.JSONDecoder()

MAX_DEPTH = 32
"""Levels of lists and objects. More would overflow whatever walks through the value later."""


def decode_json(data: bytes, *, where: str) -> Any:
    """Return the value that `data` encodes.

    Args:
        data: Bytes that should be canonical JSON.
        where: The place to name in an error.

    Raises:
        FormatError: Not JSON, not canonical (duplicate keys, NaN, spaces, another number
            format), or nested deeper than 32 levels.
    """
    try:
        # Decoded here: json.loads would guess the encoding of bytes first.
        value = _DECODER.decode(data.decode())
        canonical = encode_json(value) == data
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{where}: expected canonical JSON: {exc}") from exc
    if not canonical:
        raise FormatError(f"{where}: expected canonical JSON, got another spelling of the value")
    # Most documents have fewer brackets than levels are allowed.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _is_too_deep(value):
        raise FormatError(f"{where}: expected at most {MAX_DEPTH} levels of lists and objects")
    return value


_CONTAINERS = frozenset({list, dict})


def _is_too_deep(value: Any) -> bool:
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for outer in level:
            items = outer.values() if type(outer) is dict else outer
            # Columns are long, and most hold no container.
            if not _CONTAINERS.isdisjoint(map(type, items)):
                inner += [item for item in items if type(item) in _CONTAINERS]
        level = inner
    return bool(level)


# What integers of the format are: anything larger may not become arithmetic.
_INT64 = range(-(2**63), 2**63)


def check_schema(value: Any, schema: Any, *, where: str) -> None:
    """Check that `value` has exactly the shape of `schema`.

    A schema is a type (`str`, `int` for 64 bits, `float`, `bool`, `dict` for any object), a list of
    one schema (a list of such values), a tuple of schemas (a list of that length), or a
    dict (an object with exactly these keys).

    Raises:
        FormatError: The first place that differs, as a path from `where`.

    >>> check_schema({"size": [340, 256]}, {"size": (int, int)}, where="json")
    >>> check_schema({"size": [340]}, {"size": (int, int)}, where="json")
    Traceback (most recent call last):
    clipshards.packer.format.errors.FormatError: json.size: expected 2 values, got 1
    """
    fault = _fault(value, schema)
    if fault is not None:
        path, words = fault
        raise FormatError(f"{where}{path}: {words}")


def _fault(value: Any, schema: Any) -> tuple[str, str] | None:
    """Return the path to the first place that differs, and what is wrong; None for nothing."""
    # No text is built for what fits: every sample that is read comes through here.
    if isinstance(schema, type):
        # bool is an int in Python and is not one in JSON.
        if type(value) is not schema:
            return "", f"expected {schema.__name__}, got {_brief(value)}"
        if schema is int and value not in _INT64:
            return "", f"expected an integer of 64 bits, got {_brief(value)}"
    elif isinstance(schema, dict):
        if type(value) is not dict:
            return "", f"expected an object, got {_brief(value)}"
        if value.keys() != schema.keys():
            # Those of a state that was not read from JSON may be anything.
            odd = sorted(map(_shown, value.keys() ^ schema.keys()))
            return "", f"missing or unknown key {odd[0]}"
        for key, inner in schema.items():
            item = value[key]
            if type(item) is not inner or (inner is int and item not in _INT64):
                fault = _fault(item, inner)
                if fault is not None:
                    return f".{key}{fault[0]}", fault[1]
    else:
        if type(value) is not list:
            return "", f"expected a list, got {_brief(value)}"
        if isinstance(schema, tuple):
            if len(value) != len(schema):
                return "", f"expected {len(schema)} values, got {len(value)}"
            inners = schema
        else:
            if _all_plain(value, schema[0]):
                return None
            inners = schema * len(value)
        for place, (item, inner) in enumerate(zip(value, inners, strict=True)):
            if type(item) is not inner or (inner is int and item not in _INT64):
                fault = _fault(item, inner)
                if fault is not None:
                    return f"[{place}]{fault[0]}", fault[1]
    return None


class Schema:
    """A schema for `check_schema`, with a fast way to read what is spelled plainly.

    One regular expression knows the canonical spellings of the schema's values, but for texts
    with an escape, integers of 19 digits and floats that are long, large or small. What it
    matches is canonical and of the schema, with nothing left to check.
    """

    def __init__(self, schema: Any) -> None:
        """Take a schema in which every object has its keys named."""
        self._schema = schema
        self._plain = re.compile(_plain_spelling(schema).encode())

    def decode(self, data: bytes, *, where: str) -> Any:
        """Return the value that `data` encodes.

        Raises:
            FormatError: Not canonical JSON, or not of the schema.
        """
        if self._plain.fullmatch(data):
            try:
                return _DECODER.raw_decode(data.decode())[0]
            except UnicodeDecodeError:
                pass
        value = decode_json(data, where=where)
        check_schema(value, self._schema, where=where)
        return value


_PLAIN = {
    str: r'"[^"\\\x00-\x1f]*"',
    int: r"(?:0|-?[1-9][0-9]{0,17})",
    # At most 15 digits, and written without an exponent: such a text is the only one of its float.
    float: r"-?(?:[1-9][0-9]{0,6}\.(?:0|[0-9]{0,7}[1-9])|0\.(?:0|(?!0000)[0-9]{0,7}[1-9]))",
    bool: r"(?:true|false)",
}


def _plain_spelling(schema: Any) -> str:
    """Return the regular expression of `Schema`."""
    if isinstance(schema, type):
        return _PLAIN[schema]
    if isinstance(schema, dict):
        pairs = (rf'"{re.escape(key)}":{_plain_spelling(schema[key])}' for key in sorted(schema))
        return r"\{" + ",".join(pairs) + r"\}"
    if isinstance(schema, tuple):
        return r"\[" + ",".join(map(_plain_spelling, schema)) + r"\]"
    one = _plain_spelling(schema[0])
    # Possessive: places to come back to would take a hundred bytes for each value.
    return rf"\[(?:{one}(?:,{one})*+)?\]"


def _all_plain(values: list[Any], kind: Any) -> bool:
    """Return whether all values are of one plain type: columns are long, and sound as a rule."""
    if isinstance(kind, list) and set(map(type, values)) <= {list}:
        values, kind = list(chain.from_iterable(values)), kind[0]
    if not isinstance(kind, type) or not set(map(type, values)) <= {kind}:
        return False
    return kind is not int or not values or (min(values) in _INT64 and max(values) in _INT64)


def _brief(value: Any) -> str:
    text = _shown(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, deep lists
        return "(beyond what can be shown)"
