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
