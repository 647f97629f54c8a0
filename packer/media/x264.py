"""libx264 as the recipes use it: its options, and whether its bytes are the same everywhere."""

import platform
import re
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
from av.codec.context import CodecContext
from av.video.frame import VideoFrame

from clipshards.packer.encoding import Encoding
from clipshards.packer.format.errors import MediaError

_NO_X264 = "this build of PyAV has no libx264"


def check_x264() -> None:
    """Raise MediaError if this build of PyAV has no libx264."""
    if "libx264" not in av.codecs_available:
        raise MediaError(_NO_X264)


@cache
def encoder_identity() -> dict[str, str]:
    """Return what shapes the bytes of an encoded video, beside the source and the recipe.

    Raises:
        MediaError: This build of PyAV has no libx264.
    """
    check_x264()
    context = CodecContext.create("libx264", "w")
    context.width = context.height = 16
    context.pix_fmt, context.time_base, context.thread_count = "yuv420p", Fraction(1), 1
    frame = VideoFrame(16, 16, "yuv420p")
    frame.pts = 0
    # x264 signs the first picture of each video.
    made = b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))
    signature = re.search(rb"x264 - (core .*?) - H", made)
    return {
        "av": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        "x264": signature[1].decode() if signature else "unknown",
        "cpu": platform.machine() if pinned_fault() else "x86-64-avx2",
    }


@cache
def pinned_fault() -> str:
    """Return why encoding may give other bytes here than elsewhere; empty where it does not."""
    if "libx264" not in av.codecs_available:
        return _NO_X264
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"the processor is {platform.machine() or 'unknown'} and not x86-64"
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "nothing says whether the processor has AVX2"
    flags = re.search(r"^flags\s*:(.*)$", described, re.MULTILINE)
    return "" if flags and "avx2" in flags[1].split() else "the processor has no AVX2"


def encoder_options(encoding: Encoding) -> dict[str, str]:
    """Return the encoder's options."""
    params = ["threads=1", "lookahead-threads=1", "open-gop=0", f"bframes={encoding.b_frames}"]
    if encoding.b_frames:
        # Without these, one in the middle is a reference, or there are fewer: in a flickering
        # video, where each frame looks like a new scene, next to none.
        params += ["b-adapt=0", "b-pyramid=none", "scenecut=0"]
    if not pinned_fault():
        # Without the instructions behind AVX2, whose results differ.
        params.append("asm=avx2")
    return {
        "preset": encoding.preset,
        "crf": str(encoding.crf),
        "g": str(encoding.gop),
        "a53cc": "0",  # no captions of the source among the pictures
        "x264-params": ":".join(params),
    } | ({"tune": "fastdecode"} if encoding.fast_decode else {})
