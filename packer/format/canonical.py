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

_DECODER = json.JSONDecoder()


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
        # Decoded here: json.loads would guess the encoding of bytes first.
        value = _DECODER.decode(data.decode())
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
            odd = sorted(value.keys() ^ schema.keys())
            return "", f"missing or unknown key {odd[0]!r}"
        for key, inner in schema.items():
            item = value[key]
            if type(item) is not inner or inner is int:
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
            inners = schema * len(value)
        for place, (item, inner) in enumerate(zip(value, inners, strict=True)):
            if type(item) is not inner or (inner is int and item not in _INT64):
                fault = _fault(item, inner)
                if fault is not None:
                    return f"[{place}]{fault[0]}", fault[1]
    return None


def _brief(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
