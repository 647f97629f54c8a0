"""`clipshards status`, and what Ctrl-C leaves of a packing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import makers
import pytest

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.canonical import encode_json
from clipshards.packer.packing import Packing
from clipshards.packer.status import read_status
from clipshards.readers.integrity import verify

Run = Callable[..., tuple[int, str, str]]


def job_of(out: Path, media_root: makers.MediaRoot, **options: Any) -> Packing:
    given: dict[str, Any] = {"split": "train", "shard_size": 120_000}
    records = VideoList(media_root.annotation)
    return Packing(records, out, media_root=media_root.root, **(given | options))


def test_finished_splits_are_listed(run: Run, packed: Path) -> None:
    code, out, err = run("status", packed)
    assert (code, err) == (0, "")
    assert re.search(r"^train: finished, 3 of 3 shards$", out, re.M)
    assert re.search(r"^val: finished, 1 of 1 shard$", out, re.M)
    assert len(re.findall(r"in shards +16 samples, ", out)) == 2
    assert "rejects" not in out
    code, out, _ = run("status", packed, "--split", "val")
    assert code == 0
    assert "train" not in out


def test_stopped_split_says_how_to_go_on(
    run: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    report = job_of(tmp_path / "out", media_root).run_part(1, 2)
    code, out, err = run("status", tmp_path / "out")
    assert (code, err) == (0, "")
    shards = report.shards + len(report.missing)
    assert out.startswith(f"train: stopped, {report.shards} of {shards} shards\n")
    assert "the same pack command goes on; --replan starts over" in out


def test_run_at_work_and_run_that_was_killed_are_told(
    run: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    texts: list[str] = []

    def look(entries: int, _bytes: int) -> None:
        if entries and not texts:
            texts.append(run("status", out)[1])
            texts.append(run("status", out, "--json")[1])

    job_of(out, media_root).run_part(1, 2)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=60)
    job_of(out, media_root).run_part(2, 2, progress=look)
    assert texts[0].startswith("train: running, ")
    assert re.search(rf"part 2/2 +.*process {os.getpid()} on .*, 1 worker, heard of", texts[0])
    ((status),) = json.loads(texts[1])
    (told,) = status.pop("runs")
    assert told["alive"] is True
    assert (told["pid"], told["part"], told["parts"]) == (os.getpid(), 2, 2)
    # As a killed run leaves it.
    told = {name: value for name, value in told.items() if name != "alive"}
    name = out / "train" / ".build" / "run-00.json"
    name.write_bytes(encode_json(told | {"pid": ended.pid}))
    code, text, err = run("status", out, "--split", "train")
    assert (code, err) == (0, "")
    assert text.startswith("train: stopped, ")
    assert re.search(rf"part 2/2 .*process {ended.pid} on .*ended without a word", text)


def test_json_has_all_that_is_known(run: Run, media_root: makers.MediaRoot, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job_of(out, media_root).run_part(1, 2)
    job_of(out, media_root, split="val").run()
    code, text, err = run("status", out, "--json")
    assert (code, err) == (0, "")
    train, val = json.loads(text)
    assert (train["split"], train["state"], train["runs"]) == ("train", "stopped", [])
    assert (val["split"], val["state"], val["samples"]) == ("val", "finished", 16)
    assert train.keys() == val.keys()
    assert train["shards_made"] < train["shards"]
    assert (train["entries"], train["rejects"]) == (16, 0)


def test_where_nothing_was_packed_status_ends_with_2(run: Run, tmp_path: Path) -> None:
    for options in ((), ("--json",), ("--split", "train")):
        code, out, err = run("status", tmp_path / "nowhere", *options)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
    (tmp_path / "file").touch()
    code, _, err = run("status", tmp_path / "file")
    assert (code, "this is a file" in err) == (2, True)
    assert not (tmp_path / "nowhere").exists()


def test_damaged_manifest_ends_with_1(run: Run, copied: Path) -> None:
    (copied / "val" / "manifest.json").write_text("{}")
    code, out, err = run("status", copied)
    assert (code, out) == (1, "")
    assert "val/manifest.json" in err


@pytest.fixture(scope="module")
def command(
    media_root: makers.MediaRoot, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Sequence[str]]:
    """Return a function that gives the command of a packing long enough to be interrupted."""
    file = tmp_path_factory.mktemp("list") / "list.txt"
    file.write_text(media_root.annotation.read_text() * 10)

    def command(out: Path) -> Sequence[str]:
        return (
            *("pack", "video", str(file), "--media-root", str(media_root.root)),
            *("--out", str(out), "--split", "train", "--shard-size", "200kB", "--workers", "2"),
        )

    return command


@pytest.fixture(scope="module")
def clean(
    command: Callable[[Path], Sequence[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What that packing makes when nothing comes between."""
    out = tmp_path_factory.mktemp("clean")
    done = subprocess.run(
        [sys.executable, "-m", "clipshards.tools.cli", *command(out)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split()]


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("moment", ["processes begin", "processes work"])
def test_ctrl_c_ends_all_processes_and_the_same_command_goes_on(
    run: Run,
    command: Callable[[Path], Sequence[str]],
    clean: Path,
    tmp_path: Path,
    moment: str,
) -> None:
    folder = tmp_path / "out" / "train"
    process = subprocess.Popen(
        [sys.executable, "-m", "clipshards.tools.cli", *command(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A terminal sends the signal to all of its group.
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            # The tracker of shared memory, and two that pack.
            if moment == "processes begin" and len(children_of(process.pid)) >= 2:
                # Their imports take longer than this, and may be met at any point of them.
                for _ in range(30):
                    for child in children_of(process.pid):
                        os.kill(child, signal.SIGINT)
                    time.sleep(0.01)
                break
            if len(list(folder.glob(".build/*.tar.json"))) >= 2:
                break
            time.sleep(0.001)
        children = children_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
    if moment == "processes begin" and out:
        # Its processes began so fast that there was nothing left to interrupt but Python's end.
        assert process.returncode in (0, -signal.SIGINT)
        assert tree(tmp_path / "out") == tree(clean)
        return
    assert (process.returncode, out) == (130, "")
    assert (
        "Interrupted. Given again without --replan, a pack or copy command goes on where this one "
        "stopped." in err
    )
    assert "Traceback" not in err, err
    assert children
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a process outlived the packing"
        time.sleep(0.01)
    status = read_status(tmp_path / "out", split="train")
    assert (status.state, status.runs) == ("stopped", ())
    # Processes that begin fast may have made all shards, and wait for the manifest.
    assert status.shards_made < status.shards or moment == "processes begin"
    assert list(folder.glob(".build/*.partial")) == []
    code, text, err = run(*command(tmp_path / "out"))
    assert (code, err) == (0, "")
    total, kept = status.shards, status.shards_made
    assert f"({total - kept} of {total} shards made by this run)" in text
    assert verify(tmp_path / "out").whole
    assert tree(tmp_path / "out") == tree(clean)


def test_the_end_of_a_job_array_is_like_ctrl_c(
    command: Callable[[Path], Sequence[str]], clean: Path, run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "train"
    process = subprocess.Popen(
        [sys.executable, "-m", "clipshards.tools.cli", *command(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(folder.glob(".build/*.tar.json"))) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        children = children_of(process.pid)
        process.terminate()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (143, "")
    assert "Interrupted." in err
    assert "Traceback" not in err, err
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a process outlived the packing"
        time.sleep(0.01)
    assert list(folder.glob(".build/*.partial")) == []
    assert run(*command(tmp_path / "out"))[0] == 0
    assert tree(tmp_path / "out") == tree(clean)
