"""MMAction2's AudioDataset list: `name total_frames label [label ...]`, one sound a line."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from clipshards.packer.annotations.text import read_entries, read_number
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.manifest import LabelMode, labels_fit
from clipshards.packer.records import AudioRecord, Origin, Reject

_LAYOUT = {
    "one": "'name total_frames label'",
    "many": "'name total_frames label [label ...]'",
    "none": "'name total_frames' alone, as the list is packed unlabelled",
}


@dataclass(frozen=True, slots=True)
class AudioList:
    """The entries of an audio list, in file order, duplicates kept.

    Fields are separated by any white space, as MMAction2's AudioDataset reads them, so no
    name can hold a space. What it takes in wrongly without a word (a negative label, no
    frames), and what it stops at, is a `Reject` that says what was expected.
    """

    file: str | os.PathLike[str]
    labels: LabelMode = "one"
    """Labels on each line: exactly one, one or more, or none."""

    def __post_init__(self) -> None:
        if self.labels not in _LAYOUT:
            raise ValueError(f"labels {self.labels!r}: expected one of {list(_LAYOUT)}")

    def __iter__(self) -> Iterator[AudioRecord | Reject]:
        """Return an iterator of one record or reject a line.

        Raises:
            AnnotationError: The file as a whole is unreadable or empty.
        """
        return read_entries(self.file, self._parse)

    def _parse(self, line: str, origin: Origin) -> AudioRecord:
        fields = line.split()
        if not fields:
            raise AnnotationError(f"expected {_LAYOUT[self.labels]}, got a blank line; delete it")
        if "\0" in fields[0]:
            raise AnnotationError(f"expected a name, got a NUL character in {line!r}")
        if len(fields) < 2 or not labels_fit(self.labels, len(fields) - 2):
            hint = self._hint(fields)
            raise AnnotationError(f"expected {_LAYOUT[self.labels]}, got {line!r}{hint}")
        total_frames = read_number(fields[1], "the number of frames", line, least=1)
        labels = tuple(read_number(field, "a class id", line) for field in fields[2:])
        return AudioRecord(path=fields[0], total_frames=total_frames, labels=labels, origin=origin)

    def _hint(self, fields: list[str]) -> str:
        if len(fields) == 2 and re.fullmatch("[0-9]+", fields[1]):
            return "; is this list unlabelled?"
        if len(fields) < 3:
            return ""
        if not re.fullmatch("[0-9]+", fields[1]):
            return "; names cannot hold white space"
        return "; is this list multi-label?" if self.labels == "one" else ""
