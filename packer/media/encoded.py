"""Whether a video is already what an encode recipe would make of it, so that it may be copied."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import av
from av.packet import Packet
from av.video.stream import VideoStream

from clipshards.packer.encoding import Encoding
from clipshards.packer.format.errors import MediaError
from clipshards.packer.frames.h264 import Bits
from clipshards.packer.frames.nal import head_parameter_sets, nal_length_size, read_access_unit
from clipshards.packer.frames.scan import VideoScan, scan_video
from clipshards.packer.frames.truncation import check_not_truncated
from clipshards.packer.media.muxing import open_video

# 29.97 frames a second pass for 30.
_RATE_TOLERANCE = Fraction(1, 1000)
# How far from its place, in frames, a constant rate may show one: containers round times.
_TIME_TOLERANCE = Fraction(1, 50)
# In shorter videos those that others refer to may well be half.
_FEW_FRAMES = 8
_PICTURE_SET = 8


def unmet(data: bytes, encoding: Encoding) -> tuple[str, VideoScan | None]:
    """Return the first reason why a video is not what `encoding` asks for, empty for none.

    `crf`, `preset` and deblocking are not asked about: a video that was encoded once is not
    encoded again to be made worse. With an empty reason comes the scan of the video.

    Args:
        data: A whole mp4, mov, Matroska, WebM or AVI file.
        encoding: What is asked for.

    Raises:
        MediaError: The video cannot be read.
    """
    container, stream = open_video(data)
    with container:
        check_not_truncated(data)
        reason = _unmet_by_header(container, stream, encoding)
        if reason:
            return reason, None
        try:
            packets = [packet for packet in container.demux(stream) if packet.size]
        except av.FFmpegError as exc:
            raise MediaError(f"not a readable mp4 or mov: {exc.strerror}") from exc
        reason = _unmet_by_packets(packets, stream, encoding)
    if reason:
        return reason, None
    scan = scan_video(data)
    if not len(scan.table):
        return f"there is no frame table for it: {scan.info.no_table_because}", None
    if scan.info.rotation:
        return f"its frames are turned by {scan.info.rotation} degrees", None
    return "", scan


def _unmet_by_header(
    container: av.container.InputContainer, stream: VideoStream, encoding: Encoding
) -> str:
    context = stream.codec_context
    if "mp4" not in container.format.name:
        return f"the container is {container.format.name} and not mp4"
    if container.metadata.get("major_brand", "").strip() == "qt":
        return "the container is mov and not mp4"
    if context.name != "h264":
        return f"the codec is {context.name} and not h264"
    if context.pix_fmt != "yuv420p":
        return f"the pixel format is {context.pix_fmt} and not yuv420p"
    # Its sides are even: H.264 crops 4:2:0 by two lines at a time (7.4.2.1.1).
    short = min(context.width, context.height)
    if 0 < encoding.short_side < short:
        return f"the short side is {short} and not at most {encoding.short_side}"
    if encoding.audio == "drop" and container.streams.audio:
        return "there is sound"
    if encoding.fast_decode and _is_arithmetic(context.extradata or b""):
        return "its coding is arithmetic, which is slow to decode"
    return ""


def _is_arithmetic(extradata: bytes) -> bool:
    """Return whether any H.264 picture parameter set has entropy_coding_mode_flag (7.3.2.2)."""
    try:
        for unit in head_parameter_sets("h264", extradata):
            if unit[0] & 31 == _PICTURE_SET:
                bits = Bits(unit[1:])
                bits.golomb()
                bits.golomb()
                if bits.fixed(1):
                    return True
    except (IndexError, ValueError):
        return True
    return False


def _unmet_by_packets(
    packets: "Sequence[Packet[VideoStream]]", stream: VideoStream, encoding: Encoding
) -> str:
    if any(packet.is_discard for packet in packets):
        return "an edit list hides frames"
    if min((packet.pts for packet in packets if packet.pts is not None), default=1):
        return "its first frame is not shown at time 0"
    if encoding.fps[0]:
        reason = _unmet_rate(packets, stream, Fraction(*encoding.fps))
        if reason:
            return reason
    length_size = nal_length_size("h264", stream.codec_context.extradata or b"")
    try:
        units = [read_access_unit("h264", bytes(packet), length_size) for packet in packets]
    except ValueError as exc:
        return f"its packets cannot be read: {exc}"
    # The frames behind an H.264 IDR picture are all shown after those before it, so that
    # packets are as many as frames.
    points = [number for number, unit in enumerate(units) if unit.random_access]
    gop = max((after - before for before, after in pairwise([*points, len(units)])), default=0)
    if points[:1] != [0]:
        return "it does not begin with a random-access point"
    if gop > encoding.gop:
        return f"random-access points are {gop} frames apart and not at most {encoding.gop}"
    disposable = sum(unit.disposable for unit in units)
    if encoding.b_frames and len(units) >= _FEW_FRAMES and 2 * disposable < len(units):
        return f"{disposable} of its {len(units)} frames are disposable and not half of them"
    return ""


def _unmet_rate(
    packets: "Sequence[Packet[VideoStream]]", stream: VideoStream, fps: Fraction
) -> str:
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(times) < len(packets) or not stream.time_base:
        return "the container does not say when frames are shown"
    if len(times) < 2:
        return ""
    step = Fraction(times[-1] - times[0], len(times) - 1)
    rate = 1 / (step * stream.time_base) if step else Fraction(0)
    if abs(rate - fps) > _RATE_TOLERANCE * fps:
        return f"it has {float(rate):.3f} frames a second and not {float(fps):g}"
    # A tick more or less is the container's rounding.
    allowed = max(Fraction(1), step * _TIME_TOLERANCE)
    if any(abs(time - times[0] - step * n) > allowed for n, time in enumerate(times)):
        return "its rate is not constant"
    return ""
