"""MMAction2's VideoDataset list: `path label [label ...]`, one video a line."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from clipshards.packer.annotations.text import read_entries, read_number
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.manifest import LabelMode, labels_fit
from clipshards.packer.records import Origin, Reject, VideoRecord

_LAYOUT = {
    "one": "'path label'",
    "many": "'path label [label ...]'",
    "none": "'path' alone, as the list is packed unlabelled",
}


@dataclass(frozen=True, slots=True)
class VideoList:
    """The entries of a video list, in file order, duplicates kept.

    Where MMAction2's VideoDataset reads a line rightly, the same record comes out. Where it
    takes in a line wrongly without a word (a tab instead of a space, a blank line, a
    missing or negative label), the line is a `Reject` that says what was expected.
    """

    file: str | os.PathLike[str]
    labels: LabelMode = "one"
    """Labels on each line: exactly one, one or more, or none."""
    delimiter: str = " "
    """What stands between two fields, exactly once; paths with spaces need another one."""

    def __post_init__(self) -> None:
        if self.labels not in _LAYOUT:
            raise ValueError(f"labels {self.labels!r}: expected one of {list(_LAYOUT)}")
        if not self.delimiter or "\n" in self.delimiter or "\r" in self.delimiter:
            raise ValueError(f"delimiter {self.delimiter!r}: expected text within one line")

    def __iter__(self) -> Iterator[VideoRecord | Reject]:
        """Return an iterator of one record or reject a line.

        Raises:
            AnnotationError: The file as a whole is unreadable or empty.
        """
        return read_entries(self.file, self._parse)

    def _parse(self, line: str, origin: Origin) -> VideoRecord:
        text = line.strip()
        if not text:
            raise AnnotationError(f"expected {_LAYOUT[self.labels]}, got a blank line; delete it")
        if "\t" not in self.delimiter and "\t" in text:
            raise AnnotationError(
                f"expected fields separated by {self.delimiter!r}, got a tab in {line!r}"
            )
        path, *fields = text.split(self.delimiter)
        if self.delimiter == " " and "" in fields:
            raise AnnotationError(f"expected one space between two fields, got several in {line!r}")
        if "\0" in path:
            raise AnnotationError(f"expected a path, got a NUL character in {line!r}")
        if not path or not labels_fit(self.labels, len(fields)):
            hint = self._hint(fields)
            raise AnnotationError(f"expected {_LAYOUT[self.labels]}, got {line!r}{hint}")
        labels = tuple(read_number(field, "a class id", line) for field in fields)
        return VideoRecord(path, labels, origin=origin)

    def _hint(self, fields: list[str]) -> str:
        if not fields:
            return "; is this list unlabelled?"
        if self.labels == "one" and all(re.fullmatch("[0-9]+", field) for field in fields):
            return "; is this list multi-label?"
        if self.delimiter == " ":
            return "; paths with spaces need another delimiter"
        return ""
