"""Frames are those that MMAction2 draws, and so is what its generator draws next."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshards.readers import (
    Clip,
    DenseSampleFrames,
    SampleAVAFrames,
    SampleFrames,
    Span,
    UniformSample,
    UniformSampleFrames,
    UntrimmedSampleFrames,
)
from clipshards.readers.draws import generator_of

CLASSES = {
    kind.__name__: kind
    for kind in (
        DenseSampleFrames,
        SampleAVAFrames,
        SampleFrames,
        UniformSample,
        UniformSampleFrames,
        UntrimmedSampleFrames,
    )
}


def span_of(call: dict[str, Any]) -> Span:
    """Return the frames that a recorded call was about."""
    extra = call["extra"] or {}
    if call["t"] != "SampleAVAFrames":
        return Span(call["total"], fps=extra.get("avg_fps", 0.0))
    shot = extra["shot_info"]["tuple"] if extra["shot_info"] else (0, call["total"])
    # MMAction2 adds the first number of the frames' names here, and once more at the end.
    moment = extra["fps"] * (extra["timestamp"] - extra["timestamp_start"]) + call["start"]
    return Span(shot[1] - shot[0], moment=moment - shot[0])


def drawn(call: dict[str, Any], generator: np.random.RandomState) -> list[Any]:
    """Return what our sampler makes of a recorded call: frames, or None for an error."""
    found: list[Any] = []
    for _ in call["out"]:
        try:
            clip: Clip = CLASSES[call["t"]](**call["kw"])
            found.append((clip.choose(span_of(call), generator) + call["start"]).tolist())
        except ValueError:
            found.append(None)
    return found


def test_all_recorded_calls_of_mmaction2_are_matched(shared_data: Path) -> None:
    lines = (shared_data / "reference" / "sampling.jsonl").read_text().splitlines()
    assert len(lines) == 769
    for line in lines:
        call = json.loads(line)
        generator = np.random.RandomState(call["seed"])
        due = [None if isinstance(out, dict) else out for out in call["out"]]
        assert drawn(call, generator) == due, line
        if call["t"] == "SampleFrames" and None in due:
            continue  # refused before it draws, or not at all
        assert generator.randint(1 << 30) == call["rng_after"], line


samplers = st.one_of(
    st.builds(
        SampleFrames,
        st.integers(1, 9),
        st.integers(1, 5),
        st.integers(2, 5),
        test_mode=st.booleans(),
        twice_sample=st.booleans(),
        keep_tail_frames=st.booleans(),
        out_of_bound_opt=st.sampled_from(["loop", "repeat_last"]),
        target_fps=st.none() | st.integers(5, 60),
    ),
    st.builds(UniformSample, st.integers(1, 9), st.integers(1, 5), test_mode=st.booleans()),
    st.builds(UniformSampleFrames, st.integers(1, 9), st.integers(1, 5), test_mode=st.booleans()),
    st.builds(
        DenseSampleFrames,
        st.integers(1, 9),
        st.integers(1, 5),
        st.integers(1, 5),
        test_mode=st.booleans(),
    ),
    st.builds(SampleAVAFrames, st.integers(1, 9), st.integers(1, 5), test_mode=st.booleans()),
)


@given(samplers, st.integers(1, 300), st.integers(0, 10**6), st.data())
def test_frames_lie_in_the_video_and_belong_to_the_item(
    clip: Clip, total: int, item: int, data: st.DataObject
) -> None:
    span = Span(total, fps=24.0, moment=data.draw(st.integers(0, total - 1)))
    first, again = (clip.choose(span, generator_of(seed=1, number=2, item=item)) for _ in range(2))
    assert first.dtype == np.int64
    assert first.ndim == 1
    assert first.tolist() == again.tolist()
    assert len(first) > 0
    assert 0 <= first.min() <= first.max() < total


def test_a_test_of_skeletons_leaves_another_generator_alone() -> None:
    clip = UniformSampleFrames(8, num_clips=2, test_mode=True)
    ours = generator_of(seed=0, number=0, item=0)
    frames = clip.choose(Span(100), ours)
    assert ours.random_sample() == generator_of(seed=0, number=0, item=0).random_sample()
    assert frames.tolist() == clip.choose(Span(100), np.random.RandomState(3)).tolist()


@pytest.mark.parametrize(("before", "behind"), [(0, 0), (3, 0), (0, 3)])
def test_frames_around_a_moment_are_repeated_only_at_the_ends_of_the_video(
    before: int, behind: int
) -> None:
    clip = SampleAVAFrames(8, 2, test_mode=True)
    span = Span(9, moment=4, before=before, behind=behind)
    if before or behind:
        # Unclipped they are -4 to 10, the video's end stops them.
        expected = r"frames -\d to \d around the moment, packed are -4 to 4: .* --clip-frames"
        with pytest.raises(ValueError, match=expected):
            clip.choose(span, np.random.RandomState(0))
    else:
        frames = clip.choose(span, np.random.RandomState(0))
        assert frames.tolist() == [0, 0, 0, 2, 4, 6, 8, 8]


def test_moments_are_asked_for() -> None:
    with pytest.raises(ValueError, match="needs the annotated moment"):
        SampleAVAFrames(8).choose(Span(100), np.random.RandomState(0))


def test_a_video_without_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a video of 4 frames has no clip .* more than 8"):
        UntrimmedSampleFrames(1, 16).choose(Span(4), np.random.RandomState(0))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (SampleFrames, {"clip_len": 0}, "clip_len 0: expected at least 1"),
        (SampleFrames, {"clip_len": 1, "frame_interval": 0}, "frame_interval 0"),
        (SampleFrames, {"clip_len": 1, "num_clips": 0}, "num_clips 0"),
        (SampleFrames, {"clip_len": 1, "target_fps": 0}, "target_fps 0"),
        (SampleFrames, {"clip_len": 1, "out_of_bound_opt": "x"}, "out_of_bound_opt 'x'"),
        (SampleFrames, {"clip_len": 1, "temporal_jitter": True, "target_fps": 9}, "one of them"),
        (
            SampleFrames,
            {"clip_len": 2, "twice_sample": True, "test_mode": True},
            "num_clips of at least 2",
        ),
        (UniformSample, {"clip_len": 0}, "clip_len 0"),
        (UniformSampleFrames, {"clip_len": 1, "num_clips": 0}, "num_clips 0"),
        (DenseSampleFrames, {"clip_len": 1, "sample_range": 0}, "sample_range 0"),
        (UntrimmedSampleFrames, {"clip_interval": 0}, "clip_interval 0"),
        (SampleAVAFrames, {"clip_len": 1, "frame_interval": 0}, "frame_interval 0"),
    ],
)
def test_arguments_out_of_range_are_refused(
    kind: type, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
