"""The `json` part of task `ava`: annotated moments of a video."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.frame_names import is_flow
from clipshards.packer.format.json_parts import MAX_FRAMES
from clipshards.packer.format.video import VideoInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFrameJson:
    """One item of task `ava`: an annotated moment."""

    timestamp: int
    """As annotated."""
    frame: int
    """Number of the moment's frame in the source, counted from 0."""
    persons: int
    """Rows of `boxes.npy` and `entity_ids.npy` that are this moment's."""
    labels: int
    """Rows of `labels.npy` that are this moment's."""
    proposals: int
    """Rows of `proposals.npy` that are this moment's; -1 where it has no proposals."""
    scored: bool
    """Whether its proposals have scores."""


_KEY_FRAME = {
    "timestamp": int,
    "frame": int,
    "persons": int,
    "labels": int,
    "proposals": int,
    "scored": bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AvaJson:
    """The `json` part of task `ava`."""

    id: str
    """Video and timestamp, or the video where it holds several moments."""
    origin: str
    """File and line of the first row, without folders."""
    video_id: str
    """As annotated."""
    fps: float
    """Frames per unit of timestamp, as annotated."""
    timestamp_start: int
    """Timestamp of the source's first frame."""
    clip_frames: int
    """Frames around each moment that its item is drawn from."""
    first_frame: int
    """Number in the source of the stored frame 0."""
    source_frames: int
    """Frames of the source."""
    filename_tmpl: str
    """Template of the frames' file names, where the source is a folder of frames; else empty."""
    start_index: int
    """Number in the first frame's name; 0 of a video."""
    key_frames: tuple[KeyFrameJson, ...]
    """One item each."""
    video: VideoInfo
    """Of the stored video."""

    SUMMARY: ClassVar[dict[str, Any]] = {
        "timestamps": [int],
        "persons": [int],
        "frames": int,
        "width": int,
        "height": int,
    }
    _SCHEMA: ClassVar[dict[str, Any]] = {
        "id": str,
        "origin": str,
        "video_id": str,
        "fps": float,
        "timestamp_start": int,
        "clip_frames": int,
        "first_frame": int,
        "source_frames": int,
        "filename_tmpl": str,
        "start_index": int,
        "key_frames": [_KEY_FRAME],
        "video": dict,
    }

    @property
    def items(self) -> int:
        """See `JsonPart`."""
        return len(self.key_frames)

    @property
    def label_lists(self) -> Sequence[Sequence[int]]:
        """See `JsonPart`; the labels stand in `labels.npy`."""
        return ()

    def summary(self) -> dict[str, Any]:
        """See `JsonPart`."""
        return {
            "timestamps": [moment.timestamp for moment in self.key_frames],
            "persons": [moment.persons for moment in self.key_frames],
            "frames": self.video.frames,
            "width": self.video.width,
            "height": self.video.height,
        }

    def encode(self) -> bytes:
        """See `JsonPart`."""
        value = {name: getattr(self, name) for name in self._SCHEMA}
        moments = [
            {name: getattr(moment, name) for name in _KEY_FRAME} for moment in self.key_frames
        ]
        return encode_json(value | {"key_frames": moments, "video": self.video.to_json()})

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> Self:
        """See `JsonPart`."""
        value = decode_json(data, where=where)
        check_schema(value, cls._SCHEMA, where=where)
        video = VideoInfo.from_json(value["video"], where=f"{where}.video")
        stored = range(value["first_frame"], value["first_frame"] + max(video.frames, 0))
        if video.frames < 1:
            raise FormatError(f"{where}.video: expected the frames of a decode")
        for place, moment in enumerate(value["key_frames"]):
            if min(moment["persons"], moment["labels"], moment["proposals"] + 1) < 0 or (
                moment["scored"] and moment["proposals"] < 0
            ):
                raise FormatError(f"{where}.key_frames[{place}]: a count is out of range")
            if moment["frame"] not in stored:
                raise FormatError(
                    f"{where}.key_frames[{place}]: frame {moment['frame']}, stored are "
                    f"{stored.start} to {stored.stop - 1}"
                )
            first = max(moment["frame"] - value["clip_frames"] // 2, 0)
            stop = min(moment["frame"] + (value["clip_frames"] + 1) // 2, value["source_frames"])
            if first < stored.start or stop > stored.stop:
                raise FormatError(
                    f"{where}.key_frames[{place}]: its clip is frames {first} to {stop - 1}, "
                    f"stored are {stored.start} to {stored.stop - 1}"
                )
        if (
            not value["key_frames"]
            or not 1 <= value["clip_frames"] <= MAX_FRAMES
            or not value["fps"] > 0
            or min(value["first_frame"], value["start_index"]) < 0
            or not stored.stop <= value["source_frames"] <= MAX_FRAMES
        ):
            raise FormatError(f"{where}: a count is out of range")
        try:
            if value["filename_tmpl"] and is_flow(value["filename_tmpl"]):
                raise FormatError(f"{where}: expected a template of pictures")
        except ValueError as exc:
            raise FormatError(f"{where}: {exc}") from exc
        moments = tuple(KeyFrameJson(**moment) for moment in value["key_frames"])
        return cls(**(value | {"key_frames": moments, "video": video}))
