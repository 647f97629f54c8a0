"""A JSON annotation, read strictly: what other readers take in without a word is refused."""

import codecs
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NoReturn

from clipshards.packer.format.errors import AnnotationError

MAX_JSON_BYTES = 256 * 1024 * 1024
"""Size up to which a file is read: parsed, it takes up to about 30 times as much memory."""
_MAX_DEPTH = 64
_MAX_DIGITS = 100
"""Longer integers take time out of proportion, and overflow where they meet a float."""
_LOCATED_LEVELS = 2

_LINE_END = "\n"
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# A string without an end takes all that is left: else one is looked for at each of its quotes.
_NO_BRACKETS = re.compile(rf'{_STRING}?+|[^"\[\]{{}}]+', re.DOTALL)
_INTEGER = r"-?(?:0|[1-9][0-9]*)"
_TOKEN = re.compile(
    rf"{_STRING}|-?Infinity|NaN|(?P<number>{_INTEGER}(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)|\S",
    re.DOTALL,
)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonObject(dict[str, Any]):
    """An object of a JSON file that knows where its keys stand."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        """Line of each key, counted from 1."""


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    r"""Return what a JSON file holds.

    The outermost object, and the objects that are values in it, are `JsonObject`s: they
    know the line of each key. Lines end in `\n`. Text is valid Unicode, floats are finite.

    Raises:
        AnnotationError: The file cannot be read, is larger than `max_bytes`, is not UTF-8
            without a byte order mark, or is not JSON. Also: a key twice in one object (the
            last would win), NaN, an infinity or a float beyond 64 bits, an integer of more
            than 100 digits, half a surrogate pair, more than 64 levels.
    """
    text = _read_text(path, max_bytes)
    try:
        if _is_too_deep(text):
            raise _RefusedError
        value = _Parser(text).document()
        if _SURROGATE.search(text):
            for place, message in _faults(text):
                raise AnnotationError(_at(path, text, place, message))
    except JSONDecodeError as exc:
        got = repr(text[exc.pos : exc.pos + 20]) if exc.pos < len(text) else "the end of the file"
        raise AnnotationError(
            _at(path, text, exc.pos, f"expected JSON, got {got} ({exc.msg})")
        ) from None
    except _RefusedError:
        raise AnnotationError(_at(path, text, *next(_faults(text)))) from None
    return value


def _at(path: Path, text: str, place: int, message: str) -> str:
    return f"{path}:{text.count(_LINE_END, 0, place) + 1}: {message}"


def _read_text(path: Path, max_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            data = bytearray()
            # By pieces: one large read would take the memory for all that is allowed.
            while len(data) <= max_bytes and (piece := file.read(1 << 20)):
                data += piece
    except OSError as exc:
        raise AnnotationError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(data) > max_bytes:
        raise AnnotationError(f"{path}: expected at most {max_bytes} bytes, the file is larger")
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise AnnotationError(
            f"{path}:1: expected UTF-8 without a byte order mark, got {bytes(data[:3])!r}; "
            "save the file as plain UTF-8"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise AnnotationError(
            f"{path}:{data.count(10, 0, exc.start) + 1}: expected UTF-8, "
            f"got byte {data[exc.start]:#04x}; convert the file to UTF-8"
        ) from exc


def _is_too_deep(text: str) -> bool:
    depth = 0
    for mark in _NO_BRACKETS.sub("", text):
        if mark in "[{":
            depth += 1
        else:
            depth -= 1
        if depth > _MAX_DEPTH:
            return True
        if depth < 0:  # the parser will stop here
            return False
    return False


class _RefusedError(Exception):
    """The parser met something that it takes and we do not; `_faults` finds what and where."""


class _Parser:
    """Python's JSON parser, and around it a loop of our own for the objects with lines."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line = 1
        self._counted = 0
        """Up to where line ends are counted."""
        # The hooks are not told where they are.
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )

    def document(self) -> Any:
        """Return the value of the whole text."""
        value, end = self._value(self._skip(0), levels=_LOCATED_LEVELS)
        end = self._skip(end)
        if end != len(self._text):
            raise JSONDecodeError("Extra data", self._text, end)
        return value

    def _value(self, place: int, *, levels: int) -> tuple[Any, int]:
        """Return the value that begins at `place`, and the place behind it."""
        if not levels or not self._text.startswith("{", place):
            return self._decoder.raw_decode(self._text, place)
        found = JsonObject()
        place = self._skip(place + 1)
        if self._text.startswith("}", place):
            return found, place + 1
        while True:
            if not self._text.startswith('"', place):
                raise JSONDecodeError("Expecting a key in double quotes", self._text, place)
            key, end = self._decoder.raw_decode(self._text, place)
            if key in found:
                raise _RefusedError
            found.lines[key] = self._line_of(place)
            found[key], end = self._value(self._skip(self._behind(":", end)), levels=levels - 1)
            end = self._skip(end)
            if self._text.startswith("}", end):
                return found, end + 1
            place = self._skip(self._behind(",", end))

    def _skip(self, place: int) -> int:
        match = _SPACE.match(self._text, place)
        return match.end() if match else place

    def _behind(self, mark: str, place: int) -> int:
        place = self._skip(place)
        if not self._text.startswith(mark, place):
            raise JSONDecodeError(f"Expecting '{mark}'", self._text, place)
        return place + 1

    def _line_of(self, place: int) -> int:
        """Return the line of a place that is not before the last one asked for."""
        self._line += self._text.count("\n", self._counted, place)
        self._counted = place
        return self._line


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedError
    return found


def _integer(number: str) -> int:
    if len(number) > _MAX_DIGITS:
        raise _RefusedError
    return int(number)


def _float(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise _RefusedError
    return value


def _constant(_: str) -> NoReturn:
    raise _RefusedError


def _faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield place and message of what is refused, in the order of the text.

    Up to the first fault the text is known to be JSON, or to have balanced brackets.
    """
    keys_of: list[set[str] | None] = []  # of the objects and lists around the token
    before = ""
    for match in _TOKEN.finditer(text):
        token, place = match[0], match.start()
        if token in ("{", "["):
            keys_of.append(set() if token == "{" else None)
            if len(keys_of) > _MAX_DEPTH:
                yield place, f"expected at most {_MAX_DEPTH} levels of lists and objects, got more"
        elif token in ("}", "]") and keys_of:
            keys_of.pop()
        elif token.startswith('"'):
            with suppress(JSONDecodeError):
                value = json.loads(token)
                if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                    yield (
                        place,
                        f"expected valid Unicode, got half a surrogate pair in {token[:60]}",
                    )
                keys = keys_of[-1] if keys_of else None
                if keys is not None and before in ("{", ","):
                    if value in keys:
                        yield (
                            place,
                            f"expected each key once in an object, got {value[:60]!r} again",
                        )
                    keys.add(value)
        elif token in ("NaN", "Infinity", "-Infinity"):
            yield place, f"expected a number, got {token}"
        elif match["number"] and token.strip("-0123456789"):
            if math.isinf(float(token)):
                yield place, f"expected a number within 64 bits, got {token[:60]}"
        elif match["number"] and len(token) > _MAX_DIGITS:
            got = f"one of {len(token)}"
            yield place, f"expected an integer of at most {_MAX_DIGITS} characters, got {got}"
        before = token
