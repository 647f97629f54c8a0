"""Packing on a Ray cluster: the same bytes, whatever happens to its processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from pack_inputs import moments, skeletons, videos, write_videos

from clipshards.packer import (
    Packing,
    Recipe,
    RejectsError,
    StorageError,
    VideoList,
    VideoRecord,
    WorkerError,
    finish_split,
)
from clipshards.packer.encoding import RECIPES
from clipshards.packer.engines.ray import RayEngine
from clipshards.packer.status import read_status
from clipshards.readers import verify
from clipshards.tools.cli import main

Tree = Callable[[Path], dict[str, str]]

# Ray leaves sockets and the logs of its processes to the collector of garbage.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Start a cluster on this machine; return its address."""
    # Nobody is told of it.
    before = dict(os.environ)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Nor is Python's print replaced.
    os.environ["RAY_TQDM_PATCH_PRINT"] = "0"
    context = ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
    )
    yield str(context.address_info["gcs_address"])
    ray.shutdown()
    assert type(print).__name__ == "builtin_function_or_method"
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("media"))


def job_of(out: Path, media: Path, records: Any = None, **options: Any) -> Packing:
    given: dict[str, Any] = {"split": "t", "shard_size": 70_000, "media_root": media}
    return Packing(videos() if records is None else records, out, **(given | options))


def tasks_at_work() -> int:
    """Return how many tasks of the cluster run or wait."""
    free = ray.available_resources().get("CPU", 0)
    return int(ray.cluster_resources()["CPU"] - free)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("media_mode", ["remux", *RECIPES])
def test_every_recipe_gives_the_bytes_of_one_process(
    media_mode: Any, tmp_path: Path, media: Path, tree: Tree
) -> None:
    recipe = Recipe(media_mode)
    clean = job_of(tmp_path / "clean", media, recipe=recipe).run()
    assert clean.shards > 3
    job_of(tmp_path / "out", media, recipe=recipe).run(engine=RayEngine())
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("task", ["video", "skeleton", "ava"])
def test_bytes_are_those_of_one_process(task: str, tmp_path: Path, media: Path, tree: Tree) -> None:
    makers_of: dict[str, Callable[[], Any]] = {"video": videos, "skeleton": skeletons}
    make = makers_of.get(task, lambda: moments(tmp_path))
    size = {"video": 70_000, "skeleton": 15_000, "ava": 30_000}[task]
    clean = job_of(tmp_path / "clean", media, make(), shard_size=size).run()
    told: list[tuple[int, int]] = []
    job = job_of(tmp_path / "out", media, make(), shard_size=size)
    report = job.run(engine=RayEngine(), progress=lambda *words: told.append(words))
    assert report.shards == report.shards_made > 3
    assert replace(report, location="") == replace(clean, location="")
    assert sum(entries for entries, _ in told) == report.entries
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    assert verify(tmp_path / "out").whole


@pytest.mark.usefixtures("cluster")
def test_parts_and_a_retry_are_made_there_too(tmp_path: Path, media: Path, tree: Tree) -> None:
    clean = job_of(tmp_path / "clean", media).run()
    for part, engine in ((2, RayEngine(workers=1)), (1, RayEngine(workers=5))):
        report = job_of(tmp_path / "out", media).run_part(part, 2, engine=engine)
        assert report.shards_made == report.shards
    finish_split(tmp_path / "out", split="t")
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    again = job_of(tmp_path / "out", media).run(engine=RayEngine(), retry_rejects=True)
    assert 0 < again.shards_made < again.shards == clean.shards
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


@pytest.mark.usefixtures("cluster")
def test_media_that_cannot_be_packed_are_rejects(tmp_path: Path, media: Path) -> None:
    report = job_of(tmp_path / "out", media).run(engine=RayEngine())
    assert [(row.id, row.error) for row in report.rejects] == [
        ("broken.mp4", "MediaError"),
        ("gone.mp4", "MediaError"),
    ]
    with pytest.raises(RejectsError, match="2 of 14"):
        job_of(tmp_path / "few", media, max_rejects=1).run(engine=RayEngine())


@pytest.mark.usefixtures("cluster")
def test_location_that_cannot_be_written_is_the_same_error_and_lets_the_tasks_go(
    tmp_path: Path, media: Path
) -> None:
    out = tmp_path / "out"
    # The shards' names are taken by folders, which no shard replaces.
    for number in range(20):
        (out / "t" / f"t-{number:06d}.tar" / "x").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"t/t-\d{6}\.tar: .*directory") as caught:
        job_of(out, media, shard_size=30_000).run(engine=RayEngine())
    assert type(caught.value) is StorageError
    wait_until(lambda: tasks_at_work() == 0, "a task goes on")
    assert list((out / "t" / ".build").glob("run-*")) == []


def at_work(out: Path) -> list[int]:
    """Return the processes of Ray that make a shard below a folder.

    They bear the name of their task. Other clusters can be on this machine, so they must
    have a file open there as well.
    """
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if not (folder / "cmdline").read_bytes().startswith(b"ray::_make_far_away"):
                    continue
                files = [str(file.readlink()) for file in (folder / "fd").iterdir()]
            except OSError:
                continue
            if any(file.startswith(str(out)) for file in files):
                found.append(int(folder.name))
    return found


class Killer:
    """Kills processes that make shards of one folder while it is entered."""

    def __init__(self, out: Path, times: int) -> None:
        self.killed = 0
        self._out = out
        self._times = times
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(0.002) and self.killed < self._times:
            for pid in at_work(self._out):
                if self.killed < self._times:
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1


@pytest.mark.usefixtures("cluster")
def test_processes_may_die_and_the_bytes_are_the_same(
    tmp_path: Path, media: Path, tree: Tree
) -> None:
    records = videos() * 5
    clean = job_of(tmp_path / "clean", media, records, shard_size=300_000).run()
    out = tmp_path / "out"
    with Killer(out, 2) as killer:
        report = job_of(out, media, records, shard_size=300_000).run(engine=RayEngine())
    assert killer.killed == 2
    assert report.shards_made == clean.shards > 3
    assert tree(out) == tree(tmp_path / "clean")


@pytest.mark.usefixtures("cluster")
def test_shard_that_kills_every_process_is_named(tmp_path: Path, media: Path, tree: Tree) -> None:
    records = videos() * 5
    out = tmp_path / "out"
    with (
        Killer(out, 100) as killer,
        pytest.raises(WorkerError, match=r"t/t-00000\d\.tar: 3 processes ended before it was"),
    ):
        job_of(out, media, records, shard_size=5_000_000).run(engine=RayEngine())
    assert killer.killed >= 3
    assert not (out / "t" / "manifest.json").exists()
    wait_until(lambda: tasks_at_work() == 0, "a task goes on")
    # What is finished is kept, and the same job goes on elsewhere.
    job_of(out, media, records, shard_size=5_000_000).run()
    job_of(tmp_path / "clean", media, records, shard_size=5_000_000).run()
    assert tree(out) == tree(tmp_path / "clean")


@pytest.mark.usefixtures("cluster")
def test_interrupt_lets_the_tasks_go(tmp_path: Path, media: Path) -> None:
    # Two shards, each of half a minute or so.
    records = [VideoRecord(f"{number % 12}.mp4", (number,)) for number in range(8000)]
    out = tmp_path / "out"

    def interrupt() -> None:
        while not ended.wait(0.01):
            if len(at_work(out)) == 2:
                os.kill(os.getpid(), signal.SIGINT)
                return

    ended = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    other = threading.Thread(target=interrupt)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            job_of(out, media, records, shard_size=60_000_000).run(engine=RayEngine())
    finally:
        ended.set()
        other.join(60)
        signal.signal(signal.SIGINT, before)
    wait_until(lambda: not at_work(out), "a task goes on", 8)
    # The first may have ended before the cluster had a process for the second.
    assert len(list((out / "t").glob("*.tar"))) < 2
    assert read_status(out, split="t").runs == ()


@pytest.mark.usefixtures("cluster")
def test_status_does_not_speak_of_no_workers(
    tmp_path: Path,
    media: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["clipshards", "status", str(tmp_path / "out")])
    texts: list[str] = []

    def progress(entries: int, _bytes: int) -> None:
        if entries and not texts:
            capsys.readouterr()
            with pytest.raises(SystemExit):
                main()
            texts.append(capsys.readouterr().out)

    job_of(tmp_path / "out", media).run(engine=RayEngine(), progress=progress)
    (text,) = texts
    assert text.startswith("t: running, ")
    assert f"process {os.getpid()} on " in text
    assert " 0 workers" not in text


def clipshards(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "clipshards.tools.cli", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write_list(folder: Path) -> Path:
    file = folder / "list.txt"
    file.write_text("".join(f"{record.path} {record.labels[0]}\n" for record in videos()[:12]))
    return file


@pytest.mark.deep
def test_command_line_packs_on_the_cluster_at_an_address(
    tmp_path: Path, media: Path, tree: Tree, cluster: str
) -> None:
    job_of(tmp_path / "clean", media, VideoList(write_list(tmp_path))).run()
    # Places relative to the folder that the command is given in, which is no task's own.
    done = clipshards(
        *("pack", "video", "list.txt", "--media-root", os.path.relpath(media, tmp_path)),
        *("--split", "t", "--shard-size", "70kB", "--json"),
        *("--out", "out", "--engine", "ray", "--ray-address", cluster),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["shards_made"] == report["shards"] > 3
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    # The cluster is not ours to end.
    assert ray.get(ray.remote(lambda: 7).remote(), timeout=60) == 7


def test_command_line_starts_and_ends_a_cluster_of_its_own(
    tmp_path: Path, media: Path, tree: Tree
) -> None:
    job_of(tmp_path / "clean", media, VideoList(write_list(tmp_path))).run()
    before = raylets()
    done = clipshards(
        *("pack", "video", "list.txt", "--media-root", media, "--split", "t"),
        *("--shard-size", "70kB", "--out", "out", "--engine", "ray"),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("12 of 12 entries packed in ")
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    wait_until(lambda: raylets() <= before, "its cluster goes on")


def raylets() -> set[int]:
    """Return the processes on this machine that are the heart of a cluster."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                program = (folder / "cmdline").read_bytes().split(b"\0")[0]
            except OSError:
                continue
            if program.endswith(b"/raylet"):
                found.add(int(folder.name))
    return found


def test_address_where_nothing_is_wrong_use(tmp_path: Path, media: Path) -> None:
    done = clipshards(
        *("pack", "video", write_list(tmp_path), "--media-root", media, "--split", "t"),
        *("--out", "out", "--engine", "ray", "--ray-address", "127.0.0.1:1"),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: engine ray: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").rglob("*.tar"))


# The command line where Ray is not installed.
WITHOUT_RAY = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from clipshards.tools.cli import main
main()
"""


def test_without_ray_the_remedy_is_told(tmp_path: Path, media: Path) -> None:
    command = [
        *(sys.executable, "-c", WITHOUT_RAY, "pack", "video", str(write_list(tmp_path))),
        *("--media-root", str(media), "--split", "t", "--out", str(tmp_path / "out")),
    ]
    done = subprocess.run(
        [*command, "--engine", "ray"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: engine ray: Ray is not installed; pip install 'clipshards[ray]'\n"
    )
    shutil.rmtree(tmp_path / "out")
    # Nothing else needs it.
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0


def test_address_without_the_engine_is_wrong_use(tmp_path: Path, media: Path) -> None:
    done = clipshards(
        *("pack", "video", write_list(tmp_path), "--media-root", media, "--split", "t"),
        *("--out", "out", "--ray-address", "x"),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "--ray-address needs --engine ray" in done.stderr


def test_workers_below_none_are_refused() -> None:
    with pytest.raises(ValueError, match="workers -1"):
        RayEngine(workers=-1)
