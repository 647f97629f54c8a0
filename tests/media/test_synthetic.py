import io
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from makers import frames_of

from clipshards.packer.media.synthetic import write_video


def _video(folder: Path, *, seed: int = 0, sound: bool = True, frames: int = 30) -> bytes:
    path = folder / f"{seed}.mp4"
    write_video(path, frames=frames, width=96, height=64, seed=seed, sound=sound)
    return path.read_bytes()


def test_video_has_the_frames_size_and_rate_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, frames=13, width=48, height=32, rate=10)
    data = path.read_bytes()
    assert [frame.shape for frame in frames_of(data)] == [(32, 48, 3)] * 13
    with av.open(io.BytesIO(data), "r") as container:
        assert container.streams.video[0].average_rate == 10
        assert container.streams.video[0].codec_context.name == "h264"


def test_picture_moves_from_frame_to_frame(tmp_path: Path) -> None:
    frames = frames_of(_video(tmp_path))
    for before, after in pairwise(frames):
        assert not np.array_equal(before, after)


def test_sound_is_a_tone_as_long_as_the_pictures(tmp_path: Path) -> None:
    with av.open(io.BytesIO(_video(tmp_path)), "r") as container:
        tone = np.concatenate(
            [frame.to_ndarray()[0] for frame in container.decode(container.streams.audio[0])]
        )
    assert len(tone) / 44100 == pytest.approx(30 / 25, abs=0.05)
    spectrum = np.abs(np.fft.rfft(tone))
    assert int(np.argmax(spectrum)) * 44100 / len(tone) == pytest.approx(220, abs=2)
    assert np.abs(tone).max() > 0.1


def test_sound_can_be_left_out(tmp_path: Path) -> None:
    with av.open(io.BytesIO(_video(tmp_path, sound=False))) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    assert _video(tmp_path, seed=3) == _video(tmp_path, seed=3)


def test_seeds_differ_to_the_eye_and_to_the_ear(tmp_path: Path) -> None:
    means = []
    pitches = []
    for seed in range(6):
        data = _video(tmp_path, seed=seed)
        means.append(np.mean(frames_of(data), axis=(0, 1, 2)))
        with av.open(io.BytesIO(data), "r") as container:
            tone = next(container.decode(audio=0)).to_ndarray()[0]
            tone = np.concatenate([tone, *(f.to_ndarray()[0] for f in container.decode(audio=0))])
        pitches.append(int(np.argmax(np.abs(np.fft.rfft(tone)))))
    assert len(set(pitches)) == len(pitches)
    for seed, mean in enumerate(means):
        for other in means[:seed]:
            assert np.abs(mean - other).max() > 10


def test_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "0.mp4").write_bytes(b"something else")
    assert len(frames_of(_video(tmp_path))) == 30


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"width": 33},
        {"height": 33},
        {"width": 0},
        {"height": 8},
        {"rate": 0},
        {"seed": -1},
    ],
    ids=str,
)
def test_argument_outside_its_range_is_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    arguments = {"frames": 5, "width": 32, "height": 32, "rate": 25, "seed": 0} | wrong
    with pytest.raises(ValueError, match="must be"):
        write_video(tmp_path / "video.mp4", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "video.mp4").exists()
