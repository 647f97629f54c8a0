"""The `json` part of task `activitynet`: labelled segments of an untrimmed video."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.video import VideoInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityNetJson:
    """The `json` part of task `activitynet`."""

    id: str
    """Name of the video in the annotation."""
    origin: str
    """File and line of the annotation, without folders."""
    segments: tuple[tuple[float, float], ...]
    """Start and end in seconds, in the annotation's order."""
    segment_labels: tuple[str, ...]
    """What happens in each segment."""
    duration_s: float
    """Seconds, above 0."""
    duration_frames: int
    """Frames of the video; 0 unknown."""
    feature_frames: int
    """Frames that the features cover; 0 unknown."""
    fps: float
    """Frames per second of the video; 0.0 unknown."""
    rfps: float
    """Rate at which features were taken; 0.0 unknown."""
    csv_header: bool
    """Whether the features came from a csv whose first line was no data."""
    video: VideoInfo
    """Of the video, where one is stored."""

    SUMMARY: ClassVar[dict[str, Any]] = {"labels": [str], "duration_s": float, "frames": int}
    _SCHEMA: ClassVar[dict[str, Any]] = {
        "id": str,
        "origin": str,
        "segments": [(float, float)],
        "segment_labels": [str],
        "duration_s": float,
        "duration_frames": int,
        "feature_frames": int,
        "fps": float,
        "rfps": float,
        "csv_header": bool,
        "video": dict,
    }

    @property
    def items(self) -> int:
        """See `JsonPart`."""
        return 1

    @property
    def label_lists(self) -> Sequence[Sequence[int]]:
        """See `JsonPart`; segments are labelled by names."""
        return ()

    def summary(self) -> dict[str, Any]:
        """See `JsonPart`."""
        return {
            "labels": list(self.segment_labels),
            "duration_s": self.duration_s,
            "frames": self.duration_frames,
        }

    def encode(self) -> bytes:
        """See `JsonPart`."""
        value = {name: getattr(self, name) for name in self._SCHEMA}
        return encode_json(value | {"video": self.video.to_json()})

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """See `JsonPart`."""
        value = decode_json(data, where=where)
        check_schema(value, cls._SCHEMA, where=where)
        video = VideoInfo.from_json(value["video"], where=f"{where}.video")
        if len(value["segments"]) != len(value["segment_labels"]):
            raise FormatError(f"{where}: segments and their labels are not as many")
        if any(not 0 <= start < end for start, end in value["segments"]):
            raise FormatError(f"{where}.segments: a segment ends before it begins, or is empty")
        counts = (value["duration_frames"], value["feature_frames"], value["fps"], value["rfps"])
        if not value["duration_s"] > 0 or min(counts) < 0:
            raise FormatError(f"{where}: a duration, count or rate is out of range")
        return cls(
            **(
                value
                | {
                    "segments": tuple((start, end) for start, end in value["segments"]),
                    "segment_labels": tuple(value["segment_labels"]),
                    "video": video,
                }
            )
        )
