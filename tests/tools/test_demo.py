import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clipshards.tools import demo

Run = Callable[..., tuple[int, str, str]]


def test_the_demo_runs_and_its_advice_works(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "clipshards.tools.cli", "demo", "--out", "made here"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "whole: " in done.stdout
    for split in ("train", "val", "rawframes", "skeleton", "audio", "ava", "activitynet"):
        assert re.search(rf"^   {split} +([0-9]+) of \1 entries in ", done.stdout, re.MULTILINE)
    assert "rawframes   frames (4, 8, 120, 160, 3), label (4,)" in done.stdout
    assert len(re.findall(r"epoch [01]: 24 clips, [0-9]+ a second", done.stdout)) == 2
    assert (tmp_path / "made here" / "shards" / "train" / "manifest.json").exists()
    advice = [
        shlex.split(line)[1:]
        for line in done.stdout.splitlines()
        if re.match(r"  \S+ (info|show) ", line)
    ]
    assert [words[0] for words in advice] == ["info", "show"]
    for words in advice:
        code, out, err = run(*words)
        assert (code, err) == (0, ""), words
        assert out


def test_the_demo_touches_no_folder_with_other_files(
    run: Run, packed: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after `pack ... --out shards`, and then `demo --out .` beside it.
    folder = copied.parent / "user"
    folder.mkdir()
    copied.rename(folder / "shards")
    monkeypatch.chdir(folder)
    for out in (".", "shards", "shards/train/manifest.json"):
        code, printed, err = run("demo", "--out", out)
        assert (code, printed) == (2, "")
        assert "choose another --out" in err
    assert sorted(path.name for path in folder.iterdir()) == ["shards"]
    for path in packed.rglob("*.*"):
        assert (folder / "shards" / path.relative_to(packed)).read_bytes() == path.read_bytes()


def test_the_demo_runs_in_an_empty_folder_and_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def stop(folder: Path) -> Path:
        made.append(folder)
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_generate", stop)
    for _ in range(2):
        assert run("demo", "--out", tmp_path)[0] == 130
    assert made == [tmp_path] * 2
