"""What the `json` part says of a video: all that a bare codec context needs, and counts."""

import base64
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from clipshards.packer.format.canonical import check_schema
from clipshards.packer.format.errors import FormatError

FrameTableMode = Literal["decode", "demux", "none"]

VIDEO_SUFFIXES = ("avi", "mkv", "mov", "mp4", "webm")
"""Part names of a video, one per container; the first that a sample has is its video."""

_VIDEO_SCHEMA = {
    "codec": str,
    "codec_tag": str,
    "extradata": str,
    "nal_length_size": int,
    "pixel_format": str,
    "coded_width": int,
    "coded_height": int,
    "width": int,
    "height": int,
    "color_range": int,
    "color_space": int,
    "color_primaries": int,
    "color_transfer": int,
    "interlaced": bool,
    "sample_aspect": (int, int),
    "rotation": int,
    "reorder_depth": int,
    "time_base": (int, int),
    "rate": (int, int),
    "duration_s": float,
    "frames": int,
    "claimed_frames": int,
    "frame_table": str,
    "no_table_because": str,
}

_NO_LIMIT = float("inf")
# Least and greatest value.
_LIMITS = {
    "nal_length_size": (0, 4),
    "coded_width": (0, _NO_LIMIT),
    "coded_height": (0, _NO_LIMIT),
    "width": (0, _NO_LIMIT),
    "height": (0, _NO_LIMIT),
    "color_range": (0, 2),
    "color_space": (0, _NO_LIMIT),
    "color_primaries": (0, _NO_LIMIT),
    "color_transfer": (0, _NO_LIMIT),
    "rotation": (-180, 180),
    "reorder_depth": (0, _NO_LIMIT),
    "duration_s": (0, _NO_LIMIT),
    "claimed_frames": (0, _NO_LIMIT),
}


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """One video stream, as found when it was packed."""

    codec: str = ""
    """FFmpeg's name, as `h264`; empty when the video was packed unopened."""
    codec_tag: str = ""
    """Four characters of the container (`avc1`, `FMP4`); some decoders depend on it."""
    extradata: bytes = b""
    """Codec configuration from the container; avcC for H.264 in mp4 and Matroska."""
    nal_length_size: int = 0
    """Bytes of a NAL unit's length; 0 for start codes and for codecs without NAL units."""
    pixel_format: str = ""
    """FFmpeg's name, as `yuv420p`."""
    coded_width: int = 0
    """Pixels, before cropping."""
    coded_height: int = 0
    """Pixels, before cropping."""
    width: int = 0
    """Pixels of a decoded frame, before rotation."""
    height: int = 0
    """Pixels of a decoded frame, before rotation."""
    color_range: int = 0
    """0 unknown, 1 limited (16-235), 2 full."""
    color_space: int = 2
    """Matrix coefficients as in ITU-T H.273; 2 unknown."""
    color_primaries: int = 2
    """Code point of ITU-T H.273; 2 unknown."""
    color_transfer: int = 2
    """Code point of ITU-T H.273; 2 unknown."""
    interlaced: bool = False
    """Whether any frame is made of two fields."""
    sample_aspect: tuple[int, int] = (0, 1)
    """Width to height of a pixel; (0, 1) unknown."""
    rotation: int = 0
    """Degrees counter-clockwise that bring a decoded frame upright."""
    reorder_depth: int = 0
    """Pictures that the decoder holds back to restore the display order."""
    time_base: tuple[int, int] = (0, 1)
    """Seconds per tick of `pts`, as a fraction."""
    rate: tuple[int, int] = (0, 1)
    """Frames per second on average, as a fraction; (0, 1) unknown."""
    duration_s: float = 0.0
    """Seconds, as the container claims; 0.0 unknown."""
    frames: int = -1
    """Pictures that a sequential decode gave, or that the table of a demux shows; -1 for
    neither."""
    claimed_frames: int = 0
    """Pictures that the container claims; 0 when it says nothing (Matroska, WebM)."""
    frame_table: FrameTableMode = "none"
    """How the frame table was made."""
    no_table_because: str = ""
    """Why the frame table is empty although one was asked for; empty otherwise."""

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range")
        for name in ("sample_aspect", "time_base", "rate"):
            fraction = getattr(self, name)
            if min(fraction) < 1 and fraction != (0, 1):
                raise ValueError(f"{name}: {fraction} is not a fraction above 0, nor (0, 1)")
        if self.frame_table != "none" and self.frames < 1:
            raise ValueError(f"frames: {self.frames} is no count of a decode")
        if self.frame_table == "demux" and self.no_table_because:
            raise ValueError("no_table_because: a video without a table is of a decode")
        if self.frame_table == "none":
            for field in fields(self):
                if getattr(self, field.name) != field.default:
                    raise ValueError(
                        f"{field.name}: {getattr(self, field.name)!r} is not to be known of a "
                        "video that was packed unopened"
                    )

    def to_json(self) -> dict[str, Any]:
        """Return the value of `video` in the `json` part."""
        # Not dataclasses.asdict: its deep copies cost more than all the rest of a sample.
        return {name: getattr(self, name) for name in _VIDEO_SCHEMA} | {
            "extradata": base64.b64encode(self.extradata).decode("ascii"),
            "sample_aspect": list(self.sample_aspect),
            "time_base": list(self.time_base),
            "rate": list(self.rate),
        }

    @staticmethod
    def from_json(value: Any, *, where: str) -> "VideoInfo":
        """Return what `to_json` was made from.

        Raises:
            FormatError: A key is missing, unknown, of another type or out of range.
        """
        check_schema(value, _VIDEO_SCHEMA, where=where)
        try:
            extradata = base64.b64decode(value["extradata"], validate=True)
        except ValueError as exc:  # binascii.Error, and what text outside ASCII raises
            raise FormatError(f"{where}.extradata: expected base64: {exc}") from exc
        if base64.b64encode(extradata).decode("ascii") != value["extradata"]:
            raise FormatError(f"{where}.extradata: expected base64, got another spelling of it")
        if value["frame_table"] not in get_args(FrameTableMode):
            raise FormatError(f"{where}.frame_table: unknown mode {value['frame_table']!r}")
        fractions = {name: tuple(value[name]) for name in ("sample_aspect", "time_base", "rate")}
        try:
            return VideoInfo(**(value | fractions | {"extradata": extradata}))
        except ValueError as exc:
            raise FormatError(f"{where}.{exc}") from exc
