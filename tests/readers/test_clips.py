import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipshards.readers.clips import Clip, DenseClip, Span, UniformClip
from clipshards.readers.draws import generator_of

ALMOST_ONE = 1 - 2.0**-53

uniform_clips = st.builds(UniformClip, st.integers(1, 64), jitter=st.booleans())
dense_clips = st.builds(DenseClip, st.integers(1, 64), st.integers(1, 20), jitter=st.booleans())
totals = st.integers(1, 500) | st.integers(1, 10**9)


class Given(np.random.RandomState):
    """Draws what it is given, all of it in one go."""

    def __init__(self, draws: list[float]) -> None:
        super().__init__(0)
        self._draws = draws

    def random_sample(self, size: Any = None) -> Any:
        assert (1 if size is None else size) == len(self._draws)
        return self._draws[0] if size is None else np.array(self._draws)


def choose(clip: Clip, total_frames: int, draws: Sequence[float] = ()) -> list[int]:
    frames: list[int] = clip.choose(Span(total_frames), Given(list(draws))).tolist()
    return frames


def draws_of(clip: UniformClip | DenseClip) -> int:
    return clip.jitter * (clip.length if isinstance(clip, UniformClip) else 1)


@given(uniform_clips | dense_clips, totals, st.integers(0, 2**32))
@example(UniformClip(64), 1, 0)
@example(DenseClip(1), 1, 0)
def test_a_clip_has_its_length_and_ascends_inside_the_video(
    clip: Clip, total_frames: int, seed: int
) -> None:
    frames = clip.choose(Span(total_frames), generator_of(seed=seed, number=0, item=0))
    assert isinstance(clip, UniformClip | DenseClip)
    assert frames.shape == (clip.length,)
    assert frames.dtype == np.int64
    assert (np.diff(frames) >= 0).all()
    assert frames[0] >= 0
    assert frames[-1] < total_frames


def test_a_moment_at_the_border_of_two_segments_is_of_the_later_one() -> None:
    # 19 * (159 / 57) is 52.99999999999999 in floating point, and 53 in truth.
    assert choose(UniformClip(57), 159, [0.0] * 57)[19] == 53


@given(uniform_clips, totals, st.data())
def test_each_uniform_frame_lies_in_its_own_segment(
    clip: UniformClip, total_frames: int, data: st.DataObject
) -> None:
    draws = data.draw(
        st.lists(
            st.floats(0, ALMOST_ONE) | st.just(ALMOST_ONE),
            min_size=draws_of(clip),
            max_size=draws_of(clip),
        )
    )
    for number, frame in enumerate(choose(clip, total_frames, draws)):
        # A frame covers [frame, frame + 1), in which the drawn moment lies up to rounding.
        begin = Fraction(number * total_frames, clip.length)
        end = Fraction((number + 1) * total_frames, clip.length)
        assert math.floor(begin) <= frame <= math.ceil(end)


@given(dense_clips, totals, st.floats(0, ALMOST_ONE))
def test_dense_frames_are_a_stride_apart_until_the_video_ends(
    clip: DenseClip, total_frames: int, draw: float
) -> None:
    frames = choose(clip, total_frames, [draw] * draws_of(clip))
    expected = [frames[0] + number * clip.stride for number in range(clip.length)]
    assert frames == [min(frame, total_frames - 1) for frame in expected]
    span = (clip.length - 1) * clip.stride + 1
    if span <= total_frames:
        assert frames[-1] == expected[-1], "a frame was repeated although the video is long enough"
    else:
        assert frames[0] == 0


@pytest.mark.parametrize(
    ("length", "total_frames", "frames"),
    [
        (1, 1, [0]),
        (1, 9, [4]),
        (4, 100, [12, 37, 62, 87]),
        (3, 10, [1, 5, 8]),
        (5, 5, [0, 1, 2, 3, 4]),
        (8, 3, [0, 0, 0, 1, 1, 2, 2, 2]),
        (4, 1, [0, 0, 0, 0]),
    ],
)
def test_uniform_clip_without_jitter_takes_the_middles(
    length: int, total_frames: int, frames: list[int]
) -> None:
    assert choose(UniformClip(length, jitter=False), total_frames) == frames


def test_uniform_clip_takes_the_drawn_place_of_each_segment() -> None:
    assert choose(UniformClip(4), 100, [0.0, 0.5, 0.99, ALMOST_ONE]) == [0, 37, 74, 99]
    assert choose(UniformClip(3), 2, [0.0, 0.9, ALMOST_ONE]) == [0, 1, 1]


@pytest.mark.parametrize(
    ("length", "stride", "total_frames", "frames"),
    [
        (4, 1, 4, [0, 1, 2, 3]),
        (4, 1, 10, [3, 4, 5, 6]),
        (3, 4, 13, [2, 6, 10]),
        (4, 1, 3, [0, 1, 2, 2]),
        (4, 3, 5, [0, 3, 4, 4]),
        (3, 1, 1, [0, 0, 0]),
        (1, 9, 7, [3]),
    ],
)
def test_dense_clip_without_jitter_stands_in_the_middle(
    length: int, stride: int, total_frames: int, frames: list[int]
) -> None:
    assert choose(DenseClip(length, stride, jitter=False), total_frames) == frames


@given(dense_clips, totals)
def test_dense_clip_without_jitter_leaves_as_much_before_as_behind(
    clip: DenseClip, total_frames: int
) -> None:
    frames = choose(DenseClip(clip.length, clip.stride, jitter=False), total_frames)
    behind = total_frames - 1 - frames[-1]
    assert abs(frames[0] - behind) <= 1


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 40))
def test_dense_clip_can_start_wherever_it_fits(length: int, stride: int, total_frames: int) -> None:
    clip = DenseClip(length, stride)
    starts = max(total_frames - (length - 1) * stride, 1)
    draws = [(number + 0.5) / starts for number in range(starts)]
    first = [choose(clip, total_frames, [draw])[0] for draw in draws]
    assert first == list(range(starts))
    assert choose(clip, total_frames, [0.0])[0] == 0
    assert choose(clip, total_frames, [ALMOST_ONE])[0] == starts - 1


@pytest.mark.parametrize("length", [0, -1])
def test_a_clip_without_frames_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"length {length}: expected at least 1"):
        UniformClip(length)
    with pytest.raises(ValueError, match=f"length {length}, stride 1: expected at least 1"):
        DenseClip(length)
    with pytest.raises(ValueError, match=f"stride {length}: expected at least 1"):
        DenseClip(1, length)
