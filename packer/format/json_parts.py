"""The `json` part of each task: what is known of a sample beside its arrays and media."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from clipshards.packer.format.canonical import Schema, check_schema, decode_json, encode_json
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.frame_names import is_flow
from clipshards.packer.format.video import VideoInfo

MAX_FRAMES = 100_000_000
"""No video has as many frames; a count is not believed beyond."""


class JsonPart(Protocol):
    """What the `json` parts of all tasks have in common."""

    @property
    def id(self) -> str:
        """The user's own name of the sample."""

    @property
    def origin(self) -> str:
        """File and line (or index) of the annotation, without folders."""

    @property
    def items(self) -> int:
        """Items of the sample."""

    @property
    def label_lists(self) -> Sequence[Sequence[int]]:
        """Each list of class ids that the split's label mode speaks of."""

    def summary(self) -> dict[str, Any]:
        """Return the sample's values for the summary columns of the index."""

    def encode(self) -> bytes:
        """Return the bytes of the part."""

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """Return the value of the part.

        Raises:
            FormatError: Not canonical JSON of this schema.
        """


class _LabelledItem:
    """A sample with one item and one list of labels."""

    __slots__ = ()
    labels: tuple[int, ...]

    @property
    def items(self) -> int:
        """See `JsonPart`."""
        return 1

    @property
    def label_lists(self) -> Sequence[Sequence[int]]:
        """See `JsonPart`."""
        return (self.labels,)


@dataclass(frozen=True, slots=True)
class VideoJson(_LabelledItem):
    """The `json` part of task `video`."""

    id: str
    """The user's own name of the sample; for lists, the path as written there."""
    origin: str
    """File and line (or index) of the annotation, without folders."""
    labels: tuple[int, ...]
    """Class ids in the annotation's order; empty when packed unlabelled."""
    video: VideoInfo

    SUMMARY: ClassVar[dict[str, Any]] = {
        "labels": [int],
        "frames": int,
        "duration_s": float,
        "width": int,
        "height": int,
    }

    def summary(self) -> dict[str, Any]:
        """See `JsonPart`."""
        return {
            "labels": list(self.labels),
            "frames": self.video.frames,
            "duration_s": self.video.duration_s,
            "width": self.video.width,
            "height": self.video.height,
        }

    def encode(self) -> bytes:
        """See `JsonPart`."""
        return encode_json(
            {
                "id": self.id,
                "origin": self.origin,
                "labels": list(self.labels),
                "video": self.video.to_json(),
            }
        )

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """See `JsonPart`."""
        value = decode_json(data, where=where)
        check_schema(value, {"id": str, "origin": str, "labels": [int], "video": dict}, where=where)
        labels = _labels(value["labels"], where=where)
        video = VideoInfo.from_json(value["video"], where=f"{where}.video")
        return cls(value["id"], value["origin"], labels, video)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkeletonJson(_LabelledItem):
    """The `json` part of task `skeleton`."""

    id: str
    """The user's own name of the sample."""
    origin: str
    """Place in the annotation, as `ntu60.pkl[17]`."""
    labels: tuple[int, ...]
    """Class ids in the annotation's order; empty when packed unlabelled."""
    total_frames: int
    """Frames of the video, at least 1."""
    compressed: bool
    """Whether `keypoint` has one row a detected box."""
    image_shape: tuple[int, int]
    """Height and width that the coordinates refer to; (0, 0) unknown."""
    original_shape: tuple[int, int]
    """Height and width of the video; (0, 0) unknown."""
    valid: tuple[tuple[float, int], ...]
    """(threshold, frames with a box of at least that score), as annotated."""
    box_threshold: float
    """Boxes below it are flagged when read; 0.0 for none."""
    absent: tuple[str, ...]
    """Parts that stand here empty, since other samples of the split have them."""

    SUMMARY: ClassVar[dict[str, Any]] = {
        "labels": [int],
        "frames": int,
        "width": int,
        "height": int,
    }
    _FIELDS: ClassVar[dict[str, Any]] = {
        "id": str,
        "origin": str,
        "labels": [int],
        "total_frames": int,
        "compressed": bool,
        "image_shape": (int, int),
        "original_shape": (int, int),
        "valid": [(float, int)],
        "box_threshold": float,
        "absent": [str],
    }
    _SCHEMA: ClassVar = Schema(_FIELDS)

    def summary(self) -> dict[str, Any]:
        """See `JsonPart`."""
        return {
            "labels": list(self.labels),
            "frames": self.total_frames,
            "width": self.image_shape[1],
            "height": self.image_shape[0],
        }

    def encode(self) -> bytes:
        """See `JsonPart`."""
        return encode_json({name: getattr(self, name) for name in self._FIELDS})

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """See `JsonPart`."""
        value = cls._SCHEMA.decode(data, where=where)
        if not 1 <= value["total_frames"] <= MAX_FRAMES:
            raise FormatError(f"{where}.total_frames: {value['total_frames']} is out of range")
        if min(value["image_shape"]) < 0 or min(value["original_shape"]) < 0:
            raise FormatError(f"{where}: an image shape is out of range")
        if value["absent"] and value["absent"] != sorted(set(value["absent"])):
            raise FormatError(f"{where}.absent: expected each name once, in order")
        return cls(
            id=value["id"],
            origin=value["origin"],
            labels=_labels(value["labels"], where=where),
            total_frames=value["total_frames"],
            compressed=value["compressed"],
            image_shape=tuple(value["image_shape"]),
            original_shape=tuple(value["original_shape"]),
            valid=tuple(map(tuple, value["valid"])),
            box_threshold=value["box_threshold"],
            absent=tuple(value["absent"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioJson(_LabelledItem):
    """The `json` part of task `audio`."""

    id: str
    """The user's own name of the sample; for lists, the path as written there."""
    origin: str
    """File and line (or index) of the annotation, without folders."""
    labels: tuple[int, ...]
    """Class ids in the annotation's order; empty when packed unlabelled."""
    total_frames: int
    """Frames of the video that the sound belongs to, at least 1."""
    codec: str = ""
    """Of the kept sound, FFmpeg's name, as `aac` or `pcm_s16le`; empty where none is kept."""
    sample_rate_hz: int = 0
    """Of the kept sound, decoded; 0 where none is kept."""
    channels: int = 0
    """Of the kept sound, decoded; 0 where none is kept."""
    duration_s: float = 0.0
    """Seconds of the kept sound, decoded; 0.0 where none is kept."""

    SUMMARY: ClassVar[dict[str, Any]] = {"labels": [int], "frames": int}
    _FIELDS: ClassVar[dict[str, Any]] = {
        "id": str,
        "origin": str,
        "labels": [int],
        "total_frames": int,
        "codec": str,
        "sample_rate_hz": int,
        "channels": int,
        "duration_s": float,
    }
    _SCHEMA: ClassVar = Schema(_FIELDS)

    def summary(self) -> dict[str, Any]:
        """See `JsonPart`."""
        return {"labels": list(self.labels), "frames": self.total_frames}

    def encode(self) -> bytes:
        """See `JsonPart`."""
        return encode_json({name: getattr(self, name) for name in self._FIELDS})

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """See `JsonPart`."""
        value = cls._SCHEMA.decode(data, where=where)
        if not 1 <= value["total_frames"] <= MAX_FRAMES:
            raise FormatError(f"{where}.total_frames: {value['total_frames']} is out of range")
        for name in ("sample_rate_hz", "channels", "duration_s"):
            if (value[name] > 0) != bool(value["codec"]) or value[name] < 0:
                raise FormatError(
                    f"{where}.{name}: {value[name]} is out of range for codec {value['codec']!r}"
                )
        return cls(**(value | {"labels": _labels(value["labels"], where=where)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class StretchJson:
    """One item of task `rawframes`: a stretch of the folder's frames."""

    offset: int
    """Frames of the folder before it."""
    total_frames: int
    """Frames in it, at least 1."""
    labels: tuple[int, ...]
    """Class ids in the annotation's order; empty when packed unlabelled."""
    origin: str
    """File and line (or index) of the annotation, without folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawframesJson:
    """The `json` part of task `rawframes`."""

    id: str
    """The user's own name of the sample; for lists, the folder as written there."""
    origin: str
    """File and line (or index) of its first entry, without folders."""
    filename_tmpl: str
    """Template that the frames' file names follow."""
    start_index: int
    """Number in the first frame's name."""
    stretches: tuple[StretchJson, ...]
    """One item each."""
    video: VideoInfo
    """Of `mp4`, or of `flow_x.mp4` and `flow_y.mp4` alike."""

    SUMMARY: ClassVar[dict[str, Any]] = {
        "labels": [[int]],
        "frames": int,
        "width": int,
        "height": int,
    }
    _SCHEMA: ClassVar[dict[str, Any]] = {
        "id": str,
        "origin": str,
        "filename_tmpl": str,
        "start_index": int,
        "stretches": [{"offset": int, "total_frames": int, "labels": [int], "origin": str}],
        "video": dict,
    }

    @property
    def items(self) -> int:
        """See `JsonPart`."""
        return len(self.stretches)

    @property
    def label_lists(self) -> Sequence[Sequence[int]]:
        """See `JsonPart`."""
        return tuple(stretch.labels for stretch in self.stretches)

    def summary(self) -> dict[str, Any]:
        """See `JsonPart`."""
        return {
            "labels": [list(stretch.labels) for stretch in self.stretches],
            "frames": self.video.frames,
            "width": self.video.width,
            "height": self.video.height,
        }

    def encode(self) -> bytes:
        """See `JsonPart`."""
        return encode_json(
            {
                "id": self.id,
                "origin": self.origin,
                "filename_tmpl": self.filename_tmpl,
                "start_index": self.start_index,
                "stretches": [
                    {
                        "offset": stretch.offset,
                        "total_frames": stretch.total_frames,
                        "labels": list(stretch.labels),
                        "origin": stretch.origin,
                    }
                    for stretch in self.stretches
                ],
                "video": self.video.to_json(),
            }
        )

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """See `JsonPart`."""
        value = decode_json(data, where=where)
        check_schema(value, cls._SCHEMA, where=where)
        video = VideoInfo.from_json(value["video"], where=f"{where}.video")
        stretches = []
        for place, stretch in enumerate(value["stretches"]):
            inside = f"{where}.stretches[{place}]"
            labels = _labels(stretch["labels"], where=inside)
            stretches.append(StretchJson(**(stretch | {"labels": labels})))
            offset, count = stretch["offset"], stretch["total_frames"]
            if offset < 0 or count < 1 or offset + count > video.frames:
                raise FormatError(
                    f"{inside}: frames {offset} to {offset + count} of {video.frames}"
                )
        if not stretches or value["start_index"] < 0:
            raise FormatError(f"{where}: no stretches, or a start index below 0")
        try:
            is_flow(value["filename_tmpl"])
        except ValueError as exc:
            raise FormatError(f"{where}: {exc}") from exc
        return cls(**(value | {"stretches": tuple(stretches), "video": video}))


def _labels(values: list[int], *, where: str) -> tuple[int, ...]:
    if values and min(values) < 0:
        raise FormatError(f"{where}.labels: expected class ids of 0 or more, got {min(values)}")
    return tuple(values)
