"""One row of AVA's csv: a box and an action of a person in a key frame."""

from typing import NamedTuple

from clipshards.packer.format.errors import AnnotationError

SHOWN = 200
"""Characters of the file's own words that a message shows."""

_COLUMNS = "'video_id,timestamp,x1,y1,x2,y2,action_id,entity_id'"


class Row(NamedTuple):
    """What one line says of a person."""

    box: tuple[float, float, float, float]
    label: int
    entity_id: int


def short(value: object) -> str:
    """Return a value as messages show it."""
    return repr(value)[:SHOWN]


def split_row(line: str) -> list[str]:
    """Return the eight fields of a line, the first not empty.

    Raises:
        AnnotationError: It has not eight, or has quotes or a NUL character.
    """
    text = line.strip()
    if not text:
        raise AnnotationError(f"expected {_COLUMNS}, got a blank line; delete it")
    if '"' in text:
        raise AnnotationError(f"expected {_COLUMNS} without quotes, got {line[:SHOWN]!r}")
    fields = text.split(",")
    if len(fields) != 8 or not fields[0]:
        hint = "; a video id holds no comma" if len(fields) > 8 else ""
        raise AnnotationError(f"expected {_COLUMNS}, got {line[:SHOWN]!r}{hint}")
    if "\0" in fields[0]:
        raise AnnotationError(f"expected a video id, got a NUL character in {line[:SHOWN]!r}")
    return fields


def read_row(fields: list[str], line: str) -> Row:
    """Return what the fields behind the timestamp say.

    Raises:
        AnnotationError: The box is none, or an id is no number.
    """
    try:
        x1, y1, x2, y2 = (float(text) for text in fields[2:6])
    except ValueError:
        raise AnnotationError(f"expected a box of four numbers, got {line[:SHOWN]!r}") from None
    # A comparison with what is not a number is never true.
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise AnnotationError(
            f"expected a box of 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1, got {x1}, {y1}, {x2}, {y2}"
        )
    label = read_integer(fields[6], "an action id, 0 or more", line)
    entity_id = read_integer(fields[7], "an entity id in whole numbers", line)
    if label < 0:
        raise AnnotationError(f"expected an action id, 0 or more, got {label} in {line[:SHOWN]!r}")
    return Row((x1, y1, x2, y2), label, entity_id)


def read_integer(text: str, expected: str, line: str) -> int:
    """Return a field as a whole number of 64 bits.

    Raises:
        AnnotationError: It is none; says what was `expected`, and shows the line.
    """
    try:
        value = int(text)
    except ValueError:
        value = 2**63
    # Stored as int64.
    if not -(2**63) <= value < 2**63:
        raise AnnotationError(f"expected {expected}, got {text[:SHOWN]!r} in {line[:SHOWN]!r}")
    return value
