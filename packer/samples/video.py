"""A video list's record becomes a sample: the source's bytes, and what is known of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import FrameTable, empty_frame_table
from clipshards.packer.format.json_parts import VideoJson
from clipshards.packer.format.video import VIDEO_SUFFIXES, VideoInfo
from clipshards.packer.frames.truncation import check_not_truncated
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import VideoRecord
from clipshards.packer.samples.base import Material, Sample, make_sample

if TYPE_CHECKING:
    from clipshards.packer.frames.scan import VideoScan

_UNOPENED = VideoInfo()
# Names under which the same containers also go.
_SUFFIX_OF = {suffix: suffix for suffix in VIDEO_SUFFIXES} | {"m4v": "mp4"}


def video_part(path: str) -> str:
    """Return the part name of a video, after its file name.

    Raises:
        MediaError: Not the name of a video.

    >>> video_part("a/b.M4V")
    'mp4'
    """
    stem, _, suffix = path.rpartition("/")[2].rpartition(".")
    suffix = suffix.lower()
    if not stem or suffix not in _SUFFIX_OF:
        known = ", ".join(f".{name}" for name in _SUFFIX_OF)
        raise MediaError(f"{path!r}: expected a name ending in {known}")
    return _SUFFIX_OF[suffix]


@dataclass(frozen=True, slots=True)
class VideoParts:
    """What becomes of a video."""

    part: str
    """Name of the part that holds it."""
    data: bytes
    info: VideoInfo
    table: FrameTable
    warning: str
    """What of the media is not in it; empty for nothing."""


def read_video(path: str, material: Material) -> VideoParts:
    """Return the parts of a video, made by the recipe.

    Raises:
        MediaError: The media is missing, of an unknown kind, too large, cut short, (with
            the frame table made by decoding) not decodable, or cannot be remuxed or encoded.
    """
    part, recipe = video_part(path), material.recipe
    data = material.root.read(path)
    try:
        if recipe.media == "copy":
            scan, lost = _scanned(data, recipe), ""
        else:
            made, scan, lost = _remade(data, recipe)
            if made is not data:
                part, data = "mp4", made
    except MediaError as exc:
        raise MediaError(f"{path!r}: {exc}") from exc
    if scan is None or recipe.frame_table == "none":
        return VideoParts(part, data, _UNOPENED, empty_frame_table(), lost)
    warnings = (table_warning(scan.info), lost)
    return VideoParts(part, data, scan.info, scan.table, "; ".join(filter(None, warnings)))


# PyAV is loaded with the first video that is opened, not with the package.
def _scanned(data: bytes, recipe: Recipe) -> "VideoScan | None":
    """Return what the recipe wants to know of a video, None for nothing."""
    if recipe.frame_table == "decode":
        from clipshards.packer.frames.scan import scan_video

        return scan_video(data)
    if recipe.frame_table == "demux":
        from clipshards.packer.frames.demux import demux_video

        return demux_video(data)
    # A video cut short would look like a shorter one to every later reader.
    check_not_truncated(data)
    return None


def _remade(data: bytes, recipe: Recipe) -> "tuple[bytes, VideoScan, str]":
    """Return the video that a recipe makes, its scan, and why sound is lost."""
    if recipe.encoding is None:
        from clipshards.packer.media.remux import remux

        return *remux(data, sound=recipe.audio == "keep"), ""
    from clipshards.packer.media.encode import encode_video
    from clipshards.packer.media.encoded import unmet

    if recipe.if_needed:
        _, scan = unmet(data, recipe.encoding)
        if scan is not None:
            return data, scan, ""
    encoded = encode_video(data, recipe.encoding)
    return encoded.data, encoded.scan, encoded.sound_lost


def table_warning(info: VideoInfo) -> str:
    """Return what it means that a video has no frame table; empty where it has one."""
    if not info.no_table_because:
        return ""
    return f"no frame table, so readers decode from the start: {info.no_table_because}"


def make_video_sample(record: VideoRecord, material: Material) -> Sample:
    """Return the sample of a video record.

    Raises:
        MediaError: As for `read_video`.
    """
    video = read_video(record.path, material)
    about = VideoJson(record.id or record.path, str(record.origin), record.labels, video.info)
    values = {"frames.npy": video.table, video.part: video.data}
    return make_sample("video", about, values, warning=video.warning)
