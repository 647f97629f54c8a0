"""What H.264's supplemental information makes FFmpeg remember from one picture to another."""

from clipshards.packer.format.frame_table import OFFSET, SIZE, FrameTable
from clipshards.packer.format.video import VideoInfo
from clipshards.packer.frames.decode import LAST_MENDED_X264, oldest_x264
from clipshards.packer.frames.nal import read_messages, split_nal_units

# H.264's unit of supplemental information, and the message in it on the fields of a picture.
_SEI = 6
_PICTURE_TIMING = 1
# What FFmpeg mends of x264 up to this version concerns all H.264, and then up to
# LAST_MENDED_X264 only the 4:4:4 profiles (which are those of lossless coding too).
_LAST_X264_MENDED_EVERYWHERE = 33


def is_mended(data: bytes, profile: str | None) -> bool:
    """Return whether FFmpeg mends mistakes of the x264 that made an H.264 video.

    It remembers the version beyond an IDR picture.
    """
    is_444 = profile is None or "4:4:4" in profile
    mended = LAST_MENDED_X264 if is_444 else _LAST_X264_MENDED_EVERYWHERE
    return oldest_x264(data, 0, len(data)) <= mended


def has_picture_timing(data: bytes, table: FrameTable, info: VideoInfo) -> bool:
    """Return whether an H.264 video says of its pictures how they are to be shown.

    Where such a message tells of both fields of a frame picture and no clock type decides,
    FFmpeg takes over from the picture before, IDR or not, whether this one is interlaced,
    which steers the conversion to RGB.
    """
    return any(
        any(kind == _PICTURE_TIMING for kind, _ in read_messages(unit))
        for offset, size in table[:, (OFFSET, SIZE)].tolist()
        for unit in split_nal_units(data[offset : offset + size], info.nal_length_size)
        if unit[0] & 31 == _SEI
    )
