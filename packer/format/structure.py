"""What must hold between the decoded parts of one sample: shapes, counts, references.

Each function yields (part name, what is wrong with it); nothing for a sound sample.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.frame_names import is_flow
from clipshards.packer.format.frame_table import NO_PICTURE, RANK, check_frame_table
from clipshards.packer.format.json_parts import SkeletonJson
from clipshards.packer.format.video import VIDEO_SUFFIXES, VideoInfo

Fault = tuple[str, str]
"""Part name, and what was expected and found."""


def video_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Check a sample of task `video`."""
    video = next(values[suffix] for suffix in VIDEO_SUFFIXES if suffix in values)
    yield from _table_faults("frames.npy", values["frames.npy"], values["json"].video, len(video))


def _table_faults(
    part: str, table: npt.NDArray[np.generic], info: VideoInfo, part_bytes: int
) -> Iterator[Fault]:
    """Check a frame table against the video that it describes."""
    try:
        checked = check_frame_table(table, part_bytes=part_bytes, where="the frame table")
    except FormatError as exc:
        yield part, str(exc)
        return
    if info.frame_table == "none" and len(checked):
        yield part, "the json says that no frame table was made"
    elif info.frame_table != "none" and bool(len(checked)) == bool(info.no_table_because):
        yield part, "expected either a frame table or a reason why there is none"
    elif len(checked):
        pictures = int((checked[:, RANK] != NO_PICTURE).sum())
        if pictures != info.frames:
            yield part, f"{pictures} pictures, the json says {info.frames} frames"
    elif info.frames > part_bytes:
        # Who believes it makes an array of as many numbers.
        yield "json", f"{info.frames} frames in {part_bytes} bytes"


RAWFRAMES_VIDEOS = {
    ("mp4",): ("frames.npy",),
    ("flow_x.mp4", "flow_y.mp4"): ("flow_x.frames.npy", "flow_y.frames.npy"),
}
"""The videos of task `rawframes`, pictures or flow, to their frame tables."""

FRAME_TABLES = dict.fromkeys(VIDEO_SUFFIXES, "frames.npy") | {
    video: table
    for videos, tables in RAWFRAMES_VIDEOS.items()
    for video, table in zip(videos, tables, strict=True)
}
"""The videos of all tasks to their frame tables."""


def rawframes_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Check a sample of task `rawframes`."""
    there = set(values) - {"json"}
    for videos, tables in RAWFRAMES_VIDEOS.items():
        if there == {*videos, *tables}:
            if is_flow(values["json"].filename_tmpl) != (len(videos) == 2):
                yield "json", "filename_tmpl is of flow and the parts are not, or the reverse"
                return
            for video, table in zip(videos, tables, strict=True):
                info, size = values["json"].video, len(values[video])
                if not values[table].size:
                    yield table, "expected a row for each frame"
                yield from _table_faults(table, values[table], info, size)
            return
    yield "json", f"expected the parts of pictures or those of flow beside it, got {sorted(there)}"


SKELETON_OPTIONAL = ("frame_inds.npy", "box_score.npy", "keypoint_score.npy")
"""Parts of task `skeleton` that a split may lack."""


def skeleton_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Check a sample of task `skeleton`."""
    about: SkeletonJson = values["json"]
    for part in about.absent:
        if part not in SKELETON_OPTIONAL or part not in values:
            yield "json", f"absent: {part!r} is no optional part of this sample"
            return
        elif values[part].shape != (0,):
            yield part, f"said to be absent, expected shape (0,), got {values[part].shape}"
    arrays = {
        part: value for part, value in values.items() if part != "json" and part not in about.absent
    }
    keypoint = arrays["keypoint.npy"]
    expected: dict[str, tuple[int, ...]] = {}
    if about.compressed:
        if keypoint.ndim != 3 or keypoint.shape[2] != 3:
            yield "keypoint.npy", f"expected shape (boxes, joints, 3), got {keypoint.shape}"
            return
        expected = dict.fromkeys(("frame_inds.npy", "box_score.npy"), keypoint.shape[:1])
        if "frame_inds.npy" not in arrays:
            yield "frame_inds.npy", "expected the frame of each box"
    else:
        if keypoint.ndim != 4 or keypoint.shape[1] != about.total_frames:
            shape = f"(persons, {about.total_frames}, joints, coordinates)"
            yield "keypoint.npy", f"expected shape {shape}, got {keypoint.shape}"
            return
        expected = {"keypoint_score.npy": keypoint.shape[:3]}
    for part, array in arrays.items():
        kind = "i" if part == "frame_inds.npy" else "f"
        if array.dtype.kind != kind:
            yield part, f"expected {'integers' if kind == 'i' else 'floats'}, got {array.dtype}"
        elif part != "keypoint.npy" and array.shape != expected.get(part):
            yield part, f"expected shape {expected.get(part, 'none')}, got {array.shape}"
        elif part == "frame_inds.npy" and array.size:
            numbers = array.astype(np.int64)
            # Compared, since differences of 64 bits overflow.
            descends = (numbers[1:] < numbers[:-1]).any()
            if descends or numbers[0] < 0 or numbers[-1] > about.total_frames:
                yield part, f"expected ascending frame numbers up to {about.total_frames}"


def ava_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Check a sample of task `ava`."""
    yield from video_faults(values)
    if values["json"].filename_tmpl and not values["frames.npy"].size:
        yield "frames.npy", "expected a row for each frame"
    moments = values["json"].key_frames
    persons = sum(moment.persons for moment in moments)
    labels = sum(moment.labels for moment in moments)
    expected = {
        "boxes.npy": ("float64", (persons, 4)),
        "labels.npy": ("int64", (labels, 2)),
        "entity_ids.npy": ("int64", (persons,)),
    }
    proposed = sum(max(moment.proposals, 0) for moment in moments)
    if "proposals.npy" in values:
        expected["proposals.npy"] = ("float64", (proposed, 5))
    elif any(moment.proposals >= 0 for moment in moments):
        yield "json", "a key frame has proposals, the sample has none"
    for part, (dtype, shape) in expected.items():
        if (str(values[part].dtype), values[part].shape) != (dtype, shape):
            found = values[part]
            yield part, f"expected {dtype} of shape {shape}, got {found.dtype} {found.shape}"
            return
    place = row = 0
    for moment in moments:
        rows = values["labels.npy"][row : row + moment.labels]
        inside = (rows[:, 0] >= place) & (rows[:, 0] < place + moment.persons)
        if not inside.all() or (rows[:, 1] < 0).any():
            yield "labels.npy", f"a label of timestamp {moment.timestamp} is none of its persons'"
        place, row = place + moment.persons, row + moment.labels


def ava_label_lists(values: Mapping[str, Any]) -> list[list[int]]:
    """Return the action ids of each person of a sample in which `ava_faults` finds nothing."""
    persons: list[list[int]] = [[] for _ in values["entity_ids.npy"]]
    for person, label in values["labels.npy"].tolist():
        persons[person].append(label)
    return persons


def activitynet_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Check a sample of task `activitynet`."""
    if "feature.npy" in values:
        feature = values["feature.npy"]
        if feature.dtype != np.float32 or feature.ndim != 2:
            yield (
                "feature.npy",
                f"expected float32 of shape (time, channels), got {feature.dtype} {feature.shape}",
            )
    video = next((values[suffix] for suffix in VIDEO_SUFFIXES if suffix in values), None)
    if (video is None) != ("frames.npy" not in values):
        yield "json", "expected a video and its frame table, or neither"
    elif video is None:
        if values["json"].video != VideoInfo():
            yield "json", "describes a video that is not there"
    else:
        info = values["json"].video
        yield from _table_faults("frames.npy", values["frames.npy"], info, len(video))


SOUND_SUFFIXES = ("flac", "m4a", "mp3", "ogg", "wav")
"""Parts of task `audio` that hold its sound: a sample has one of them, or none."""


def audio_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Check a sample of task `audio`."""
    mel = values["mel.npy"]
    if mel.dtype.kind != "f" or mel.ndim != 2:
        yield "mel.npy", f"expected floats of shape (frames, bands), got {mel.dtype} {mel.shape}"
    kept = [suffix for suffix in SOUND_SUFFIXES if suffix in values]
    if bool(kept) != bool(values["json"].codec):
        yield "json", f"codec is {values['json'].codec!r}, the sound beside it: {kept or 'none'}"
