import io
import subprocess
import sys
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from makers import sound_of

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.media import keep_sound as module
from clipshards.packer.media.keep_sound import SoundForm, keep_sound
from clipshards.packer.media.sound import write_wav
from clipshards.packer.media.synthetic import write_video

RATE = 48000
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
FORMS: tuple[SoundForm, ...] = ("source", "wav", "flac")


def tones(channels: int, count: int) -> npt.NDArray[np.int16]:
    """Return a tone of another pitch for each channel, (channels, count)."""
    pitches = 200.0 * (1 + np.arange(channels))[:, None]
    waves = np.sin(2 * np.pi * pitches * np.arange(count, dtype=np.float64) / RATE)
    levels: npt.NDArray[np.int16] = np.rint(9000 * waves).astype(np.int16)
    return levels


def encoded(
    container: str,
    codec: str,
    *,
    channels: int = 2,
    count: int = 30_000,
    rate: int = RATE,
    tracks: int = 1,
    cover: bool = False,
) -> bytes:
    """Return tones encoded by FFmpeg; every track after the first is silent."""
    levels, layout = tones(channels, count), LAYOUTS[channels]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        streams = [
            output.add_stream(codec, rate=rate, layout=layout, options={"strict": "-2"})
            for _ in range(tracks)
        ]
        picture = output.add_stream("mjpeg", rate=1) if cover else None
        if picture is not None:
            picture.width = picture.height = 16
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            image = av.VideoFrame(16, 16, "yuvj420p")
            image.pts = 0
            output.mux(picture.encode(image))
            output.mux(picture.encode(None))
        for number, stream in enumerate(streams):
            assert isinstance(stream, AudioStream)
            formats = stream.codec_context.codec.audio_formats
            assert formats is not None
            resampler = AudioResampler(format=formats[0].name)
            interleaved = np.ascontiguousarray(levels.T * (number == 0)).reshape(1, -1)
            frame = AudioFrame.from_ndarray(interleaved.astype(np.int16), "s16", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for converted in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(converted))
            output.mux(stream.encode(None))
    return buffer.getvalue()


def payload(data: bytes) -> list[bytes]:
    """Return the packets of the first audio stream."""
    with av.open(io.BytesIO(data), "r") as container:
        return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]


def wav_levels(data: bytes, channels: int) -> npt.NDArray[np.int16]:
    """Return the samples behind the header of a 16-bit wav, (channels, count)."""
    start = data.index(b"data") + 8
    assert int.from_bytes(data[start - 4 : start], "little") == len(data) - start
    return np.frombuffer(data[start:], "<i2").reshape(-1, channels).T


COPIES = [
    ("mov", "libmp3lame", "mp3", "mp3"),
    ("mp4", "libopus", "ogg", "opus"),
    ("mp4", "flac", "flac", "flac"),
    ("matroska", "aac", "m4a", "aac"),
    ("matroska", "libmp3lame", "mp3", "mp3"),
    ("matroska", "flac", "flac", "flac"),
    ("webm", "libopus", "ogg", "opus"),
    ("webm", "vorbis", "ogg", "vorbis"),
    ("mov", "pcm_s16le", "wav", "pcm_s16le"),
    ("mov", "pcm_s24le", "wav", "pcm_s24le"),
    ("avi", "aac", "m4a", "aac"),
    ("avi", "libmp3lame", "mp3", "mp3"),
    ("avi", "pcm_s16le", "wav", "pcm_s16le"),
    ("flv", "aac", "m4a", "aac"),
    ("ogg", "flac", "flac", "flac"),
    ("w64", "pcm_s16le", "wav", "pcm_s16le"),
]


@pytest.mark.parametrize(("container", "codec", "part", "named"), COPIES)
def test_the_packets_are_copied_unchanged(
    container: str, codec: str, part: str, named: str
) -> None:
    data = encoded(container, codec)
    kept = keep_sound(data, "source")
    assert (kept.part, kept.codec, kept.sample_rate_hz, kept.channels) == (part, named, RATE, 2)
    if part == "wav":  # PCM is cut into packets as each reader likes
        assert b"".join(payload(kept.data)) == b"".join(payload(data))
    else:
        assert payload(kept.data) == payload(data)
    ours, theirs = sound_of(kept.data)[0], sound_of(data)[0]
    assert kept.samples == ours.shape[1]
    assert kept.duration_s == ours.shape[1] / RATE
    assert abs(ours.shape[1] - theirs.shape[1]) < 0.02 * RATE
    both = min(ours.shape[1], theirs.shape[1])
    assert np.array_equal(ours[:, :both], theirs[:, :both])
    assert keep_sound(data, "source") == kept


@pytest.mark.parametrize("container", ["mpegts", "adts"])
def test_aac_with_headers_in_its_packets_is_kept_without_them(container: str) -> None:
    data = encoded(container, "aac")
    kept = keep_sound(data, "source")
    assert (kept.part, kept.codec) == ("m4a", "aac")
    assert payload(kept.data) == [packet[7:] for packet in payload(data)]
    assert np.array_equal(sound_of(kept.data)[0], sound_of(data)[0])


UNTOUCHED = [
    ("ipod", "aac", "m4a"),
    ("mp4", "aac", "m4a"),
    ("ipod", "alac", "m4a"),
    ("mp3", "libmp3lame", "mp3"),
    ("ogg", "libopus", "ogg"),
    ("ogg", "vorbis", "ogg"),
    ("flac", "flac", "flac"),
    ("wav", "pcm_s16le", "wav"),
    ("wav", "pcm_f32le", "wav"),
    ("wav", "pcm_mulaw", "wav"),
]


@pytest.mark.parametrize(("container", "codec", "part"), UNTOUCHED)
def test_a_file_that_is_such_a_sound_is_kept_untouched(
    container: str, codec: str, part: str
) -> None:
    data = encoded(container, codec)
    kept = keep_sound(data, "source")
    assert kept.part == part
    assert kept.data == data
    assert (kept.sample_rate_hz, kept.channels) == (RATE, 2)
    assert kept.samples == sound_of(data)[0].shape[1]


def test_a_picture_of_the_cover_is_kept_with_its_sound() -> None:
    data = encoded("mp3", "libmp3lame", cover=True)
    with av.open(io.BytesIO(data)) as container:
        assert len(container.streams.video) == 1
    assert keep_sound(data, "source").data == data


def test_of_several_tracks_the_first_is_kept() -> None:
    data = encoded("mp4", "aac", tracks=2)
    kept = keep_sound(data, "source")
    assert payload(kept.data) == payload(data)
    with av.open(io.BytesIO(kept.data)) as container:
        assert len(container.streams.get()) == 1


def test_the_sound_of_a_video_is_kept_without_the_pictures(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=20, width=32, height=32)
    data = (tmp_path / "a.mp4").read_bytes()
    kept = keep_sound(data, "source")
    assert payload(kept.data) == payload(data)
    assert np.array_equal(sound_of(kept.data)[0], sound_of(data)[0])
    with av.open(io.BytesIO(kept.data)) as container:
        assert [stream.type for stream in container.streams.get()] == ["audio"]


def test_nothing_tells_of_the_library_or_the_time(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=20, width=32, height=32)
    data = (tmp_path / "a.mp4").read_bytes()
    for form in FORMS:
        kept = keep_sound(data, form).data
        around = kept
        for packet in payload(kept):
            around = around.replace(packet, b"")
        assert len(around) < 1000
        assert b"Lav" not in around
        if form == "source":
            assert kept[kept.index(b"mvhd") + 8 :][:8] == bytes(8)


@pytest.mark.parametrize("form", ["source", "wav", "flac"])
def test_a_sound_without_a_home_is_kept_decoded(form: SoundForm) -> None:
    for codec, container in (("ac3", "mp4"), ("pcm_s16be", "mov")):
        data = encoded(container, codec)
        if form == "source":
            says = f"the sound is {codec}, expected AAC.*; keep it as wav or flac"
            with pytest.raises(MediaError, match=says):
                keep_sound(data, form)
        else:
            assert keep_sound(data, form).channels == 2


def test_a_copy_that_would_lose_sound_is_refused() -> None:
    # The rounded times of Matroska make the last packet seem to end before it begins.
    data = encoded("matroska", "alac", count=60_000)
    says = "the alac sound cannot be copied into m4a: .*; keep it as wav or flac"
    with pytest.raises(MediaError, match=says):
        keep_sound(data, "source")


def test_a_copy_that_sounds_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pcm = encoded("avi", "pcm_s16le")
    for made, says in (
        (encoded("mp3", "libmp3lame"), "other samples would come out from 0 on"),
        (encoded("wav", "pcm_s16le", channels=1), "2 channels at 48000 Hz would become 1 at 48000"),
        (encoded("wav", "pcm_s16le", rate=44100), "2 channels at 48000 Hz would become 2 at 44100"),
        (encoded("wav", "pcm_s16le", count=29_000), "29000 samples would come out of 30000"),
        (encoded("wav", "pcm_s16le", count=31_000), "31000 samples would come out of 30000"),
    ):
        monkeypatch.setattr(module, "_copy", lambda *_, made=made: made)
        with pytest.raises(MediaError, match=says):
            keep_sound(pcm, "source")


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("container", ["mp4", "wav"])
def test_wav_and_flac_hold_the_decoded_sound(channels: int, container: str) -> None:
    codec = {"mp4": "aac", "wav": "pcm_s24le"}[container]
    data = encoded(container, codec, channels=channels, count=70_001)
    buffer = io.BytesIO()
    write_wav(data, buffer)
    kept = keep_sound(data, "wav")
    assert (kept.part, kept.codec, kept.data) == ("wav", "pcm_s16le", buffer.getvalue())
    flac = keep_sound(data, "flac")
    assert (flac.part, flac.codec, flac.data[:4]) == ("flac", "flac", b"fLaC")
    assert (
        (flac.samples, flac.channels) == (kept.samples, channels) == (kept.samples, kept.channels)
    )
    assert kept.samples >= 70_001
    with av.open(io.BytesIO(flac.data), "r") as reader:
        assert reader.streams.audio[0].codec_context.format.name == "s16"
        pieces = [frame.to_ndarray().reshape(-1, channels) for frame in reader.decode(audio=0)]
    assert np.array_equal(np.concatenate(pieces).T, wav_levels(kept.data, channels))
    assert len(flac.data) < len(kept.data) / 2
    for form in FORMS[1:]:
        assert keep_sound(data, form) == keep_sound(data, form)


@pytest.mark.parametrize("count", [1, 15, 16, 4607, 4608, 4609])
def test_flac_holds_sounds_of_any_length(count: int) -> None:
    data = encoded("wav", "pcm_s16le", count=count)
    kept = keep_sound(data, "flac")
    assert kept.samples == count
    assert np.array_equal(sound_of(kept.data)[0], sound_of(data)[0])


KEEP = """
import sys
from clipshards.packer.media.keep_sound import keep_sound
sys.stdout.buffer.write(keep_sound(sys.stdin.buffer.read(), sys.argv[1]).data)
"""


@pytest.mark.parametrize("form", FORMS)
def test_another_process_keeps_the_same_bytes(form: SoundForm) -> None:
    data = encoded("matroska", "aac")
    done = subprocess.run(
        [sys.executable, "-c", KEEP, form], input=data, capture_output=True, check=True
    )
    assert done.stdout == keep_sound(data, form).data


def test_flac_uses_no_predictors_that_depend_on_the_cpu() -> None:
    # A frame's first subframe follows its header and the checksum of that.
    data = keep_sound(encoded("wav", "pcm_s16le", channels=1, count=40_000), "flac").data
    kinds = []
    for packet in payload(data):
        assert packet[:2] == b"\xff\xf8"
        sizes = {6: 1, 7: 2}.get(packet[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(packet[2] & 15, 0)
        place = 4 + number_bytes(packet) + sizes + 1
        kinds.append(packet[place] >> 1)
    assert len(kinds) > 5
    # RFC 9639, 9.2.1: 0 constant, 1 verbatim, 8 to 12 fixed, 32 and above linear prediction.
    assert all(kind < 13 for kind in kinds)
    assert any(kind >= 8 for kind in kinds)


def number_bytes(packet: bytes) -> int:
    """Return the length of a frame's number, which is coded as UTF-8 is."""
    return 1 if packet[4] < 0x80 else 8 - (packet[4] ^ 0xFF).bit_length()


def test_too_many_channels_for_flac_are_kept_as_wav() -> None:
    levels = np.zeros((500, 9), "<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(9)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(levels.tobytes())
    with pytest.raises(MediaError, match=r"flac cannot hold 9 channels .*; keep the sound as wav"):
        keep_sound(buffer.getvalue(), "flac")
    assert keep_sound(buffer.getvalue(), "wav").channels == 9


def broken(data: bytes) -> bytes:
    changed = bytearray(data)
    place = changed.index(b"mdat") + 1000
    changed[place : place + 1000] = b"\xff" * 1000
    return bytes(changed)


@pytest.mark.parametrize("form", FORMS)
def test_bad_sound_is_refused(form: SoundForm, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=5, width=32, height=32, sound=False)
    whole = encoded("mp4", "aac", tracks=2)
    bad: Sequence[tuple[bytes, str]] = (
        ((tmp_path / "a.mp4").read_bytes(), "no audio stream in the file"),
        (whole[:-200], "cut short"),
        (broken(encoded("mp4", "aac")), "not a readable audio or video file"),
        (b"no sound\n" * 99, "not a readable audio or video file"),
        (b"", "not a readable audio or video file|empty"),
    )
    for data, says in bad:
        with pytest.raises(MediaError, match=says):
            keep_sound(data, form)


def test_every_kept_sound_is_a_part_of_the_task() -> None:
    homes: Any = module._HOMES
    assert sorted({home.part for home in homes.values()}) == list(TASKS["audio"].media)


def test_the_sound_of_a_real_video_is_kept(shared_data: Path) -> None:
    data = (shared_data / "videos" / "clip_audio.mp4").read_bytes()
    kept = keep_sound(data, "source")
    assert (kept.part, kept.codec, kept.sample_rate_hz, kept.channels) == ("m4a", "aac", 44100, 2)
    assert payload(kept.data) == payload(data)
    assert np.array_equal(sound_of(kept.data)[0], sound_of(data)[0])
    wav = (shared_data / "audio" / "clip_audio.wav").read_bytes()
    assert keep_sound(wav, "source").data == wav
    # Another release of FFmpeg decoded it: the last of 16 bits may differ.
    levels = wav_levels(keep_sound(data, "wav").data, 2).astype(int)
    assert np.abs(levels - sound_of(wav)[0] * 32768).max() <= 1
