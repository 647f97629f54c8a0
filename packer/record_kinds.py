"""The record classes that `pack` takes, and what becomes of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from clipshards.packer.annotations.rawframe_list import check_rate, is_flow
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.labels import LabelRule
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.records import AudioRecord, RawframesRecord, SkeletonRecord, VideoRecord
from clipshards.packer.samples.audio import make_audio_sample
from clipshards.packer.samples.base import Material, Sample
from clipshards.packer.samples.rawframes import (
    make_rawframes_sample,
    rawframes_parts,
)
from clipshards.packer.samples.skeleton import make_skeleton_sample, skeleton_parts
from clipshards.packer.samples.video import make_video_sample
from clipshards.packer.skeletons import check_skeleton


@dataclass(frozen=True, slots=True)
class RecordKind:
    """One record class."""

    record: type
    task: str
    check: Callable[[Any, LabelRule], Any]
    """Returns the record with plain labels; raises AnnotationError for what cannot be packed."""
    name: Callable[[Any], str]
    """The user's own name of the sample."""
    entries: Callable[[Any], int]
    """Entries of the annotation that the record stands for."""
    size: Callable[[Any, MediaRoot], int | None]
    """Bytes of its parts, about; None where they are not to be had."""
    optional: Callable[[Iterable[Any]], tuple[str, ...]]
    """Optional parts that a split of these records must have."""
    make: Callable[[Any, Material], Sample]
    """Returns the sample; raises MediaError."""


def _check_video(record: VideoRecord, rule: LabelRule) -> VideoRecord:
    if not record.path:
        raise AnnotationError(f"expected a path, got {record.path!r}")
    return replace(record, labels=rule.check(record.labels))


def _check_skeleton(record: SkeletonRecord, rule: LabelRule) -> SkeletonRecord:
    fault = "expected an id, got ''" if not record.id else check_skeleton(record)
    if fault:
        raise AnnotationError(fault)
    return replace(record, labels=rule.check(record.labels))


def _skeleton_size(record: SkeletonRecord, root: MediaRoot) -> int | None:
    arrays = (record.keypoint, record.keypoint_score, record.frame_inds, record.box_score)
    size = sum(array.nbytes for array in arrays if array is not None)
    if not record.path:
        return size
    file = root.size(record.path)
    return None if file is None else size + file


def _check_audio(record: AudioRecord, rule: LabelRule) -> AudioRecord:
    if not record.path:
        raise AnnotationError(f"expected a path, got {record.path!r}")
    if type(record.total_frames) is not int:
        raise TypeError(f"total_frames: expected a whole number, got {record.total_frames!r}")
    if not 1 <= record.total_frames < 2**63:
        raise AnnotationError(f"expected total_frames of 1 or more, got {record.total_frames}")
    return replace(record, labels=rule.check(record.labels))


def _check_rawframes(record: RawframesRecord, rule: LabelRule) -> RawframesRecord:
    if not record.folder or not record.ranges:
        raise AnnotationError(f"expected a folder and its ranges, got {record!r}")
    try:
        is_flow(record.filename_tmpl)
        check_rate(record.rate)
    except ValueError as exc:
        raise AnnotationError(str(exc)) from exc
    for stretch in record.ranges:
        counts = (stretch.offset, stretch.total_frames, record.start_index)
        if any(type(count) is not int for count in counts):
            raise TypeError(f"ranges: expected whole numbers, got {stretch!r}")
        if min(counts) < 0 or not stretch.total_frames:
            raise AnnotationError(f"expected frames counted from 0, at least one, got {stretch!r}")
    ranges = (replace(stretch, labels=rule.check(stretch.labels)) for stretch in record.ranges)
    return replace(record, ranges=tuple(ranges))


def _nothing_optional(_records: Iterable[Any]) -> tuple[str, ...]:
    return ()


RECORD_KINDS: dict[type, RecordKind] = {
    kind.record: kind
    for kind in (
        RecordKind(
            record=VideoRecord,
            task="video",
            check=_check_video,
            name=lambda record: record.id or record.path,
            entries=lambda _: 1,
            size=lambda record, root: root.size(record.path),
            optional=_nothing_optional,
            make=make_video_sample,
        ),
        RecordKind(
            record=RawframesRecord,
            task="rawframes",
            check=_check_rawframes,
            name=lambda record: record.id or record.folder,
            entries=lambda record: max(len(record.ranges), 1),
            size=lambda record, root: root.folder_size(record.folder),
            optional=rawframes_parts,
            make=make_rawframes_sample,
        ),
        RecordKind(
            record=SkeletonRecord,
            task="skeleton",
            check=_check_skeleton,
            name=lambda record: record.id,
            entries=lambda _: 1,
            size=_skeleton_size,
            optional=skeleton_parts,
            make=make_skeleton_sample,
        ),
        RecordKind(
            record=AudioRecord,
            task="audio",
            check=_check_audio,
            name=lambda record: record.id or record.path,
            entries=lambda _: 1,
            size=lambda record, root: root.size(record.path),
            optional=_nothing_optional,
            make=make_audio_sample,
        ),
    )
}
