"""What a clip will take before it is cut, about: from the container's header, nothing decoded."""

import os
from fractions import Fraction
from pathlib import Path

import av

from clipshards.packer.frames.decode import open_container, video_stream

# Where the header does not say how far random-access points are apart.
_USUAL_INTERVAL_S = 2


def clip_bytes(path: str | os.PathLike[str], clip_frames: int) -> int | None:
    """Return about how many bytes a clip of a video takes; None where the header is unreadable.

    A clip begins at the random-access point before it, so half the way between two of them
    comes to its own seconds. Bytes are taken to lie evenly over the video.

    Args:
        path: A mp4, mov, Matroska, WebM or AVI file.
        clip_frames: Frames of the clip.
    """
    try:
        # A pipe would block.
        if not Path(path).is_file():
            return None
        with open(path, "rb") as file, open_container(file) as container:  # noqa: PTH123
            stream = video_stream(container)
            rate = None if stream is None else stream.average_rate
            duration_s = Fraction(container.duration or 0, av.time_base)
            if stream is None or not rate or duration_s <= 0:
                return None
            entries = sum(entry.is_keyframe for entry in stream.index_entries)
            size = file.seek(0, os.SEEK_END)
    except (OSError, av.FFmpegError):
        return None
    # Of Matroska one may be known until the packets are read.
    interval_s = duration_s / entries if entries > 1 else Fraction(_USUAL_INTERVAL_S)
    share = (clip_frames / rate + interval_s / 2) / duration_s
    return int(size * min(share, Fraction(1)))
