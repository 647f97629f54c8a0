"""Which frames of a video make up the clip: pure arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FrameNumbers = npt.NDArray[np.int64]

Choose = Callable[[int], FrameNumbers]
"""Takes the frames of a video, gives those of its clip."""


_KEPT_FRAMES = 1_000_000


def all_frames(total_frames: int) -> FrameNumbers:
    """Return the numbers of all frames, the choice where there is no clip; read-only."""
    return (_kept if total_frames <= _KEPT_FRAMES else _numbers)(total_frames)


def _numbers(total_frames: int) -> FrameNumbers:
    numbers = np.arange(total_frames, dtype=np.int64)
    numbers.flags.writeable = False
    return numbers


_kept = lru_cache(maxsize=256)(_numbers)


@runtime_checkable
class Clip(Protocol):
    """A way of choosing frames."""

    @property
    def draws(self) -> int:
        """How many random numbers one choice takes."""

    def choose(self, total_frames: int, draws: npt.NDArray[np.float64]) -> FrameNumbers:
        """Return the frames of one clip.

        Args:
            total_frames: Frames in the video, at least 1.
            draws: `self.draws` random numbers in [0, 1).

        Returns:
            int64 of shape (length,), ascending, within [0, total_frames).
        """


@dataclass(frozen=True, slots=True)
class UniformClip:
    """One frame from each of `length` equal segments of the video.

    The sparse sampling of temporal segment networks (Wang et al., ECCV 2016). A video with
    fewer frames than segments repeats frames.
    """

    length: int
    """Frames in the clip, at least 1."""
    jitter: bool = True
    """Draw the frame inside each segment at random; else take its middle."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length {self.length}: expected at least 1 frame")

    @property
    def draws(self) -> int:
        """How many random numbers one choice takes."""
        return self.length if self.jitter else 0

    def choose(self, total_frames: int, draws: npt.NDArray[np.float64]) -> FrameNumbers:
        """Return the frames of one clip, see `Clip.choose`.

        >>> UniformClip(4, jitter=False).choose(100, np.empty(0))
        array([12, 37, 62, 87])
        """
        inside = draws if self.jitter else np.full(self.length, 0.5)
        frames = ((np.arange(self.length) + inside) * (total_frames / self.length)).astype(np.int64)
        # A product near the end of a segment may round beyond it, to either side.
        borders = np.arange(self.length + 1) * total_frames
        return np.clip(frames, borders[:-1] // self.length, (borders[1:] - 1) // self.length)


@dataclass(frozen=True, slots=True)
class DenseClip:
    """`length` frames, `stride` apart, from somewhere in the video.

    A video too short for the clip repeats its last frame.
    """

    length: int
    """Frames in the clip, at least 1."""
    stride: int = 1
    """Step between two frames of the clip, in frames, at least 1."""
    jitter: bool = True
    """Draw the start at random; else the clip stands in the middle of the video."""

    def __post_init__(self) -> None:
        if self.length < 1 or self.stride < 1:
            raise ValueError(
                f"length {self.length}, stride {self.stride}: expected at least 1 frame each"
            )

    @property
    def draws(self) -> int:
        """How many random numbers one choice takes."""
        return 1 if self.jitter else 0

    def choose(self, total_frames: int, draws: npt.NDArray[np.float64]) -> FrameNumbers:
        """Return the frames of one clip, see `Clip.choose`.

        >>> DenseClip(4, stride=2, jitter=False).choose(100, np.empty(0))
        array([46, 48, 50, 52])
        >>> DenseClip(4, jitter=False).choose(3, np.empty(0))
        array([0, 1, 2, 2])
        """
        span = (self.length - 1) * self.stride + 1
        starts = max(total_frames - span, 0) + 1
        start = min(int(draws[0] * starts), starts - 1) if self.jitter else (starts - 1) // 2
        frames = start + np.arange(self.length, dtype=np.int64) * self.stride
        return np.minimum(frames, total_frames - 1)
