"""Items of task `skeleton`: the joints of a video's persons."""

from functools import lru_cache
from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.json_parts import SkeletonJson
from clipshards.packer.format.tasks import TASKS
from clipshards.readers.clips import Choose, Span, all_frames
from clipshards.readers.fetch import RawSample
from clipshards.readers.pose import decompress_pose


class SkeletonItem(TypedDict):
    """The skeletons of one video; arrays as annotated, dtypes unchanged.

    Compressed skeletons have one row a detected box. Without a clip they come so; a clip is
    chosen from the frames that have boxes, of at most 10 persons each, as by MMAction2's
    `DecompressPose` behind the threshold that was given when packing.
    """

    key: str
    """Key of the sample in the data set."""
    id: str
    """The user's own name."""
    keypoint: npt.NDArray[np.floating]
    """(M, T, V, C): persons, frames of the clip, joints, x y or x y z; compressed, without a
    clip (N, V, 3): boxes, joints, x y score."""
    keypoint_score: NotRequired[npt.NDArray[np.floating]]
    """(M, T, V), where annotated."""
    frame_inds: NotRequired[npt.NDArray[np.integer]]
    """(N,) ascending frame of each box; compressed, without a clip."""
    box_score: NotRequired[npt.NDArray[np.floating]]
    """(N,), where annotated; compressed, without a clip."""
    anno_inds: NotRequired[npt.NDArray[np.bool_]]
    """(N,) whether the box's score reaches the threshold that was given when packing."""
    frame_numbers: npt.NDArray[np.int64]
    """(T,), counted from 0; of a clip of compressed skeletons as annotated."""
    total_frames: int
    """Frames of the whole video."""
    img_shape: npt.NDArray[np.int64]
    """(2,) height and width that the coordinates refer to; 0 where not known."""
    original_shape: npt.NDArray[np.int64]
    """(2,) height and width of the video; 0 where not known."""
    label: NotRequired[int]
    """Class id, in splits with one label a sample."""
    labels: NotRequired[npt.NDArray[np.int64]]
    """Class ids, (n,), in multi-label splits."""


_NAMES = {part: part.removesuffix(".npy") for part in TASKS["skeleton"].parts}


@lru_cache(maxsize=256)
def _shape(shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return a shape as an array that many items share, and nobody may change."""
    array = np.array(shape, dtype=np.int64)
    array.flags.writeable = False
    return array


def decode_skeleton_item(raw: RawSample, _item: int, choose: Choose) -> dict[str, Any]:
    """Return the skeletons of a raw sample: a `SkeletonItem` but for its labels.

    Raises:
        FormatError: A part breaks the format.
    """
    values = TASKS["skeleton"].decode_all(raw.parts, where=raw.where)
    about: SkeletonJson = values.pop("json")
    for part in about.absent:
        del values[part]
    arrays = {_NAMES[part]: array for part, array in values.items()}
    if about.box_threshold and "box_score" in arrays:
        arrays["anno_inds"] = arrays["box_score"] >= about.box_threshold
    span = Span(about.total_frames)
    if choose is all_frames:
        numbers = all_frames(span)
    elif about.compressed:
        arrays, numbers = _clip_of_boxes(arrays, choose, span)
    else:
        numbers = choose(span)
        arrays = {name: array.take(numbers, axis=1) for name, array in arrays.items()}
    return {
        "key": raw.key,
        "id": about.id,
        **arrays,
        "frame_numbers": numbers,
        "total_frames": about.total_frames,
        "img_shape": _shape(about.image_shape),
        "original_shape": _shape(about.original_shape),
        "class_ids": about.labels,
    }


def _clip_of_boxes(
    boxes: dict[str, npt.NDArray[Any]], choose: Choose, span: Span
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64]]:
    """Return the arrays of a clip of compressed skeletons, and its frames as annotated."""
    keypoint, frame_inds = boxes["keypoint"], boxes["frame_inds"]
    if "anno_inds" in boxes:
        keypoint, frame_inds = keypoint[boxes["anno_inds"]], frame_inds[boxes["anno_inds"]]
    if not len(frame_inds):
        # No person in any frame, as an array says it that is not compressed.
        numbers = choose(span)
        shape = (0, len(numbers), keypoint.shape[1])
        found = np.empty((*shape, 2), keypoint.dtype), np.empty(shape, keypoint.dtype)
    else:
        poses = decompress_pose(keypoint, frame_inds)
        chosen = choose(Span(len(poses.frame_inds)))
        numbers = poses.frame_inds[chosen].astype(np.int64)
        found = poses.keypoint[:, chosen], poses.keypoint_score[:, chosen]
    return dict(zip(("keypoint", "keypoint_score"), found, strict=True)), numbers
