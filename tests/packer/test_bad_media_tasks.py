"""Media of AVA, ActivityNet, audio lists and `remux` that cannot be packed, or only look so."""

import io
import json
import os
import pickle
import random
import shutil
import signal
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import av
import makers
import numpy as np
import pytest
from av.audio.stream import AudioStream
from PIL import Image

from clipshards.packer import (
    ActivityNetFile,
    AudioList,
    AvaCsv,
    PackReport,
    Recipe,
    VideoList,
    pack,
)
from clipshards.readers import open_dataset, verify
from clipshards.readers.data import ShardMapDataset

GOOD = ("v0.mp4", "v1.mp4")
BOXES = ("0.1,0.2,0.3,0.4", "0.5,0.2,0.9,0.4")
FRAME = "img_{:05}.jpg"


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """End a test that waits, as for the other end of a pipe."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        # No TimeoutError, which would count as one of reading the file.
        pytest.fail("still waiting after 30 s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@lru_cache
def video(seed: int = 0, *, frames: int = 60, sound: bool = True, index: str = "") -> bytes:
    """Return an mp4 of 25 frames a second; `index` is `faststart` to have it in front."""
    muxing = {"movflags": index} if index else {}
    options: dict[str, Any] = {"size": (64, 48), "options": {"g": "10"}, "mux_options": muxing}
    return makers.video_bytes(frames=frames, seed=seed, sound=sound, **options)


@lru_cache
def tone(container: str, codec: str, *, rate: int = 48000, layout: str = "mono") -> bytes:
    """Return noise of 1.5 s."""
    out = io.BytesIO()
    samples = np.random.default_rng(rate).uniform(-0.3, 0.3, (1, rate * 3 // 2)).astype(np.float32)
    with av.open(out, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, AudioStream)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        formats = stream.codec_context.codec.audio_formats
        assert formats is not None
        resampler = av.AudioResampler(formats[0].name, layout)
        for converted in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return out.getvalue()


def damaged(kind: str, by: int, start: int = 10) -> bytes:
    """Return a video in which the bytes of five packets of one kind are changed."""
    data = bytearray(video(2))
    with av.open(io.BytesIO(data), "r") as container:
        packets = [p for p in container.demux() if p.stream.type == kind and p.size]
        for packet in packets[start : start + 5]:
            assert packet.pos is not None
            for place in range(packet.pos, packet.pos + packet.size):
                data[place] ^= by
    return bytes(data)


def flipped(data: bytes) -> bytes:
    """Return a file of which one bit in the middle is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


def cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def annotate(way: str, folder: Path, names: Sequence[str], **options: Any) -> tuple[Any, Recipe]:
    """Write the annotation of videos, folders or features; return its reader and the recipe."""
    file = folder / "list.txt"
    task, _, choice = way.partition(" ")
    if task == "ava":
        # Two persons in second 1.
        file.write_text("".join(f"{name},1,{box},1,0\n" for name in names for box in BOXES))
        options = {"timestamp_start": 0, "timestamp_end": None, "clip_frames": 8} | options
        return AvaCsv(file, group="clip" if choice == "clip" else "video", **options), Recipe()
    if task == "activitynet":
        entry = {"duration": 2.0, "annotations": [{"segment": [0.0, 2.0], "label": "x"}]}
        lines = (f'"{name}": {json.dumps(entry)}' for name in names)
        file.write_text("{" + ",\n".join(lines) + "}")
        options = options or {"feature_tmpl": "", "video_tmpl": "{}"}
        return ActivityNetFile(file, **options), Recipe()
    file.write_text("".join(f"{name} {'60 ' * (task == 'audio')}0\n" for name in names))
    if task == "remux":
        return VideoList(file), Recipe(media="remux")
    computed: dict[str, Any] = {"features": "compute", "keep_audio": choice} if choice else {}
    return AudioList(file), Recipe(**computed)


PICTURES = ("ava clip", "ava video", "activitynet", "remux")
SOUNDS = ("audio no", "audio source", "audio wav", "audio flac")


def pack_all(way: str, media: Path, names: Sequence[str], **options: Any) -> PackReport:
    """Pack into `out` beside the media; see that all entries and bytes are accounted for."""
    records, recipe = annotate(way, media.parent, names, **options)
    out = media.parent / "out"
    given: dict[str, Any] = {"split": "t", "media_root": media, "seed": None, "recipe": recipe}
    report = pack(records, out, max_rejects=1000, **given)
    rejected = sum(reject.entries for reject in report.rejects)
    assert report.entries == report.packed + rejected + sum(report.excluded.values())
    split = open_dataset(out)
    accounting = split.manifest.accounting
    assert (accounting.entries, accounting.packed) == (report.entries, report.packed)
    assert (accounting.rejected, accounting.excluded) == (rejected, report.excluded)
    assert verify(out).damage == []
    # What is packed can be read.
    dataset = ShardMapDataset(split)
    assert len([dataset[number] for number in range(len(dataset))]) == len(split)
    return report


def check(
    way: str, media: Path, cases: Mapping[str, Any], good: Sequence[str] = GOOD, **options: Any
) -> None:
    """Pack media between two good ones: each is rejected for its reason, or packed for None."""
    names = [good[0], *cases, good[1]]
    report = pack_all(way, media, names, **options)
    split = open_dataset(media.parent / "out")
    packed = [found.split(",")[0] for found in split.read_index(0).ids]
    assert packed == [name for name in names if cases.get(name) is None]
    rows = report.entries // len(names)
    wrong = {}
    for reject in report.rejects:
        name, message = reject.id.split(",")[0], reject.message
        assert (reject.entries, reject.error) == (rows, "MediaError")
        assert reject.origin == f"list.txt:{1 + rows * names.index(name)}"
        is_named = message.startswith((f"{name}:", f"{name!r}: ", f"{name!r} "))
        if not is_named or message.count(repr(name)) > 1 or str(cases[name]) not in message:
            wrong[name] = message
    assert wrong == {}


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(2):
        (folder / f"v{number}.mp4").write_bytes(video(number))
    (folder / "other.mp4").write_bytes(video(2))
    return folder


def lock(path: Path) -> None:
    path.write_bytes(video(2))
    path.chmod(0)


def writing(make: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(make())


NO_VIDEO = "not a readable mp4, mov, mkv, webm or avi"
NO_SOUND = "not a readable audio or video file"
ABSENT = "no such file under the media root"
NO_FILE = "not a regular file"
EMPTY = "the file is empty (0 bytes)"
LOCKED = "cannot be read: Permission denied"
NO_PICTURE = "decoding stopped before any frame"
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile other.mp4\n"
SLOW: dict[str, Any] = {"times": range(0, 120, 2), "size": (64, 48)}
# Name -> how it is made, and what is said of its pictures and of its sound; None if it packs.
MEDIA: dict[str, tuple[Callable[[Path], object], str | None, str | None]] = {
    "missing.mp4": (lambda path: None, ABSENT, ABSENT),
    "link.mp4": (lambda path: path.symlink_to("nowhere.mp4"), ABSENT, ABSENT),
    "empty.mp4": (Path.touch, EMPTY, EMPTY),
    "front.mp4": (writing(lambda: cut(video(index="faststart"))), "cut short", "cut short"),
    "back.mp4": (writing(lambda: cut(video())), NO_VIDEO, "cut short"),
    "sound.mp4": (writing(makers.sound_bytes), "no video stream in the file", None),
    "silent.mp4": (writing(lambda: video(sound=False)), None, "no audio stream in the file"),
    "text.mp4": (writing(lambda: b"This is no video.\n" * 99), NO_VIDEO, NO_SOUND),
    "list.mp4": (writing(lambda: HLS), NO_VIDEO, NO_SOUND),
    "list.m3u8": (writing(lambda: HLS), "expected a name ending in .avi", NO_SOUND),
    "concat.mp4": (writing(lambda: CONCAT), NO_VIDEO, NO_SOUND),
    "folder.mp4": (Path.mkdir, NO_FILE, NO_FILE),
    "pipe.mp4": (os.mkfifo, NO_FILE, NO_FILE),
    "pictures.mp4": (writing(lambda: damaged("video", 0x5A)), "decoding stopped behind", None),
    "first.mp4": (writing(lambda: damaged("video", 0xFF, start=0)), NO_PICTURE, None),
    "sounds.mp4": (writing(lambda: damaged("audio", 0xFF)), None, NO_SOUND),
    # The sound ends in the middle of the pictures.
    "longer.mp4": (writing(lambda: makers.video_bytes(sound=True, **SLOW)), None, None),
}
if os.geteuid():  # root may read everything
    MEDIA["locked.mp4"] = (lock, LOCKED, LOCKED)


@pytest.mark.parametrize("way", [*PICTURES, *SOUNDS])
def test_bad_files_are_rejected_by_name_and_the_others_stay(
    way: str, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (make, _, _) in MEDIA.items():
        make(media / name)
    # Where a playlist's names would lead to a file.
    monkeypatch.chdir(media)
    is_video = way in PICTURES
    check(way, media, {n: shown if is_video else heard for n, (_, shown, heard) in MEDIA.items()})


@pytest.mark.parametrize("way", [*PICTURES, *SOUNDS])
def test_damage_of_any_kind_never_stops_a_run(way: str, media: Path) -> None:
    draw = random.Random(1)
    names = [f"damaged{number}.mp4" for number in range(16)]
    for number, name in enumerate(names):
        data = bytearray(video(2, index="faststart" if number % 2 else ""))
        for _ in range(draw.choice([1, 3, 20, 200])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if number % 4 == 0:
            del data[draw.randrange(1, len(data)) :]
        (media / name).write_bytes(data)
    report = pack_all(way, media, ["v0.mp4", *names])
    assert report.rejects
    for reject in report.rejects:
        name = reject.id.split(",")[0]
        assert name in names
        assert reject.message.startswith(repr(name))


@pytest.mark.parametrize("way", ["ava clip", "ava video"])
def test_video_that_ends_before_what_is_annotated_is_rejected(way: str, media: Path) -> None:
    (media / "short.mp4").write_bytes(video(frames=5))
    says = "timestamp 1: second 1 lies outside the video of 0.200 s"
    check(way, media, {"short.mp4": says})


def test_untrimmed_video_that_ends_before_a_segment_is_packed_with_a_warning(media: Path) -> None:
    (media / "short.mp4").write_bytes(video(frames=5))
    report = pack_all("activitynet", media, ["v0.mp4", "short.mp4"])
    assert report.rejects == ()
    assert report.warnings == ("list.txt:2: the video ends before a segment does",)


aac = partial(tone, "adts", "aac")
MONO = "the sound changes from 48000 Hz and 1 channels"
# File -> its bytes, and what is said.
SOUND_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut.wav": (lambda: cut(tone("wav", "pcm_s16le")), "cut short"),
    "cut.ogg": (lambda: cut(tone("ogg", "libopus")), "cut short"),
    "cut.mp3": (lambda: cut(tone("mp3", "libmp3lame")), "cut short"),
    "cut.flac": (lambda: cut(tone("flac", "flac")), NO_SOUND),
    "flip.ogg": (lambda: flipped(tone("ogg", "libopus")), "does not fit its checksum"),
    "flip.flac": (lambda: flipped(tone("flac", "flac")), "cut short or damaged"),
    "flip.mka": (lambda: flipped(tone("matroska", "flac")), NO_SOUND),
    "rate.aac": (lambda: aac() + aac(rate=32000), f"{MONO} to 32000 Hz and 1"),
    "channels.aac": (lambda: aac() + aac(layout="stereo"), f"{MONO} to 48000 Hz and 2"),
}


@pytest.mark.parametrize("way", SOUNDS)
def test_sounds_that_are_not_whole_are_rejected(way: str, media: Path) -> None:
    for name, (make, _) in SOUND_FILES.items():
        (media / name).write_bytes(make())
    check(way, media, {name: says for name, (_, says) in SOUND_FILES.items()})


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def claim(shape: str) -> bytes:
    """Return an npy file of 8 bytes that claims a shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(8)


TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
AXES = "expected each axis at least 1, got 0 in the shape "
KINDS = "expected float16, float32 or float64, got "
FEATURES: dict[str, tuple[bytes, str | None]] = {
    "fortran.npy": (npy(np.asfortranarray(TABLE)), None),
    "big_endian.npy": (npy(TABLE.astype(">f4")), None),
    "empty.npy": (b"", EMPTY),
    "nan.npy": (npy(np.where(TABLE == 7, np.nan, TABLE)), "finite"),
    "inf.npy": (npy(np.where(TABLE == 7, -np.inf, TABLE)), "finite"),
    "no_rows.npy": (npy(TABLE[:0]), f"{AXES}(0, 3)"),
    "no_columns.npy": (npy(TABLE[:, :0]), f"{AXES}(4, 0)"),
    "batch.npy": (npy(TABLE[None]), "expected 2 axes, got the shape (1, 4, 3)"),
    "large.npy": (claim("(1000, 1000000)"), "expected 4000000000 bytes"),
    "huge.npy": (claim("(1000000000, 1000000000)"), "expected 4000000000000000000 bytes"),
    "cut.npy": (npy(TABLE)[:-3], "expected 48 bytes for the shape (4, 3) of float32"),
    "objects.npy": (npy(np.array([[1, None]], object)), f"{KINDS}'|O'"),
    "records.npy": (npy(np.zeros((2, 3), [("a", "<f4")])), "npy header of a plain array"),
    "pickle.npy": (pickle.dumps(TABLE), "expected an npy file of "),
    "nan.csv": (b"1,2\nnan,4\n", "nan.csv:2: expected a finite number, got 'nan'"),
    "empty.csv": (b"", EMPTY),
    "ragged.csv": (b"1,2\n3\n", "ragged.csv:2: expected 2 numbers separated by commas, got 1"),
    "quotes.csv": (b'1,2\n"3","4"\n', "quotes.csv:2: expected a finite number, got '\"3\"'"),
    "thousand.csv": (b'1,2\n"1,000",4\n', "thousand.csv:2: expected 2 numbers"),
    "semicolon.csv": (b"1;2\n3;4\n", "semicolon.csv:2: expected a finite number, got '3;4'"),
    "nul.csv": (b"1,2\n3,4\0\n", "nul.csv:2: expected a finite number, got '4\\x00'"),
    "utf16.csv": ("1,2\n3,4\n".encode("utf-16"), "utf16.csv:1: expected numbers without a byte"),
}


@pytest.mark.parametrize("way", ["activitynet", "audio"])
def test_bad_features_are_rejected_by_name(way: str, media: Path) -> None:
    good = ("good0.npy", "good1.npy")
    for name in good:
        (media / name).write_bytes(npy(TABLE))
    for name, (data, _) in FEATURES.items():
        (media / name).write_bytes(data)
    cases = {name: says for name, (_, says) in FEATURES.items()}
    options = {"feature_tmpl": "{}"}
    if way == "audio":
        csv = [name for name, (data, _) in FEATURES.items() if name.endswith(".csv") and data]
        cases, options = cases | dict.fromkeys(csv, "expected an npy file of features"), {}
    tracemalloc.start()
    check(way, media, cases, good=good, **options)
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()
    dataset = ShardMapDataset(open_dataset(media.parent / "out"))
    for number in range(4):
        found = dataset[number]["audios" if way == "audio" else "feature"]
        np.testing.assert_array_equal(found, TABLE)


def write_frames(folder: Path, template: str = FRAME, *, start: int = 1, count: int = 6) -> None:
    folder.mkdir()
    for number, pixels in enumerate(makers.pictures(count, (48, 32)), start=start):
        Image.fromarray(pixels).save(folder / template.format(number))


def picture(width: int = 48, height: int = 32, kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, kind)
    return out.getvalue()


def instead(make: Callable[[Path], object], *, of: str = "") -> Callable[[Path], object]:
    """Return what puts something else in the place of a folder, or of a file in it."""

    def swap(folder: Path) -> None:
        place = folder / of
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
        make(place)

    return swap


NO_FRAME = "img_00001.jpg: missing, the folder has no frame named by 'img_{:05}.jpg' among its "
NO_FOLDER = "no such folder under the media root"
SIZE = bytes([0, 32, 0, 48])
# Folder -> what becomes of it.
FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, NO_FOLDER),
    "file": (instead(Path.touch), NO_FOLDER),
    "fifo": (instead(os.mkfifo), NO_FOLDER),
    "vacant": (instead(Path.mkdir), f"{NO_FRAME}0 files"),
    "names": (instead(lambda d: write_frames(d, "frame{:05}.jpg")), f"{NO_FRAME}6 files"),
    "unpadded": (instead(lambda d: write_frames(d, "img_{}.jpg")), f"{NO_FRAME}6 files"),
    "from_0": (instead(lambda d: write_frames(d, start=0)), "is the start index 0?"),
    "few": (instead(lambda d: write_frames(d, count=2)), "timestamp 1 is frame 2 of 2"),
}
# What stands in the place of the third frame.
FRAMES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gap": (lambda file: None, ": missing, the folder has 5 frames"),
    "zero": (Path.touch, f"': {EMPTY}"),
    "cut": (writing(lambda: picture()[:-5]), ": cut short: no end-of-image marker"),
    "headless": (writing(lambda: picture()[:200]), ": cut short: segment "),
    "text": (writing(lambda: b"no picture\n" * 9), ": expected JPEG or PNG, got a file that"),
    "sizes": (writing(lambda: picture(48, 64)), ": expected 48x32 like img_00001.jpg, got 48x64"),
    "kinds": (writing(lambda: picture(kind="PNG")), ": expected JPEG like img_00001.jpg, got PNG"),
    "claim": (writing(lambda: picture().replace(SIZE, b"\xff" * 4)), ": 65535x65535, a frame may"),
    "below": (Path.mkdir, f"': {NO_FILE}"),
    "pipe": (os.mkfifo, f"': {NO_FILE}"),
    "link": (lambda file: file.symlink_to("x"), f"': {ABSENT}"),
}
if os.geteuid():
    FRAMES["locked"] = (lock, f"': {LOCKED}")


@pytest.mark.parametrize("way", ["ava clip", "ava video"])
def test_bad_frames_are_rejected_by_name(way: str, media: Path) -> None:
    third = FRAME.format(3)
    for folder in ("f0", *FOLDERS, *FRAMES, "f1"):
        write_frames(media / folder)
    for name, (make, _) in FOLDERS.items():
        make(media / name)
    for name, (make, _) in FRAMES.items():
        instead(make, of=third)(media / name)
    cases = {name: says for name, (_, says) in FOLDERS.items()}
    cases |= {name: third + says for name, (_, says) in FRAMES.items()}
    options: dict[str, Any] = {"fps": 2, "filename_tmpl": FRAME, "clip_frames": 6}
    check(way, media, cases, good=("f0", "f1"), **options)
