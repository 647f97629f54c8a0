"""Canonical JSON: one value, one byte string; and the strict reading of it."""

import json
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


def decode_json(data: bytes, *, where: str) -> Any:
    """Return the value that `data` encodes.

    Args:
        data: Bytes that should be canonical JSON.
        where: The place to name in an error.

    Raises:
        FormatError: Not JSON, not canonical (duplicate keys, NaN, spaces, another number
            format), or nested deeper than Python's parser goes.
    """
    try:
        value = json.loads(data)
        canonical = encode_json(value) == data
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{where}: expected canonical JSON: {exc}") from exc
    if not canonical:
        raise FormatError(f"{where}: expected canonical JSON, got another spelling of the value")
    return value


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
    if isinstance(schema, type):
        # bool is an int in Python and is not one in JSON.
        if type(value) is not schema:
            raise FormatError(f"{where}: expected {schema.__name__}, got {_brief(value)}")
        if schema is int and value not in _INT64:
            raise FormatError(f"{where}: expected an integer of 64 bits, got {_brief(value)}")
    elif isinstance(schema, dict):
        if type(value) is not dict:
            raise FormatError(f"{where}: expected an object, got {_brief(value)}")
        if value.keys() != schema.keys():
            odd = sorted(value.keys() ^ schema.keys())
            raise FormatError(f"{where}: missing or unknown key {odd[0]!r}")
        for key, inner in schema.items():
            check_schema(value[key], inner, where=f"{where}.{key}")
    else:
        if type(value) is not list:
            raise FormatError(f"{where}: expected a list, got {_brief(value)}")
        if isinstance(schema, tuple):
            if len(value) != len(schema):
                raise FormatError(f"{where}: expected {len(schema)} values, got {len(value)}")
            inners = list(schema)
        else:
            inners = schema * len(value)
        for place, (item, inner) in enumerate(zip(value, inners, strict=True)):
            # Long columns of plain values are the common case: no text is built for them.
            if type(item) is not inner or (inner is int and item not in _INT64):
                check_schema(item, inner, where=f"{where}[{place}]")


def _brief(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
