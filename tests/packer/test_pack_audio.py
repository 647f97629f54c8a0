"""`pack` and audio lists whose features are computed while packing, with and without the sound."""

import io
import struct
import subprocess
import sys
import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import pytest
from makers import sound_of

from clipshards.packer.annotations.audio_list import AudioList
from clipshards.packer.format.errors import FormatError, PlanError
from clipshards.packer.format.index import PartColumns, ShardIndex
from clipshards.packer.format.json_parts import AudioJson
from clipshards.packer.format.npy import decode_npy
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.media.keep_sound import keep_sound
from clipshards.packer.media.mel import mel_features
from clipshards.packer.media.sound import mono_16k
from clipshards.packer.media.synthetic import write_video
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.one_call import pack
from clipshards.packer.recipe import KeepAudio, Recipe
from clipshards.packer.records import AudioRecord
from clipshards.packer.reports import PackReport
from clipshards.packer.samples.audio import audio_size, make_audio_sample
from clipshards.packer.samples.base import Material
from clipshards.packer.shards import ShardWriter
from clipshards.readers.data import ShardMapDataset
from clipshards.readers.integrity import verify
from clipshards.readers.opening import open_dataset
from clipshards.tools.cli import main

Tree = Callable[[Path], dict[str, str]]
ReadSamples = Callable[[Path], dict[str, dict[str, bytes]]]
ReadAbouts = Callable[[Path], dict[str, Any]]
KEPT_PART = {"source": "m4a", "wav": "wav", "flac": "flac"}


def write_wav_file(path: Path, *, rate: int = 16000, seconds: float = 0.5) -> None:
    pitch = 300 + 40 * len(path.name)
    levels = np.rint(9000 * np.sin(np.arange(int(rate * seconds)) * pitch * 2 * np.pi / rate))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(levels.astype("<i2").tobytes())


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder with two videos that have sound, one that has none, and a wav at 16 kHz."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for number in range(2):
        write_video(folder / f"v{number}.mp4", frames=10, width=32, height=32, seed=number)
    write_video(folder / "silent.mp4", frames=3, width=32, height=32, sound=False)
    write_wav_file(folder / "w.wav")
    return folder


def pack_sounds(
    sounds: Path,
    out: Path,
    *,
    names: Sequence[str] = ("v0.mp4", "v1.mp4"),
    keep_audio: KeepAudio = "no",
    **options: Any,
) -> PackReport:
    records = [
        AudioRecord(path=name, total_frames=10, labels=(place,)) for place, name in enumerate(names)
    ]
    recipe = Recipe(features="compute", keep_audio=keep_audio)
    options = {"split": "val", "seed": None, "media_root": sounds, "recipe": recipe} | options
    return pack(records, out, **options)


def test_features_are_those_of_the_files_in_the_list(
    sounds: Path, tmp_path: Path, read_samples: ReadSamples, read_abouts: ReadAbouts
) -> None:
    names = ("v0.mp4", "w.wav", "v1.mp4")
    report = pack_sounds(sounds, tmp_path / "out", names=names)
    assert (report.packed, report.rejects) == (3, ())
    for name, sample in zip(names, read_samples(tmp_path / "out/val").values(), strict=True):
        assert list(sample) == ["json", "mel.npy"]
        mel = decode_npy(sample["mel.npy"], where=name)
        assert (str(mel.dtype), mel.shape[1]) == ("float32", 80)
        assert np.array_equal(mel, mel_features(mono_16k(sounds / name)))
    for name, about in zip(names, read_abouts(tmp_path / "out/val").values(), strict=True):
        assert (about["id"], about["total_frames"], about["codec"]) == (name, 10, "")
        assert (about["sample_rate_hz"], about["channels"], about["duration_s"]) == (0, 0, 0.0)
    assert verify(tmp_path / "out").damage == []
    assert open_dataset(tmp_path / "out", split="val").manifest.recipe == {
        "features": "compute",
        "keep_audio": "no",
    }


@pytest.mark.parametrize("form", ["source", "wav", "flac"])
def test_the_sound_is_kept_beside_the_features(
    form: Any, sounds: Path, tmp_path: Path, read_samples: ReadSamples, read_abouts: ReadAbouts
) -> None:
    out = tmp_path / "out"
    assert pack_sounds(sounds, out, keep_audio=form).rejects == ()
    for place, sample in enumerate(read_samples(out / "val").values()):
        assert list(sample) == ["json", "mel.npy", KEPT_PART[form]]
        data = (sounds / f"v{place}.mp4").read_bytes()
        kept = keep_sound(data, form)
        assert sample[KEPT_PART[form]] == kept.data
        about = list(read_abouts(out / "val").values())[place]
        assert (about["codec"], about["sample_rate_hz"]) == (kept.codec, 44100)
        assert (about["channels"], about["duration_s"]) == (1, kept.samples / 44100)
        theirs = sound_of(data)[0]
        error = 0 if form == "source" else 0.5 / 32768
        assert np.abs(sound_of(kept.data)[0] - theirs).max() <= error
    assert verify(out).damage == []
    split = open_dataset(out, split="val")
    item = ShardMapDataset(split)[1]
    assert (item["id"], item["label"], item["audios"].shape[1]) == ("v1.mp4", 1, 80)
    # The sound stays where it is, and can be had.
    assert KEPT_PART[form] in split.read_sample(0, 1).parts


def test_a_sound_file_is_kept_untouched(
    sounds: Path, tmp_path: Path, read_samples: ReadSamples
) -> None:
    pack_sounds(sounds, tmp_path / "out", names=("w.wav", "v0.mp4"), keep_audio="source")
    first, second = read_samples(tmp_path / "out/val").values()
    assert first["wav"] == (sounds / "w.wav").read_bytes()
    assert list(second) == ["json", "mel.npy", "m4a"]
    assert verify(tmp_path / "out").damage == []


@pytest.mark.parametrize("form", ["no", "source", "wav", "flac"])
def test_the_same_media_give_the_same_bytes(
    form: Any, sounds: Path, tmp_path: Path, tree: Tree
) -> None:
    for name in ("a", "b"):
        pack_sounds(sounds, tmp_path / name, keep_audio=form)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    other: KeepAudio = "no" if form == "flac" else "flac"
    with pytest.raises(PlanError, match=r"recipe\.keep_audio: packed"):
        pack_sounds(sounds, tmp_path / "a", keep_audio=other)


def broken_video(sounds: Path) -> bytes:
    data = bytearray((sounds / "v0.mp4").read_bytes())
    with av.open(str(sounds / "v0.mp4")) as container:
        packets = [p for p in container.demux(container.streams.audio[0]) if p.size]
    for packet in packets[2:5]:
        place = data.index(bytes(packet))
        data[place : place + packet.size] = b"\xff" * packet.size
    return bytes(data)


def no_sample() -> bytes:
    return (
        b"RIFF$\0\0\0WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
        + (b"data\0\0\0\0")
    )


@pytest.mark.parametrize("form", ["no", "source", "flac"])
def test_what_has_no_good_sound_is_a_reject(
    form: Any, sounds: Path, tmp_path: Path, read_samples: ReadSamples
) -> None:
    np.save(sounds / "f.npy", np.ones((5, 80), np.float32))
    (sounds / "broken.mp4").write_bytes(broken_video(sounds))
    (sounds / "cut.mp4").write_bytes((sounds / "v0.mp4").read_bytes()[:-200])
    (sounds / "none.wav").write_bytes(no_sample())
    (sounds / "empty.wav").write_bytes(b"")
    says = {
        "missing.mp4": "no such file under the media root",
        "silent.mp4": "no audio stream in the file",
        "broken.mp4": "not a readable audio or video file",
        "cut.mp4": "cut short",
        "none.wav": "the audio stream is empty",
        "empty.wav": "the file is empty",
        "../w.wav": "leads out of the media root",
        "f.npy": "expected a sound or a video, got features",
    }
    report = pack_sounds(
        sounds, tmp_path / "out", names=["v0.mp4", *says, "v1.mp4"], keep_audio=form
    )
    assert (report.entries, report.packed) == (10, 2)
    assert [row.id for row in report.rejects] == list(says)
    for row in report.rejects:
        assert row.error == "MediaError"
        assert repr(row.id) in row.message
        assert says[row.id] in row.message
    # Nothing stands in for a sound that is not there.
    assert len(read_samples(tmp_path / "out/val")) == 2
    assert verify(tmp_path / "out").damage == []


def test_a_sound_that_cannot_be_kept_is_a_reject_that_names_the_way_out(
    sounds: Path, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with (
        wave.open(str(sounds / "w.wav")) as file,
        av.open(buffer, "w", format="mov") as output,
    ):
        stream = output.add_stream("pcm_s16be", rate=16000, layout="mono")
        levels = np.frombuffer(file.readframes(-1), "<i2").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(levels, "s16", "mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    (sounds / "big_endian.mov").write_bytes(buffer.getvalue())
    names = ("w.wav", "big_endian.mov")
    report = pack_sounds(sounds, tmp_path / "source", names=names, keep_audio="source")
    assert [row.id for row in report.rejects] == ["big_endian.mov"]
    assert "the sound is pcm_s16be" in report.rejects[0].message
    assert report.rejects[0].message.endswith("keep it as wav or flac")
    assert pack_sounds(sounds, tmp_path / "wav", names=names, keep_audio="wav").rejects == ()


def test_a_list_of_sounds_without_computing_is_told_of_it(sounds: Path, tmp_path: Path) -> None:
    np.save(sounds / "f.npy", np.ones((5, 80), np.float32))
    report = pack_sounds(sounds, tmp_path / "out", names=["f.npy", "w.wav"], recipe=Recipe())
    assert report.packed == 1
    assert "expected an npy file of features" in report.rejects[0].message
    assert report.rejects[0].message.endswith("(--features compute)")


def test_unknown_choices_are_refused() -> None:
    for wrong in ({"features": "mel"}, {"features": "compute", "keep_audio": "ogg"}):
        with pytest.raises(ValueError, match="expected one of"):
            Recipe(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only where features are computed"):
        Recipe(keep_audio="wav")


def test_other_tasks_do_not_record_what_becomes_of_sound() -> None:
    recipe = Recipe(features="compute", keep_audio="wav")
    assert recipe.to_json("audio") == {"features": "compute", "keep_audio": "wav"}
    for task in set(TASKS) - {"audio"}:
        assert not {"features", "keep_audio"} & set(recipe.to_json(task))


@pytest.mark.parametrize("form", get_args(KeepAudio))
def test_sizes_are_expected_near_what_they_become(form: Any, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=250, width=32, height=32)
    write_wav_file(tmp_path / "b.wav", rate=44100, seconds=10)
    root = MediaRoot(tmp_path)
    recipe = Recipe(features="compute", keep_audio=form)
    for name in ("a.mp4", "b.wav"):
        expected = audio_size(AudioRecord(path=name, total_frames=250), root, recipe)
        assert expected is not None
        pack_sounds(tmp_path, tmp_path / name[0], names=[name], keep_audio=form)
        size = (tmp_path / name[0] / "val/val-000000.tar").stat().st_size
        assert size / 4 < expected < size * 4
    assert audio_size(AudioRecord(path="c.mp4", total_frames=1), root, recipe) is None
    assert audio_size(AudioRecord(path="a.mp4", total_frames=2**63 - 1), root, recipe) is not None


def index_of(kept: Sequence[str], split: str = "val") -> ShardIndex:
    """Return an index of task `audio` whose samples have these media parts; "" for none."""
    index = ShardIndex("audio", split, 0, "ab" * 32, {})
    index.keys = [f"{split}-{place:08d}" for place in range(len(kept))]
    index.ids = index.origins = ["x"] * len(kept)
    index.entries = index.items = [1] * len(kept)
    index.summary = {"labels": [[1]] * len(kept), "frames": [1] * len(kept)}
    place = 512
    for name in TASKS["audio"].parts:
        if name in TASKS["audio"].required or name in kept:
            index.parts[name] = PartColumns()
    for own in kept:
        for name, columns in index.parts.items():
            there = name in ("json", "mel.npy", own)
            columns.offset.append(place if there else -1)
            columns.size.append(5 if there else -1)
            columns.crc32c.append(7 if there else -1)
            place += 1024 * there
    return index


def test_all_samples_of_a_shard_have_a_sound_or_none_has() -> None:
    for fine in (["", ""], ["m4a", "m4a"], ["wav", "m4a", "flac"]):
        data = index_of(fine).encode()
        assert ShardIndex.decode(data, where="here").keys == index_of(fine).keys
    for wrong in (["", "m4a"], ["wav", ""]):
        with pytest.raises(FormatError, match="a sample lacks a part of task audio"):
            ShardIndex.decode(index_of(wrong).encode(), where="here")


def test_verify_names_a_shard_that_has_sounds_where_others_have_none(
    sounds: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    pack_sounds(sounds, out, shard_size=1)
    split = open_dataset(out, split="val")
    assert len(split.manifest.shards) == 2
    assert verify(out).damage == []
    # The second shard again, whose sample now has its sound.
    old = split.read_index(1)
    recipe = Recipe(features="compute", keep_audio="source")
    record = AudioRecord(path="v1.mp4", total_frames=10, labels=(1,))
    sample = make_audio_sample(record, Material(MediaRoot(sounds), recipe, ()))
    buffer = bytearray()
    writer = ShardWriter(buffer.extend, ShardIndex("audio", "val", 1, old.plan_digest, old.recipe))
    writer.add(old.keys[0], sample, entries=1)
    shards = (split.manifest.shards[0], writer.finish(records=1))
    (out / "val" / shards[1].name).write_bytes(buffer)
    (out / "val/manifest.json").write_bytes(replace(split.manifest, shards=shards).encode())
    (finding,) = verify(out).damage
    assert finding.shard == "val-000001.tar"
    assert finding.what == "parts of its samples"
    expected = ("json mel.npy as in the shards before", "json mel.npy media")
    assert (finding.expected, finding.found) == expected


SOUND = AudioJson(
    id="a.mp4", origin="a.txt:1", labels=(1,), total_frames=3, codec="aac", sample_rate_hz=44100,
    channels=2, duration_s=1.5,
)  # fmt: skip
MEL = np.zeros((3, 80), np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": ""},
        {"sample_rate_hz": 0},
        {"channels": 0},
        {"channels": -1},
        {"duration_s": 0.0},
        {"duration_s": -1.5},
        {"codec": "", "sample_rate_hz": 0, "channels": 0},
    ],
    ids=str,
)
def test_a_json_that_tells_half_of_the_sound_is_refused(wrong: dict[str, Any]) -> None:
    assert AudioJson.decode(SOUND.encode(), where="here") == SOUND
    with pytest.raises(FormatError, match="out of range for codec"):
        AudioJson.decode(replace(SOUND, **wrong).encode(), where="here")


def test_json_and_parts_agree_on_the_sound() -> None:
    task = TASKS["audio"]
    silent = replace(SOUND, codec="", sample_rate_hz=0, channels=0, duration_s=0.0)
    assert list(task.faults({"json": SOUND, "mel.npy": MEL, "m4a": b"x"})) == []
    assert list(task.faults({"json": silent, "mel.npy": MEL})) == []
    for about, kept in ((SOUND, {}), (silent, {"wav": b"x"})):
        ((part, fault),) = task.faults({"json": about, "mel.npy": MEL, **kept})
        assert part == "json"
        assert fault.startswith("codec is ")


LOADED = """
import sys
import numpy as np
from clipshards.packer import AudioRecord, Recipe, pack
np.save("f.npy", np.ones((5, 80), np.float32))
pack([AudioRecord(path="f.npy", total_frames=5, labels=(1,))], "features", split="val")
print(*({"av", "librosa"} & set(sys.modules)))
record = AudioRecord(path="w.wav", total_frames=5, labels=(1,))
pack([record], "computed", split="val", recipe=Recipe(features="compute"))
print(*sorted({"av", "librosa"} & set(sys.modules)))
"""


def test_librosa_is_loaded_with_the_first_computed_feature(tmp_path: Path) -> None:
    write_wav_file(tmp_path / "w.wav")
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "\nav librosa\n", done.stderr


def test_the_command_computes_and_keeps(
    sounds: Path, tmp_path: Path, read_samples: ReadSamples, annotate: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = annotate(["v0.mp4 10 3", "w.wav 12 4"])
    common = ["--media-root", str(sounds), "--out", str(tmp_path / "out"), "--keep-order"]

    def run(*options: str) -> int:
        arguments = ["clipshards", "pack", "audio", str(file), *common, *options]
        monkeypatch.setattr(sys, "argv", arguments)
        try:
            main()
        except SystemExit as exc:
            return int(exc.code or 0)
        return 0

    assert run("--split", "plain", "--features", "compute") == 0
    assert run("--split", "kept", "--features", "compute", "--keep-audio", "source") == 0
    assert run("--split", "bad", "--keep-audio", "wav") == 2
    assert "--keep-audio needs --features compute" in capsys.readouterr().err
    for split, parts in (("plain", [[], []]), ("kept", [["m4a"], ["wav"]])):
        samples = read_samples(tmp_path / "out" / split).values()
        assert [list(sample) for sample in samples] == [["json", "mel.npy", *p] for p in parts]
    assert verify(tmp_path / "out").damage == []


def test_real_features_are_those_of_mmaction2(
    shared_data: Path, tmp_path: Path, annotate: Callable[..., Path], read_samples: ReadSamples
) -> None:
    names = ("videos/clip_audio.mp4", "audio/clip_audio.wav", "audio/clip_audio_16k.wav")
    records = AudioList(annotate([f"{name} 75 127" for name in names]))
    recipe = Recipe(features="compute", keep_audio="source")
    report = pack(
        records, tmp_path / "out", split="val", seed=None, media_root=shared_data, recipe=recipe
    )
    assert (report.packed, report.rejects) == (3, ())
    samples = list(read_samples(tmp_path / "out/val").values())
    mels = [decode_npy(sample["mel.npy"], where="mel") for sample in samples]
    folder = shared_data / "audio_features"
    for mel in mels[:2]:
        assert np.abs(mel - np.load(folder / "clip_audio.npy")).mean() < 2e-3
    assert np.abs(mels[2] - np.load(folder / "clip_audio_16k.npy")).max() < 1e-5
    assert list(samples[0]) == ["json", "mel.npy", "m4a"]
    for name, sample in zip(names[1:], samples[1:], strict=True):
        assert sample["wav"] == (shared_data / name).read_bytes()
    assert verify(tmp_path / "out").damage == []
    item = ShardMapDataset(open_dataset(tmp_path / "out", split="val"))[2]
    assert np.array_equal(item["audios"], mels[2])
    assert (item["label"], item["total_frames"]) == (127, 75)
