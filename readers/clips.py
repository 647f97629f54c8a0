"""Which frames of a video make up the clip: pure arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FrameNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """The frames that a clip is chosen from: a video, a stretch of it, those around a moment."""

    total_frames: int
    """How many there are, at least 1."""
    fps: float = 0.0
    """Frames per second of the video on average; 0.0 where it is not known."""
    moment: int | None = None
    """The frame that an annotation is about, counted from the first one here."""
    before: int = 0
    """Frames of the video before the first one here."""
    behind: int = 0
    """Frames of the video behind the last one here."""


Choose = Callable[[Span], FrameNumbers]
"""Takes the frames there are, gives those of the clip, counted from the first."""


_KEPT_FRAMES = 1_000_000


def all_frames(span: Span) -> FrameNumbers:
    """Return the numbers of all frames, the choice where there is no clip; read-only."""
    total = span.total_frames
    return (_kept if total <= _KEPT_FRAMES else _numbers)(total)


def _numbers(total_frames: int) -> FrameNumbers:
    numbers = np.arange(total_frames, dtype=np.int64)
    numbers.flags.writeable = False
    return numbers


_kept = lru_cache(maxsize=256)(_numbers)


@runtime_checkable
class Clip(Protocol):
    """A way of choosing frames."""

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of one item; the same for the same arguments.

        Args:
            span: The frames that there are.
            generator: Fresh and of the item's own, for each call.

        Returns:
            int64 of shape (frames,), within [0, span.total_frames).
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

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of one clip, ascending; see `Clip.choose`.

        >>> UniformClip(4, jitter=False).choose(Span(100), np.random.RandomState(0))
        array([12, 37, 62, 87])
        """
        total_frames = span.total_frames
        inside = generator.random_sample(self.length) if self.jitter else np.full(self.length, 0.5)
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

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of one clip, ascending; see `Clip.choose`.

        >>> DenseClip(4, stride=2, jitter=False).choose(Span(100), np.random.RandomState(0))
        array([46, 48, 50, 52])
        >>> DenseClip(4, jitter=False).choose(Span(3), np.random.RandomState(0))
        array([0, 1, 2, 2])
        """
        total_frames = span.total_frames
        starts = max(total_frames - ((self.length - 1) * self.stride + 1), 0) + 1
        start = (starts - 1) // 2
        if self.jitter:
            start = min(int(generator.random_sample() * starts), starts - 1)
        frames = start + np.arange(self.length, dtype=np.int64) * self.stride
        return np.minimum(frames, total_frames - 1)
