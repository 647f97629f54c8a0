"""What must hold for a record of each class, whoever made it, before its media are opened.

Each function returns the record with plain labels, and raises AnnotationError for what
cannot be packed, TypeError for a field of another type.
"""

import math
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.frame_names import check_rate, is_flow
from clipshards.packer.format.json_parts import MAX_FRAMES
from clipshards.packer.labels import LabelRule
from clipshards.packer.origins import plain_origin
from clipshards.packer.records import (
    ActivityNetRecord,
    AudioRecord,
    AvaRecord,
    FrameRange,
    KeyFrame,
    RawframesRecord,
    SkeletonRecord,
    VideoRecord,
)
from clipshards.packer.skeletons import check_skeleton as skeleton_fault

_Labelled = TypeVar("_Labelled", VideoRecord, SkeletonRecord, AudioRecord)


def _with_labels(record: _Labelled, rule: LabelRule) -> _Labelled:
    labels = rule.check(record.labels)
    return record if labels is record.labels else replace(record, labels=labels)


def check_video(record: VideoRecord, rule: LabelRule) -> VideoRecord:
    """Check a video."""
    if not record.path:
        raise AnnotationError(f"expected a path, got {record.path!r}")
    return _with_labels(record, rule)


def check_skeleton(record: SkeletonRecord, rule: LabelRule) -> SkeletonRecord:
    """Check skeletons; arrays in a file of their own are checked when it is opened."""
    fault = "expected an id, got ''" if not record.id else skeleton_fault(record)
    if fault:
        raise AnnotationError(fault)
    return _with_labels(record, rule)


def check_audio(record: AudioRecord, rule: LabelRule) -> AudioRecord:
    """Check a video's sound."""
    if not record.path:
        raise AnnotationError(f"expected a path, got {record.path!r}")
    if type(record.total_frames) is not int:
        raise TypeError(f"total_frames: expected a whole number, got {record.total_frames!r}")
    if not 1 <= record.total_frames <= MAX_FRAMES:
        raise AnnotationError(
            f"expected total_frames from 1 to {MAX_FRAMES}, got {record.total_frames}"
        )
    return _with_labels(record, rule)


def check_rawframes(record: RawframesRecord, rule: LabelRule) -> RawframesRecord:
    """Check a folder of frames and its stretches."""
    if not record.folder or not record.ranges:
        raise AnnotationError(f"expected a folder and its ranges, got {record!r}")
    rate = _as_float(record.rate, "rate")
    if type(record.exact) is not bool:
        raise TypeError(f"exact: expected True or False, got {record.exact!r}")
    try:
        is_flow(record.filename_tmpl)
        check_rate(rate)
    except ValueError as exc:
        raise AnnotationError(str(exc)) from exc
    for stretch in record.ranges:
        if not isinstance(stretch, FrameRange):
            raise TypeError(f"ranges: expected a FrameRange, got {stretch!r}")
        counts = (stretch.offset, stretch.total_frames, record.start_index)
        if any(type(count) is not int for count in counts):
            raise TypeError(f"ranges: expected whole numbers, got {stretch!r}")
        if min(counts) < 0 or not stretch.total_frames:
            raise AnnotationError(f"expected frames counted from 0, at least one, got {stretch!r}")
    ranges = (
        replace(
            stretch,
            labels=rule.check(stretch.labels),
            origin=None if stretch.origin is None else plain_origin(stretch.origin),
        )
        for stretch in record.ranges
    )
    return replace(record, ranges=tuple(ranges), rate=rate)


def check_ava(record: AvaRecord, rule: LabelRule) -> AvaRecord:
    """Check annotated moments, their boxes and actions."""
    if not record.path or not record.id or not record.key_frames:
        raise AnnotationError(f"expected a path, an id and key frames, got {record.path!r}")
    _check_whole(record.timestamp_start, "timestamp_start")
    _check_whole(record.clip_frames, "clip_frames")
    _check_whole(record.start_index, "start_index")
    fps, rate = _as_float(record.fps, "fps"), _as_float(record.rate, "rate")
    if not 1 <= record.clip_frames <= MAX_FRAMES or record.start_index < 0 or not fps > 0:
        raise AnnotationError(
            f"expected clip_frames, fps above 0 and a start_index, got {record.clip_frames}, "
            f"{record.fps}, {record.start_index}"
        )
    try:
        check_rate(record.rate)
        if record.filename_tmpl and is_flow(record.filename_tmpl):
            raise AnnotationError(f"expected a template of pictures, got {record.filename_tmpl!r}")
    except ValueError as exc:
        raise AnnotationError(str(exc)) from exc
    moments = tuple(_checked_moment(moment, rule) for moment in record.key_frames)
    return replace(record, key_frames=moments, fps=fps, rate=rate)


def _checked_moment(moment: KeyFrame, rule: LabelRule) -> KeyFrame:
    if not isinstance(moment, KeyFrame):
        raise TypeError(f"key_frames: expected a KeyFrame, got {moment!r}")
    _check_whole(moment.timestamp, "timestamp")
    _check_whole(moment.rows, "rows")
    where = f"timestamp {moment.timestamp}"
    persons = len(moment.labels)
    expected = {"boxes": (persons, 4), "entity_ids": (persons,)}
    for name, shape in expected.items():
        array = getattr(moment, name)
        dtype = np.float64 if name == "boxes" else np.int64
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            raise AnnotationError(f"{where}: expected {name} of shape {shape}, {np.dtype(dtype)}")
    proposals: Any = moment.proposals
    if proposals is not None and (
        not isinstance(proposals, np.ndarray)
        or proposals.dtype != np.float64
        or proposals.ndim != 2
        or proposals.shape[1] not in (4, 5)
    ):
        raise AnnotationError(f"{where}: expected proposals of shape (n, 4) or (n, 5), float64")
    for name, boxes in (("boxes", moment.boxes), ("proposals", proposals)):
        # NaN fails every comparison.
        if boxes is not None and not ((boxes[:, :4] >= 0) & (boxes[:, :4] <= 1)).all():
            raise AnnotationError(f"{where}: expected {name} in fractions of the picture")
        if boxes is not None and not np.isfinite(boxes).all():
            raise AnnotationError(f"{where}: expected finite scores of {name}")
    if not (moment.boxes[:, :2] < moment.boxes[:, 2:]).all():
        raise AnnotationError(f"{where}: expected boxes of x1 < x2 and y1 < y2")
    if not persons or moment.rows < 1:
        raise AnnotationError(f"{where}: expected at least one person and row")
    return replace(
        moment,
        labels=tuple(rule.check(labels) for labels in moment.labels),
        origin=None if moment.origin is None else plain_origin(moment.origin),
    )


def check_activitynet(record: ActivityNetRecord, rule: LabelRule) -> ActivityNetRecord:
    """Check an untrimmed video and its segments."""
    if not record.id or not (record.features or record.video):
        raise AnnotationError("expected an id, and features or a video")
    for name in ("duration_frames", "feature_frames"):
        _check_whole(getattr(record, name), name)
    duration_s = _as_float(record.duration_s, "duration_s")
    fps, rfps = _as_float(record.fps, "fps"), _as_float(record.rfps, "rfps")
    counts = (record.duration_frames, record.feature_frames, fps, rfps)
    if not duration_s > 0 or not min(counts) >= 0:
        raise AnnotationError(
            f"expected a duration above 0, counts and rates, got {duration_s}, {counts}"
        )
    if len(record.segments) != len(record.segment_labels):
        raise AnnotationError(
            f"{len(record.segments)} segments with {len(record.segment_labels)} labels"
        )
    for label in record.segment_labels:
        if type(label) is not str:
            raise TypeError(f"segment_labels: expected text, got {label!r}")
        if not label.isascii() and label.encode(errors="replace").decode() != label:
            raise AnnotationError(f"segment_labels: expected valid Unicode, got {label!a}")
        if rule.class_names and label not in rule.class_names:
            raise AnnotationError(f"expected one of the class names, got {label!r}")
    segments = []
    for segment in record.segments:
        if len(segment) != 2:
            raise AnnotationError(f"segments: expected a start and an end, got {segment}")
        start, end = segment
        segments.append((_as_float(start, "segments"), _as_float(end, "segments")))
        if not 0 <= segments[-1][0] < segments[-1][1]:
            raise AnnotationError(f"expected a segment's start before its end, got {segments[-1]}")
    return replace(record, segments=tuple(segments), duration_s=duration_s, fps=fps, rfps=rfps)


def _check_whole(value: object, name: str) -> None:
    if type(value) is not int:
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if not -(2**63) <= value < 2**63:
        raise AnnotationError(f"{name}: expected a number of 64 bits, got {value}")


def _as_float(value: object, name: str) -> float:
    """Return a finite number as a plain float."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise AnnotationError(f"{name}: expected a finite number, got {value}")
    return number
