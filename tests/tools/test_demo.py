import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
