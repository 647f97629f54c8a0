"""MMAction2's choices of frames, to the number; each class is named after the one it follows.

Arithmetic and order of the draws are those of MMAction2 1.2 (mmaction/datasets/transforms), so
that `numpy.random.RandomState(seed)` gives the frames that MMAction2 gives behind
`numpy.random.seed(seed)`. Frames are counted from 0; several clips follow one another.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from clipshards.readers.clips import FrameNumbers, Span

_Offsets = npt.NDArray[np.integer] | npt.NDArray[np.floating]
_OutOfBound = Literal["loop", "repeat_last"]


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} {count}: expected at least 1")


def _check_out_of_bound(option: str) -> None:
    known = get_args(_OutOfBound)
    if option not in known:
        raise ValueError(f"out_of_bound_opt {option!r}: expected one of {known}")


def _in_bounds(clips: _Offsets, total: int, option: _OutOfBound) -> FrameNumbers:
    """Return all frames of clips, (clips, clip_len), those behind the end replaced."""
    if option == "loop":
        # To a whole number only then: n.5 wraps as such.
        return np.mod(clips, max(total, 1)).ravel().astype(np.int64, copy=False)
    inside = clips < total
    last = np.where(inside, clips, 0).max(axis=1, keepdims=True)
    return np.where(inside, clips, last).ravel().astype(np.int64, copy=False)


@dataclass(frozen=True, slots=True)
class SampleFrames:
    """`num_clips` clips of neighbouring frames: MMAction2's `SampleFrames`.

    For training a clip begins at random in each of equal segments; in test mode clips stand
    evenly. A video too short for a clip begins again, or repeats its last frame.
    """

    clip_len: int
    """Frames of a clip, at least 1."""
    frame_interval: int = 1
    """Frames from one of a clip to the next, at least 1."""
    num_clips: int = 1
    """At least 1."""
    temporal_jitter: bool = False
    """Move each frame by a random number below `frame_interval`."""
    twice_sample: bool = False
    """In test mode take twice as many clips."""
    out_of_bound_opt: _OutOfBound = "loop"
    """What stands in for frames behind the end."""
    test_mode: bool = False
    """Draw nothing."""
    keep_tail_frames: bool = False
    """Let the last segment reach to the end of the video."""
    target_fps: int | None = None
    """Take the frames that a video of this rate would have."""

    def __post_init__(self) -> None:
        _check_counts(
            clip_len=self.clip_len, frame_interval=self.frame_interval, num_clips=self.num_clips
        )
        _check_out_of_bound(self.out_of_bound_opt)
        if self.target_fps is not None and self.target_fps < 1:
            raise ValueError(f"target_fps {self.target_fps}: expected at least 1")
        # MMAction2 fails at the first video: by zero, and by a jitter that has no integers.
        if self.test_mode and self.twice_sample and self.clip_len > 1 and self.num_clips == 1:
            raise ValueError("twice_sample: expected num_clips of at least 2 for several frames")
        if self.temporal_jitter and self.target_fps is not None:
            raise ValueError("temporal_jitter, target_fps: expected one of them at most")

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of all clips, see `Clip.choose`.

        >>> SampleFrames(4, 2, num_clips=2, test_mode=True).choose(
        ...     Span(20), np.random.RandomState(0)
        ... )
        array([ 0,  2,  4,  6, 13, 15, 17, 19])
        """
        total = span.total_frames
        ratio = 1.0
        if self.target_fps is not None and span.fps:
            ratio = span.fps / self.target_fps
        length: float = self.clip_len * self.frame_interval
        if self.target_fps is not None:
            length = max(1, length * ratio)
        elif self.test_mode:
            length = (self.clip_len - 1) * self.frame_interval + 1
        offsets = (
            self._even(total, length) if self.test_mode else self._drawn(total, length, generator)
        )
        if self.target_fps is None:
            steps = np.arange(self.clip_len) * self.frame_interval
        else:
            steps = np.linspace(0, length - 1, self.clip_len).astype(np.int32)
        frames = (offsets[:, None] + steps[None, :]).ravel()
        if self.temporal_jitter:
            frames = frames + generator.randint(self.frame_interval, size=len(frames))
        return _in_bounds(frames.reshape(-1, self.clip_len), total, self.out_of_bound_opt)

    def _drawn(self, total: int, length: float, generator: np.random.RandomState) -> _Offsets:
        """Return where the clips of a training begin."""
        clips = np.arange(self.num_clips)
        if self.keep_tail_frames:
            mean = (total - length + 1) / self.num_clips
            if total > length - 1:
                drawn = generator.uniform(low=0, high=mean, size=self.num_clips)
                return (clips * mean + drawn).astype(np.int32)
            return np.zeros(self.num_clips, dtype=np.int64)
        mean = (total - length + 1) // self.num_clips
        if mean > 0:
            # With target_fps the mean is a float, which the draw truncates.
            return clips * mean + generator.randint(int(mean), size=self.num_clips)
        if total > max(self.num_clips, length):
            return np.sort(generator.randint(int(total - length + 1), size=self.num_clips))
        if mean == 0:
            return np.around(clips * ((total - length + 1.0) / self.num_clips)).astype(np.int64)
        return np.zeros(self.num_clips, dtype=np.int64)

    def _even(self, total: int, length: float) -> _Offsets:
        """Return where the clips of a test begin."""
        if self.clip_len == 1:
            mean = total / self.num_clips
            middles = np.arange(self.num_clips) * mean + mean / 2.0
            if self.twice_sample:
                return np.concatenate([middles, np.arange(self.num_clips) * mean])
            return middles
        most = max(total - length, 0)
        # The divisor stays with twice as many: MMAction2's second half runs past the end.
        clips = np.arange(self.num_clips * (2 if self.twice_sample else 1))
        if len(clips) == 1:
            return np.array([most // 2])
        mean = most / (self.num_clips - 1)
        if self.target_fps is not None:
            return clips * (mean // 1)
        return np.asarray(np.round(clips * mean), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class UniformSample:
    """Single frames from equal segments: MMAction2's `UniformSample` (of MViT, UniFormer).

    For training one clip is drawn, whatever `num_clips` says.
    """

    clip_len: int
    """Frames of a clip, at least 1."""
    num_clips: int = 1
    """Clips of a test, at least 1."""
    test_mode: bool = False
    """Draw nothing."""

    def __post_init__(self) -> None:
        _check_counts(clip_len=self.clip_len, num_clips=self.num_clips)

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of all clips, see `Clip.choose`.

        >>> UniformSample(4, test_mode=True).choose(Span(100), np.random.RandomState(0))
        array([12, 37, 62, 86])
        """
        segment = (span.total_frames - 1) / self.clip_len
        starts = [int(np.round(segment * i)) for i in range(self.clip_len + 1)]
        if not self.test_mode:
            drawn = [generator.randint(low, high + 1) for low, high in pairwise(starts)]
            return np.array(drawn, dtype=np.int64)
        step = segment / (self.num_clips + 1)
        return np.array(
            [
                start + int(step * (clip + 1))
                for clip in range(self.num_clips)
                for start in starts[:-1]
            ],
            dtype=np.int64,
        )


@dataclass(frozen=True, slots=True)
class UniformSampleFrames:
    """One frame of each of equal segments: MMAction2's `UniformSampleFrames`, for skeletons.

    (Revisiting Skeleton-based Action Recognition, Duan et al., CVPR 2022.) A test draws, too:
    the same for each video.
    """

    clip_len: int
    """Frames of a clip, at least 1."""
    num_clips: int = 1
    """At least 1."""
    test_mode: bool = False
    """Draw by `seed`."""
    seed: int = 255
    """Of the draws of a test."""

    def __post_init__(self) -> None:
        _check_counts(clip_len=self.clip_len, num_clips=self.num_clips)

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of all clips, see `Clip.choose`.

        MMAction2 sets the seed of the whole process in a test. A generator of NumPy's global kind
        (MT19937) is seeded likewise, another one left alone.
        """
        total = span.total_frames
        if self.test_mode:
            if generator.get_state(legacy=False)["bit_generator"] == "MT19937":
                generator.seed(self.seed)
            else:
                generator = np.random.RandomState(self.seed)
        clips = [self._clip(clip, total, generator) for clip in range(self.num_clips)]
        return np.mod(np.concatenate(clips), total).astype(np.int64)

    def _clip(
        self, clip: int, total: int, generator: np.random.RandomState
    ) -> npt.NDArray[np.integer]:
        length = self.clip_len
        if total < length:
            if self.test_mode:
                start = clip if total < self.num_clips else clip * total // self.num_clips
            else:
                start = generator.randint(0, total)
            return np.arange(start, start + length)
        if total < 2 * length:
            left_out = np.zeros(length + 1, dtype=np.int64)
            left_out[generator.choice(length + 1, total - length, replace=False)] = 1
            return np.arange(length) + np.cumsum(left_out)[:-1]
        borders = np.arange(length + 1) * total // length
        return borders[:-1] + generator.randint(np.diff(borders))


@dataclass(frozen=True, slots=True)
class DenseSampleFrames:
    """Clips from a short range of the video: MMAction2's `DenseSampleFrames`."""

    clip_len: int
    """Frames of a clip, at least 1."""
    frame_interval: int = 1
    """Frames from one of a clip to the next, at least 1."""
    num_clips: int = 1
    """At least 1."""
    sample_range: int = 64
    """Frames of the range, at least `num_clips`."""
    num_sample_positions: int = 10
    """Ranges of a test, each with all clips; at least 1."""
    out_of_bound_opt: _OutOfBound = "loop"
    """What stands in for frames behind the end."""
    test_mode: bool = False
    """Draw nothing."""

    def __post_init__(self) -> None:
        _check_counts(
            clip_len=self.clip_len,
            frame_interval=self.frame_interval,
            num_clips=self.num_clips,
            sample_range=self.sample_range,
            num_sample_positions=self.num_sample_positions,
        )
        _check_out_of_bound(self.out_of_bound_opt)

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of all clips, see `Clip.choose`.

        >>> DenseSampleFrames(2, 3, num_clips=2, num_sample_positions=1, test_mode=True).choose(
        ...     Span(100), np.random.RandomState(0)
        ... )
        array([ 0,  3, 32, 35])
        """
        total = span.total_frames
        positions = max(1, 1 + total - self.sample_range)
        steps = np.arange(self.num_clips) * (self.sample_range // self.num_clips)
        if self.test_mode:
            starts = np.linspace(0, positions - 1, num=self.num_sample_positions, dtype=np.int64)
        else:
            starts = np.array([0 if positions == 1 else generator.randint(0, positions - 1)])
        offsets = np.mod(starts[:, None] + steps[None, :], max(total, 1)).ravel()
        clips = offsets[:, None] + np.arange(self.clip_len) * self.frame_interval
        return _in_bounds(clips, total, self.out_of_bound_opt)


@dataclass(frozen=True, slots=True)
class UntrimmedSampleFrames:
    """A clip around every `clip_interval`-th frame: MMAction2's `UntrimmedSampleFrames`."""

    clip_len: int = 1
    """Frames of a clip, at least 1."""
    clip_interval: int = 16
    """Frames from the middle of a clip to that of the next, at least 1."""
    frame_interval: int = 1
    """Frames from one of a clip to the next, at least 1."""

    def __post_init__(self) -> None:
        _check_counts(
            clip_len=self.clip_len,
            clip_interval=self.clip_interval,
            frame_interval=self.frame_interval,
        )

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of all clips, see `Clip.choose`; as many clips as the video holds.

        Raises:
            ValueError: It holds none.

        >>> UntrimmedSampleFrames(2, 16).choose(Span(40), np.random.RandomState(0))
        array([ 7,  8, 23, 24])
        """
        total, half = span.total_frames, self.clip_len // 2
        middles = np.arange(self.clip_interval // 2, total, self.clip_interval)
        if not len(middles):
            raise ValueError(
                f"a video of {total} frames has no clip with clip_interval {self.clip_interval}: "
                f"expected more than {self.clip_interval // 2}"
            )
        around = np.arange(
            -half * self.frame_interval,
            (self.clip_len - half) * self.frame_interval,
            self.frame_interval,
        )
        frames = (middles[:, None] + around[None, :]).ravel()
        return np.asarray(np.clip(frames, 0, total - 1), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class SampleAVAFrames:
    """Frames around an annotated moment: MMAction2's `SampleAVAFrames`."""

    clip_len: int
    """Frames of the clip, at least 1."""
    frame_interval: int = 2
    """Frames from one of the clip to the next, at least 1."""
    test_mode: bool = False
    """Move no frame at random."""

    def __post_init__(self) -> None:
        _check_counts(clip_len=self.clip_len, frame_interval=self.frame_interval)

    def choose(self, span: Span, generator: np.random.RandomState) -> FrameNumbers:
        """Return the frames of the clip, see `Clip.choose`.

        Raises:
            ValueError: There is no moment, or the clip needs frames that were not packed.

        >>> SampleAVAFrames(4, 3, test_mode=True).choose(
        ...     Span(100, moment=50), np.random.RandomState(0)
        ... )
        array([44, 47, 50, 53])
        """
        if span.moment is None:
            raise ValueError("SampleAVAFrames needs the annotated moment of a split of task ava")
        first = span.moment - self.clip_len // 2 * self.frame_interval
        frames = first + np.arange(self.clip_len) * self.frame_interval
        # Drawn in a test, too: the next draw of the process depends on it.
        low, high = -self.frame_interval // 2, (self.frame_interval + 1) // 2
        moved = generator.randint(low, high, size=self.clip_len)
        if not self.test_mode:
            frames = frames + moved
        frames = np.clip(frames, -span.before, span.total_frames + span.behind - 1)
        if frames.min() < 0 or frames.max() >= span.total_frames:
            raise ValueError(
                f"SampleAVAFrames({self.clip_len}, {self.frame_interval}) needs frames "
                f"{frames.min() - span.moment} to {frames.max() - span.moment} around the moment, "
                f"packed are {-span.moment} to {span.total_frames - 1 - span.moment}: pack with "
                f"a larger --clip-frames"
            )
        return frames.astype(np.int64)
