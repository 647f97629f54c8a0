"""Which packets of a sample's videos the clips of its items need."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clipshards.packer.format.frame_table import RANK, FrameTable, check_frame_table
from clipshards.packer.format.json_ava import AvaJson
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.frames.plan import needed_packets
from clipshards.readers.activitynet import shown_of_activitynet
from clipshards.readers.ava import shown_of_ava
from clipshards.readers.clips import Choose, FrameNumbers
from clipshards.readers.rawframes import shown_of_rawframes
from clipshards.readers.video import shown_of_video

Shown = tuple[int, Choose]
"""An item of a sample, and what chooses the frames of its clip."""

_SHOWN: dict[str, Callable[[Any, int, Choose], FrameNumbers]] = {
    "video": shown_of_video,
    "rawframes": shown_of_rawframes,
    "ava": shown_of_ava,
    "activitynet": shown_of_activitynet,
}


def shows_clips(task: str) -> bool:
    """Return whether items of a task are clips of videos."""
    return task in _SHOWN


def needed_rows(
    task: str, shown: Sequence[Shown], about: bytes, table: bytes, size: int, where: str
) -> FrameTable | None:
    """Return the rows of a frame table whose packets the clips of a sample's items need.

    Args:
        task: Of the sample.
        shown: The items.
        about: Its `json`.
        table: Frame table of one of its videos.
        size: Bytes of the video.
        where: Shard and key, for errors.

    Returns:
        None where all of the video is needed: it has no table, or a clip is outside of it.

    Raises:
        FormatError: A part breaks the format.
    """
    decode = TASKS[task].decode
    said = decode("json", about, where=f"{where}.json")
    rows = check_frame_table(
        decode("frames.npy", table, where=f"{where}.frames.npy"), part_bytes=size, where=where
    )
    if not len(rows) or any(item >= said.items for item, _ in shown):
        return None
    frames = np.concatenate([_SHOWN[task](said, item, choose) for item, choose in shown])
    if not len(frames) or frames.min() < 0 or frames.max() > rows[:, RANK].max():
        return None
    stills = task == "rawframes" or (isinstance(said, AvaJson) and bool(said.filename_tmpl))
    return rows[needed_packets(rows, frames, stills=stills)]
