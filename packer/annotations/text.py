"""Lines of a text annotation, read as strictly as they can be without guessing."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path

from clipshards.packer.format.errors import AnnotationError


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
