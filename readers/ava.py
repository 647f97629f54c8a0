"""Items of task `ava`: a clip around an annotated moment, its persons and what they do."""

from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import DecodeError
from clipshards.packer.format.json_ava import AvaJson
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VIDEO_SUFFIXES
from clipshards.readers.clips import Choose, FrameNumbers, Span
from clipshards.readers.fetch import RawSample
from clipshards.readers.split import check_item
from clipshards.readers.video import decode_clip, fps_of


class AvaItem(TypedDict):
    """The clip around one key frame, and its persons.

    The clip is drawn from the `clip_frames` frames around the key frame, half of them before
    it, as far as the video has them. Boxes are x1, y1, x2, y2 in fractions of width and height.
    """

    key: str
    """Key of the sample in the data set."""
    item: int
    """Which moment of the sample, counted from 0."""
    id: str
    """Video and timestamp, or the video where the sample holds several moments."""
    video_id: str
    """As annotated."""
    timestamp: int
    """As annotated."""
    frames: npt.NDArray[np.uint8]
    """RGB, (T, H, W, 3), upright."""
    frame_numbers: npt.NDArray[np.int64]
    """(T,), in the source video, counted from 0."""
    key_frame: int
    """Number of the moment's frame in the source."""
    total_frames: int
    """Frames of the source."""
    boxes: npt.NDArray[np.float64]
    """(n, 4), one row a person."""
    labels: npt.NDArray[np.int64]
    """(l, 2) row of `boxes`, action id; one row for each action of each person."""
    entity_ids: npt.NDArray[np.int64]
    """(n,) ids of the persons."""
    proposals: NotRequired[npt.NDArray[np.float64]]
    """(m, 4) boxes of a detector, where the split has proposals; (0, 4) where this moment has
    none."""
    proposal_scores: NotRequired[npt.NDArray[np.float64]]
    """(m,) their scores; NaN where they have none."""


def shown_of_ava(about: AvaJson, item: int, choose: Choose) -> FrameNumbers:
    """Return the frames of the stored video that an item shows."""
    moment = about.key_frames[item]
    # What the part holds of the clip's frames: near the video's ends they are fewer.
    first = max(moment.frame - about.clip_frames // 2, 0)
    last = min(moment.frame + (about.clip_frames + 1) // 2, about.source_frames)
    span = Span(
        last - first,
        fps=fps_of(about.video),
        moment=moment.frame - first,
        before=first,
        behind=about.source_frames - last,
    )
    return choose(span) + (first - about.first_frame)


def decode_ava_item(raw: RawSample, item: int, choose: Choose) -> dict[str, Any]:
    """Return the clip of a moment: an `AvaItem`.

    Raises:
        DecodeError: The video does not give the frames.
        FormatError: A part breaks the format.
    """
    values = TASKS["ava"].decode_all(raw.parts, where=raw.where, media=raw.packets)
    about: AvaJson = values["json"]
    check_item(item, about, where=raw.where)
    moment = about.key_frames[item]
    before = about.key_frames[:item]
    where = f"{raw.where} ({about.id})"
    video = next(values[suffix] for suffix in VIDEO_SUFFIXES if suffix in values)

    numbers = shown_of_ava(about, item, choose)
    if about.filename_tmpl:
        # Pillow is loaded with the first item, not with the package.
        from clipshards.packer.frames.stills import decode_stills

        try:
            frames = decode_stills(video, numbers, table=values["frames.npy"])
        except DecodeError as exc:
            raise DecodeError(f"{where}: {exc}") from exc
    else:
        table = values["frames.npy"]
        frames = decode_clip(video, about.video, table, lambda _: numbers, where=where)["frames"]
    person = sum(other.persons for other in before)
    label = sum(other.labels for other in before)
    labels = values["labels.npy"][label : label + moment.labels] - np.array([person, 0])
    found = {
        "key": raw.key,
        "item": item,
        "id": about.id,
        "video_id": about.video_id,
        "timestamp": moment.timestamp,
        "frames": frames,
        "frame_numbers": numbers + about.first_frame,
        "key_frame": moment.frame,
        "total_frames": about.source_frames,
        "boxes": values["boxes.npy"][person : person + moment.persons].copy(),
        "labels": labels,
        "entity_ids": values["entity_ids.npy"][person : person + moment.persons].copy(),
    }
    if "proposals.npy" in values:
        place = sum(max(other.proposals, 0) for other in before)
        rows = values["proposals.npy"][place : place + max(moment.proposals, 0)]
        found["proposals"] = rows[:, :4].copy()
        found["proposal_scores"] = (
            rows[:, 4].copy() if moment.scored else np.full(len(rows), np.nan)
        )
    return found
