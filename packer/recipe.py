"""The recipe: how media become parts."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from clipshards.packer.format.video import FrameTableMode

MediaMode = Literal["copy", "remux"]
FeaturesMode = Literal["file", "compute"]
KeepAudio = Literal["no", "source", "wav", "flac"]

# Task -> the options that shape its parts.
_CONCERNS: dict[str, tuple[str, ...]] = {
    "video": ("media", "frame_table"),
    "rawframes": ("frame_table",),
    "skeleton": (),
    "audio": ("features", "keep_audio"),
    "ava": (),
    "activitynet": ("media", "frame_table"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How media become parts; the default keeps the source's bytes untouched."""

    media: MediaMode = "copy"
    """Of videos. `copy`: the source's bytes. `remux`: an mp4 of the source's packets, frames
    and sound unchanged."""
    frame_table: FrameTableMode = "decode"
    """`decode`: one decode per video, which also proves it decodable. `none`: videos are
    packed undecoded, and readers decode them from their start."""
    features: FeaturesMode = "file"
    """`file`: audio records name files of features. `compute`: they name sounds or videos,
    of whose first audio stream the mel features are computed."""
    keep_audio: KeepAudio = "no"
    """What of a sound is kept beside its computed features. `source`: its own audio stream.
    `wav`, `flac`: the decoded sound in 16 bits."""

    def __post_init__(self) -> None:
        if self.media not in get_args(MediaMode):
            raise ValueError(f"media {self.media!r}: expected one of {get_args(MediaMode)}")
        if self.frame_table not in get_args(FrameTableMode):
            raise ValueError(
                f"frame table {self.frame_table!r}: expected one of {get_args(FrameTableMode)}"
            )
        if self.features not in get_args(FeaturesMode):
            raise ValueError(
                f"features {self.features!r}: expected one of {get_args(FeaturesMode)}"
            )
        if self.keep_audio not in get_args(KeepAudio):
            raise ValueError(
                f"keep audio {self.keep_audio!r}: expected one of {get_args(KeepAudio)}"
            )
        if self.keep_audio != "no" and self.features != "compute":
            raise ValueError(
                f"keep audio {self.keep_audio!r}: there is sound only where features are computed"
            )

    def to_json(self, task: str) -> dict[str, Any]:
        """Return what of the recipe concerns a task, as the index and the manifest hold it."""
        return {name: getattr(self, name) for name in _CONCERNS[task]}
