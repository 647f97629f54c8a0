"""Items of task `video`: a clip of frames with its labels."""

from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import DecodeError
from clipshards.packer.format.frame_table import FrameTable
from clipshards.packer.format.json_parts import VideoJson
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VIDEO_SUFFIXES, VideoInfo
from clipshards.packer.frames.packets import Part
from clipshards.readers.clips import Choose, FrameNumbers, Span
from clipshards.readers.fetch import RawSample


class VideoItem(TypedDict):
    """One clip of a video, with what belongs to it."""

    key: str
    """Key of the sample in the data set."""
    id: str
    """The user's own name; for lists, the path as written there."""
    frames: npt.NDArray[np.uint8]
    """RGB, (T, H, W, 3), upright."""
    frame_numbers: npt.NDArray[np.int64]
    """(T,), counted from 0 in the order of display."""
    total_frames: int
    """Frames of the whole video."""
    label: NotRequired[int]
    """Class id, in splits with one label a sample."""
    labels: NotRequired[npt.NDArray[np.int64]]
    """Class ids, (n,), in multi-label splits."""


class VideoParts(NamedTuple):
    """The parts of one video sample, decoded except for the video itself."""

    about: VideoJson
    table: npt.NDArray[np.int64]
    video: Part


def open_video(values: Mapping[str, Any]) -> VideoParts:
    """Return the decoded parts of a sample of task `video` by their roles."""
    video = next(values[suffix] for suffix in VIDEO_SUFFIXES if suffix in values)
    return VideoParts(values["json"], values["frames.npy"], video)


def decode_video_item(raw: RawSample, _item: int, choose: Choose) -> dict[str, Any]:
    """Return the clip of a raw sample: a `VideoItem` but for its labels.

    Raises:
        DecodeError: The video does not give the frames.
        FormatError: A part breaks the format.
    """
    values = TASKS["video"].decode_all(raw.parts, where=raw.where, media=raw.packets)
    about, table, video = open_video(values)
    return {
        "key": raw.key,
        "id": about.id,
        **decode_clip(video, about.video, table, choose, where=f"{raw.where} ({about.id})"),
        "class_ids": about.labels,
    }


def span_of(info: VideoInfo, frames: int) -> Span:
    """Return what a clip of a whole video is chosen from."""
    return Span(frames, fps=fps_of(info))


def fps_of(info: VideoInfo) -> float:
    """Return the frames per second of a video on average, 0.0 where it is not known."""
    return info.rate[0] / info.rate[1]


def shown_of_video(about: VideoJson, _item: int, choose: Choose) -> FrameNumbers:
    """Return the frames of the stored video that an item shows."""
    return choose(span_of(about.video, about.video.frames))


def decode_clip(
    video: Part, info: VideoInfo, table: FrameTable, choose: Choose, *, where: str
) -> dict[str, Any]:
    """Return `frames`, `frame_numbers` and `total_frames` of a video part, as in `VideoItem`.

    Raises:
        DecodeError: The video does not give the frames.
    """
    # PyAV is loaded with the first item, not with the package.
    from clipshards.packer.frames.decode import decode_frames, look_through

    try:
        # Packed unopened, a video's length and rotation are known only by decoding it.
        total, rotation = info.frames, info.rotation
        if total < 0:
            assert isinstance(video, bytes)
            total, rotation = look_through(video)
        numbers = choose(span_of(info, total))
        frames = decode_frames(video, numbers, info=info, table=table)
    except DecodeError as exc:
        raise DecodeError(f"{where}: {exc}") from exc
    if rotation % 90 == 0 and rotation % 360:
        frames = np.ascontiguousarray(np.rot90(frames, rotation // 90, axes=(1, 2)))
    return {"frames": frames, "frame_numbers": numbers, "total_frames": total}
