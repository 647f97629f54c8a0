"""Makers of the tests' media, and the decode that all frames are compared with."""

import io
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipshards.packer.media.sound import Source, open_sound
from clipshards.packer.media.synthetic import write_video
from clipshards.packer.media.x264 import pinned_fault

Pixels = npt.NDArray[np.uint8]
VideoPacket: TypeAlias = "Packet[VideoStream]"


def frames_of(data: bytes, *, threads: int | None = None) -> list[Pixels]:
    """Return all frames as PyAV decodes them from the start: the reference of every test.

    PyAV's own defaults are used throughout; damaged videos need `threads=1`, since FFmpeg
    conceals damage only then.
    """
    with av.open(io.BytesIO(data), "r") as container:
        stream = next(
            s
            for s in container.streams.video
            if not s.disposition & av.stream.Disposition.attached_pic
        )
        if threads is not None:
            stream.codec_context.thread_count = threads
        return [
            frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            for frame in container.decode(stream)
        ]


def pictures(count: int, size: tuple[int, int], *, seed: int = 0) -> Iterator[Pixels]:
    """Yield RGB pictures, no two alike: a moving gradient, a moving square, some noise."""
    width, height = size
    rng = np.random.default_rng(seed)
    for number in range(count):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[..., 0] = (np.arange(width)[None, :] + 3 * number) % 256
        picture[..., 1] = (np.arange(height)[:, None] + 5 * number + 31 * seed) % 256
        picture[..., 2] = rng.integers(0, 40, (height, width))
        top, left = (2 * number) % (height - 8), (3 * number + 7 * seed) % (width - 8)
        picture[top : top + 8, left : left + 8] = (250, 250 - number % 200, 30)
        yield picture


_NOBODY = 65534


def _repeating(codec: str, options: Mapping[str, str]) -> dict[str, str]:
    """Return options by which the encoder gives the same bytes each time.

    With the instructions behind AVX2, libx264 gives others now and then in one process.
    """
    if codec != "libx264" or pinned_fault():
        return dict(options)
    params = (options.get("x264-params", ""), "asm=avx2")
    return {**options, "x264-params": ":".join(filter(None, params))}


def video_bytes(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    options: Mapping[str, str] | None = None,
    mux_options: Mapping[str, str] | None = None,
    frames: int = 60,
    size: tuple[int, int] = (160, 120),
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    seed: int = 0,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    colors: Mapping[str, int] | None = None,
    rotation: float = 0,
    sound: bool = False,
) -> bytes:
    """Return an encoded video.

    Args:
        container: FFmpeg's name of the format: mp4, mov, matroska, webm, avi, mpegts.
        codec: FFmpeg's name of the encoder.
        options: Of the encoder.
        mux_options: Of the container.
        frames: How many pictures.
        size: Width and height in pixels.
        pix_fmt: FFmpeg's name.
        rate: Frames per second.
        seed: Which pictures.
        times: Time stamp of each frame in `time_base`; evenly spaced by default.
        time_base: Seconds per tick of `times`; 1/rate by default.
        colors: Attributes of the codec context: color_range, colorspace and so on.
        rotation: Degrees in the display matrix.
        sound: Whether there is a sound track.
    """
    base = time_base or Fraction(1, rate)
    with _writing(container, mux_options) as (output, done):
        stream = output.add_stream(codec, rate=rate, options=_repeating(codec, options or {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = base
        for name, value in (colors or {}).items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        if codec == "libsvtav1":
            _open_unprivileged(stream)
        audio = output.add_stream("aac", rate=44100, layout="mono") if sound else None
        for number, picture in enumerate(pictures(frames, size, seed=seed)):
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if audio is not None:
            _mux_tone(output, audio, samples=44100 * frames // rate)
    return done[0]


def _open_unprivileged(stream: VideoStream) -> None:
    """Open an encoder that asks who runs it as nobody.

    SVT-AV1 gives the threads of root the highest real-time priority, which all that is started
    later inherits: two such processes kept two processors from all others for good.
    """
    user = os.geteuid()
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        stream.codec_context.open()
    finally:
        os.seteuid(user)


def sound_bytes(container: str = "mp4", *, seconds: float = 1.0) -> bytes:
    """Return a file with a sound track and no picture."""
    with _writing(container) as (output, done):
        audio = output.add_stream("aac", rate=44100, layout="mono")
        _mux_tone(output, audio, samples=int(44100 * seconds))
    return done[0]


def _mux_tone(output: OutputContainer, audio: AudioStream, *, samples: int) -> None:
    tone = np.sin(np.arange(samples) * (2 * np.pi * 440 / 44100)).astype(np.float32)
    for start in range(0, samples, 1024):
        frame = av.AudioFrame.from_ndarray(
            tone[None, start : start + 1024] * 0.2, format="fltp", layout="mono"
        )
        frame.sample_rate = 44100
        frame.pts = start
        frame.time_base = Fraction(1, 44100)
        output.mux(audio.encode(frame))
    output.mux(audio.encode(None))


def remux(
    data: bytes | Sequence[bytes],
    container: str = "mp4",
    *,
    skip_packets: int = 0,
    shift: int = 0,
    bitstream_filter: str = "",
    mux_options: Mapping[str, str] | None = None,
    change: Callable[[int, "VideoPacket"], "VideoPacket | None"] | None = None,
) -> bytes:
    """Return the video packets of `data` in a new container, not encoded again.

    Args:
        data: A video, or several to be joined end to end (the first one's headers count).
        container: FFmpeg's name of the new format.
        skip_packets: Packets left out at the start.
        shift: Added to every time stamp, in frames; negative makes an mp4 edit list.
        bitstream_filter: FFmpeg's description of a filter for the packets.
        mux_options: Of the new container.
        change: Called with each packet's number and packet; None drops the packet.
    """
    parts = [data] if isinstance(data, bytes) else data
    with _writing(container, mux_options) as (output, done):
        target: VideoStream | None = None
        number, end = 0, 0
        for part in parts:
            with av.open(io.BytesIO(part), "r") as source:
                stream = source.streams.video[0]
                if target is None:
                    target = output.add_stream_from_template(stream)
                delta: int | None = None
                for packet in _filtered(source, stream, target, bitstream_filter):
                    if packet.pts is None or packet.dts is None or packet.duration is None:
                        raise ValueError("the source must have time stamps")
                    if delta is None:  # a joined part begins where the pictures before it end
                        delta = end - packet.dts if number else shift * packet.duration
                    packet.pts, packet.dts = packet.pts + delta, packet.dts + delta
                    end = max(end, packet.pts + packet.duration)
                    number += 1
                    changed = packet if change is None else change(number - 1, packet)
                    if number > skip_packets and changed is not None:
                        changed.stream = target
                        output.mux(changed)
    return done[0]


def _filtered(
    source: InputContainer, stream: VideoStream, target: VideoStream, description: str
) -> Iterator["VideoPacket"]:
    packets = [packet for packet in source.demux(stream) if packet.size]
    if not description:
        yield from packets
        return
    context = BitStreamFilterContext(description, in_stream=stream, out_stream=target)
    for packet in packets:
        yield from context.filter(packet)
    yield from context.filter(None)


@contextmanager
def _writing(
    container: str, mux_options: Mapping[str, str] | None = None
) -> Iterator[tuple[OutputContainer, list[bytes]]]:
    """Open a new container; the list holds its bytes afterwards."""
    done: list[bytes] = []
    # A file and no buffer, since some muxers read again what they have written.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "media"
        options = {"fflags": "+bitexact"} | dict(mux_options or {})
        with av.open(str(path), "w", format=container, options=options) as output:
            yield output, done
        done.append(path.read_bytes())


@lru_cache(maxsize=64)
def short_video(
    seed: int = 0, *, frames: int = 12, size: tuple[int, int] = (64, 48), sound: bool = False
) -> bytes:
    """Return a small mp4 of `write_video`, made once per process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, frames=frames, width=size[0], height=size[1], seed=seed, sound=sound)
        return path.read_bytes()


@dataclass(frozen=True, slots=True)
class MediaRoot:
    """Videos on disk and the list that names them."""

    root: Path
    """The media root."""
    annotation: Path
    """A video list, one `path label` a line."""
    paths: tuple[str, ...]
    """The videos in the order of the list, relative to the root."""
    labels: tuple[int, ...]
    """The label of each."""


def write_media_root(
    folder: Path,
    count: int,
    *,
    classes: int = 3,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    sound: bool = False,
    name: str = "train.txt",
) -> MediaRoot:
    """Write `count` small videos into `folder`/media and a video list beside them.

    Video i has the pictures of seed i, `frames` + i % 5 of them, and the label i % classes.
    """
    root = folder / "media"
    paths = []
    labels = []
    for number in range(count):
        label = number % classes
        path = f"class_{label}/clip_{number:04d}.mp4"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        data = short_video(number, frames=frames + number % 5, size=size, sound=sound)
        (root / path).write_bytes(data)
        paths.append(path)
        labels.append(label)
    annotation = folder / name
    lines = (f"{path} {label}\n" for path, label in zip(paths, labels, strict=True))
    annotation.write_text("".join(lines), encoding="utf-8")
    return MediaRoot(root, annotation, tuple(paths), tuple(labels))


def with_half_a_second_of(codec: str, dtype: type, sample_format: str) -> bytes:
    """Return a Matroska video of 40 frames, each an entry, with uncompressed sound."""
    video = video_bytes(size=(64, 48), frames=40, options={"g": "1"})
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(video), "r") as source,
        av.open(buffer, "w", format="matroska") as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        audio = output.add_stream(codec, rate=8000, layout="mono")
        assert isinstance(audio, AudioStream)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
        for start in range(0, 4000, 1000):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1000), dtype), format=sample_format, layout="mono"
            )
            frame.sample_rate, frame.pts = 8000, start
            output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    return buffer.getvalue()


def sound_of(source: Source) -> tuple[npt.NDArray[np.float32], int]:
    """Return the first sound of a file as floats, (channels, n), and its rate in Hz."""
    with open_sound(source) as sound:
        pieces = [*sound.pieces]
    samples = np.concatenate(pieces, axis=1)
    levels = samples.astype(np.float64)
    if samples.dtype == np.uint8:
        levels = (levels - 128) / 128
    elif samples.dtype.kind == "i":
        levels /= -np.float64(np.iinfo(samples.dtype).min)
    return levels.astype(np.float32), sound.rate_hz


def _python2_text(data: bytes) -> bytes:
    """Return SHORT_BINSTRING, or BINSTRING of what is longer."""
    if len(data) < 256:
        return b"U" + bytes([len(data)]) + data
    return b"T" + struct.pack("<i", len(data)) + data


def python2_pickle(values: Mapping[bytes, npt.NDArray[np.generic]]) -> bytes:
    """Return what cPickle of Python 2 writes of a dict of arrays by protocol 2.

    Names and data are strings of bytes; what stood before is taken from the memo.
    """
    known: dict[bytes, bytes] = {}

    def once(made: bytes) -> bytes:
        if made not in known:
            known[made] = b"h" + bytes([len(known)])
            return made + b"q" + known[made][1:]
        return known[made]

    pieces = [b"\x80\x02}("]
    for key, array in values.items():
        code = f"{array.dtype.kind}{array.dtype.itemsize}".encode()
        kind = once(b"cnumpy\ndtype\n") + _python2_text(code) + b"K\x00K\x01\x87R"
        kind += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        pieces += [
            _python2_text(key),
            once(b"cnumpy.core.multiarray\n_reconstruct\n"),
            once(b"cnumpy\nndarray\n"),
            b"K\x00\x85U\x01b\x87R",
            b"(K\x01(" + b"".join(b"K" + bytes([size]) for size in array.shape) + b"t",
            kind + b"\x89" + _python2_text(array.tobytes()) + b"tb",
        ]
    return b"".join([*pieces, b"u."])
