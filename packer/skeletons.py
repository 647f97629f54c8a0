"""What must hold inside a skeleton record, whoever made it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from clipshards.packer.format.errors import AnnotationError, MediaError
from clipshards.packer.format.json_parts import MAX_FRAMES
from clipshards.packer.records import SkeletonRecord

ARRAY_KEYS = ("keypoint", "keypoint_score", "frame_inds", "box_score")
"""Keys of arrays in MMAction2's dicts; the record's fields have the same names."""
SHAPE_KEYS = {"img_shape": "image_shape", "original_shape": "original_shape"}
"""Keys of picture sizes in MMAction2's dicts, and the record's fields."""

_FLOATS = ("float16", "float32", "float64")
_FLOAT_CHARS = "efd"  # of these, in either byte order; the names take NumPy long to build
_MAX_SHOWN = 80


def check_skeleton(record: SkeletonRecord) -> str:
    """Return what was expected of the record and what stood there; "" when it is sound.

    Arrays that a pickle of the video will bring (`path`) may be missing, and those that are
    there are checked as far as that goes. Labels and texts are not looked at.
    """
    return (
        _frames_fault(record)
        or _float_fault("keypoint", record.keypoint)
        or _float_fault("keypoint_score", record.keypoint_score)
        or _float_fault("box_score", record.box_score)
        or (_boxes_fault(record) if _is_compressed(record) else _persons_fault(record))
        or _shape_fault("image_shape", record.image_shape)
        or _shape_fault("original_shape", record.original_shape)
        or _valid_fault(record)
    )


def with_arrays(record: SkeletonRecord, values: object) -> SkeletonRecord:
    """Return the record with what the pickle of its video holds, complete and checked.

    As in MMAction2, an array of that pickle takes the place of the annotation's.

    Raises:
        MediaError: `values` is no dict, has a key that is not known here, contradicts the
            record, or the record with it is not sound.
    """
    if not isinstance(values, Mapping):
        raise MediaError(f"{record.path!r}: expected a dict, got {shown(values)}")
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key in ARRAY_KEYS:
            changes[key] = value
        elif key in SHAPE_KEYS:
            _add(changes, record, SHAPE_KEYS[key], _from_file(record, read_shape, key, value))
        elif key == "total_frames":
            _add(changes, record, key, _from_file(record, read_count, key, value))
        elif key not in ("frame_dir", "filename") or not _is_text(value, record.id):
            raise MediaError(
                f"{record.path!r}: expected {', '.join(ARRAY_KEYS)}, got key {shown(key)} "
                f"with {shown(value)}"
            )
    merged = replace(record, path="", **changes)
    fault = check_skeleton(merged)
    if fault:
        raise MediaError(f"{record.path!r}: {fault}")
    return merged


def read_count(name: str, value: object) -> int:
    """Return a count of frames as a plain integer.

    Raises:
        AnnotationError: Not a whole number of 1 or more.
    """
    number = as_integer(value)
    if number is None or not 1 <= number <= MAX_FRAMES:
        raise AnnotationError(f"expected {name} of 1 or more, got {shown(value)}")
    return number


def read_shape(name: str, value: object) -> tuple[int, int]:
    """Return a picture's (height, width) as plain integers.

    Raises:
        AnnotationError: Not two whole numbers of 1 or more.
    """
    given = value.tolist() if isinstance(value, np.ndarray) and value.shape == (2,) else value
    if isinstance(given, tuple | list) and len(given) == 2:
        height, width = as_integer(given[0]), as_integer(given[1])
        if height and width and 0 < height <= MAX_FRAMES and 0 < width <= MAX_FRAMES:
            return height, width
    raise AnnotationError(f"expected {name} (height, width) of 1 or more, got {shown(value)}")


def as_integer(value: object) -> int | None:
    """Return a whole number, Python's or NumPy's, as a plain one; None for anything else.

    >>> as_integer(np.int64(3)), as_integer(True), as_integer(3.0)
    (3, None, None)
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    return None


def shown(value: object) -> str:
    """Return a short text for a value of any kind and size, for messages.

    >>> shown("a.mp4"), shown(np.zeros((2, 3))), shown([1, [2]])
    ("'a.mp4'", 'a float64 array of shape (2, 3)', 'a list of 2')
    """
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    if isinstance(value, str | bytes):
        return repr(value[:_MAX_SHOWN])
    if value is None or isinstance(value, bool | int | float | np.generic):
        return str(value)[:_MAX_SHOWN]
    if isinstance(value, list | tuple | dict):
        parts: list[object] = [*value] if not isinstance(value, dict) and len(value) <= 4 else []
        if parts and all(isinstance(part, int | float | np.number) for part in parts):
            return str(tuple(parts) if isinstance(value, tuple) else parts)[:_MAX_SHOWN]
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _is_compressed(record: SkeletonRecord) -> bool:
    return record.frame_inds is not None or (
        # The frames of the boxes may stand in the file of the video.
        record.keypoint is None and record.keypoint_score is None and record.box_score is not None
    )


def _frames_fault(record: SkeletonRecord) -> str:
    if type(record.total_frames) is not int or not 1 <= record.total_frames <= MAX_FRAMES:
        return f"expected total_frames of 1 or more, got {shown(record.total_frames)}"
    if record.keypoint is None and not record.path:
        return "expected keypoint, got none"
    return ""


def _float_fault(name: str, array: object) -> str:
    if array is None:
        return ""
    if not isinstance(array, np.ndarray):
        return f"{name}: expected an array, got {shown(array)}"
    if array.dtype.char not in _FLOAT_CHARS:
        return f"{name}: expected one of {', '.join(_FLOATS)}, got {shown(array)}; convert it"
    if not array.size:
        return f"{name}: expected at least one number, got shape {array.shape}"
    finite = np.isfinite(array)
    if finite.all():
        return ""
    bad = array.size - np.count_nonzero(finite)
    return f"{name}: expected finite numbers, got NaN or infinity {bad} times"


def _boxes_fault(record: SkeletonRecord) -> str:
    """Check the arrays of the compressed form, one row a box."""
    keypoint, frames = record.keypoint, record.frame_inds
    if record.keypoint_score is not None:
        return "expected no keypoint_score beside frame_inds, as keypoint has the scores"
    if keypoint is not None and (keypoint.ndim != 3 or keypoint.shape[2] != 3):
        return f"keypoint: expected shape (boxes, joints, 3), got {keypoint.shape}"
    fault = _frame_inds_fault(frames, record.total_frames)
    if fault:
        return fault
    rows = {
        name: len(array)
        for name, array in (("keypoint", keypoint), ("frame_inds", frames))
        if array is not None
    }
    if record.box_score is not None:
        if record.box_score.ndim != 1:
            return f"box_score: expected shape (boxes,), got {record.box_score.shape}"
        rows["box_score"] = len(record.box_score)
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{count} in {name}" for name, count in rows.items())
        return f"expected one row a box, got {counts}"
    return ""


def _frame_inds_fault(frames: object, total_frames: int) -> str:
    if frames is None:
        return ""
    # Unsigned is no type that MMAction2's files have, nor one that the format stores.
    if not isinstance(frames, np.ndarray) or frames.dtype.kind != "i" or frames.ndim != 1:
        return f"frame_inds: expected signed integers of shape (boxes,), got {shown(frames)}"
    if not frames.size:
        return "frame_inds: expected at least one box, got none"
    if (frames[1:] < frames[:-1]).any():
        return "frame_inds: expected ascending frame numbers, got some out of order"
    if frames[0] < 0 or frames[-1] > total_frames:
        return (
            f"frame_inds: expected frame numbers from 0 to {total_frames}, "
            f"got {frames[0]} to {frames[-1]}"
        )
    return ""


def _persons_fault(record: SkeletonRecord) -> str:
    """Check the arrays of the form with one track a person."""
    keypoint, score = record.keypoint, record.keypoint_score
    if keypoint is not None:
        form = f"(persons, {record.total_frames}, joints, 2 or 3)"
        if keypoint.ndim == 3:
            return f"keypoint: expected shape {form}, or frame_inds, got shape {keypoint.shape}"
        if keypoint.ndim != 4 or keypoint.shape[3] not in (2, 3):
            return f"keypoint: expected shape {form}, got {keypoint.shape}"
        if keypoint.shape[1] != record.total_frames:
            return (
                f"keypoint: expected shape {form} by total_frames {record.total_frames}, "
                f"got {keypoint.shape}"
            )
    if score is not None:
        if score.ndim != 3 or score.shape[1] != record.total_frames:
            return (
                f"keypoint_score: expected shape (persons, {record.total_frames}, joints), "
                f"got {score.shape}"
            )
        if keypoint is not None and score.shape != keypoint.shape[:3]:
            return f"keypoint_score: expected shape {keypoint.shape[:3]}, got {score.shape}"
    if record.box_score is not None:
        return "expected frame_inds beside box_score, got none"
    return ""


def _shape_fault(name: str, shape: object) -> str:
    sides = [*shape] if isinstance(shape, tuple) else []
    if [type(side) for side in sides] == [int, int] and (sides == [0, 0] or min(sides) > 0):
        return ""
    return f"{name}: expected (height, width) of 1 or more, or (0, 0), got {shown(shape)}"


def _valid_fault(record: SkeletonRecord) -> str:
    for pair in record.valid:
        if [type(part) for part in pair] != [float, int] or not math.isfinite(pair[0]):
            return f"valid: expected (threshold, frames), got {shown(pair)}"
        if not 0 <= pair[1] <= MAX_FRAMES:
            return f"valid: expected 0 frames or more, got {pair[1]}"
    if type(record.box_threshold) is not float or not 0 <= record.box_threshold <= 1:
        return f"box_threshold: expected a float from 0 to 1, got {shown(record.box_threshold)}"
    if record.box_threshold and record.box_score is None and not record.path:
        return f"expected box_score, as box_threshold is {record.box_threshold}, got none"
    return ""


def _add(changes: dict[str, Any], record: SkeletonRecord, field: str, value: object) -> None:
    """Take a value of the video's pickle where the annotation has none, or the same."""
    known = getattr(record, field)
    if known not in (value, (0, 0)):
        raise MediaError(f"{record.path!r}: expected {field} {known} as annotated, got {value}")
    changes[field] = value


def _from_file(record: SkeletonRecord, read: Any, name: str, value: object) -> Any:
    try:
        return read(name, value)
    except AnnotationError as exc:
        raise MediaError(f"{record.path!r}: {exc}") from exc


def _is_text(value: object, text: str) -> bool:
    return isinstance(value, str) and value == text
