"""A video list's record becomes a sample: the source's bytes, and what is known of them."""

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import FrameTable, empty_frame_table
from clipshards.packer.format.json_parts import VideoJson
from clipshards.packer.format.video import VIDEO_SUFFIXES, VideoInfo
from clipshards.packer.frames.truncation import check_not_truncated
from clipshards.packer.records import VideoRecord
from clipshards.packer.samples.base import Material, Sample, make_sample

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


def read_video(path: str, material: Material) -> tuple[str, bytes, VideoInfo, FrameTable]:
    """Return the part name of a video, its bytes, and what the recipe wants to know of it.

    Raises:
        MediaError: The media is missing, of an unknown kind, too large, cut short, (with
            the frame table made by decoding) not decodable, or cannot be remuxed.
    """
    part = video_part(path)
    data = material.root.read(path)
    try:
        if material.recipe.media == "remux":
            from clipshards.packer.media.remux import remux

            part, data = "mp4", remux(data)
        if material.recipe.frame_table == "decode":
            # PyAV is loaded with the first video that is opened, not with the package.
            from clipshards.packer.frames.scan import scan_video

            scan = scan_video(data)
            return part, data, scan.info, scan.table
        # A video cut short would look like a shorter one to every later reader.
        check_not_truncated(data)
    except MediaError as exc:
        raise MediaError(f"{path!r}: {exc}") from exc
    return part, data, VideoInfo(), empty_frame_table()


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
    part, data, info, table = read_video(record.path, material)
    about = VideoJson(record.id or record.path, str(record.origin), record.labels, info)
    values = {"frames.npy": table, part: data}
    return make_sample("video", about, values, warning=table_warning(info))
