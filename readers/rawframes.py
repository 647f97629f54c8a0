"""Items of task `rawframes`: a clip of pictures, or of optical flow, with its labels."""

from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import DecodeError
from clipshards.packer.format.json_parts import RawframesJson
from clipshards.packer.format.structure import RAWFRAMES_VIDEOS
from clipshards.packer.format.tasks import TASKS
from clipshards.readers.clips import Choose, FrameNumbers, Span
from clipshards.readers.fetch import RawSample
from clipshards.readers.split import check_item


class RawframesItem(TypedDict):
    """One clip of a stretch of frames, with what belongs to it.

    The pixels are libjpeg-turbo's, as MMAction2 trains on; libavcodec's JPEG decoder gives
    others.
    """

    key: str
    """Key of the sample in the data set."""
    item: int
    """Which stretch of the sample, counted from 0."""
    id: str
    """The user's own name; for lists, the folder as written there."""
    frames: npt.NDArray[np.uint8]
    """(T, H, W, 3) RGB; of flow (T, H, W, 2), x and y."""
    frame_numbers: npt.NDArray[np.int64]
    """(T,), counted from 0 at the beginning of the stretch."""
    offset: int
    """Frames of the folder before the stretch."""
    total_frames: int
    """Frames of the stretch."""
    label: NotRequired[int]
    """Class id, in splits with one label an item."""
    labels: NotRequired[npt.NDArray[np.int64]]
    """Class ids, (n,), in multi-label splits."""


def shown_of_rawframes(about: RawframesJson, item: int, choose: Choose) -> FrameNumbers:
    """Return the frames of the stored folder that an item shows."""
    stretch = about.stretches[item]
    return choose(Span(stretch.total_frames)) + stretch.offset


def decode_rawframes_item(raw: RawSample, item: int, choose: Choose) -> dict[str, Any]:
    """Return the clip of an item: a `RawframesItem` but for its labels.

    Raises:
        DecodeError: A file does not decode.
        FormatError: A part breaks the format.
    """
    # Pillow is loaded with the first item, not with the package.
    from clipshards.packer.frames.stills import decode_stills

    values = TASKS["rawframes"].decode_all(raw.parts, where=raw.where, media=raw.packets)
    about: RawframesJson = values["json"]
    check_item(item, about, where=raw.where)
    stretch = about.stretches[item]
    shown = shown_of_rawframes(about, item, choose)
    videos, tables = next(pair for pair in RAWFRAMES_VIDEOS.items() if pair[0][0] in values)
    try:
        planes = [
            decode_stills(
                values[video],
                shown,
                table=values[table],
                gray=len(videos) == 2,
            )
            for video, table in zip(videos, tables, strict=True)
        ]
    except DecodeError as exc:
        raise DecodeError(f"{raw.where} ({about.id}): {exc}") from exc
    return {
        "key": raw.key,
        "item": item,
        "id": about.id,
        "frames": planes[0] if len(planes) == 1 else np.stack(planes, axis=-1),
        "frame_numbers": shown - stretch.offset,
        "offset": stretch.offset,
        "total_frames": stretch.total_frames,
        "class_ids": stretch.labels,
    }
