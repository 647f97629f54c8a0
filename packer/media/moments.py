"""Which frames of a video an annotated moment means: arithmetic on the frames' own times."""

from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import NO_PTS, PTS
from clipshards.packer.frames.plan import picture_packets
from clipshards.packer.frames.scan import VideoScan

Ticks: TypeAlias = npt.NDArray[np.int64]


def frame_ticks(scan: VideoScan) -> Ticks:
    """Return when each frame is shown, in ticks of `scan.info.time_base`; int64, ascending.

    The times are the container's. Where it has none for pictures (AVI), its packet times
    are dealt out in display order; where those repeat, frames are spaced by the rate.

    Raises:
        MediaError: There is no frame table, or neither time nor rate.
    """
    info = scan.info
    if not len(scan.table):
        raise MediaError(f"the times of the frames are not known: {info.no_table_because}")
    shown = picture_packets(scan.table)
    times = scan.table[shown, PTS]
    if not (times == NO_PTS).any():
        times = np.sort(times)
        if (np.diff(times) > 0).all():
            return times
    if not info.rate[0] or not info.time_base[0]:
        raise MediaError("the container gives the frames neither times nor a rate")
    step = 1 / (Fraction(*info.rate) * Fraction(*info.time_base))
    return np.array([round(step * number) for number in range(len(shown))], dtype=np.int64)


def frame_at(scan: VideoScan, second: float | Fraction) -> int:
    """Return which frame means the moment `second` seconds after the first one appeared.

    That goes by the frames' own times, so it holds for uneven ones, and for rates that are
    not what the annotation says.

    Between two frames it is the nearer one, the earlier one in the middle: at 29.97 frames a
    second, second 1 means frame 30, 1 ms later, as whoever annotated it saw.

    Raises:
        MediaError: The moment lies before the video or behind it, or `frame_ticks` fails.
    """
    ticks = frame_ticks(scan)
    base = Fraction(*scan.info.time_base)
    if not base:
        raise MediaError("the container does not say how long its ticks are")
    first = int(ticks[0])
    moment = first + Fraction(second) / base
    # Nothing says how long the last frame lasts: as long as the longest before it, or one
    # frame of the average rate.
    rate = scan.info.rate
    last = [int(np.diff(ticks).max())] if len(ticks) > 1 else []
    last += [int(1 / (Fraction(*rate) * base))] if rate[0] else []
    end = int(ticks[-1]) + max(last, default=0)
    if moment < first or moment > end:
        shown_s = float((end - first) * base)
        raise MediaError(f"second {float(second):g} lies outside the video of {shown_s:.3f} s")
    before = int(np.searchsorted(ticks, int(moment // 1), side="right")) - 1
    after = min(before + 1, len(ticks) - 1)
    return after if int(ticks[after]) - moment < moment - int(ticks[before]) else before


def clip_around(
    center_frame: int, *, total_frames: int, clip_frames: int = 64, jitter: int = 1
) -> tuple[int, int]:
    """Return the frames [start, stop) that a clip around a key frame draws from.

    MMAction2's SampleAVAFrames takes every second of `clip_frames` frames in its 32x2
    setting, half of them before the key frame; in training it shifts each by up to half
    that step, rounded up, to the front: `jitter`. What lies outside the video is cut off.

    Args:
        center_frame: The key frame, within the video.
        total_frames: Frames of the video.
        clip_frames: Clip length times frame interval, at least 1.
        jitter: Frames in front of the clip that training may reach.

    >>> clip_around(100, total_frames=300), clip_around(10, total_frames=40)
    ((67, 132), (0, 40))
    """
    if not 0 <= center_frame < total_frames:
        raise ValueError(f"center_frame {center_frame} is outside the video of {total_frames}")
    if clip_frames < 1 or jitter < 0:
        raise ValueError("expected clip_frames of at least 1 and jitter of at least 0")
    start = center_frame - clip_frames // 2 - jitter
    stop = center_frame + (clip_frames + 1) // 2
    return max(start, 0), min(stop, total_frames)
