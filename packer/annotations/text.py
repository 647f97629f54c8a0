"""Lines of a text annotation, read as strictly as they can be without guessing."""

import codecs
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.records import Origin, Reject

_Entry = TypeVar("_Entry")


def read_entries(
    file: str | os.PathLike[str], parse: Callable[[str, Origin], _Entry]
) -> Iterator[_Entry | Reject]:
    """Yield what `parse` makes of each line, and a Reject where it raises AnnotationError.

    Args:
        file: A text annotation.
        parse: Called with a line without its end, and the line's place.

    Raises:
        AnnotationError: As for `read_lines`.
    """
    path = Path(file)
    for number, line in read_lines(path):
        origin = Origin(path.name, line=number)
        try:
            yield parse(line, origin)
        except AnnotationError as exc:
            yield Reject(str(exc), origin=origin)


def read_number(text: str, what: str, line: str, *, least: int = 0, hint: str = "") -> int:
    """Return a field as a whole number of at least `least`.

    Raises:
        AnnotationError: It is none; says `what` was expected, shows the line and adds a hint.
    """
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    # MMAction2 stores them as int64, and takes -1 for "no label".
    if not least <= number < 2**63:
        raise AnnotationError(f"expected {what}, {least} or more, got {text!r} in {line!r}{hint}")
    return number


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield (line number from 1, line without its end) of a UTF-8 text file.

    Lines end in `\n`, `\r\n` or `\r`, as MMAction2's reader takes them.

    Raises:
        AnnotationError: The file cannot be read, is empty, begins with a byte order mark
            or is not UTF-8; the mark and other encodings would end up inside names.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise AnnotationError(f"{path}: cannot be read: {exc.strerror}") from exc
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise AnnotationError(
            f"{path}:1: expected UTF-8 without a byte order mark, got {data[:3]!r}; "
            "save the file as plain UTF-8"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        bad_line = len((data[: exc.start] + b"?").splitlines())
        raise AnnotationError(
            f"{path}:{bad_line}: expected UTF-8, got byte {data[exc.start]:#04x}; "
            "convert the file to UTF-8"
        ) from exc
    if not text.strip():
        raise AnnotationError(f"{path}: expected at least one entry, the list is empty")
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        yield number, line.removesuffix("\n")
