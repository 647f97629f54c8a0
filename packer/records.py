"""Records: entries of an annotation, parsed, no media opened."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SkeletonRecord:
    """The body joints of one video: found per person, or compressed per detected box.

    Per person, `keypoint` is (M, T, V, C): persons, frames, joints, coordinates (x, y in
    pixels, or x, y, z). Compressed, one row a box as in MMAction2's Kinetics skeletons, it
    is (N, V, 3): x, y, score, and `frame_inds` says in which frame each box stands.
    """

    total_frames: int
    """Frames of the video: T, where the record is not compressed."""
    keypoint: npt.NDArray[np.floating] | None = None
    """float16, float32 or float64; None where `path` holds it."""
    keypoint_score: npt.NDArray[np.floating] | None = None
    """(M, T, V) of 2-D joints; None where there is none."""
    frame_inds: npt.NDArray[np.integer] | None = None
    """(N,) ascending, within [0, total_frames] (Kinetics' own count from 1); None where not
    compressed."""
    box_score: npt.NDArray[np.floating] | None = None
    """(N,) scores of the boxes; None where there is none."""
    valid: tuple[tuple[float, int], ...] = ()
    """(threshold, frames with a box of at least that score), as annotated."""
    box_threshold: float = 0.0
    """Boxes below it are kept and flagged when read; 0.0 for none."""
    image_shape: tuple[int, int] = (0, 0)
    """Height and width that the coordinates refer to; (0, 0) where not known, as in 3-D."""
    original_shape: tuple[int, int] = (0, 0)
    """Height and width of the video; (0, 0) where not known."""
    path: str = ""
    """Pickle of this video's other arrays, relative to the media root; empty for none."""
    pickle_encoding: Literal["ASCII", "latin1"] = "ASCII"
    """`latin1` where Python 2 wrote that pickle."""
    labels: tuple[int, ...] = ()
    """Class ids, 0 or more, in the annotation's order."""
    id: str = ""
    """The user's own name of the sample."""
    origin: Origin | None = None
    """None for the place in the iterable that `pack` is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioRecord:
    """Mel features of one video's sound, in a file of their own or to be computed."""

    path: str
    """The features (npy), or the sound or video that they are computed from; relative to the
    media root."""
    total_frames: int
    """Frames of the video, at least 1: the clock that MMAction2 cuts the features by."""
    labels: tuple[int, ...] = ()
    """Class ids, 0 or more, in the annotation's order."""
    id: str = ""
    """The user's own name of the sample; empty for the path."""
    origin: Origin | None = None
    """None for the place in the iterable that `pack` is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRange:
    """One entry of a raw frame list: a stretch of a folder's frames."""

    offset: int = 0
    """Frames before it."""
    total_frames: int
    """Frames in it, at least 1."""
    labels: tuple[int, ...] = ()
    """Class ids, 0 or more, in the annotation's order."""
    origin: Origin | None = None
    """None for that of the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawframesRecord:
    """One folder of frames, with the stretches of it that are items of the data set."""

    folder: str
    """Relative to the media root."""
    ranges: tuple[FrameRange, ...]
    """At least one; each is an entry of the annotation."""
    filename_tmpl: str = "img_{:05}.jpg"
    """`str.format` template of a frame's file name; of flow with two fields, x or y and the
    number."""
    start_index: int = 1
    """Number of the first frame's file."""
    rate: float = 0.0
    """Frames per second; 0.0 where not known."""
    exact: bool = False
    """Whether each range is the whole folder: its total_frames must be the number of files."""
    id: str = ""
    """The user's own name of the sample; empty for the folder."""
    origin: Origin | None = None
    """None for the place in the iterable that `pack` is given."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeyFrame:
    """The persons of one annotated moment, and what they do."""

    timestamp: int
    """As annotated: seconds in AVA, a frame number in MultiSports."""
    boxes: npt.NDArray[np.float64]
    """(n, 4) x1, y1, x2, y2 in fractions of width and height, one row a person."""
    labels: tuple[tuple[int, ...], ...]
    """Action ids of each person, n of them, in the annotation's order."""
    entity_ids: npt.NDArray[np.int64]
    """(n,) person ids of the first row of each person."""
    proposals: npt.NDArray[np.float64] | None = None
    """(m, 5) x1, y1, x2, y2, score; or (m, 4) without score; None where there is none."""
    rows: int
    """Rows of the annotation that were merged into it."""
    origin: Origin | None = None
    """Of the first of them; None for that of the record."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AvaRecord:
    """One video (or folder of frames) with annotated moments: one of them, or all."""

    path: str
    """Video, or folder of frames, relative to the media root."""
    video_id: str
    """As annotated."""
    key_frames: tuple[KeyFrame, ...]
    """At least one, in order of first appearance."""
    timestamp_start: int
    """Timestamp of the video's first frame."""
    fps: float
    """Frames per unit of timestamp, by MMAction2's count; a video's real rate is its own. 1
    where timestamps are numbers of frames."""
    clip_frames: int = 64
    """Frames around a moment that its clip may be drawn from, at least 1."""
    whole: bool = False
    """Store all frames of the source, not only those around the moments."""
    filename_tmpl: str = ""
    """Template of the frames' file names, where `path` is a folder; else empty."""
    start_index: int = 0
    """Number in the first frame's name."""
    rate: float = 0.0
    """Frames per second of a folder; 0.0 where not known."""
    id: str = ""
    """The user's own name of the sample."""
    origin: Origin | None = None
    """None for the place in the iterable that `pack` is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityNetRecord:
    """One untrimmed video: its features, and the labelled segments of time in it."""

    segments: tuple[tuple[float, float], ...]
    """Start and end in seconds, in the annotation's order."""
    segment_labels: tuple[str, ...]
    """Name of what happens in each segment."""
    duration_s: float
    """Seconds, above 0."""
    duration_frames: int = 0
    """Frames of the video; 0 where not known."""
    feature_frames: int = 0
    """Frames that the features cover; 0 where not known."""
    fps: float = 0.0
    """Frames per second of the video; 0.0 where not known."""
    rfps: float = 0.0
    """Rate at which features were taken, as annotated; 0.0 where not known."""
    features: str = ""
    """csv or npy of (T, C) features, relative to the media root; empty for none."""
    video: str = ""
    """Relative to the media root; empty for none."""
    id: str
    """The video's name in the annotation."""
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


@dataclass(frozen=True, slots=True)
class Excluded:
    """An entry that an option leaves out."""

    option: str
    """Name of the option, as `exclude`."""
    id: str = ""
    """The entry's own name."""
    origin: Origin | None = None
    """None for the place in the iterable that `pack` is given."""


Record = (
    VideoRecord | SkeletonRecord | AudioRecord | RawframesRecord | AvaRecord | ActivityNetRecord
)
"""An entry of the annotation that can be packed, or several that make up one sample."""
