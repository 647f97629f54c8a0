"""The recipe: how media become parts."""

from dataclasses import dataclass
from typing import Any, get_args

from clipshards.packer.format.video import FrameTableMode

# Task -> the options that shape its parts.
_CONCERNS: dict[str, tuple[str, ...]] = {
    "video": ("media", "frame_table"),
    "rawframes": ("media", "frame_table"),
    "skeleton": (),
    "audio": (),
    "ava": ("frame_table",),
    "activitynet": ("media", "frame_table"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How media become parts; the default keeps the source's bytes untouched."""

    media: str = "copy"
    """`copy`: the source's bytes."""
    frame_table: FrameTableMode = "decode"
    """`decode`: one decode per video, which also proves it decodable. `none`: videos are
    packed undecoded, and readers decode them from their start."""

    def __post_init__(self) -> None:
        if self.media != "copy":
            raise ValueError(f"recipe {self.media!r}: only 'copy' is there yet")
        if self.frame_table not in get_args(FrameTableMode):
            raise ValueError(
                f"frame table {self.frame_table!r}: expected one of {get_args(FrameTableMode)}"
            )

    def to_json(self, task: str) -> dict[str, Any]:
        """Return what of the recipe concerns a task, as the index and the manifest hold it."""
        return {name: getattr(self, name) for name in _CONCERNS[task]}
