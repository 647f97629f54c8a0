"""Which parts a sample of each task has, and both directions of every part.

A task is what one split holds. Its table is closed: a part name that is not in it, or a
`json` with another set of keys, is not of this format version.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.json_activitynet import ActivityNetJson
from clipshards.packer.format.json_ava import AvaJson
from clipshards.packer.format.json_parts import (
    AudioJson,
    JsonPart,
    RawframesJson,
    SkeletonJson,
    VideoJson,
)
from clipshards.packer.format.npy import decode_npy, encode_npy
from clipshards.packer.format.structure import (
    RAWFRAMES_VIDEOS,
    SKELETON_OPTIONAL,
    SOUND_SUFFIXES,
    Fault,
    activitynet_faults,
    audio_faults,
    ava_faults,
    rawframes_faults,
    skeleton_faults,
    video_faults,
)
from clipshards.packer.format.video import VIDEO_SUFFIXES

NO_MEDIA: Mapping[str, Any] = MappingProxyType({})


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
    about: type[JsonPart]
    """What its `json` part says."""
    required: tuple[str, ...]
    """Parts of every sample of every split."""
    optional: tuple[str, ...]
    """Parts that all samples of a split have, or none."""
    media: tuple[str, ...]
    """Parts of which each sample has exactly one."""
    media_required: bool
    """Whether that holds in every split; else there are splits whose samples have none."""
    one_item: bool
    """Whether every sample holds exactly one item."""
    summary: dict[str, Any]
    """Columns of the index: name to schema of one value."""
    faults: Callable[[Mapping[str, Any]], Iterator[Fault]]
    """What is wrong between the decoded parts of one sample, all of which are there."""

    @property
    def parts(self) -> tuple[str, ...]:
        """All part names in the order of the shard: small ones first, media last."""
        return (*self.required, *self.optional, *self.media)

    def encode(self, part: str, value: Any) -> bytes:
        """Return the bytes of a part."""
        data: bytes = value.encode() if part == "json" else PART_KINDS[part].encode(value)
        return data

    def decode(self, part: str, data: bytes, *, where: str) -> Any:
        """Return the value of a part.

        Raises:
            FormatError: Not as `encode` writes it.
        """
        if part == "json":
            return self.about.decode(data, where=where)
        return PART_KINDS[part].decode(data, where=where)

    def decode_all(
        self, parts: Mapping[str, bytes], *, where: str, media: Mapping[str, Any] = NO_MEDIA
    ) -> dict[str, Any]:
        """Return the values of all parts of one sample, checked against each other.

        Args:
            parts: Part name to bytes.
            where: Shard and key, for errors.
            media: Videos that are not bytes but have a length, taken as they are.

        Raises:
            FormatError: A part breaks the format, or does not fit the others.
        """
        values = {
            part: self.decode(part, data, where=f"{where}.{part}") for part, data in parts.items()
        } | dict(media)
        for part, fault in self.faults(values):
            raise FormatError(f"{where}.{part}: {fault}")
        return values


def _same_bytes(data: bytes, *, where: str = "") -> bytes:
    return data


_STILLS = tuple(video for videos in RAWFRAMES_VIDEOS for video in videos)
_STILLS_TABLES = tuple(table for tables in RAWFRAMES_VIDEOS.values() for table in tables)
_ARRAYS = (
    *_STILLS_TABLES,
    "keypoint.npy",
    *SKELETON_OPTIONAL,
    "mel.npy",
    "boxes.npy",
    "labels.npy",
    "entity_ids.npy",
    "proposals.npy",
    "feature.npy",
)

# All but `json`, which is each task's own.
PART_KINDS = {
    kind.name: kind
    for kind in (
        *(PartKind(name, encode_npy, decode_npy) for name in _ARRAYS),
        *(
            PartKind(name, _same_bytes, _same_bytes)
            for name in dict.fromkeys((*VIDEO_SUFFIXES, *_STILLS, *SOUND_SUFFIXES))
        ),
    )
}

TASKS = {
    task.name: task
    for task in (
        Task(
            name="video",
            about=VideoJson,
            required=("json", "frames.npy"),
            optional=(),
            media=VIDEO_SUFFIXES,
            media_required=True,
            one_item=True,
            summary=VideoJson.SUMMARY,
            faults=video_faults,
        ),
        Task(
            name="rawframes",
            about=RawframesJson,
            required=("json",),
            optional=(*_STILLS_TABLES, *_STILLS),
            media=(),
            media_required=False,
            one_item=False,
            summary=RawframesJson.SUMMARY,
            faults=rawframes_faults,
        ),
        Task(
            name="skeleton",
            about=SkeletonJson,
            required=("json", "keypoint.npy"),
            optional=SKELETON_OPTIONAL,
            media=(),
            media_required=False,
            one_item=True,
            summary=SkeletonJson.SUMMARY,
            faults=skeleton_faults,
        ),
        Task(
            name="audio",
            about=AudioJson,
            required=("json", "mel.npy"),
            optional=(),
            media=SOUND_SUFFIXES,
            media_required=False,
            one_item=True,
            summary=AudioJson.SUMMARY,
            faults=audio_faults,
        ),
        Task(
            name="ava",
            about=AvaJson,
            required=("json", "frames.npy", "boxes.npy", "labels.npy", "entity_ids.npy"),
            optional=("proposals.npy",),
            media=VIDEO_SUFFIXES,
            media_required=True,
            one_item=False,
            summary=AvaJson.SUMMARY,
            faults=ava_faults,
        ),
        Task(
            name="activitynet",
            about=ActivityNetJson,
            required=("json",),
            optional=("frames.npy", "feature.npy"),
            media=VIDEO_SUFFIXES,
            media_required=False,
            one_item=True,
            summary=ActivityNetJson.SUMMARY,
            faults=activitynet_faults,
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
