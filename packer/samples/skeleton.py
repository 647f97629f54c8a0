"""A skeleton record becomes a sample: its arrays, dtypes unchanged."""

from collections.abc import Iterable

import numpy as np

from clipshards.packer.annotations.pickles import load_pickle
from clipshards.packer.format.errors import AnnotationError, MediaError
from clipshards.packer.format.json_parts import SkeletonJson
from clipshards.packer.format.structure import SKELETON_OPTIONAL
from clipshards.packer.records import SkeletonRecord
from clipshards.packer.samples.base import Material, Sample, make_sample
from clipshards.packer.skeletons import with_arrays


def skeleton_parts(records: Iterable[SkeletonRecord]) -> tuple[str, ...]:
    """Return the optional parts that a split of these records must have.

    What stands in files of their own is not known before they are opened.
    """
    found = set()
    for record in records:
        found |= set(SKELETON_OPTIONAL if record.path else _optional_arrays(record))
    return tuple(part for part in SKELETON_OPTIONAL if part in found)


def make_skeleton_sample(record: SkeletonRecord, material: Material) -> Sample:
    """Return the sample of a skeleton record.

    Raises:
        MediaError: The file with the arrays is missing or broken, or the arrays do not fit
            each other.
    """
    if record.path:
        record = _with_file(record, material)
    arrays = _optional_arrays(record)
    absent = tuple(sorted(part for part in material.optional if part not in arrays))
    about = SkeletonJson(
        id=record.id,
        origin=str(record.origin),
        labels=record.labels,
        total_frames=record.total_frames,
        compressed=record.frame_inds is not None,
        image_shape=record.image_shape,
        original_shape=record.original_shape,
        valid=record.valid,
        box_threshold=record.box_threshold,
        absent=absent,
    )
    # Where others have the part, a sample without it has an empty one.
    empty = {part: np.empty(0, dtype=np.float32) for part in absent}
    return make_sample("skeleton", about, {"keypoint.npy": record.keypoint, **arrays, **empty})


def _with_file(record: SkeletonRecord, material: Material) -> SkeletonRecord:
    """Return a record with the arrays of its pickle."""
    data = material.root.read(record.path)
    try:
        mapping = load_pickle(data, where=repr(record.path), encoding=record.pickle_encoding)
    except AnnotationError as exc:
        raise MediaError(str(exc)) from exc
    return with_arrays(record, mapping)


def _optional_arrays(record: SkeletonRecord) -> dict[str, np.ndarray]:
    arrays = {
        "frame_inds.npy": record.frame_inds,
        "box_score.npy": record.box_score,
        "keypoint_score.npy": record.keypoint_score,
    }
    return {part: array for part, array in arrays.items() if array is not None}
