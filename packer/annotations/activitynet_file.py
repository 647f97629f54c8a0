"""ActivityNet's JSON: labelled segments of time, in MMAction2's layout or the official one."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipshards.packer.annotations.json_file import MAX_JSON_BYTES, JsonObject, read_json
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.records import ActivityNetRecord, Origin, Reject

_PACKED_KEYS = {
    "annotations",
    "duration",
    "duration_frame",
    "duration_second",
    "feature_frame",
    "fps",
    "rfps",
    "subset",
}
_PACKED_SEGMENT_KEYS = {"label", "segment"}
_SHOWN = 20
"""Of names that may be any number."""


def segment_slack_s(duration_s: float) -> float:
    """Return how many seconds a segment may end behind the video: rounding, or a cut tail."""
    return max(1.0, 0.05 * duration_s)


@dataclass(frozen=True, slots=True)
class ActivityNetFile:
    """The videos of an ActivityNet annotation, in file order.

    Three layouts are read: MMAction2's (video name -> `duration_second`, `duration_frame`,
    `feature_frame`, `annotations`, and maybe `fps` and `rfps`), the official one (video name ->
    `duration`, `annotations`, and maybe `subset`), and the latter inside `{"database": ...}`.
    A video that MMAction2 would fail on, or misread, is a `Reject`.

    Numbers are kept as annotated. A segment may end after the video does, by 5 % of the
    duration or a second, as rounding and sloppy durations make it in real annotations;
    MMAction2 clips it. That and more that a user should know goes to `warnings`.
    """

    file: str | os.PathLike[str]
    source_split: str | None = None
    """Read only the videos whose `subset` this is; None for all."""
    feature_tmpl: str = "{}.csv"
    """Path of a video's features, with {} for its name; empty for none. Files of the official
    names are mostly `v_{}.csv`."""
    video_tmpl: str = ""
    """Path of the video itself, with {} for its name; empty for none."""
    max_bytes: int = MAX_JSON_BYTES
    """Size up to which the file is read."""
    warnings: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """Of the last iteration that came to its end."""

    def __post_init__(self) -> None:
        for name in ("feature_tmpl", "video_tmpl"):
            template = getattr(self, name)
            rest = template.replace("{}", "")
            if template and (rest == template or "{" in rest or "}" in rest or "\0" in rest):
                raise ValueError(f"{name} {template!r}: expected a path with {{}} for the name")
        if not self.feature_tmpl and not self.video_tmpl:
            raise ValueError(
                "feature_tmpl is empty: expected video_tmpl then (--video-tmpl), or both"
            )

    def __iter__(self) -> Iterator[ActivityNetRecord | Reject]:
        """Yield one record or reject a video.

        Raises:
            AnnotationError: The file as a whole is not JSON or has no videos, or there is
                no such subset.
        """
        self.warnings.clear()
        notes = _Notes()
        for name, entry, origin in self._videos():
            try:
                record = self._parse(name, entry, origin)
            except AnnotationError as exc:
                yield Reject(str(exc), id=name, origin=origin)
            else:
                notes.add(record, entry)
                yield record
        self.warnings.extend(notes.lines())

    @property
    def labels(self) -> LabelMode:
        """`none`: segments are labelled by names, not by class ids."""
        return "none"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the labels of all segments, sorted by code point.

        They are those of the whole file, so that the splits of one file have the same
        classes in the same order. Videos that are rejected do not count.

        Raises:
            AnnotationError: As in iteration.
        """
        names: set[str] = set()
        for entry in ActivityNetFile(self.file, max_bytes=self.max_bytes):
            if isinstance(entry, ActivityNetRecord):
                names.update(entry.segment_labels)
        return tuple(sorted(names))

    def _videos(self) -> Iterator[tuple[str, Any, Origin]]:
        path = Path(self.file)
        videos = read_json(path, max_bytes=self.max_bytes)
        if not isinstance(videos, JsonObject):
            raise AnnotationError(f"{path}: expected videos by name, got {_brief(videos)}")
        inner = videos.get("database")
        # A video of that name has annotations of its own.
        if isinstance(inner, JsonObject) and not isinstance(inner.get("annotations"), list):
            videos = inner
        if not videos:
            raise AnnotationError(f"{path}: expected at least one video, the annotation is empty")
        if self.source_split is not None:
            _check_subset(path, videos, self.source_split)
        # Of a file on one line, or a few, line numbers tell nothing.
        has_lines = len(set(videos.lines.values())) == len(videos) > 1
        for index, (name, entry) in enumerate(videos.items()):
            if self.source_split is not None and _subset_of(entry) not in (None, self.source_split):
                continue
            origin = (
                Origin(path.name, line=videos.lines[name])
                if has_lines
                else Origin(path.name, index=index)
            )
            yield name, entry, origin

    def _parse(self, name: str, entry: Any, origin: Origin) -> ActivityNetRecord:
        if not name or "\0" in name:
            raise AnnotationError(f"expected a video's name, got {name!r}")
        if not isinstance(entry, dict):
            raise AnnotationError(
                f"expected an object with duration and annotations, got {_brief(entry)}"
            )
        if self.source_split is not None and _subset_of(entry) is None:
            raise AnnotationError(f"expected a subset, got {_brief(entry.get('subset'))}")
        duration_s = _duration_of(entry)
        # MMAction2 divides by both, so its layout needs them.
        needed = "duration_second" in entry
        segments, labels = _segments_of(entry, duration_s)
        return ActivityNetRecord(
            segments=segments,
            segment_labels=labels,
            duration_s=duration_s,
            duration_frames=_frames(entry, "duration_frame", needed=needed),
            feature_frames=_frames(entry, "feature_frame", needed=needed),
            fps=_rate(entry, "fps"),
            rfps=_rate(entry, "rfps"),
            # Not `format`: a name may hold braces.
            features=self.feature_tmpl.replace("{}", name),
            video=self.video_tmpl.replace("{}", name),
            id=name,
            origin=origin,
        )


class _Notes:
    """What a user should know about the videos that were read, counted."""

    def __init__(self) -> None:
        self._keys: Counter[str] = Counter()
        self._segment_keys: Counter[str] = Counter()
        self._subsets: set[str] = set()
        self._late = 0
        self._first_late = ""

    def add(self, record: ActivityNetRecord, entry: dict[str, Any]) -> None:
        self._keys.update(entry.keys() - _PACKED_KEYS)
        self._segment_keys.update(
            {key for item in entry["annotations"] for key in item} - _PACKED_SEGMENT_KEYS
        )
        subset = _subset_of(entry)
        if subset is not None:
            self._subsets.add(subset)
        late = [end_s for _, end_s in record.segments if end_s > record.duration_s]
        if late:
            self._late += 1
            self._first_late = self._first_late or (
                f"{_brief(record.id)}: {late[0]} s of {record.duration_s} s"
            )

    def lines(self) -> list[str]:
        found = []
        if self._late:
            found.append(
                f"segments of {_videos(self._late)} end after the video does, the first "
                f"in {self._first_late}; they are kept as annotated, MMAction2 clips them"
            )
        if len(self._subsets) > 1:
            found.append(
                f"videos of the subsets {_listed(self._subsets)} are packed together; "
                "a source split chooses one"
            )
        for keys, owner in ((self._keys, "of"), (self._segment_keys, "in the segments of")):
            for key in sorted(keys)[:_SHOWN]:
                found.append(f"key {_brief(key)} {owner} {_videos(keys[key])} is not packed")
            if len(keys) > _SHOWN:
                found.append(f"{len(keys) - _SHOWN} more keys {owner} videos are not packed")
        return found


def _check_subset(path: Path, videos: JsonObject, source_split: str) -> None:
    known = {subset for entry in videos.values() if (subset := _subset_of(entry)) is not None}
    if not known:
        raise AnnotationError(
            f"{path}: expected videos of the subset {source_split!r}, but no video names a subset"
        )
    if source_split not in known:
        raise AnnotationError(
            f"{path}: expected a subset of the file, {_listed(known)}, got {source_split!r}"
        )


def _subset_of(entry: Any) -> str | None:
    subset = entry.get("subset") if isinstance(entry, dict) else None
    return subset if isinstance(subset, str) else None


def _duration_of(entry: dict[str, Any]) -> float:
    found = [(key, entry[key]) for key in ("duration_second", "duration") if key in entry]
    if not found:
        raise AnnotationError(
            f"expected duration_second (or duration), got the keys {_listed(entry.keys())}"
        )
    for key, value in found:
        if not _is_number(value) or value <= 0:
            raise AnnotationError(f"expected {key} in seconds, above 0, got {_brief(value)}")
    if found[0][1] != found[-1][1]:
        raise AnnotationError(
            f"expected one duration, got {found[0][1]} (duration_second) and {found[1][1]} "
            "(duration)"
        )
    return float(found[0][1])


def _frames(entry: dict[str, Any], key: str, *, needed: bool) -> int:
    if key not in entry:
        if needed:
            raise AnnotationError(f"expected {key}, got the keys {_listed(entry.keys())}")
        return 0
    value = entry[key]
    if not _is_number(value) or value != math.floor(value) or not 1 <= value < 2**63:
        raise AnnotationError(f"expected {key} of 1 or more, got {_brief(value)}")
    return int(value)


def _rate(entry: dict[str, Any], key: str) -> float:
    value = entry.get(key, 0.0)
    if not _is_number(value) or (key in entry and value <= 0):
        raise AnnotationError(f"expected {key} above 0, got {_brief(value)}")
    return float(value)


def _segments_of(
    entry: dict[str, Any], duration_s: float
) -> tuple[tuple[tuple[float, float], ...], tuple[str, ...]]:
    items = entry.get("annotations")
    if not isinstance(items, list):
        got = _brief(items) if "annotations" in entry else f"the keys {_listed(entry.keys())}"
        raise AnnotationError(f"expected annotations, a list of segments, got {got}")
    segments = []
    labels = []
    for number, item in enumerate(items):
        where = f"annotations[{number}]: "
        if not isinstance(item, dict) or not item.keys() >= _PACKED_SEGMENT_KEYS:
            raise AnnotationError(f"{where}expected segment and label, got {_brief(item)}")
        label = item["label"]
        if not isinstance(label, str) or not label.strip():
            raise AnnotationError(f"{where}expected a label's name, got {_brief(label)}")
        fault = _segment_fault(item["segment"], duration_s)
        if fault:
            raise AnnotationError(f"{where}{fault}, got {_brief(item['segment'])}")
        start_s, end_s = item["segment"]
        segments.append((float(start_s), float(end_s)))
        labels.append(label)
    return tuple(segments), tuple(labels)


def _segment_fault(segment: Any, duration_s: float) -> str:
    """Return what was expected of a segment, empty where it is so."""
    if not isinstance(segment, list) or len(segment) != 2 or not all(map(_is_number, segment)):
        return "expected [start, end] in seconds"
    start_s, end_s = segment
    if start_s < 0:
        return "expected a start of 0 or more"
    if start_s >= end_s:
        return "expected a start before the end"
    if start_s >= duration_s or end_s > duration_s + segment_slack_s(duration_s):
        return f"expected a segment within the video's {duration_s} s"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _videos(count: int) -> str:
    return f"{count} video{'s' if count > 1 else ''}"


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(_brief(name) for name in ordered[:_SHOWN])
    more = len(ordered) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown or "(none)"


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
