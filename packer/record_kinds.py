"""The record classes that `pack` takes, and what becomes of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.labels import LabelRule
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.recipe import Recipe
from clipshards.packer.record_checks import (
    check_activitynet,
    check_audio,
    check_ava,
    check_rawframes,
    check_skeleton,
    check_video,
)
from clipshards.packer.records import (
    ActivityNetRecord,
    AudioRecord,
    AvaRecord,
    RawframesRecord,
    SkeletonRecord,
    VideoRecord,
)
from clipshards.packer.samples.activitynet import activitynet_parts, make_activitynet_sample
from clipshards.packer.samples.audio import audio_size, make_audio_sample
from clipshards.packer.samples.ava import ava_parts, ava_size, make_ava_sample
from clipshards.packer.samples.base import Material, Sample
from clipshards.packer.samples.rawframes import make_rawframes_sample, rawframes_parts
from clipshards.packer.samples.skeleton import make_skeleton_sample, skeleton_parts
from clipshards.packer.samples.video import make_video_sample


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
    size: Callable[[Any, MediaRoot, Recipe], int | None]
    """Bytes of its parts, about; None where they are not to be had."""
    optional: Callable[[Iterable[Any]], tuple[str, ...]]
    """Optional parts that a split of these records must have."""
    make: Callable[[Any, Material], Sample]
    """Returns the sample; raises MediaError."""
    source: Callable[[Any], str] | None = None
    """What several records are cut from, so that they are made one behind the other; empty of
    a record that has it for itself."""
    label_modes: tuple[LabelMode, ...] = ("one", "many", "none")
    """Label modes that a split of these records may have; the first where nothing is said."""
    side_bytes: int = 16_384
    """What a sample takes beside its size, about: headers, json, frame table."""


def _skeleton_size(record: SkeletonRecord, root: MediaRoot, _: Recipe) -> int | None:
    arrays = (record.keypoint, record.keypoint_score, record.frame_inds, record.box_score)
    size = sum(array.nbytes for array in arrays if array is not None)
    if not record.path:
        return size
    file = root.size(record.path)
    return None if file is None else size + file


def _activitynet_size(record: ActivityNetRecord, root: MediaRoot, _: Recipe) -> int | None:
    sizes = [root.size(path) for path in (record.video, record.features) if path]
    return sum(size for size in sizes if size is not None) if None not in sizes else None


def _nothing_optional(_records: Iterable[Any]) -> tuple[str, ...]:
    return ()


RECORD_KINDS: dict[type, RecordKind] = {
    kind.record: kind
    for kind in (
        RecordKind(
            record=VideoRecord,
            task="video",
            check=check_video,
            name=lambda record: record.id or record.path,
            entries=lambda _: 1,
            size=lambda record, root, _: root.size(record.path),
            optional=_nothing_optional,
            make=make_video_sample,
        ),
        RecordKind(
            record=RawframesRecord,
            task="rawframes",
            check=check_rawframes,
            name=lambda record: record.id or record.folder,
            entries=lambda record: max(len(record.ranges), 1),
            size=lambda record, root, _: root.size(record.folder),
            optional=rawframes_parts,
            make=make_rawframes_sample,
        ),
        RecordKind(
            record=SkeletonRecord,
            task="skeleton",
            check=check_skeleton,
            name=lambda record: record.id,
            entries=lambda _: 1,
            size=_skeleton_size,
            optional=skeleton_parts,
            make=make_skeleton_sample,
            side_bytes=4096,
        ),
        RecordKind(
            record=AudioRecord,
            task="audio",
            check=check_audio,
            name=lambda record: record.id or record.path,
            entries=lambda _: 1,
            size=audio_size,
            optional=_nothing_optional,
            make=make_audio_sample,
            side_bytes=2048,
        ),
        RecordKind(
            record=AvaRecord,
            task="ava",
            check=check_ava,
            name=lambda record: record.id,
            entries=lambda record: max(sum(moment.rows for moment in record.key_frames), 1),
            size=ava_size,
            optional=ava_parts,
            make=make_ava_sample,
            label_modes=("one", "many"),
            side_bytes=8192,
            source=lambda record: "" if record.whole else record.path,
        ),
        RecordKind(
            record=ActivityNetRecord,
            task="activitynet",
            check=check_activitynet,
            name=lambda record: record.id,
            entries=lambda _: 1,
            size=_activitynet_size,
            optional=activitynet_parts,
            make=make_activitynet_sample,
            label_modes=("none",),
        ),
    )
}
