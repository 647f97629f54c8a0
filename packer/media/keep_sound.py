"""The sound of a media file as a file of its own: its stream unchanged, or wav, or flac.

What is copied or made is decoded and compared with the source's decode: it is exact or
there is none. No bytes tell of the time, the machine or a version. Those of a copy depend on
the source and FFmpeg's muxer alone; those of wav and flac on its decoder too.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipshards.packer.format.errors import MediaError
from clipshards.packer.media.sound import (
    MOST_IN_A_WAV,
    Samples,
    Sound,
    audio_stream,
    open_media,
    open_sound,
    write_wav,
)

if TYPE_CHECKING:
    from av.container.streams import StreamContainer

SoundForm = Literal["source", "wav", "flac"]
"""`source`: the source's own audio stream. `wav`, `flac`: the decoded sound in 16 bits."""


@dataclass(frozen=True, slots=True)
class KeptSound:
    """A sound in a file of its own."""

    part: str
    """Its part name, which is also the suffix of such files."""
    data: bytes
    codec: str
    """FFmpeg's name, as `aac` or `pcm_s16le`."""
    sample_rate_hz: int
    channels: int
    samples: int
    """Of each channel, as decoded."""

    @property
    def duration_s(self) -> float:
        """Seconds that the decoded sound lasts."""
        return self.samples / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class _Home:
    """The container that a codec is kept in."""

    part: str
    muxer: str
    demuxer: str
    """How FFmpeg calls such a file when it reads it."""
    options: tuple[dict[str, str], ...] = field(default=({},))
    """Of the muxer; the first with which the copy sounds like the source."""


_M4A = _Home("m4a", "ipod", "mov,mp4,m4a,3gp,3g2,mj2")
# Which samples in front are the encoder's, an mp3 says in a frame that holds no sound. Files
# of other containers may have such samples or not.
_NO_TAGS = {"id3v2_version": "0"}
_MP3 = _Home(
    "mp3", "mp3", "mp3", ({"write_xing": "1", **_NO_TAGS}, {"write_xing": "0", **_NO_TAGS})
)
_OGG = _Home("ogg", "ogg", "ogg")
_FLAC = _Home("flac", "flac", "flac", ({"metadata_header_padding": "0"},))
_WAV = _Home("wav", "wav", "wav")

_HOMES = {
    "aac": _M4A,
    "alac": _M4A,
    "mp3": _MP3,
    "vorbis": _OGG,
    "opus": _OGG,
    "flac": _FLAC,
    # Those that a wav can hold: none is big-endian.
    "pcm_u8": _WAV,
    "pcm_s16le": _WAV,
    "pcm_s24le": _WAV,
    "pcm_s32le": _WAV,
    "pcm_f32le": _WAV,
    "pcm_f64le": _WAV,
    "pcm_alaw": _WAV,
    "pcm_mulaw": _WAV,
}
# No names and versions of the library, no random numbers.
_MUX_OPTIONS = {"fflags": "+bitexact"}
# Other predictors are found by sums of floats, which differ between CPUs.
_FLAC_OPTIONS = {"lpc_type": "fixed", "compression_level": "5"}
_BLOCK = 1 << 16
# Opus and AAC say by a time stamp how much of their last packet is padding, which some
# containers round and others leave out.
_TAIL_S = Fraction(1, 50)
_WAY_OUT = "keep it as wav or flac"


def keep_sound(data: bytes, form: SoundForm) -> KeptSound:
    """Return the first audio stream of a media file as a file of its own.

    `source`: a file that holds this sound alone (and pictures of the cover) is kept
    untouched; out of any other the packets are copied into m4a (AAC, ALAC), mp3, ogg (Vorbis,
    Opus), flac or wav (PCM), without encoding them again. How much of the last packet is
    padding may come out otherwise, by less than 20 ms.

    `wav`: as `write_wav` makes it. `flac`: the same samples, without loss.

    Args:
        data: A whole audio or video file.
        form: What is kept.

    Raises:
        MediaError: As for `open_sound`; or the codec has no such container, or would sound
            otherwise there; or the sound is too long for wav, or has too many channels for
            flac.
    """
    if form == "source":
        return _own_stream(data)
    buffer = io.BytesIO()
    write_wav(data, buffer)
    wav = buffer.getvalue()
    if form == "wav":
        return _described("wav", wav)
    flac = _encode_flac(wav)
    return _compared("flac", flac, wav)


def _own_stream(data: bytes) -> KeptSound:
    with open_media(data) as container:
        codec = audio_stream(container).codec_context.codec.canonical_name
        home = _HOMES.get(codec)
        if home is None:
            raise MediaError(
                f"the sound is {codec}, expected AAC, ALAC, MP3, Vorbis, Opus, FLAC or PCM as in "
                f"a wav; {_WAY_OUT}"
            )
        if container.format.name == home.demuxer and _is_alone(container.streams):
            return _described(home.part, data)
    for number, options in enumerate(home.options, 1):
        try:
            return _compared(home.part, _copy(data, home, options), data)
        except MediaError as exc:
            if number == len(home.options):
                raise MediaError(
                    f"the {codec} sound cannot be copied into {home.part}: {exc}; {_WAY_OUT}"
                ) from exc
    raise AssertionError("a container without options")


def _is_alone(streams: "StreamContainer") -> bool:
    """Return whether a file is one of sound: pictures of the cover are no video."""
    from av.stream import Disposition

    video = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
    return not video and len(streams.audio) == 1


def _copy(data: bytes, home: _Home, options: dict[str, str]) -> bytes:
    """Return the packets of the first audio stream in a container of their own."""
    import av

    buffer = io.BytesIO()
    written = 0
    try:
        with (
            open_media(data) as container,
            av.open(buffer, "w", format=home.muxer, options=_MUX_OPTIONS | options) as output,
        ):
            stream = audio_stream(container)
            # Opaque: the codec is taken as it is, no encoder of its name is looked for.
            target = output.add_stream_from_template(stream, opaque=True)
            for packet in container.demux(stream):
                written += packet.size
                if home is _WAV and written > MOST_IN_A_WAV:
                    raise MediaError("more sound than the 4 GB that a wav can hold")
                if packet.size:
                    packet.stream = target
                    output.mux(packet)
    # PyAV says ValueError of a codec that a container cannot have.
    except (av.FFmpegError, ValueError) as exc:
        raise MediaError(str(exc)) from exc
    return buffer.getvalue()


def _encode_flac(wav: bytes) -> bytes:
    """Return a flac of the 16-bit samples in a wav."""
    import av
    from av.audio.frame import AudioFrame

    buffer = io.BytesIO()
    options = _MUX_OPTIONS | _FLAC.options[0]
    with open_sound(wav) as sound:
        try:
            with av.open(buffer, "w", format="flac", options=options) as output:
                stream = output.add_stream(
                    "flac", rate=sound.rate_hz, layout=sound.layout, options=_FLAC_OPTIONS
                )
                stream.format = "s16"
                stream.codec_context.thread_count = 1
                written = 0
                for samples in sound.pieces:
                    interleaved = np.ascontiguousarray(samples.T).reshape(1, -1)
                    frame = AudioFrame.from_ndarray(interleaved, "s16", sound.layout)
                    frame.sample_rate = sound.rate_hz
                    frame.pts, frame.time_base = written, Fraction(1, sound.rate_hz)
                    output.mux(stream.encode(frame))
                    written += samples.shape[1]
                output.mux(stream.encode(None))
        except (av.FFmpegError, ValueError) as exc:
            raise MediaError(
                f"flac cannot hold {sound.channels} channels ({sound.layout}) at "
                f"{sound.rate_hz} Hz: {exc}; keep the sound as wav"
            ) from exc
    return buffer.getvalue()


def _described(part: str, data: bytes) -> KeptSound:
    with open_sound(data) as sound:
        samples = sum(piece.shape[1] for piece in sound.pieces)
    return KeptSound(part, data, sound.codec, sound.rate_hz, sound.channels, samples)


def _compared(part: str, made: bytes, source: bytes) -> KeptSound:
    """Describe what was made, if it sounds like its source.

    Raises:
        MediaError: It does not.
    """
    with open_sound(made) as ours, open_sound(source) as theirs:
        if (ours.rate_hz, ours.channels) != (theirs.rate_hz, theirs.channels):
            raise MediaError(
                f"{theirs.channels} channels at {theirs.rate_hz} Hz would become "
                f"{ours.channels} at {ours.rate_hz} Hz"
            )
        samples = wanted = 0
        for our_block, their_block in zip_longest(_blocks(ours), _blocks(theirs)):
            if our_block is not None and their_block is not None:
                both = min(our_block.shape[1], their_block.shape[1])
                if not np.array_equal(our_block[:, :both], their_block[:, :both]):
                    raise MediaError(f"other samples would come out from {samples} on")
            samples += 0 if our_block is None else our_block.shape[1]
            wanted += 0 if their_block is None else their_block.shape[1]
    if abs(samples - wanted) > _TAIL_S * ours.rate_hz:
        raise MediaError(f"{samples} samples would come out of {wanted}")
    return KeptSound(part, made, ours.codec, ours.rate_hz, ours.channels, samples)


def _blocks(sound: Sound) -> Iterator[Samples]:
    """Yield the samples in blocks of one length; the last may be shorter."""
    waiting: list[Samples] = []
    count = 0
    for piece in sound.pieces:
        waiting.append(piece)
        count += piece.shape[1]
        while count >= _BLOCK:
            joined = np.concatenate(waiting, axis=1)
            yield joined[:, :_BLOCK]
            waiting = [joined[:, _BLOCK:]]
            count -= _BLOCK
    if count:
        yield np.concatenate(waiting, axis=1)
