"""MMAction2's AVADataset: a row of csv for each box and action in a key frame."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from clipshards.packer.annotations.ava_labels import read_exclusions, read_label_map
from clipshards.packer.annotations.ava_proposals import (
    Moment,
    Proposals,
    read_proposals,
    spell,
)
from clipshards.packer.annotations.ava_rows import (
    SHOWN,
    Row,
    read_integer,
    read_row,
    short,
    split_row,
)
from clipshards.packer.annotations.pickles import PickleEncoding
from clipshards.packer.annotations.text import read_lines
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.frame_names import check_rate, is_flow
from clipshards.packer.records import AvaRecord, Excluded, KeyFrame, Origin, Reject

# A video of Kinetics in AVA-Kinetics: its name on YouTube, and the seconds it was cut from.
_KINETICS_ID = re.compile(r"(.+)_([0-9]{1,18})_([0-9]{1,18})")
_YOUTUBE_ID_LENGTH = 11

Entry = AvaRecord | Reject | Excluded


@dataclass(frozen=True, slots=True)
class AvaCsv:
    """The key frames of an AVA annotation, in order of first appearance.

    Each row of the file ends in exactly one place: merged into a `KeyFrame` (its `rows`
    counts them), as a `Reject`, or as an `Excluded`.

    Rows whose boxes are equal to the last bit are one person, as MMAction2 has it: its
    entity id is that of the first of them, its actions are theirs without repetition. What
    MMAction2 reads wrongly without a word is a `Reject`: negative actions, boxes outside
    the picture, without area or not a number, timestamps out of range, quotes, further
    columns. So are all rows of a key frame whose proposals are not boxes in fractions.

    MultiSports is read with `labels="one"`, `fps=1`, `timestamp_start=1`,
    `timestamp_end=None`: there a timestamp is the number of a frame.
    """

    file: str | os.PathLike[str]
    proposals: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    """Pickle of detected persons, `{'video_id,timestamp': (n, 5) or (n, 4) array}`."""
    pickle_encoding: PickleEncoding = field(default="ASCII", kw_only=True)
    """How a proposals file of Python 2 spells its text; others have no use for it."""
    exclude: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    """File of `video_id,timestamp` lines; rows of these key frames are left out."""
    label_map: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    """File with the names of the actions: AVA's pbtxt, or `id: name` lines."""
    custom_classes: tuple[int, ...] = field(default=(), kw_only=True)
    """Actions to keep, renumbered 1, 2, ... in this order; empty for all as they are. Rows
    of any other action are left out, also those of 0, which MMAction2 keeps by accident."""
    fps: float = field(default=30, kw_only=True)
    """Frames per unit of timestamp, as MMAction2 counts; 1 where timestamps are frames."""
    timestamp_start: int = field(default=900, kw_only=True)
    """Timestamp of a video's first frame; no row may lie before it."""
    timestamp_end: int | None = field(default=1800, kw_only=True)
    """The last timestamp that a row may have; None for any."""
    labels: Literal["many", "one"] = field(default="many", kw_only=True)
    """Actions of a person: one or more, or exactly one (MMAction2's `multilabel=False`)."""
    media_tmpl: str = field(default="{}", kw_only=True)
    """Path of a video under the media root, with `{}` for its id, as `{}.mp4`."""
    group: Literal["clip", "video"] = field(default="clip", kw_only=True)
    """A record for each key frame, or for each video with all its key frames."""
    clip_frames: int = field(default=64, kw_only=True)
    """Frames around a key frame that its clip may be drawn from."""
    filename_tmpl: str = field(default="", kw_only=True)
    """Template of frames' file names, where the media are folders of frames; else empty."""
    start_index: int = field(default=1, kw_only=True)
    """Number in the first frame's name; of folders only."""
    rate: float = field(default=0.0, kw_only=True)
    """Frames per second of folders; 0.0 where not known."""
    kinetics_ids: bool = field(default=False, kw_only=True)
    """Read ids as AVA-Kinetics has them: one of 11 characters is a video of AVA,
    `<id>_<start>_<end>` one of Kinetics with a range of timestamps of its own."""
    warnings: list[str] = field(default_factory=list, init=False, compare=False, repr=False)
    """What the last iteration found beside the rows: proposals that belong to no row, key
    frames without proposals. Complete when the iteration has ended."""

    def __post_init__(self) -> None:
        if self.labels not in ("many", "one"):
            raise ValueError(f"labels {self.labels!r}: expected 'many' or 'one'")
        if self.group not in ("clip", "video"):
            raise ValueError(f"group {self.group!r}: expected 'clip' or 'video'")
        if self.media_tmpl.count("{}") != 1 or re.search("[{}]", self.media_tmpl.replace("{}", "")):
            raise ValueError(f"media_tmpl {self.media_tmpl!r}: expected {{}} once, as '{{}}.mp4'")
        if self.clip_frames < 1 or self.start_index < 0:
            raise ValueError(
                f"clip_frames {self.clip_frames}, start_index {self.start_index}: expected at "
                "least 1 and 0"
            )
        if self.pickle_encoding not in get_args(PickleEncoding):
            expected = get_args(PickleEncoding)
            raise ValueError(f"pickle_encoding {self.pickle_encoding!r}: expected {expected}")
        if self.filename_tmpl and is_flow(self.filename_tmpl):
            raise ValueError(f"filename_tmpl {self.filename_tmpl!r}: expected one of pictures")
        check_rate(self.rate)
        if not self.fps > 0 or math.isinf(self.fps):
            raise ValueError(f"fps {self.fps}: expected a number above 0")
        if self.timestamp_end is not None and self.timestamp_end < self.timestamp_start:
            raise ValueError(
                f"timestamps {self.timestamp_start} to {self.timestamp_end}: the end is first"
            )
        object.__setattr__(self, "custom_classes", tuple(self.custom_classes))
        if any(label < 1 for label in self.custom_classes) or len(self.custom_classes) != len(
            set(self.custom_classes)
        ):
            raise ValueError(
                f"custom_classes {self.custom_classes}: expected ids above 0, each once"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of class 0, 1, ...; empty text where the label map has none, as for 0.

        Of `custom_classes`, the new numbers count; without a label map the old numbers are
        their names. Empty without either.

        Raises:
            AnnotationError: The label map cannot be read, or lacks one of `custom_classes`.
        """
        if self.label_map is None:
            # Else nobody could tell any more what the new numbers stand for.
            return ("", *map(str, self.custom_classes)) if self.custom_classes else ()
        names = read_label_map(Path(self.label_map))
        missing = [label for label in self.custom_classes if label not in names]
        if missing:
            raise AnnotationError(
                f"{self.label_map}: expected names of all custom classes, {missing[0]} has none"
            )
        if self.custom_classes:
            return ("", *(names[label] for label in self.custom_classes))
        return tuple(names.get(label, "") for label in range(max(names) + 1))

    def __iter__(self) -> Iterator[Entry]:
        """Yield records, rejects and exclusions by the line of their first row.

        Raises:
            AnnotationError: The file as a whole is unreadable or empty, or one of the files
                beside it is not what its format says, or no key of the proposals fits.
        """
        self.warnings.clear()
        reading = _Reading(self)
        reading.sort_rows()
        yield from reading.entries()


@dataclass(slots=True)
class _Person:
    labels: list[int]
    entity_id: int
    line: int


@dataclass(slots=True)
class _Scene:
    """What the rows of one moment say."""

    lines: list[int] = field(default_factory=list)
    persons: dict[tuple[float, float, float, float], _Person] = field(default_factory=dict)


class _Reading:
    """One pass over the file."""

    def __init__(self, source: AvaCsv) -> None:
        self._source = source
        self._path = Path(source.file)
        # A label map that lacks something is known before the first row.
        _ = source.class_names
        self._renumbered = {label: new for new, label in enumerate(source.custom_classes, start=1)}
        self._met: set[Moment] = set()
        self._excluded = set() if source.exclude is None else read_exclusions(Path(source.exclude))
        self._proposals = (
            None
            if source.proposals is None
            else read_proposals(Path(source.proposals), encoding=source.pickle_encoding)
        )
        self._scenes: dict[Moment, _Scene] = {}
        self._others: list[tuple[int, Entry]] = []
        self._seen: set[Moment] = set()
        self._flat: list[str] = []
        """Boxes of proposals without an area."""

    def sort_rows(self) -> None:
        """Sort every row into a scene, or into the rejects and exclusions."""
        for number, line in read_lines(self._path):
            moment = None
            try:
                fields = split_row(line)
                moment = fields[0], read_integer(fields[1], "a timestamp in whole numbers", line)
                self._seen.add(moment)
                if moment in self._excluded:
                    self._met.add(moment)
                    self._exclude("exclude", moment, number)
                    continue
                self._check_moment(moment)
                row = read_row(fields, line)
                if self._renumbered and row.label not in self._renumbered:
                    self._exclude("custom_classes", moment, number)
                else:
                    self._add(row, moment, number)
            except AnnotationError as exc:
                self._reject(str(exc), moment, number)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries by line, and fill the warnings."""
        key_frames: dict[Moment, KeyFrame] = {}
        lonely: list[Moment] = []
        for moment, scene in self._scenes.items():
            try:
                boxes = self._boxes_at(moment)
            except AnnotationError as exc:
                for number in scene.lines:
                    self._reject(str(exc), moment, number)
                continue
            origin = self._origin(scene.lines[0])
            key_frames[moment] = _key_frame(moment, scene, boxes, origin)
            if boxes is None:
                lonely.append(moment)
        strays = sorted(self._excluded - self._met)
        if strays:
            name = Path(os.fspath(self._source.exclude or "")).name
            self._source.warnings.append(
                f"{len(strays)} of {len(self._excluded)} lines of {name} match no row, "
                f"the first: {short(','.join(map(str, strays[0])))}"
            )
        if self._proposals is not None:
            self._report(self._proposals, len(key_frames), lonely)
        placed = self._others
        for moment, record in self._records(key_frames):
            placed.append((self._scenes[moment].lines[0], record))
        for _, entry in sorted(placed, key=lambda item: item[0]):
            yield entry

    def _origin(self, number: int) -> Origin:
        return Origin(self._path.name, line=number)

    def _exclude(self, option: str, moment: Moment, number: int) -> None:
        entry = Excluded(option, id=spell(moment), origin=self._origin(number))
        self._others.append((number, entry))

    def _reject(self, message: str, moment: Moment | None, number: int) -> None:
        name = "" if moment is None else spell(moment)
        self._others.append((number, Reject(message, id=name, origin=self._origin(number))))

    def _check_moment(self, moment: Moment) -> None:
        """Check that a timestamp is one of its video's."""
        start, end = self._range(moment[0])
        if moment[1] < start or (end is not None and moment[1] > end):
            allowed = f"{start} or more" if end is None else f"{start} to {end}"
            raise AnnotationError(
                f"expected a timestamp of {allowed}, got {moment[1]}; is the range "
                "another one (--timestamp-start, --timestamp-end)?"
            )

    def _range(self, video_id: str) -> tuple[int, int | None]:
        source = self._source
        if not source.kinetics_ids or len(video_id) == _YOUTUBE_ID_LENGTH:
            return source.timestamp_start, source.timestamp_end
        match = _KINETICS_ID.fullmatch(video_id)
        if match is None or int(match[2]) > int(match[3]):
            raise AnnotationError(
                f"expected a video id of 11 characters or '<id>_<start>_<end>', "
                f"got {video_id[:SHOWN]!r}"
            )
        return int(match[2]), int(match[3])

    def _add(self, row: Row, moment: Moment, number: int) -> None:
        label = self._renumbered.get(row.label, row.label)
        scene = self._scenes.get(moment)
        person = None if scene is None else scene.persons.get(row.box)
        if person is not None and self._source.labels == "one":
            raise AnnotationError(
                f"expected one action a person, got {row.label} for the box of line {person.line}"
            )
        if scene is None:
            scene = self._scenes[moment] = _Scene()
        scene.lines.append(number)
        if person is None:
            scene.persons[row.box] = _Person([label], row.entity_id, number)
        elif label not in person.labels:
            person.labels.append(label)

    def _boxes_at(self, moment: Moment) -> npt.NDArray[np.float64] | None:
        proposals = self._proposals
        if proposals is None:
            return None
        key = self._key_of(proposals, moment)
        boxes = proposals.at(key)
        if boxes is not None:
            # MMAction2 takes them; what its RoI pooling makes of them is not defined.
            flat = np.flatnonzero((boxes[:, :2] >= boxes[:, 2:4]).any(axis=1))
            self._flat += [f"{proposals.keys[key]} row {row}" for row in flat.tolist()]
        return boxes

    def _key_of(self, proposals: Proposals, moment: Moment) -> Moment:
        """Return the moment as the proposals have it: of Kinetics, also without the range."""
        if moment not in proposals.boxes and self._source.kinetics_ids:
            match = _KINETICS_ID.fullmatch(moment[0])
            if match is not None and len(moment[0]) != _YOUTUBE_ID_LENGTH:
                return match[1], moment[1]
        return moment

    def _records(self, key_frames: dict[Moment, KeyFrame]) -> Iterator[tuple[Moment, AvaRecord]]:
        """Yield (moment of the first key frame, record)."""
        if self._source.group == "clip":
            for moment, key_frame in key_frames.items():
                yield moment, self._record(moment, (key_frame,), spell(moment))
            return
        by_video: dict[str, list[KeyFrame]] = {}
        for (video_id, _), key_frame in key_frames.items():
            by_video.setdefault(video_id, []).append(key_frame)
        for video_id, found in by_video.items():
            moment = video_id, found[0].timestamp
            yield moment, self._record(moment, tuple(found), video_id)

    def _record(self, moment: Moment, key_frames: tuple[KeyFrame, ...], name: str) -> AvaRecord:
        return AvaRecord(
            path=self._source.media_tmpl.replace("{}", moment[0]),
            video_id=moment[0],
            key_frames=key_frames,
            timestamp_start=self._range(moment[0])[0],
            fps=float(self._source.fps),
            clip_frames=self._source.clip_frames,
            whole=self._source.group == "video",
            filename_tmpl=self._source.filename_tmpl,
            start_index=self._source.start_index if self._source.filename_tmpl else 0,
            rate=self._source.rate if self._source.filename_tmpl else 0.0,
            id=name,
            origin=self._origin(self._scenes[moment].lines[0]),
        )

    def _report(self, proposals: Proposals, key_frames: int, lonely: list[Moment]) -> None:
        name = Path(str(self._source.proposals)).name
        due = {self._key_of(proposals, moment) for moment in self._seen}
        strangers = [key for moment, key in proposals.keys.items() if moment not in due]
        if key_frames and len(strangers) == len(proposals.keys):
            spelled = [*proposals.keys.values(), *proposals.foreign]
            first = f"the first is {short(spelled[0])}" if spelled else "there is none"
            raise AnnotationError(
                f"{self._source.proposals}: expected keys 'video_id,timestamp' of the key frames, "
                f"as {spell(lonely[0])!r}; no key fits, {first}"
            )
        for found, one, several in (
            (strangers, "key of {} matches no row", "keys of {} match no row"),
            (proposals.foreign, "key of {} is not used", "keys of {} are not used"),
        ):
            if found:
                what = (one if len(found) == 1 else several).replace("{}", name)
                self._source.warnings.append(f"{len(found)} {what}, the first: {short(found[0])}")
        if self._flat:
            self._source.warnings.append(
                f"{len(self._flat)} boxes of {name} have no area, the first: {short(self._flat[0])}"
            )
        if lonely:
            line = self._scenes[lonely[0]].lines[0]
            self._source.warnings.append(
                f"{len(lonely)} of {key_frames} key frames have no proposals in {name}, "
                f"the first: {short(spell(lonely[0]))} ({self._path.name}:{line})"
            )


def _key_frame(
    moment: Moment,
    scene: _Scene,
    proposals: npt.NDArray[np.float64] | None,
    origin: Origin,
) -> KeyFrame:
    persons = scene.persons.values()
    return KeyFrame(
        timestamp=moment[1],
        boxes=np.array(list(scene.persons), dtype=np.float64).reshape(-1, 4),
        labels=tuple(tuple(person.labels) for person in persons),
        entity_ids=np.array([person.entity_id for person in persons], dtype=np.int64),
        proposals=proposals,
        rows=len(scene.lines),
        origin=origin,
    )
