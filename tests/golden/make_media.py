"""Makes the media of the golden files, and what a decode says of them; run once, never by a test.

    PYTHONPATH=tests python -m golden.make_media FOLDER

What it writes to `media` and `media.json` beside this script is committed: another machine or
release of FFmpeg encodes other bytes. So it writes only to a folder that is given. The golden
files hold the committed media; with other media they would be other files.
"""

import hashlib
import io
import json
import sys
import wave
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from makers import Pixels, pictures, remux, video_bytes
from PIL import Image

from clipshards.packer.encoding import RECIPES
from clipshards.packer.format.npy import encode_npy
from clipshards.packer.frames.decode import open_container, video_stream
from clipshards.packer.frames.demux import demux_video
from clipshards.packer.frames.scan import VideoScan, scan_video
from clipshards.packer.media.cut import VideoCutter
from clipshards.packer.media.encode import encode_video
from clipshards.packer.media.keep_sound import KeptSound, SoundForm, keep_sound
from clipshards.packer.media.mel import mel_features
from clipshards.packer.media.sound import mono_16k, open_sound
from clipshards.packer.media.stills import mux_stills

SIZE = (32, 32)
SMALL = {"crf": "40", "sc_threshold": "0"}
X265 = "keyint=6:min-keyint=6:bframes=2:log-level=0:pools=1:frame-threads=1:info=0:crf=40"
# EXIF that turns a picture by a quarter.
TURNED = Image.Exif()
TURNED[0x0112] = 6

Files = dict[str, bytes]
Said = dict[str, Any]


def h264(container: str = "mp4", *, x264: str = "", frames: int = 12, **options: str) -> bytes:
    chosen = SMALL | {"g": "6", "bf": "2"} | options
    chosen |= {"x264-params": f"b-adapt=0:{x264}"}
    return video_bytes(container, options=chosen, frames=frames, size=SIZE)


def videos() -> Files:
    """Return videos as users have them."""
    # Two videos behind each other, with parameter sets of one number that differ.
    halves = [h264(x264=f"cabac={n}:repeat-headers=1", frames=3) for n in (1, 0)]
    return {
        "turned.mp4": video_bytes(
            options=SMALL | {"g": "6", "bf": "2", "x264-params": "b-adapt=0"},
            frames=12,
            size=(48, 32),
            rate=30,
            rotation=90,
            sound=True,
            colors={"color_range": 1, "colorspace": 1, "color_primaries": 1, "color_trc": 1},
        ),
        "open_gop.mkv": h264("matroska", x264="open-gop=1:keyint=6:min-keyint=6"),
        "leading.mp4": video_bytes(
            codec="libx265",
            options={"preset": "ultrafast", "x265-params": X265},
            frames=13,
            size=SIZE,
        ),
        "edit_list.mp4": remux(h264(), shift=-3),
        "no_table.mp4": remux(halves),
        "plain.avi": video_bytes(
            "avi", "mpeg4", options={"g": "6", "bf": "1", "qscale": "20"}, frames=7, size=SIZE
        ),
        "plain.mov": video_bytes(
            "mov", "mjpeg", options={"qscale": "20"}, frames=2, size=SIZE, pix_fmt="yuvj420p"
        ),
        "plain.webm": video_bytes(
            "webm", "libvpx-vp9", options={"cpu-used": "8", "crf": "60"}, frames=4, size=SIZE
        ),
    }


def still(picture: Pixels, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def stills() -> Files:
    """Return the files of folders of frames, named as in their folders."""
    made = {}
    for number, picture in enumerate(pictures(4, (24, 16)), 1):
        made[f"img_{number:05}.jpg"] = still(picture, "JPEG", quality=60, exif=TURNED)
    for number, picture in enumerate(pictures(3, (16, 16), seed=1)):
        made[f"png_{number}.png"] = still(picture, "PNG")
    for number, picture in enumerate(pictures(2, (16, 16), seed=2)):
        made[f"flow_x_{number:05}.png"] = still(picture[..., 0].copy(), "PNG")
        made[f"flow_y_{number:05}.png"] = still(picture[..., 1].copy(), "PNG")
    return made


def hashes(data: bytes) -> list[str]:
    """Return a sha256 of the planes of each frame of a decode from the start."""
    with open_container(data) as container:
        stream = video_stream(container)
        assert stream is not None
        return [planes_sha256(frame) for frame in container.decode(stream)]


def planes_sha256(frame: av.VideoFrame) -> str:
    """Return the sha256 of a frame as it is decoded, before any conversion."""
    assert frame.format.name.startswith(("yuv420p", "yuvj420p")), frame.format.name
    return hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()


def said_of(scan: VideoScan, data: bytes) -> Said:
    return {
        "video": scan.info.to_json(),
        "table": scan.table.tolist(),
        "frames_sha256": hashes(data),
    }


def sounds(video: bytes) -> Iterator[tuple[str, KeptSound]]:
    """Yield kept sounds: that of a video, plain sound in both forms, and two other codecs."""
    yield "tone.m4a", keep_sound(video, "source")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as output:
        output.setnchannels(2)
        output.setsampwidth(2)
        output.setframerate(8000)
        tone = np.sin(np.arange(800) / 7)[:, None] * np.array([9000, 4000])
        output.writeframes(tone.astype("<i2").tobytes())
    forms: tuple[SoundForm, ...] = ("wav", "flac")
    for form in forms:
        yield f"tone.{form}", keep_sound(buffer.getvalue(), form)
    for suffix, codec in (("mp3", "libmp3lame"), ("ogg", "libopus")):
        buffer = io.BytesIO()
        options = {"fflags": "+bitexact"}
        with av.open(buffer, "w", format=suffix, options=options) as output:
            stream = output.add_stream(codec, rate=48000, layout="mono")
            assert isinstance(stream, AudioStream)
            tone = np.sin(np.arange(4800) / 20).astype(np.float32)[None] * 0.3
            kind = "fltp" if suffix == "mp3" else "flt"
            frame = av.AudioFrame.from_ndarray(tone, format=kind, layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        yield f"tone.{suffix}", keep_sound(buffer.getvalue(), "source")


def said_of_sound(kept: KeptSound) -> Said:
    with open_sound(kept.data) as sound:
        samples = np.concatenate([*sound.pieces], axis=1)
    said: Said = {
        "codec": kept.codec,
        "sample_rate_hz": kept.sample_rate_hz,
        "channels": kept.channels,
        "duration_s": kept.duration_s,
    }
    if samples.dtype.kind == "i":
        said["samples_sha256"] = hashlib.sha256(samples.tobytes()).hexdigest()
    return said


def make_media() -> tuple[Files, Said]:
    """Return the media, and what is said of each."""
    files, said = videos(), {}
    short = video_bytes(options={"g": "4"} | SMALL, frames=3, size=SIZE, sound=True)
    files["sparse.mp4"] = encode_video(
        files["turned.mp4"], replace(RECIPES["balanced"], crf=40)
    ).data
    for name, data in files.items():
        said[name] = said_of(scan_video(data), data)
    # From the random-access point at frame 6 on.
    cut = VideoCutter(files["turned.mp4"]).cut(7, 11)
    files["cut.mp4"] = cut.data
    said["cut.mp4"] = said_of(cut.scan, cut.data) | {"first_frame": cut.first_frame}
    said["turned.mp4"]["demuxed"] = demux_video(files["turned.mp4"]).info.to_json()
    for name, kept in sounds(short):
        mel = mel_features(mono_16k(kept.data))
        files[name], said[name] = kept.data, said_of_sound(kept)
        files[f"{name}.npy"] = encode_npy(mel)
    for name, data in stills().items():
        files[name] = data
    for name, first in (("jpeg", "img_"), ("png", "png_"), ("x", "flow_x"), ("y", "flow_y")):
        names = sorted(n for n in files if n.startswith(first))
        made = mux_stills([files[n] for n in names], names=names, rate=0 if name == "x" else 25)
        said[name] = {"video": made.info.to_json(), "table": made.table.tolist(), "files": names}
        said[name]["means"] = [means(files[n]) for n in names]
        files[f"{name}.stills.mp4"] = made.data
    for name in [name for name in files if name.endswith((".jpg", ".png"))]:
        del files[name]  # they stand in the mp4
    return files, said


def means(data: bytes) -> list[float]:
    """Return the means of red, green and blue: JPEG decoders differ by a little."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    return [round(float(mean), 3) for mean in pixels.mean(axis=(0, 1))]


def main(arguments: Sequence[str]) -> None:
    (folder,) = map(Path, arguments)
    files, said = make_media()
    (folder / "media").mkdir(parents=True)
    for name, data in files.items():
        (folder / "media" / name).write_bytes(data)
    lines = [f"{json.dumps(name)}: {json.dumps(said[name], sort_keys=True)}" for name in said]
    (folder / "media.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
