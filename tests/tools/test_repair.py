"""`clipshards pack ... --repair` on the command line."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from split_damage import flip, tree

from clipshards.packer import making

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def listed(tmp_path: Path) -> list[str]:
    """A packed list of skeletons, and the command that packed it."""
    records = [
        {"frame_dir": f"s{n}", "label": n % 3, "total_frames": 3, "keypoint": array}
        for n, array in enumerate(np.random.default_rng(0).random((12, 1, 3, 5, 2)))
    ]
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(records))
    out = str(tmp_path / "out")
    return ["pack", "skeleton", str(tmp_path / "list.pkl"), "--out", out, "--split", "t"]


def test_it_makes_what_is_damaged(listed: list[str], tmp_path: Path, run: Run) -> None:
    assert run(*listed)[0] == 0
    original = tree(tmp_path / "out")
    flip(tmp_path / "out" / "t" / "t-000000.tar")
    code, out, _ = run("verify", tmp_path / "out")
    assert code == 1
    assert "(pack ... --repair)" in out
    code, out, _ = run(*listed, "--repair")
    assert (code, out.split(" in ")[0]) == (0, "whole: 1 of 1 shard made anew")
    assert tree(tmp_path / "out") == original
    assert run("verify", tmp_path / "out")[0] == 0


def test_what_cannot_be_made_is_told(
    listed: list[str], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*listed)[0] == 0
    original = (tmp_path / "out" / "t" / "t-000000.tar").read_bytes()
    flip(tmp_path / "out" / "t" / "t-000000.tar")
    # A tool that gives other bytes today.
    encode = making.make_sample

    def other(*args: Any) -> Any:
        sample, rows = encode(*args)
        if sample is not None and sample.id == "s7":
            sample.parts["keypoint.npy"] = sample.parts["keypoint.npy"][:-1] + b"\1"
        return sample, rows

    monkeypatch.setattr(making, "make_sample", other)
    code, out, _ = run(*listed, "--repair")
    assert code == 1
    assert "t/t-000000.tar: left as it is: made anew it has other bytes" in out
    assert "DAMAGED: 0 of 1 shard made anew" in out
    report = json.loads(run(*listed, "--repair", "--json")[1])
    assert report["refused"][0][0] == "t-000000.tar"
    assert report["whole"] is False
    assert (tmp_path / "out" / "t" / "t-000000.tar").read_bytes() != original


def test_options_that_do_not_go_together(listed: list[str], run: Run) -> None:
    for other in ("--replan", "--retry-rejects"):
        code, _, err = run(*listed, "--repair", other)
        assert code == 2
        assert "--repair excludes" in err
    code, _, err = run(*listed, "--repair")
    assert code == 2
    assert "there is no split 't'" in err or "no data set here" in err


def test_the_repair_command_tells_of_it(tmp_path: Path, run: Run) -> None:
    code, _, err = run("repair", tmp_path)
    assert code == 2
    assert "with --repair" in " ".join(err.split())
