"""The bytes of a pickle, and the numbers, text and byte strings that stand in them.

Sizes are believed only as far as bytes stand behind them, and integers have 64 bits. Every
error about a pickle is raised here, so that it names the file.
"""

import codecs
import re
import struct
from collections.abc import Callable
from typing import Any, NoReturn, cast

from clipshards.packer.format.errors import AnnotationError

MAX_SHOWN = 100
"""Characters of the file's own words that an error shows."""

_EXPECTED = "plain values and NumPy arrays"
_INTEGER = re.compile(rb"[-+]?[0-9]{1,20}")
_BAD_ESCAPE = re.compile(rb"\\(?!['\"nrtabfv]|x[0-9a-fA-F]{2}|[0-7])")
_Unpack = Callable[[bytes, int], tuple[Any, ...]]
_UINTS: dict[int, _Unpack] = {
    width: struct.Struct(code).unpack_from for width, code in ((1, "<B"), (4, "<I"), (8, "<Q"))
}


class Source:
    """A pickle's bytes, the place in them, and the errors that name the file."""

    __slots__ = ("_budget", "_encoding", "_where", "data", "pos", "size")

    def __init__(self, data: bytes, where: str, encoding: str) -> None:
        self.data = data
        self.size = len(data)
        self.pos = 0
        """What is read next."""
        self._where = where
        self._encoding = encoding
        self._budget = len(data) + 1024
        """Bytes that may still be made of bytes that were read before."""

    def spend(self, count: int) -> None:
        """Count bytes that are made of bytes that were read before."""
        self._budget -= count
        if self._budget < 0:
            self.refuse("bytes that are copied again and again")

    # Errors.

    def fail(self, says: str) -> NoReturn:
        """Raise an error that names the file."""
        raise AnnotationError(f"{self._where}: {says}") from None

    def refuse(self, got: str) -> NoReturn:
        """Raise the error of a sound pickle that holds something else than data."""
        self.fail(f"expected {_EXPECTED}, got {got}")

    def fail_broken(self, what: str) -> NoReturn:
        """Raise the error of what is no pickle, or not as any pickler writes it."""
        start = self.data[:64]
        hint = "; is this a text file?" if start[:1] != b"\x80" and _is_text(start) else ""
        self.fail(f"expected a pickle, got {what} at byte {self.pos - 1}{hint}")

    def fail_cut(self) -> NoReturn:
        """Raise the error of a pickle that lacks its end."""
        self.fail(f"expected a whole pickle, the file ends too early, after {self.size} bytes")

    # Pieces.

    def uint(self, width: int) -> int:
        """Return the next number of this many bytes; struct.error if they are missing."""
        start = self.pos
        self.pos = start + width
        return cast(int, _UINTS[width](self.data, start)[0])

    def counted(self, width: int) -> bytes:
        """Return the bytes behind their count, a number of `width` bytes."""
        start = self.pos + width
        self.pos = end = start + _UINTS[width](self.data, self.pos)[0]
        if end > self.size:
            self.fail_cut()
        return self.data[start:end]

    def line(self) -> bytes:
        """Return the next line without its end."""
        start = self.pos
        end = self.data.find(b"\n", start)
        if end < 0:
            self.fail_cut()
        self.pos = end + 1
        return self.data[start:end]

    def integer(self, line: bytes) -> int:
        """Return the integer that a line spells, of 20 digits at most."""
        if not _INTEGER.fullmatch(line):
            self.refuse(f"{line[:MAX_SHOWN]!r} for an integer")
        return int(line)

    def decoded(self, data: bytes) -> str:
        """Return a byte string of Python 2 as text."""
        try:
            return str(data, self._encoding)
        except UnicodeDecodeError as exc:
            self.fail(
                f"expected ASCII in a byte string of Python 2, got byte {data[exc.start]:#04x}; "
                "read the file with encoding 'latin1'"
            )


def _is_text(data: bytes) -> bool:
    try:
        return str(data, "utf-8", "ignore").translate({9: 32, 10: 32, 13: 32}).isprintable()
    except UnicodeDecodeError:
        return False


# Values that stand in the file, read from behind their opcode.


def _long(source: Source, width: int) -> int:
    count = source.uint(width)
    if count > 9:  # unsigned 64-bit integers have a ninth byte
        source.refuse(f"an integer of {count} bytes")
    start = source.pos
    source.pos = end = start + count
    if end > source.size:
        source.fail_cut()
    return _within_64_bits(source, int.from_bytes(source.data[start:end], "little", signed=True))


def _text_int(source: Source) -> int:
    line = source.line()
    if line in (b"00", b"01"):
        return line == b"01"
    return _within_64_bits(source, source.integer(line))


def _text_long(source: Source) -> int:
    return _within_64_bits(source, source.integer(source.line().removesuffix(b"L")))


def _within_64_bits(source: Source, value: int) -> int:
    if not -(2**63) <= value < 2**64:
        source.refuse("an integer of more than 64 bits")
    return value


def _text_float(source: Source) -> float:
    line = source.line()
    try:
        return float(line[:MAX_SHOWN])
    except ValueError:
        source.refuse(f"{line[:MAX_SHOWN]!r} for a float")


def _unicode(source: Source, width: int) -> str:
    return str(source.counted(width), "utf-8", "surrogatepass")


def _text_unicode(source: Source) -> str:
    try:
        return str(source.line(), "raw-unicode-escape")
    except UnicodeDecodeError:
        source.refuse("text with a broken escape")


def _string(source: Source, width: int) -> str:
    return source.decoded(source.counted(width))


def _text_string(source: Source) -> str:
    line = source.line()
    if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
        source.fail_broken("a string without quotes")
    text = line[1:-1]
    if b"\\" in text:
        # Python's decoder would let a bad escape pass with a warning.
        if _BAD_ESCAPE.search(text.replace(rb"\\", b"")):
            source.refuse("text with a broken escape")
        text = codecs.escape_decode(text)[0]
    return source.decoded(text)


def _number(code: str) -> Callable[[Source], Any]:
    number = struct.Struct(code)
    unpack, width = number.unpack_from, number.size

    def read(source: Source) -> Any:
        start = source.pos
        source.pos = start + width
        return unpack(source.data, start)[0]

    return read


VALUES: dict[bytes, Callable[[Source], Any]] = {
    b"N": lambda _: None,
    b"\x88": lambda _: True,
    b"\x89": lambda _: False,
    b")": lambda _: (),
    # Numbers.
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"J": _number("<i"),
    b"G": _number(">d"),
    b"\x8a": lambda source: _long(source, 1),
    b"\x8b": lambda source: _long(source, 4),
    b"I": _text_int,
    b"L": _text_long,
    b"F": _text_float,
    # Text and bytes.
    b"\x8c": lambda source: _unicode(source, 1),
    b"X": lambda source: _unicode(source, 4),
    b"\x8d": lambda source: _unicode(source, 8),
    b"V": _text_unicode,
    b"C": lambda source: source.counted(1),
    b"B": lambda source: source.counted(4),
    b"\x8e": lambda source: source.counted(8),
    b"\x96": lambda source: source.counted(8),
    b"U": lambda source: _string(source, 1),
    b"T": lambda source: _string(source, 4),
    b"S": _text_string,
}
"""Opcode -> what it pushes, where that stands in the file itself. Missing bytes of a number are
a struct.error, and text that is no UTF-8 a UnicodeDecodeError."""
