"""Records: entries of an annotation, parsed, no media opened."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record stands in its annotation."""

    file: str
    """Name of the annotation file, without folders."""
    line: int = 0
    """Line, counted from 1; 0 where the file has no lines."""
    index: int = -1
    """Place in the list, counted from 0; used where the file has no lines.

    >>> str(Origin("train.txt", line=17)), str(Origin("records", index=3))
    ('train.txt:17', 'records[3]')
    """

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else f"{self.file}[{self.index}]"


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video with its labels."""

    path: str
    """Relative to the media root, with forward slashes."""
    labels: tuple[int, ...] = ()
    """Class ids, 0 or more, in the annotation's order."""
    id: str = ""
    """The user's own name of the sample; empty for the path."""
    origin: Origin | None = None
    """None for the place in the iterable that `pack` is given."""


@dataclass(frozen=True, slots=True)
class Reject:
    """An entry that cannot be packed, with the reason."""

    message: str
    """What was expected and what stood there."""
    error: str = "AnnotationError"
    """Class name of the error."""
    id: str = ""
    """The entry's own name, as far as it could be read."""
    origin: Origin | None = None
    """None for the place in the iterable that `pack` is given."""
