import io
import os
import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from makers import sound_of

from clipshards.packer.format.errors import MediaError
from clipshards.packer.media.sound import mono_16k, write_wav
from clipshards.packer.media.synthetic import write_video

Int16 = npt.NDArray[np.int16]


def tones(channels: int, count: int, rate: int = 16000) -> Int16:
    """Return a tone of another pitch for each channel, (channels, count)."""
    pitches = 200.0 * (1 + np.arange(channels))[:, None]
    waves = np.sin(2 * np.pi * pitches * np.arange(count, dtype=np.float64) / rate)
    levels: Int16 = np.rint(9000 * waves).astype(np.int16)
    return levels


def wav(levels: Int16, rate: int = 16000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(levels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(levels.T).astype("<i2").tobytes())
    return buffer.getvalue()


def encoded(container: str, codec: str, levels: Int16, rate: int, format_: str = "s16") -> bytes:
    """Return mono or stereo sound encoded by FFmpeg."""
    layout = {1: "mono", 2: "stereo"}[len(levels)]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, AudioStream)
        resampler = AudioResampler(format=format_)
        for start in range(0, levels.shape[1], 1024):
            piece = np.ascontiguousarray(levels[:, start : start + 1024].T).reshape(1, -1)
            frame = AudioFrame.from_ndarray(piece, format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            for converted in resampler.resample(frame):
                output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def written(source: bytes | Path) -> bytes:
    buffer = io.BytesIO()
    write_wav(source, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("count", [1, 4096, 5000])
def test_wav_is_read_as_fractions_of_full_scale(channels: int, count: int) -> None:
    levels = tones(channels, count)
    samples, rate = sound_of(wav(levels, 22050))
    assert (samples.dtype.name, rate) == ("float32", 22050)
    assert np.array_equal(samples, levels.astype(np.float32) / 32768)


def test_bytes_and_path_are_read_alike(tmp_path: Path) -> None:
    data = wav(tones(2, 3000))
    (tmp_path / "a.wav").write_bytes(data)
    for path in (tmp_path / "a.wav", str(tmp_path / "a.wav")):
        assert np.array_equal(sound_of(path)[0], sound_of(data)[0])


FORMATS = [
    ("wav", "pcm_u8", "u8", 2.0**-7),
    ("wav", "pcm_s24le", "s32", 0),
    ("wav", "pcm_s32le", "s32", 0),
    ("wav", "pcm_f32le", "flt", 0),
    ("wav", "pcm_f64le", "dbl", 0),
    ("flac", "flac", "s16", 0),
]


@pytest.mark.parametrize(("container", "codec", "format_", "error"), FORMATS)
def test_every_sample_format_has_the_same_scale(
    container: str, codec: str, format_: str, error: float
) -> None:
    levels = tones(2, 3000)
    samples, _ = sound_of(encoded(container, codec, levels, 16000, format_))
    assert np.abs(samples - levels.astype(np.float32) / 32768).max() <= error


@pytest.mark.parametrize(("container", "codec", "format_", "error"), FORMATS)
def test_wav_is_written_as_ffmpeg_converts(
    container: str, codec: str, format_: str, error: float
) -> None:
    data = encoded(container, codec, tones(2, 3000), 16000, format_)
    theirs = []
    with av.open(io.BytesIO(data), "r") as source:
        resampler = AudioResampler(format="s16")
        for frame in [*source.decode(audio=0), None]:
            theirs += [piece.to_ndarray().reshape(-1, 2) for piece in resampler.resample(frame)]
    with wave.open(io.BytesIO(written(data))) as file:
        ours = np.frombuffer(file.readframes(-1), "<i2").reshape(-1, 2)
    assert np.array_equal(ours, np.concatenate(theirs))


def test_loud_floats_are_clipped_as_ffmpeg_clips() -> None:
    floats = np.array([[1.5, -1.5, 0.5 / 32768, 1.5 / 32768, -0.5 / 32768, 1.0]], np.float32)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as output:
        stream = output.add_stream("pcm_f32le", rate=16000, layout="mono")
        frame = AudioFrame.from_ndarray(floats, format="flt", layout="mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with wave.open(io.BytesIO(written(buffer.getvalue()))) as file:
        ours = np.frombuffer(file.readframes(-1), "<i2")
    assert ours.tolist() == [32767, -32768, 0, 2, 0, 32767]


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_wav_keeps_rate_and_channels(channels: int) -> None:
    data = wav(tones(channels, 2000), 48000)
    samples, rate = sound_of(written(data))
    assert rate == 48000
    assert np.array_equal(samples, sound_of(data)[0])
    assert written(written(data)) == written(data)


def test_wav_has_the_plainest_header() -> None:
    data = wav(tones(2, 2000), 44100)
    assert written(data) == data


def test_what_the_encoder_put_in_front_is_left_out(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=10, width=32, height=32)
    samples, rate = sound_of(tmp_path / "a.mp4")
    assert (samples.shape[0], rate) == (1, 44100)
    # As many samples as were encoded, but for the rest of the last packet.
    assert 0 <= samples.shape[1] - 17640 < 1024
    # The tone begins at once, not after the 1,024 samples of the encoder's delay.
    assert np.abs(samples[0, 100:900]).max() > 0.1


def test_sound_of_a_real_video_is_that_of_ffmpeg(shared_data: Path) -> None:
    data = (shared_data / "audio" / "clip_audio.wav").read_bytes()
    theirs, rate = sound_of(data)
    ours, our_rate = sound_of(written(shared_data / "videos" / "clip_audio.mp4"))
    assert (ours.shape, our_rate) == (theirs.shape, rate)
    # Another release of FFmpeg decoded it: the last of 16 bits may differ.
    assert np.abs(ours - theirs).max() <= 1 / 32768


def test_mono_is_the_mean_of_the_channels() -> None:
    levels = tones(3, 3000)
    mono = mono_16k(wav(levels))
    assert mono.dtype == np.float32
    assert np.abs(mono - levels.mean(axis=0) / 32768).max() < 1e-7


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_resampled(rate: int) -> None:
    mono = mono_16k(wav(tones(1, rate // 2, rate), rate))
    assert len(mono) == 8000
    inner = slice(200, -200)
    wanted = tones(1, 8000, 16000)[0].astype(np.float32) / 32768
    assert np.abs(mono - wanted)[inner].max() < 1e-3


def test_one_sample_can_be_resampled() -> None:
    assert mono_16k(wav(np.array([[9000]], np.int16), 44100)).shape == (1,)


def header(rate: int) -> bytes:
    return wav(tones(1, 500), rate)


def silent_video(tmp_path: Path) -> bytes:
    write_video(tmp_path / "a.mp4", frames=3, width=32, height=32, sound=False)
    return (tmp_path / "a.mp4").read_bytes()


def cut_video(tmp_path: Path) -> bytes:
    write_video(tmp_path / "a.mp4", frames=3, width=32, height=32)
    return (tmp_path / "a.mp4").read_bytes()[:-300]


def damaged_video(tmp_path: Path) -> bytes:
    data = bytearray(encoded("mp4", "aac", tones(1, 60_000), 16000, "fltp"))
    place = data.index(b"mdat") + 2000
    data[place : place + 1000] = b"\xff" * 1000
    return bytes(data)


def floats(value: float) -> bytes:
    """Return a wav of one float64."""
    data = struct.pack("<d", value)
    form = struct.pack("<HHIIHH", 3, 1, 16000, 128_000, 8, 64)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


BAD: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "text": (lambda _: b"no sound at all\n" * 99, "not a readable audio or video file"),
    "empty": (lambda _: b"", "not a readable audio or video file|the file is empty"),
    "no audio": (silent_video, "no audio stream in the file"),
    "no sample": (lambda _: wav(tones(1, 0)), "the audio stream is empty"),
    "cut video": (cut_video, "cut short"),
    "cut wav": (lambda _: wav(tones(1, 500))[:-100], "cut short"),
    "damaged": (damaged_video, "not a readable audio or video file"),
    "slow": (lambda _: header(1), "expected a rate from 1000 to 768000 Hz, got 1"),
    "fast": (lambda _: header(2_000_000), "expected a rate from 1000 to 768000 Hz, got 2000000"),
    "NaN": (lambda _: floats(float("nan")), "NaN or beyond reason"),
    "huge": (lambda _: floats(1e300), "NaN or beyond reason"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sound_is_refused(tmp_path: Path, name: str) -> None:
    make, says = BAD[name]
    data = make(tmp_path)
    file = tmp_path / "bad"
    file.write_bytes(data)
    for source in (data, file):
        with pytest.raises(MediaError, match=says):
            sound_of(source)
        with pytest.raises(MediaError, match=says):
            mono_16k(source)
        with pytest.raises(MediaError, match=says):
            written(source)


def test_folders_pipes_and_missing_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(MediaError, match="not a regular file"):
        sound_of(tmp_path / "pipe")
    with pytest.raises(MediaError, match="not a regular file"):
        sound_of(tmp_path)
    with pytest.raises(MediaError, match="cannot be read: No such file"):
        sound_of(tmp_path / "none")
    with pytest.raises(MediaError, match="cannot be read: Too many levels of symbolic links"):
        sound_of(tmp_path / "loop")


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile other.wav\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.wav\n#EXT-X-ENDLIST\n",
    ],
    ids=["concat", "HLS"],
)
def test_files_that_name_other_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.wav").write_bytes(wav(tones(1, 500)))
    Path("a.mp4").write_text(text)
    with pytest.raises(MediaError, match="not a readable audio or video file"):
        sound_of("a.mp4")
