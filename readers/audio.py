"""Items of task `audio`: the mel features of a video's sound."""

from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.json_parts import AudioJson
from clipshards.packer.format.tasks import TASKS
from clipshards.readers.clips import Choose, Span
from clipshards.readers.fetch import RawSample


class AudioItem(TypedDict):
    """The sound of one video; features come whole whatever the clip.

    A sound that was kept beside them is not even read: `Split.read_sample` gives its bytes.
    """

    key: str
    """Key of the sample in the data set."""
    id: str
    """The user's own name; for lists, the path as written there."""
    audios: npt.NDArray[np.floating]
    """Mel features, (frames, bands), dtype as stored; 62.5 frames a second in MMAction2's."""
    frame_numbers: npt.NDArray[np.int64]
    """(T,) frames of the video in the clip, counted from 0."""
    total_frames: int
    """Frames of the whole video."""
    label: NotRequired[int]
    """Class id, in splits with one label a sample."""
    labels: NotRequired[npt.NDArray[np.int64]]
    """Class ids, (n,), in multi-label splits."""


def decode_audio_item(raw: RawSample, _item: int, choose: Choose) -> dict[str, Any]:
    """Return the features of a raw sample: an `AudioItem` but for its labels.

    Raises:
        FormatError: A part breaks the format.
    """
    # Whether there is a sound must fit what the json says.
    parts = raw.parts | dict.fromkeys(raw.unread, b"")
    values = TASKS["audio"].decode_all(parts, where=raw.where)
    about: AudioJson = values["json"]
    return {
        "key": raw.key,
        "id": about.id,
        "audios": values["mel.npy"],
        "frame_numbers": choose(Span(about.total_frames)),
        "total_frames": about.total_frames,
        "class_ids": about.labels,
    }


def select_audio(item: dict[str, Any], *, clips: int = 1, length: int = 128) -> dict[str, Any]:
    """Return an `AudioItem` with the features of its clips: MMAction2's `AudioFeatureSelector`.

    Args:
        item: As the data set gives it, to be used in its `transform`.
        clips: How many clips its frames are, at least 1.
        length: Frames of features of each clip, at least 1.

    Returns:
        A new item, whose `audios` is (clips, length, bands): the part of the sound that belongs
        to each clip, cut or filled up with zeros at its end.

    Raises:
        ValueError: The frames are not so many clips.
    """
    frames, audios = item["frame_numbers"], item["audios"]
    if clips < 1 or length < 1 or not len(frames) or len(frames) % clips:
        raise ValueError(
            f"clips {clips}, length {length}: expected at least 1 each, and {len(frames)} frames "
            "to be a multiple of clips"
        )
    found = np.zeros((clips, length, *audios.shape[1:]), dtype=audios.dtype)
    for clip, numbers in zip(found, frames.reshape(clips, -1), strict=True):
        first, last = (
            round((int(frame) + 1) / item["total_frames"] * len(audios))
            for frame in (numbers[0], numbers[-1])
        )
        part = audios[max(0, first) : min(len(audios), last)][:length]
        clip[: len(part)] = part
    return {**item, "audios": found}
