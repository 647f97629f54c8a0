"""Settings of the recipes that encode videos anew."""

from dataclasses import dataclass
from typing import Literal

Audio = Literal["keep", "drop"]
Preset = Literal[
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a video is encoded: H.264 by libx264, 8 bits, 4:2:0, in an mp4."""

    gop: int
    """Frames from one random-access point to the next, at most; 1 for nothing but them."""
    b_frames: int
    """Frames between two that others refer to: disposable, all of them; 0 for none."""
    fast_decode: bool
    """Without deblocking and arithmetic coding: larger files, decoded faster."""
    short_side: int = 0
    """Pixels of the shorter side, even, which larger videos are scaled down to; 0 for no
    scaling."""
    fps: tuple[int, int] = (0, 1)
    """Frames per second, as a fraction; (0, 1) for the source's own frames, in their own time."""
    crf: int = 23
    """Constant rate factor of x264, 0 to 51: less is better and larger."""
    preset: Preset = "medium"
    """Of x264: slower ones make smaller files."""
    audio: Audio = "keep"
    """`keep`: the packets of the first sound track, as they are. `drop`: no sound."""


RECIPES: dict[str, Encoding] = {
    "sparse": Encoding(gop=250, b_frames=7, fast_decode=False),
    "balanced": Encoding(gop=32, b_frames=7, fast_decode=False),
    "fast": Encoding(gop=32, b_frames=7, fast_decode=True),
    "intra": Encoding(gop=1, b_frames=0, fast_decode=True),
}
"""Recipes by name: what they leave open is the user's."""
