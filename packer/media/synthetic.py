"""Small videos made from nothing: for `clipshards demo`, examples and tests."""

import colorsys
import math
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

_SOUND_RATE_HZ = 44100
_SOUND_CHUNK = 1024
# Consecutive seeds land far apart on the colour circle.
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def write_video(
    path: str | os.PathLike[str],
    *,
    frames: int,
    width: int,
    height: int,
    rate: int = 25,
    seed: int = 0,
    sound: bool = True,
) -> None:
    """Write an mp4 in which a disc moves over a drifting gradient while a tone sounds.

    Colours, the path of the disc and the pitch of the tone follow from `seed`. One machine
    and one build of PyAV give the same bytes every time. A file that is there is replaced.

    Args:
        path: The file to write; its folder must exist.
        frames: Pictures in the video, at least 1.
        width: Pixels, even, at least 16.
        height: Pixels, even, at least 16.
        rate: Frames per second.
        seed: Which video, 0 or more.
        sound: Whether to add a track of AAC sound, as long as the pictures.

    Raises:
        ValueError: An argument is outside its range.
    """
    if frames < 1 or rate < 1 or seed < 0:
        raise ValueError(
            f"frames and rate must be at least 1 and seed at least 0, got {frames}, {rate}, {seed}"
        )
    if min(width, height) < 16 or width % 2 or height % 2:
        raise ValueError(f"width and height must be even and at least 16, got {width}x{height}")
    with av.open(os.fspath(path), "w", format="mp4") as container:
        # Both tracks must be known before the first packet is written.
        video = _add_video(container, width, height, rate)
        audio = container.add_stream("aac", rate=_SOUND_RATE_HZ, layout="mono") if sound else None
        painter = _Painter(width, height, seed)
        for number in range(frames):
            frame = VideoFrame.from_ndarray(painter.picture(number / rate), format="rgb24")
            frame.pts = number
            frame.time_base = Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _write_tone(container, audio, samples=frames * _SOUND_RATE_HZ // rate, seed=seed)


def write_stills(folder: Path, *, frames: int, width: int, height: int, seed: int = 0) -> None:
    """Write the pictures of such a video as `img_00001.jpg`, ... into a folder that exists."""
    painter = _Painter(width, height, seed)
    for number in range(frames):
        image = Image.fromarray(painter.picture(number / 25))
        image.save(folder / f"img_{number + 1:05}.jpg", quality=90)


def _add_video(container: OutputContainer, width: int, height: int, rate: int) -> VideoStream:
    # Some builds of FFmpeg leave x264 out for its licence; MPEG-4 ASP is in all of them.
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    options = {"preset": "veryfast", "crf": "23"} if codec == "libx264" else {"qscale": "3"}
    stream = container.add_stream(codec, rate=rate, options=options)
    if not isinstance(stream, VideoStream):
        raise TypeError(f"{codec} is not a video codec")
    stream.width = width
    stream.height = height
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # the bytes depend on the number of threads
    return stream


class _Painter:
    """Paints the picture of each moment."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        hue = seed * _GOLDEN_RATIO % 1
        dark, light = _rgb(hue, 0.35), _rgb(hue + 0.12, 0.8)
        levels = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
        self._gradient = np.rint(dark + (light - dark) * levels).astype(np.uint8)
        self._disc = np.rint(_rgb(hue + 0.5, 1.0)).astype(np.uint8)
        self._turns = rng.choice([(1, 2), (2, 1), (1, 1), (2, 3), (3, 2)]).tolist()
        self._phase = rng.uniform(0, 2 * math.pi)
        self._drift = rng.uniform(0.15, 0.4)
        self._short = min(width, height)
        self._middle = (width / 2, height / 2)
        self._x = np.arange(width, dtype=np.float32)[None, :]
        self._y = np.arange(height, dtype=np.float32)[:, None]
        slope = rng.uniform(0, 2 * math.pi)
        along = math.cos(slope) * self._x + math.sin(slope) * self._y
        self._wave = along * (math.pi / self._short)

    def picture(self, time_s: float) -> npt.NDArray[np.uint8]:
        """Return RGB of shape (height, width, 3)."""
        wave = np.sin(self._wave - 2 * math.pi * self._drift * time_s)
        picture = self._gradient[(wave * 127 + 128).astype(np.uint8)]
        angle = 2 * math.pi * time_s / 4
        centre_x, centre_y = self._middle
        centre_x *= 1 + 0.7 * math.sin(self._turns[0] * angle + self._phase)
        centre_y *= 1 + 0.7 * math.sin(self._turns[1] * angle)
        radius = self._short / 6
        inside = (self._x - centre_x) ** 2 + (self._y - centre_y) ** 2 < radius**2
        picture[inside] = self._disc
        return picture


def _rgb(hue: float, value: float) -> npt.NDArray[np.float32]:
    return np.array(colorsys.hsv_to_rgb(hue % 1, 0.7, value), dtype=np.float32) * 255


def _write_tone(
    container: OutputContainer, stream: AudioStream, *, samples: int, seed: int
) -> None:
    pitch_hz = 220.0 * 2 ** (seed * 7 % 24 / 12)
    times_s = np.arange(samples, dtype=np.float64) / _SOUND_RATE_HZ
    tone = (0.2 * np.sin(2 * math.pi * pitch_hz * times_s)).astype(np.float32)
    for start in range(0, samples, _SOUND_CHUNK):
        frame = AudioFrame.from_ndarray(
            tone[None, start : start + _SOUND_CHUNK], format="fltp", layout="mono"
        )
        frame.sample_rate = _SOUND_RATE_HZ
        frame.pts = start
        frame.time_base = Fraction(1, _SOUND_RATE_HZ)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
