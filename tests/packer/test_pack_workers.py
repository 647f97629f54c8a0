"""Packing in several processes: the same bytes, whatever happens to them."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pack_inputs import moments, skeletons, videos, write_videos

from clipshards.packer import (
    VideoRecord,
    WorkerError,
    pack,
)
from clipshards.packer.engines import local
from clipshards.readers import verify

Tree = Callable[[Path], dict[str, str]]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("media"))


@pytest.mark.parametrize("task", ["video", "skeleton", "ava"])
def test_the_bytes_do_not_depend_on_the_number_of_processes(
    task: str, tmp_path: Path, media: Path, tree: Tree
) -> None:
    records: Any = {"video": videos, "skeleton": skeletons}.get(task, lambda: moments(tmp_path))
    size = {"video": 70_000, "skeleton": 15_000, "ava": 30_000}[task]
    trees, reports = [], []
    for workers in (1, 2, 4):
        out = tmp_path / str(workers)
        options: dict[str, Any] = {"media_root": media, "shard_size": size, "workers": workers}
        told: list[tuple[int, int]] = []
        report = pack(
            records(), out, split="t", progress=lambda *t, told=told: told.append(t), **options
        )
        assert report.shards == report.shards_made > 3
        assert sum(entries for entries, _ in told) == report.entries
        trees.append(tree(out))
        reports.append((report.packed, report.rejects, report.content_digest))
    assert trees[0] == trees[1] == trees[2]
    assert reports[0] == reports[1] == reports[2]
    assert verify(tmp_path / "4").damage == []


def kill_one(_number: int) -> bool:
    children = multiprocessing.active_children()
    if not children:
        return False
    os.kill(random.choice(children).pid or 0, signal.SIGKILL)
    return True


def test_processes_may_die_and_the_bytes_are_the_same(
    tmp_path: Path, media: Path, tree: Tree
) -> None:
    options: dict[str, Any] = {"split": "t", "media_root": media, "shard_size": 30_000}
    pack(videos(), tmp_path / "clean", **options)
    random.seed(0)
    killed: list[bool] = []

    def progress(entries: int, _bytes: int) -> None:
        if entries and len(killed) < 2:
            killed.append(kill_one(len(killed)))

    pack(videos(), tmp_path / "out", workers=3, progress=progress, **options)
    assert any(killed)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


def test_a_shard_that_kills_every_process_is_named(
    tmp_path: Path, media: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"split": "t", "media_root": media, "shard_size": 30_000}
    pack(videos(), tmp_path / "clean", **options)
    monkeypatch.setattr(local, "TRIES", 1)
    done = 0

    def progress(entries: int, _bytes: int) -> None:
        nonlocal done
        done += entries
        kill_one(done)

    with pytest.raises(WorkerError, match=r"t/t-0000\d\d\.tar: \d processes ended .* signal 9"):
        pack(videos(), tmp_path / "out", workers=2, progress=progress, **options)
    # What is finished is kept, and the same call goes on.
    assert not (tmp_path / "out" / "t" / "manifest.json").exists()
    pack(videos(), tmp_path / "out", workers=2, **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


SCRIPT = """
import json, os, sys
from clipshards.packer import VideoRecord, pack
if __name__ == "__main__":
    out, media, names = json.loads(sys.argv[1])
    def progress(entries, size):
        print(entries, flush=True)
    pack([VideoRecord(name, (0,)) for name in names], out, split="t", media_root=media,
         shard_size=20_000, workers=2, progress=progress, max_rejects=99)
"""


def test_processes_end_when_their_parent_is_killed(tmp_path: Path, media: Path, tree: Tree) -> None:
    names = [f"{number}.mp4" for number in range(12)] * 4
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments = json.dumps([str(tmp_path / "out"), str(media), names])
    parent = subprocess.Popen(
        [sys.executable, str(script), arguments], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    while parent.stdout.readline().strip() in ("", "0"):
        assert parent.poll() is None
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert children
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(0.05)
    records = [VideoRecord(name, (0,)) for name in names]
    options: dict[str, Any] = {"split": "t", "media_root": media, "shard_size": 20_000}
    pack(records, tmp_path / "out", **options)
    pack(records, tmp_path / "clean", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
