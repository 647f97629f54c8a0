"""What cutting and remuxing share: mp4 files of packets as they are, and what may not be lost."""

from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from clipshards.packer.format.errors import MediaError
from clipshards.packer.frames.decode import open_container, video_stream
from clipshards.packer.frames.scan import VideoScan

# bitexact: no name and version of the muxer, no time of writing.
MUX_OPTIONS = {"fflags": "+bitexact"}
# What must be the same before and after, since pixels or their meaning depend on it.
_KEPT = (
    "codec",
    "pixel_format",
    "width",
    "height",
    "coded_width",
    "coded_height",
    "color_range",
    "color_space",
    "color_primaries",
    "color_transfer",
    "interlaced",
    "rotation",
)


class LossError(Exception):
    """What would be lost."""


def open_video(data: bytes) -> tuple[av.container.InputContainer, VideoStream]:
    """Return the opened container in `data`, and its video.

    Raises:
        MediaError: It cannot be read, or there is none.
    """
    try:
        container = open_container(data)
    except av.FFmpegError as exc:
        raise MediaError(f"not a readable mp4, mov, mkv, webm or avi: {exc.strerror}") from exc
    stream = video_stream(container)
    if stream is None:
        raise MediaError("no video stream in the file")
    return container, stream


def sound_stream(container: av.container.InputContainer) -> AudioStream | None:
    """Return the first sound track, None where there is none."""
    return container.streams.audio[0] if container.streams.audio else None


def add_stream(output: OutputContainer, template: Any) -> Any:
    """Add a stream of the same codec to an mp4.

    Raises:
        LossError: The codec is not known.
    """
    # An unknown codec of sound has no context, against PyAV's types.
    if getattr(template, "codec_context", None) is None:
        raise LossError("its codec is not known")
    # Opaque: the codec is taken as it is, no encoder of its name is looked for.
    return output.add_stream_from_template(template, opaque=True)


def check_description(source: VideoScan, made: VideoScan) -> None:
    """Raise LossError where an mp4 is described otherwise than its source."""
    for name in _KEPT:
        before, after = getattr(source.info, name), getattr(made.info, name)
        if before != after:
            raise LossError(f"an mp4 would change {name} from {before!r} to {after!r}")
