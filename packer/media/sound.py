"""Reading the sound of audio and video files, by PyAV."""

import io
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import MediaError
from clipshards.packer.frames.truncation import check_not_truncated
from clipshards.packer.media.mel import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Source: TypeAlias = bytes | str | os.PathLike[str]
"""The bytes of a media file, or where it is."""

Samples: TypeAlias = npt.NDArray[Any]
"""(channels, n) as a decoder gives them: unsigned bytes, signed integers or floats."""

MOST_IN_A_WAV = (1 << 32) - 4096
"""Bytes of samples; the sizes in the header of a wav have 32 bits."""

# Others, as HLS and concat, open further files and addresses that the file names.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,asf,ogg,nut,mxf,gxf,dv,rm,"
    "wav,w64,mp3,flac,aac,ac3,eac3,dts,truehd,amr,aiff,au,caf,ape,wv,tta,tak"
)
# Outside of it a header lies, and resampling would blow the sound up.
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1000, 768_000
# A thousand times a thousand times full scale.
_TOO_LOUD = 1e6


def mono_16k(source: Source) -> npt.NDArray[np.float32]:
    """Return the first audio stream as `mel_features` takes it: mono at 16 kHz.

    The mean of the channels, resampled by librosa's `soxr_hq` from any other rate.

    Returns:
        float32 (n,), n at least 1.

    Raises:
        MediaError: As for `open_sound`.
    """
    with open_sound(source) as sound:
        mono = np.concatenate([_mean(_as_float32(samples)) for samples in sound.pieces])
    if sound.rate_hz == SAMPLE_RATE_HZ:
        return mono
    import librosa  # takes a second or two

    resampled: npt.NDArray[np.float32] = librosa.resample(
        mono, orig_sr=sound.rate_hz, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq"
    )
    return resampled


def write_wav(source: Source, target: BinaryIO) -> None:
    """Write the first audio stream of `source` as a wav of 16-bit samples.

    Rate and channels are kept, and the samples are those that `ffmpeg -map 0:a:0` writes.

    Args:
        source: What to read.
        target: An empty file, open for writing, in which one can go back.

    Raises:
        MediaError: As for `open_sound`, or there is more sound than a wav can hold.
    """
    import av
    from av.audio.frame import AudioFrame

    with (
        open_sound(source) as sound,
        # Without it the header holds the version of FFmpeg.
        av.open(target, "w", format="wav", options={"fflags": "+bitexact"}) as container,
    ):
        stream = container.add_stream("pcm_s16le", rate=sound.rate_hz, layout=sound.layout)
        written = 0
        for samples in sound.pieces:
            channels, count = samples.shape
            if (written + count) * channels * 2 > MOST_IN_A_WAV:
                raise MediaError("more sound than the 4 GB that a wav can hold")
            interleaved = np.ascontiguousarray(_as_int16(samples).T).reshape(1, -1)
            frame = AudioFrame.from_ndarray(interleaved, format="s16", layout=sound.layout)
            frame.sample_rate = sound.rate_hz
            frame.pts = written
            frame.time_base = Fraction(1, sound.rate_hz)
            container.mux(stream.encode(frame))
            written += count
        container.mux(stream.encode(None))


@dataclass(frozen=True, slots=True)
class Sound:
    """The first audio stream of a file that is open."""

    codec: str
    """FFmpeg's name, as `aac` or `pcm_s16le`."""
    rate_hz: int
    layout: str
    """FFmpeg's name of the channels, as `stereo`."""
    channels: int
    pieces: Iterator[Samples]
    """At least one, to be had once."""


@contextmanager
def open_sound(source: Source) -> Iterator[Sound]:
    """Open a file to decode its first audio stream.

    What an encoder put before the sound is left out, as FFmpeg does when it writes a wav. A
    sound that begins later than the pictures is not moved.

    Raises:
        MediaError: The file is unreadable, cut short or not decodable to its end; it has no
            audio stream, or one that is empty, not finite, or changes rate or channels. Here
            or when the pieces are taken.
    """
    with open_media(source) as container:
        stream = audio_stream(container)
        frames = _frames(container, stream)
        first = next(frames, None)
        if first is None:
            raise MediaError("the audio stream is empty")
        yield Sound(
            stream.codec_context.codec.canonical_name,
            first.sample_rate,
            first.layout.name,
            first.layout.nb_channels,
            _pieces(first, frames),
        )


@contextmanager
def open_media(source: Source) -> Iterator["InputContainer"]:
    """Open a file by PyAV, if it is a container that names no other files.

    Raises:
        MediaError: The file is unreadable or cut short.
    """
    import av

    with _file(source) as file:
        with _translated():
            container = av.open(
                file,
                mode="r",
                options={"format_whitelist": _CONTAINERS},
                # Titles in old encodings must not make a sound unreadable.
                metadata_errors="replace",
            )
        with container:
            yield container


@contextmanager
def _file(source: Source) -> Iterator[BinaryIO]:
    """Open the source; a file object, since FFmpeg takes some names for addresses."""
    if isinstance(source, bytes):
        check_not_truncated(source)
        yield io.BytesIO(source)
        return
    try:
        # A pipe would block, so it must not be opened.
        found = Path(source).stat()
        if not stat.S_ISREG(found.st_mode):
            raise MediaError("not a regular file")
        if not found.st_size:
            raise MediaError("the file is empty (0 bytes)")
        file = Path(source).open("rb")  # noqa: SIM115 - closed below
    except OSError as exc:
        raise MediaError(f"cannot be read: {exc.strerror}") from exc
    with file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # Cut and compared as bytes are.
            check_not_truncated(cast(bytes, data))
        yield file


@contextmanager
def _translated() -> Iterator[None]:
    """Turn FFmpeg's errors into MediaError."""
    import av

    try:
        yield
    except av.FFmpegError as exc:
        raise MediaError(f"not a readable audio or video file: {exc.strerror}") from exc


def _frames(container: "InputContainer", stream: "AudioStream") -> "Iterator[AudioFrame]":
    """Yield the frames of an audio stream that hold samples."""
    context = stream.codec_context
    context.thread_count = 1
    if context.name == "flac":
        # Its frames have checksums, at which FFmpeg does not look unasked.
        context.options = {"err_detect": "crccheck+explode"}
    claimed = _claimed_samples(container, stream)
    count = 0
    frames = container.decode(stream)
    while True:
        with _translated():
            frame = next(frames, None)
        if frame is None:
            break
        if frame.samples:
            count += frame.samples
            yield frame
    if count < claimed:
        raise MediaError(
            f"cut short or damaged: the header says {claimed} samples, {count} could be decoded"
        )


def _claimed_samples(container: "InputContainer", stream: "AudioStream") -> int:
    """Return how many samples a flac says it has; 0 where not known, or of other files.

    FFmpeg leaves out what is damaged in a flac, and what is not there.
    """
    if container.format.name != "flac" or not stream.duration or not stream.time_base:
        return 0
    return int(stream.duration * stream.time_base * stream.codec_context.sample_rate)


def audio_stream(container: "InputContainer") -> "AudioStream":
    """Return the first audio stream of a known codec.

    Raises:
        MediaError: There is none.
    """
    for stream in container.streams.audio:
        # PyAV leaves out the context of an unknown codec, against its type.
        if getattr(stream, "codec_context", None) is not None:
            return stream
    of = " of a known codec" if container.streams.audio else ""
    raise MediaError(f"no audio stream{of} in the file")


def _pieces(first: "AudioFrame", rest: "Iterator[AudioFrame]") -> Iterator[Samples]:
    rate, channels = first.sample_rate, first.layout.nb_channels
    if not _LOWEST_RATE_HZ <= rate <= _HIGHEST_RATE_HZ:
        raise MediaError(
            f"expected a rate from {_LOWEST_RATE_HZ} to {_HIGHEST_RATE_HZ} Hz, got {rate}"
        )
    frame: AudioFrame | None = first
    while frame is not None:
        if (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
            raise MediaError(
                f"the sound changes from {rate} Hz and {channels} channels "
                f"to {frame.sample_rate} Hz and {frame.layout.nb_channels}"
            )
        samples: Samples = frame.to_ndarray()
        if not frame.format.is_planar:
            samples = samples.reshape(-1, channels).T
        if samples.dtype.kind == "f" and not (np.abs(samples) < _TOO_LOUD).all():
            raise MediaError("the sound holds numbers that are no samples: NaN or beyond reason")
        yield samples
        frame = next(rest, None)


def _as_float32(samples: Samples) -> npt.NDArray[np.float32]:
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    bits = samples.dtype.itemsize * 8
    # In float64, 32 bits are exact; the cast then rounds once.
    levels = samples.astype(np.float64) - (128 if samples.dtype.kind == "u" else 0)
    return (levels / (1 << bits - 1)).astype(np.float32)


def _as_int16(samples: Samples) -> npt.NDArray[np.int16]:
    """Return the samples as swresample gives them: integers cut, floats rounded to even."""
    if samples.dtype.kind == "f":
        # A float's product with a power of two is exact in its own precision.
        levels: Samples = np.rint(samples * samples.dtype.type(32768))
        return levels.clip(-32768, 32767).astype(np.int16)
    if samples.dtype.kind == "u":
        levels = (samples.astype(np.int16) - 128) << 8
    else:
        levels = samples >> (samples.dtype.itemsize * 8 - 16)
    return levels.astype(np.int16)


def _mean(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean of the channels, added in their order."""
    total: npt.NDArray[np.float32] = samples[0].copy()
    for channel in samples[1:]:
        total += channel
    total /= np.float32(len(samples))
    return total
