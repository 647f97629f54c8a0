"""A whole video in an mp4: its packets as they are, every frame the same to the bit."""

import io

import av

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import MediaError
from clipshards.packer.frames.decode import FrameConverter
from clipshards.packer.frames.scan import VideoScan, scan_video
from clipshards.packer.media.cut import VideoCutter
from clipshards.packer.media.muxing import (
    MUX_OPTIONS,
    LossError,
    add_stream,
    check_description,
    open_video,
    sound_stream,
)


def remux(data: bytes, *, sound: bool = True) -> tuple[bytes, VideoScan]:
    """Return a whole video as an mp4, every frame of it the same to the bit; and its scan.

    Args:
        data: A whole mp4, mov, Matroska, WebM or AVI file.
        sound: Whether to keep the sound, of which the first track counts.

    Raises:
        MediaError: The video cannot be read, its codec or that of its sound has no place in
            an mp4, or the mp4 would not give the same frames.
    """
    scan = scan_video(data)
    if not len(scan.table):
        return _remux_without_table(data, scan, sound=sound)
    cut = VideoCutter(data, scan=scan, sound=sound).cut(0, scan.info.frames, whole=True)
    _insist_on_sound(cut.sound_lost)
    return cut.data, cut.scan


def _insist_on_sound(lost: str) -> None:
    if lost:
        raise MediaError(f"{lost}; pack the video as it is (recipe copy)")


def _remux_without_table(data: bytes, scan: VideoScan, *, sound: bool) -> tuple[bytes, VideoScan]:
    """Return the packets of a video in an mp4, timed as the container says; and its scan."""
    try:
        made = _copy_packets(data, sound=sound)
        after = scan_video(made)
        check_description(scan, after)
        if _all_fingerprints(data) != _all_fingerprints(made):
            raise LossError("an mp4 would not give the same frames")
    except (LossError, MediaError) as exc:
        raise MediaError(f"the video cannot be remuxed without loss: {exc}") from exc
    return made, after


def _copy_packets(data: bytes, *, sound: bool) -> bytes:
    container, stream = open_video(data)
    heard = sound_stream(container) if sound else None
    buffer = io.BytesIO()
    try:
        with container, av.open(buffer, "w", format="mp4", options=MUX_OPTIONS) as output:
            targets = {stream.index: add_stream(output, stream)}
            if heard is not None:
                targets[heard.index] = add_stream(output, heard)
            for packet in container.demux([stream] if heard is None else [stream, heard]):
                if packet.size:
                    if packet.pts is None or packet.dts is None:
                        raise LossError("a packet has no time")
                    packet.stream = targets[packet.stream.index]
                    output.mux(packet)
    except (av.FFmpegError, ValueError) as exc:
        raise LossError(str(exc)) from exc
    return buffer.getvalue()


def _all_fingerprints(data: bytes) -> list[int]:
    container, stream = open_video(data)
    converter = FrameConverter()
    try:
        with container:
            return [crc32c(converter.rgb(frame).tobytes()) for frame in container.decode(stream)]
    except av.FFmpegError as exc:
        raise LossError(str(exc)) from exc
