"""What must hold of the values in a sample: finite arrays, boxes and counts in their range.

Packing lets in nothing else, whoever made the record. What it leaves to the user is no fault:
scores of boxes and proposals, segments that end behind the video, counts of frames beside
features.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson
from clipshards.packer.format.json_parts import MAX_FRAMES, AudioJson, SkeletonJson
from clipshards.packer.format.structure import Fault

# Features that packing computes: 80 bands of 16 kHz, a frame each 256 samples and one more.
_BANDS = 80
_MEL_RATE = 62.5
# A kept sound may be 20 ms longer or shorter than the one that was looked at.
_MEL_SLACK = 3


def range_faults(task: str, values: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield (part name, what was expected and found) for values out of their range.

    Args:
        task: Name of the task.
        values: All decoded parts of a sample, as `Task.decode` gives them, in which
            `Task.faults` finds nothing.
    """
    for part, array in values.items():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            finite = np.isfinite(array)
            if not finite.all():
                # Not np.argwhere, which would take a number an axis for each of them.
                place = tuple(map(int, np.unravel_index(np.argmin(finite), array.shape)))
                bad = array.size - int(np.count_nonzero(finite))
                yield part, f"expected finite numbers, got {bad} others, first at {place}"
    if task in _OF_TASK:
        yield from _OF_TASK[task](values)


def _skeleton(values: Mapping[str, Any]) -> Iterator[Fault]:
    about: SkeletonJson = values["json"]
    for part, array in values.items():
        if part != "json" and part not in about.absent and not array.size:
            yield part, f"expected at least one number, got shape {array.shape}"
    coordinates = values["keypoint.npy"].shape[-1]
    if coordinates not in (2, 3):
        yield "keypoint.npy", f"expected 2 or 3 coordinates, got {coordinates}"
    for name in ("image_shape", "original_shape"):
        shape = getattr(about, name)
        if shape != (0, 0) and min(shape) < 1:
            yield "json", f"{name}: expected height and width of 1 or more, got {shape}"
    for threshold, frames in about.valid:
        if not 0 <= frames <= MAX_FRAMES:
            yield "json", f"valid: expected 0 to {MAX_FRAMES} frames at {threshold}, got {frames}"
    if not 0 <= about.box_threshold <= 1:
        yield "json", f"box_threshold: expected 0 to 1, got {about.box_threshold}"
    scored = "box_score.npy" in values and "box_score.npy" not in about.absent
    if about.box_threshold and not scored:
        yield "json", f"box_threshold: expected 0.0 without scores, got {about.box_threshold}"


def _audio(values: Mapping[str, Any]) -> Iterator[Fault]:
    about: AudioJson = values["json"]
    mel: npt.NDArray[np.floating[Any]] = values["mel.npy"]
    if not mel.size:
        yield "mel.npy", f"expected at least one frame and band, got shape {mel.shape}"
    elif about.codec:
        # A sound is kept only where the features are computed of it.
        if mel.dtype != np.float32 or mel.shape[1] != _BANDS:
            found = f"{mel.dtype} of {mel.shape[1]}"
            yield "mel.npy", f"expected float32 of {_BANDS} bands beside the sound, got {found}"
        elif not ((mel >= 0) & (mel <= 1)).all() and np.isfinite(mel).all():
            yield "mel.npy", f"expected 0 to 1, got {mel.min()} to {mel.max()}"
        expected = about.duration_s * _MEL_RATE + 1
        if abs(len(mel) - expected) > _MEL_SLACK:
            seconds = f"{about.duration_s:g} s of sound"
            yield "mel.npy", f"expected {expected:.0f} frames of {seconds}, got {len(mel)}"


def _ava(values: Mapping[str, Any]) -> Iterator[Fault]:
    about: AvaJson = values["json"]
    for place, moment in enumerate(about.key_frames):
        if not moment.persons:
            yield "json", f"key_frames[{place}]: expected at least one person, got none"
    boxes = values["boxes.npy"]
    yield from _outside("boxes.npy", boxes)
    # NaN fails every comparison, and was told above.
    turned = (boxes[:, :2] >= boxes[:, 2:]).any(axis=1)
    if turned.any():
        row = int(np.argmax(turned))
        yield "boxes.npy", f"row {row}: expected x1 < x2 and y1 < y2, got {boxes[row].tolist()}"
    if "proposals.npy" in values:
        proposals = values["proposals.npy"]
        yield from _outside("proposals.npy", proposals[:, :4])
        start = 0
        for moment in about.key_frames:
            stop = start + max(moment.proposals, 0)
            if not moment.scored and proposals[start:stop, 4].any():
                where = f"timestamp {moment.timestamp}"
                yield "proposals.npy", f"{where}: expected 0 for scores that are not there"
            start = stop


def _outside(part: str, boxes: npt.NDArray[np.float64]) -> Iterator[Fault]:
    outside = ((boxes < 0) | (boxes > 1)).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        yield part, f"row {row}: expected fractions from 0 to 1, got {boxes[row].tolist()}"


def _activitynet(values: Mapping[str, Any]) -> Iterator[Fault]:
    about: ActivityNetJson = values["json"]
    if "feature.npy" in values and not values["feature.npy"].size:
        shape = values["feature.npy"].shape
        yield "feature.npy", f"expected at least one row and channel, got shape {shape}"
    # The json's reader has checked it too.
    for place, (start_s, end_s) in enumerate(about.segments):
        if not 0 <= start_s < end_s:
            yield "json", f"segments[{place}]: expected 0 <= start < end, got {start_s}, {end_s}"


_OF_TASK: dict[str, Callable[[Mapping[str, Any]], Iterator[Fault]]] = {
    "skeleton": _skeleton,
    "audio": _audio,
    "ava": _ava,
    "activitynet": _activitynet,
}
