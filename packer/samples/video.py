"""One record becomes one sample: its parts as bytes, and its row of the index."""

from dataclasses import dataclass
from typing import Any

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import empty_frame_table
from clipshards.packer.format.tasks import PART_KINDS, VideoJson
from clipshards.packer.format.video import VIDEO_SUFFIXES, VideoInfo
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import VideoRecord

# Names under which the same containers also go.
_SUFFIX_OF = {suffix: suffix for suffix in VIDEO_SUFFIXES} | {"m4v": "mp4"}


@dataclass(frozen=True, slots=True)
class Sample:
    """What goes into a shard for one record."""

    id: str
    origin: str
    items: int
    summary: dict[str, Any]
    """One value for each summary column of the task."""
    parts: dict[str, bytes]
    """Part name to bytes, in the order of the task's table."""


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


def make_video_sample(record: VideoRecord, root: MediaRoot, recipe: Recipe) -> Sample:
    """Return the sample of a video record.

    Raises:
        MediaError: The media is missing, of an unknown kind, too large, or (with the
            frame table made by decoding) not decodable.
    """
    part = video_part(record.path)
    data = root.read(record.path)
    info, table = VideoInfo(), empty_frame_table()
    if recipe.frame_table == "decode":
        # PyAV is loaded with the first video that is opened, not with the package.
        from clipshards.packer.frames.scan import scan_video

        try:
            scan = scan_video(data)
        except MediaError as exc:
            raise MediaError(f"{record.path!r}: {exc}") from exc
        info, table = scan.info, scan.table
    name = record.id or record.path
    about = VideoJson(name, str(record.origin), record.labels, info)
    return Sample(
        id=name,
        origin=str(record.origin),
        items=1,
        summary=about.summary(),
        parts={
            "json": PART_KINDS["json"].encode(about),
            "frames.npy": PART_KINDS["frames.npy"].encode(table),
            part: data,
        },
    )
