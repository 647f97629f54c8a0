"""Which parts a sample of each task has, and both directions of every part.

A task is what one split holds. Its table is closed: a part name that is not in it, or a
`json` with another set of keys, is not of this format version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.npy import decode_npy, encode_npy
from clipshards.packer.format.video import VIDEO_SUFFIXES, VideoInfo


@dataclass(frozen=True, slots=True)
class PartKind:
    """One part name, with the way from a value to bytes and back."""

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[..., Any]
    """Called with the bytes and `where=`."""


@dataclass(frozen=True, slots=True)
class Task:
    """The parts of one task's samples."""

    name: str
    parts: tuple[str, ...]
    """In the order of the shard; media last."""
    media: tuple[str, ...]
    """Parts of which each sample has exactly one."""
    summary: dict[str, Any]
    """Columns of the index: name to schema of one value."""


@dataclass(frozen=True, slots=True)
class VideoJson:
    """The `json` part of task `video`."""

    id: str
    """The user's own name of the sample; for lists, the path as written there."""
    origin: str
    """File and line (or index) of the annotation, without folders."""
    labels: tuple[int, ...]
    """Class ids in the annotation's order; empty when packed unlabelled."""
    video: VideoInfo

    def summary(self) -> dict[str, Any]:
        """Return the sample's values for the summary columns of the index."""
        return {
            "labels": list(self.labels),
            "frames": self.video.frames,
            "duration_s": self.video.duration_s,
            "width": self.video.width,
            "height": self.video.height,
        }

    def encode(self) -> bytes:
        """Return the bytes of the part."""
        return encode_json(
            {
                "id": self.id,
                "origin": self.origin,
                "labels": list(self.labels),
                "video": self.video.to_json(),
            }
        )

    @staticmethod
    def decode(data: bytes, *, where: str) -> "VideoJson":
        """Return the value of the part.

        Raises:
            FormatError: Not canonical JSON of this schema.
        """
        value = decode_json(data, where=where)
        check_schema(value, {"id": str, "origin": str, "labels": [int], "video": dict}, where=where)
        video = VideoInfo.from_json(value["video"], where=f"{where}.video")
        return VideoJson(value["id"], value["origin"], tuple(value["labels"]), video)


def _same_bytes(data: bytes, *, where: str = "") -> bytes:
    return data


PART_KINDS = {
    kind.name: kind
    for kind in (
        PartKind("json", VideoJson.encode, VideoJson.decode),
        PartKind("frames.npy", encode_npy, decode_npy),
        *(PartKind(suffix, _same_bytes, _same_bytes) for suffix in VIDEO_SUFFIXES),
    )
}

TASKS = {
    task.name: task
    for task in (
        Task(
            name="video",
            parts=("json", "frames.npy", *VIDEO_SUFFIXES),
            media=VIDEO_SUFFIXES,
            summary={
                "labels": [int],
                "frames": int,
                "duration_s": float,
                "width": int,
                "height": int,
            },
        ),
    )
}


def task_named(name: object, *, where: str) -> Task:
    """Return the task called `name`.

    Raises:
        FormatError: This format version has none of that name.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise FormatError(f"{where}: unknown task {name!r}, expected one of {sorted(TASKS)}")
    return TASKS[name]
