"""Items of task `activitynet`: an untrimmed video's features and labelled segments."""

from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VIDEO_SUFFIXES
from clipshards.readers.clips import Choose, FrameNumbers
from clipshards.readers.fetch import RawSample
from clipshards.readers.video import decode_clip, span_of


class ActivityNetItem(TypedDict):
    """One untrimmed video; 0 stands for a count or rate that the annotation does not know."""

    key: str
    """Key of the sample in the data set."""
    id: str
    """Name of the video in the annotation."""
    segments: npt.NDArray[np.float64]
    """(n, 2) start and end in seconds, in the annotation's order."""
    segment_labels: list[str]
    """What happens in each segment; the manifest's `class_names` are all such names."""
    duration_s: float
    """Seconds."""
    duration_frames: int
    """Frames of the video."""
    feature_frames: int
    """Frames that the features cover."""
    fps: float
    """Frames per second of the video."""
    rfps: float
    """Rate at which features were taken."""
    feature: NotRequired[npt.NDArray[np.float32]]
    """(T, C), where packed; MMAction2 hands out its transpose."""
    frames: NotRequired[npt.NDArray[np.uint8]]
    """RGB, (T, H, W, 3), upright, where the video is packed."""
    frame_numbers: NotRequired[npt.NDArray[np.int64]]
    """(T,), counted from 0 in the order of display, where the video is packed."""
    total_frames: NotRequired[int]
    """Frames of the video, where it is packed."""


def shown_of_activitynet(about: ActivityNetJson, _item: int, choose: Choose) -> FrameNumbers:
    """Return the frames of the stored video that an item shows."""
    return choose(span_of(about.video, about.video.frames))


def decode_activitynet_item(raw: RawSample, _item: int, choose: Choose) -> dict[str, Any]:
    """Return an untrimmed video: an `ActivityNetItem`.

    Raises:
        DecodeError: The video does not give the frames.
        FormatError: A part breaks the format.
    """
    values = TASKS["activitynet"].decode_all(raw.parts, where=raw.where, media=raw.packets)
    about: ActivityNetJson = values["json"]
    found: dict[str, Any] = {
        "key": raw.key,
        "id": about.id,
        "segments": np.array(about.segments, dtype=np.float64).reshape(-1, 2),
        "segment_labels": list(about.segment_labels),
        "duration_s": about.duration_s,
        "duration_frames": about.duration_frames,
        "feature_frames": about.feature_frames,
        "fps": about.fps,
        "rfps": about.rfps,
    }
    if "feature.npy" in values:
        found["feature"] = values["feature.npy"].copy()
    video = next((values[suffix] for suffix in VIDEO_SUFFIXES if suffix in values), None)
    if video is not None:
        where = f"{raw.where} ({about.id})"
        found |= decode_clip(video, about.video, values["frames.npy"], choose, where=where)
    return found
