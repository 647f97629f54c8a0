import json
import os
import shutil
import time
import wave
from collections.abc import Callable
from pathlib import Path

import makers
import numpy as np
import pytest
from makers import sound_of

from clipshards.packer.format.errors import NotFoundError, StorageError
from clipshards.packer.media.extract import build_audio_features, extract_audio
from clipshards.packer.media.mel import mel_features
from clipshards.packer.media.sound import mono_16k

Run = Callable[..., tuple[int, str, str]]


def write_wav(path: Path, seed: int = 0, *, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.RandomState(seed).randint(-9000, 9000, 2000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(levels.tobytes())


def write_videos(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(makers.short_video(seed % 3, frames=3, sound=True))


def files_in(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_both_steps_fit_together(tmp_path: Path, run: Run) -> None:
    write_videos(tmp_path / "videos", "run/a.mp4", "jump/a.mp4", "jump/b.c.MP4")
    code, out, err = run("extract-audio", tmp_path / "videos", tmp_path / "wav")
    assert (code, err) == (0, "")
    assert out.startswith("3 files to wav in ")
    assert ": 3 made, 0 there already (" in out
    assert files_in(tmp_path / "wav") == ["jump/a.wav", "jump/b.c.wav", "run/a.wav"]
    code, out, err = run("build-audio-features", tmp_path / "wav", tmp_path / "mel")
    assert (code, err) == (0, "")
    assert out.startswith("3 files to npy in ")
    assert files_in(tmp_path / "mel") == ["jump/a.npy", "jump/b.c.npy", "run/a.npy"]
    mel = np.load(tmp_path / "mel" / "jump" / "a.npy", allow_pickle=False)
    wav = tmp_path / "wav" / "jump" / "a.wav"
    assert np.array_equal(mel, mel_features(mono_16k(wav)))
    sound, rate = sound_of(tmp_path / "videos" / "jump" / "a.mp4")
    assert (rate, sound.shape) == (44100, sound_of(wav)[0].shape)
    assert np.abs(sound_of(wav)[0] - sound).max() < 1e-4


def test_what_stands_there_is_skipped_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    write_videos(tmp_path / "in", "x/a.mp4", "x/b.mp4")
    first = extract_audio(tmp_path / "in", tmp_path / "out", workers=0)
    assert (first.files, first.made, first.skipped, first.failures) == (2, 2, 0, ())
    before = {
        name: (tmp_path / "out" / name).stat().st_mtime_ns for name in files_in(tmp_path / "out")
    }
    (tmp_path / "out" / "x" / "a.wav").unlink()
    again = extract_audio(tmp_path / "in", tmp_path / "out", workers=0)
    assert (again.files, again.made, again.skipped, again.failures) == (2, 1, 1, ())
    assert (tmp_path / "out" / "x" / "b.wav").stat().st_mtime_ns == before["x/b.wav"]
    other = extract_audio(tmp_path / "in", tmp_path / "other", workers=2)
    assert other.made == 2
    for name in before:
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "empty", "unsized", "text"])
def test_half_files_of_other_tools_are_made_again(tmp_path: Path, damage: str) -> None:
    write_videos(tmp_path / "in", "x/a.mp4")
    extract_audio(tmp_path / "in", tmp_path / "out", workers=0)
    build_audio_features(tmp_path / "out", tmp_path / "mel", workers=0)
    wav, npy = tmp_path / "out" / "x" / "a.wav", tmp_path / "mel" / "x" / "a.npy"
    for file in (wav, npy):
        whole = file.read_bytes()
        unsized = whole[:4] + b"\xff\xff\xff\xff" + whole[8:]
        file.write_bytes(
            {"cut": whole[:-1], "empty": b"", "unsized": unsized, "text": b"no"}[damage]
        )
        if file is wav:
            report = extract_audio(tmp_path / "in", tmp_path / "out", workers=0)
        else:
            report = build_audio_features(tmp_path / "out", tmp_path / "mel", workers=0)
        assert (report.made, report.skipped) == (1, 0)
        assert file.read_bytes() == whole


def test_failures_are_listed_and_end_with_1(tmp_path: Path, run: Run) -> None:
    write_videos(tmp_path / "in", "x/good.mp4")
    (tmp_path / "in" / "x" / "silent.mp4").write_bytes(makers.short_video(0, frames=3))
    (tmp_path / "in" / "x" / "cut.mp4").write_bytes(makers.short_video(0, sound=True)[:-50])
    (tmp_path / "in" / "x" / "gone.mp4").symlink_to("nowhere")
    os.mkfifo(tmp_path / "in" / "x" / "pipe.mp4")
    (tmp_path / "in" / "x" / "folder.mp4").mkdir()
    code, out, err = run("extract-audio", tmp_path / "in", tmp_path / "out", "--num-worker", "2")
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].startswith("x/cut.mp4: cut short: ")
    assert lines[1] == "x/gone.mp4: cannot be read: No such file or directory"
    assert lines[2] == "x/pipe.mp4: not a regular file"
    assert lines[3] == "x/silent.mp4: no audio stream in the file"
    assert ": 1 made, 0 there already, 4 FAILED (" in lines[4]
    assert files_in(tmp_path / "out") == ["x/good.wav"]
    code, out, err = run("extract-audio", tmp_path / "in", tmp_path / "out", "--json")
    assert (code, err) == (1, "")
    report = json.loads(out)
    assert (report["files"], report["made"], report["skipped"]) == (5, 0, 1)
    assert [failure["path"] for failure in report["failures"]] == [
        "x/cut.mp4",
        "x/gone.mp4",
        "x/pipe.mp4",
        "x/silent.mp4",
    ]


def test_names_of_all_kinds_are_just_names(tmp_path: Path, run: Run) -> None:
    names = ["a b.mp4", "$(touch pwned).mp4", "`id`;'\".mp4", "new\nline.mp4", "-y.mp4", "%d.mp4"]
    names += ["concat:a.mp4", "\u0439.mp4", "\u0438\u0306.mp4", "n" * 250 + ".mp4"]
    names += [os.fsdecode(b"\xff\xfe.mp4")]
    root = tmp_path / "in put"
    write_videos(root, *names)
    code, out, err = run("extract-audio", root, tmp_path / "-out", "--level", 1, "--num-workers", 2)
    assert (code, err) == (0, "")
    assert files_in(tmp_path / "-out") == sorted(name[:-3] + "wav" for name in names)
    assert {file.name for file in tmp_path.iterdir()} == {"in put", "-out"}
    # A failure stays on its line.
    (root / "new\nline.mp4").write_bytes(b"")
    (root / os.fsdecode(b"\xff\xfe.mp4")).write_bytes(b"")
    shutil.rmtree(tmp_path / "-out")
    code, out, err = run("extract-audio", root, tmp_path / "-out", "--level", 1, "--num-workers", 2)
    assert (code, err) == (1, "")
    assert out.splitlines()[0] == "'new\\nline.mp4': the file is empty (0 bytes)"
    assert out.splitlines()[1] == "'\\udcff\\udcfe.mp4': the file is empty (0 bytes)"
    code, out, err = run(
        "extract-audio", root, tmp_path / "-out", "--level", 1, "--num-workers", 2, "--json"
    )
    assert [item["path"] for item in json.loads(out)["failures"]] == [
        "new\nline.mp4",
        "\udcff\udcfe.mp4",
    ]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_videos(tmp_path / "elsewhere", "a.mp4")
    write_videos(tmp_path / "in", "x/b.mp4")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "x" / "c.mp4").symlink_to(tmp_path / "elsewhere" / "a.mp4")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "x" / "up").symlink_to("..")
    (tmp_path / "in" / "x" / "self.mp4").symlink_to("self.mp4")
    report = extract_audio(tmp_path / "in", tmp_path / "out", workers=0)
    assert [(failure.path, failure.reason) for failure in report.failures] == [
        ("x/self.mp4", "cannot be read: Too many levels of symbolic links")
    ]
    assert files_in(tmp_path / "out") == ["linked/a.wav", "x/b.wav", "x/c.wav"]
    assert files_in(tmp_path / "elsewhere") == ["a.mp4"]
    with pytest.raises(NotFoundError, match=r"there is \.mp4 at level 2 \(4\)"):
        extract_audio(tmp_path / "in", tmp_path / "out", level=40, workers=0)


def test_files_that_would_become_one_fail_all(tmp_path: Path) -> None:
    write_videos(tmp_path / "in", "x/a.mp4", "x/a.MP4", "x/a.mov", "x/b.mov")
    report = extract_audio(tmp_path / "in", tmp_path / "out", ext=("mp4", ".mov"), workers=0)
    assert (report.files, report.made) == (4, 1)
    assert [failure.path for failure in report.failures] == ["x/a.MP4", "x/a.mov", "x/a.mp4"]
    assert "another file would become 'x/a.wav' too" in report.failures[0].reason
    assert files_in(tmp_path / "out") == ["x/b.wav"]


def test_sources_are_never_replaced(tmp_path: Path) -> None:
    write_wav(tmp_path / "x" / "a.wav")
    write_videos(tmp_path, "x/b.mp4")
    (tmp_path / "x" / "b.wav").write_bytes(b"the user's own")
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    report = extract_audio(tmp_path, tmp_path, ext="wav", workers=0)
    assert (report.files, len(report.failures)) == (2, 2)
    assert report.failures[0].reason.startswith("what is made of it would replace it")
    report = extract_audio(tmp_path, tmp_path, workers=0)
    assert report.failures[0].reason == "'b.wav' stands beside it and is not whole; remove it"
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before


def test_folder_in_the_place_of_a_file_is_a_failure(tmp_path: Path) -> None:
    write_videos(tmp_path / "in", "x/a.mp4", "y/a.mp4")
    (tmp_path / "out" / "x" / "a.wav").mkdir(parents=True)
    (tmp_path / "out" / "y").write_bytes(b"")
    report = extract_audio(tmp_path / "in", tmp_path / "out", workers=0)
    reasons = [(failure.path, failure.reason) for failure in report.failures]
    assert reasons[0] == ("x/a.mp4", "'a.wav' stands in its place and is no file")
    assert reasons[1][0] == "y/a.mp4"


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_do_every_file_once(tmp_path: Path, parts: int) -> None:
    names = [f"c{number % 3}/{number}.wav" for number in range(20)]
    for number, name in enumerate(names):
        write_wav(tmp_path / "in" / name, number)
    done: list[str] = []
    for part in range(1, parts + 1):
        out = tmp_path / f"out{part}"
        report = build_audio_features(tmp_path / "in", out, part=(part, parts), workers=0)
        assert report.files == report.made
        done += files_in(out)
        # What comes or goes in between moves no other file to another part.
        write_wav(tmp_path / "in" / "c0" / f"later{part}.txt.wav")
        (tmp_path / "in" / "c0" / f"later{part}.txt.wav").unlink()
    assert sorted(done) == sorted(name[:-3] + "npy" for name in names)


def test_part_of_a_file_depends_on_its_name_alone(tmp_path: Path) -> None:
    for number in range(12):
        write_wav(tmp_path / "many" / "c" / f"{number}.wav")
    for number in range(0, 12, 2):
        write_wav(tmp_path / "few" / "c" / f"{number}.wav")
    for source in ("many", "few"):
        build_audio_features(tmp_path / source, tmp_path / f"{source}1", part=(1, 2), workers=0)
    many, few = (set(files_in(tmp_path / f"{source}1")) for source in ("many", "few"))
    assert few == {name for name in many if int(Path(name).stem) % 2 == 0}
    assert 0 < len(many) < 12


def test_left_overs_of_killed_runs_go_after_a_day(tmp_path: Path) -> None:
    write_videos(tmp_path / "in", "x/a.mp4")
    folder = tmp_path / "out" / "x"
    folder.mkdir(parents=True)
    for name, age_s in (("old", 90_000), ("young", 60)):
        file = folder / f".clipshards-{name}.partial"
        file.write_bytes(b"half")
        os.utime(file, (time.time() - age_s, time.time() - age_s))
    extract_audio(tmp_path / "in", tmp_path / "out", workers=0)
    assert files_in(tmp_path / "out") == ["x/.clipshards-young.partial", "x/a.wav"]


def test_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_videos(tmp_path / "in", "x/a.mp4")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    report = extract_audio(tmp_path / "in", tmp_path / "out", workers=0)
    assert [failure.reason for failure in report.failures] == ["No space left on device"]
    assert files_in(tmp_path / "out") == []


def test_nothing_found_is_wrong_use_and_says_what_there_is(tmp_path: Path, run: Run) -> None:
    write_wav(tmp_path / "in" / "x" / "a.wav")
    code, out, err = run("build-audio-features", tmp_path / "in", tmp_path / "out", "--level", 1)
    assert (code, out) == (2, "")
    assert err == (f"error: {tmp_path}/in: no file .wav at level 1; there is .wav at level 2 (1)\n")
    (tmp_path / "empty").mkdir()
    code, _, err = run("extract-audio", tmp_path / "empty", tmp_path / "out")
    assert (code, err) == (
        2,
        f"error: {tmp_path}/empty: no file .mp4 at level 2; there are no files at all\n",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "1/0", "-1/2", "1/2/3", "a/b", "1/2 "])
def test_bad_parts_are_wrong_use(tmp_path: Path, run: Run, part: str) -> None:
    write_wav(tmp_path / "in" / "x" / "a.wav")
    code, out, err = run("build-audio-features", tmp_path / "in", tmp_path, "--part", part)
    assert (code, out) == (2, "")
    assert f"part {part!r}: expected K/N with K from 1 to N" in err


def test_a_part_may_be_empty(tmp_path: Path, run: Run) -> None:
    write_wav(tmp_path / "in" / "x" / "a.wav")
    counts = []
    for part in (1, 2):
        arguments = (tmp_path / "in", tmp_path / "out", "--part", f"{part}/2", "--json")
        code, out, err = run("build-audio-features", *arguments)
        assert (code, err) == (0, "")
        counts.append(json.loads(out)["files"])
    assert sorted(counts) == [0, 1]


def test_arguments_are_checked(tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "x" / "a.wav")
    source, out = tmp_path / "in", tmp_path / "out"
    for ext in ("", ".", (), "a/b"):
        with pytest.raises(ValueError, match="expected an extension"):
            build_audio_features(source, out, ext=ext)
    with pytest.raises(ValueError, match="level 0: expected at least 1"):
        build_audio_features(source, out, level=0)
    with pytest.raises(ValueError, match="workers -1"):
        build_audio_features(source, out, workers=-1)
    with pytest.raises(ValueError, match="part 3/2"):
        build_audio_features(source, out, part=(3, 2))
    with pytest.raises(NotFoundError, match="no such folder"):
        build_audio_features(tmp_path / "none", out)
    with pytest.raises(StorageError, match=r"File exists|Not a directory"):
        build_audio_features(source, tmp_path / "in" / "x" / "a.wav")


def test_progress_ends_at_the_number_of_files(tmp_path: Path) -> None:
    for number in range(4):
        write_wav(tmp_path / "in" / "x" / f"{number}.wav")
    (tmp_path / "in" / "x" / "bad.wav").write_bytes(b"no")
    told: list[tuple[int, int]] = []

    def progress(files: int, total: int) -> None:
        told.append((files, total))

    for made_before in (0, 4):
        told.clear()
        build_audio_features(tmp_path / "in", tmp_path / "out", workers=0, progress=progress)
        assert told[0] == (made_before, 5)
        assert sum(files for files, _ in told) == 5
        assert {total for _, total in told} == {5}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads all folders")
def test_unreadable_folder_is_a_failure(tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "x" / "a.wav")
    (tmp_path / "in" / "y").mkdir(mode=0)
    report = build_audio_features(tmp_path / "in", tmp_path / "out", workers=0)
    assert (report.files, report.made) == (2, 1)
    assert [(item.path, item.reason) for item in report.failures] == [("y/", "Permission denied")]
