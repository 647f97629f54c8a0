"""MMAction2's RawframeDataset list: `dir [offset] total_frames label [label ...]`, one a line."""

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipshards.packer.annotations.text import read_lines, read_number
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.frame_names import check_rate, is_flow
from clipshards.packer.format.manifest import LabelMode, labels_fit
from clipshards.packer.records import FrameRange, Origin, RawframesRecord, Reject

_LABELS = {"one": " label", "many": " label [label ...]", "none": ""}


@dataclass(frozen=True, slots=True)
class RawframeList:
    """The folders of a raw frame list, in the order of their first lines.

    All lines that name one folder become one record, and their stretches its `ranges`, so
    that the folder is stored once. Where MMAction2's RawframeDataset reads a line rightly,
    the same values come out. Where it takes in a line wrongly without a word (no label, no
    frames, a list with offsets read as one without), the line is a `Reject` that says what
    was expected.
    """

    file: str | os.PathLike[str]
    labels: LabelMode = "one"
    """Labels on each line: exactly one, one or more, or none."""
    with_offset: bool = False
    """Whether the number of frames before the stretch stands before `total_frames`."""
    filename_tmpl: str = "img_{:05}.jpg"
    """Template of a frame's file name, with a slot for the number; of flow with two slots,
    the first for x or y."""
    start_index: int = 1
    """Number of the first frame's file, 0 or more."""
    rate: float = 0.0
    """Frames per second, 0.001 to 1000; 0.0 where not known."""

    def __post_init__(self) -> None:
        if self.labels not in _LABELS:
            raise ValueError(f"labels {self.labels!r}: expected one of {list(_LABELS)}")
        if self.start_index < 0:
            raise ValueError(f"start_index {self.start_index}: expected 0 or more")
        check_rate(self.rate)
        is_flow(self.filename_tmpl)

    def __iter__(self) -> Iterator[RawframesRecord | Reject]:
        """Yield one record a folder, one reject a bad line.

        Raises:
            AnnotationError: The file as a whole is unreadable or empty.
        """
        path = Path(self.file)
        entries: list[str | Reject] = []
        # Two spellings of one folder (`a/b`, `a/b/`) are one; the first is its name.
        folders: dict[str, tuple[str, list[FrameRange]]] = {}
        for number, line in read_lines(path):
            origin = Origin(path.name, line=number)
            try:
                folder, stretch = self._parse(line, origin)
            except AnnotationError as exc:
                entries.append(Reject(str(exc), origin=origin))
                continue
            key = posixpath.normpath(folder)
            if key not in folders:
                folders[key] = (folder, [])
                entries.append(key)
            folders[key][1].append(stretch)
        for entry in entries:
            yield entry if isinstance(entry, Reject) else self._record(*folders[entry])

    def _record(self, folder: str, ranges: list[FrameRange]) -> RawframesRecord:
        return RawframesRecord(
            exact=not self.with_offset,
            folder=folder,
            ranges=tuple(ranges),
            filename_tmpl=self.filename_tmpl,
            start_index=self.start_index,
            rate=self.rate,
            origin=ranges[0].origin,
        )

    def _parse(self, line: str, origin: Origin) -> tuple[str, FrameRange]:
        fields = line.split()
        if not fields:
            raise AnnotationError(f"expected {self._layout()}, got a blank line; delete it")
        folder, *counts = fields
        if "\0" in folder:
            raise AnnotationError(f"expected a path, got a NUL character in {line!r}")
        numbers = 2 if self.with_offset else 1
        if not labels_fit(self.labels, len(counts) - numbers):
            hint = self._hint(counts)
            raise AnnotationError(f"expected {self._layout()}, got {line!r}{hint}")
        offset = read_number(counts[0], "an offset", line) if self.with_offset else 0
        total = counts[numbers - 1]
        hint = "" if self.with_offset or len(counts) < 3 else "; is this list with offsets?"
        return folder, FrameRange(
            offset=offset,
            total_frames=read_number(total, "total_frames", line, least=1, hint=hint),
            labels=tuple(read_number(field, "a class id", line) for field in counts[numbers:]),
            origin=origin,
        )

    def _layout(self) -> str:
        offset = " offset" if self.with_offset else ""
        unlabelled = ", as the list is packed unlabelled" if self.labels == "none" else ""
        return f"'dir{offset} total_frames{_LABELS[self.labels]}'{unlabelled}"

    def _hint(self, counts: list[str]) -> str:
        """Return what the list may be instead, by the number of its fields."""
        if not all(re.fullmatch("[0-9]+", count) for count in counts):
            return "; a path may not hold spaces" if len(counts) > 1 else ""
        given, asked = len(counts), (2 if self.with_offset else 1)
        questions = []
        if given == asked and self.labels != "none":
            questions.append("unlabelled")
        if given == asked + 1 and self.labels == "none":
            questions.append("labelled")
        if given > asked + 1 and self.labels == "one":
            questions.append("multi-label")
        if self.with_offset and given == (1 if self.labels == "none" else 2):
            questions.append("without offsets")
        if not self.with_offset and given == (2 if self.labels == "none" else 3):
            questions.append("with offsets")
        return f"; is this list {', or '.join(questions)}?" if questions else ""
