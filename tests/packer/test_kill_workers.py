"""A packing with several processes, killed again and again: parent, workers, the last moments."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import makers
import pytest

from clipshards.readers import verify

Tree = Callable[[Path], dict[str, str]]

VIDEOS = 40
SHARD_SIZE = "100kB"
# A shard may cost three processes: one less can die without an error.
MOST_WORKERS_KILLED = 2

# The command line, killed by itself before its n-th change of the folder from the manifest's
# final name on, which is the first.
KILLED_AT_THE_END = """
import os, signal, sys
from pathlib import Path

tests, folder, number = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
sys.path.insert(0, tests)
from killed_packing import changed_path
seen = 0

def count(event, args):
    global seen
    path = changed_path(event, args)
    if seen or (event == "os.rename" and path == f"{folder}/t/manifest.json"):
        if path.startswith(folder):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
from clipshards.tools.cli import main
main()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `media` and `list.txt`: 40 videos, some of which cannot be packed."""
    world = tmp_path_factory.mktemp("world")
    (world / "media").mkdir()
    data = [makers.video_bytes(frames=60, seed=seed, options={"g": "10"}) for seed in range(5)]
    for number in range(VIDEOS - 2):
        (world / "media" / f"{number:02d}.mp4").write_bytes(data[number % 5])
    (world / "media" / f"{VIDEOS - 2}.mp4").write_bytes(b"no video" * 4000)
    lines = (f"{number:02d}.mp4 {number}\n" for number in range(VIDEOS))
    (world / "list.txt").write_text("".join(lines))
    return world


@pytest.fixture(scope="module")
def clean(world: Path) -> Path:
    """What an uninterrupted run makes."""
    done = subprocess.run(
        [*(sys.executable, "-m", "clipshards.tools.cli"), *arguments(world, world / "clean", 1)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    # 1, as entries were rejected.
    assert done.returncode == 1, done.stderr
    return world / "clean"


def arguments(world: Path, out: Path, workers: int = 3) -> list[str]:
    return [
        *("pack", "video", str(world / "list.txt"), "--media-root", str(world / "media")),
        *("--out", str(out), "--split", "t", "--shard-size", SHARD_SIZE),
        *("--workers", str(workers)),
    ]


def workers_of(pid: int) -> list[int]:
    """Return the processes that pack for another one."""
    found = []
    try:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            # Beside them there is the tracker of shared memory.
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    except OSError:
        pass
    return found


@dataclass
class Killing:
    """Packings that are killed, and what is left of them."""

    world: Path
    clean: dict[str, str]
    tree: Tree
    draw: random.Random
    kills: int = 0
    seen: set[int] = field(default_factory=set)
    """All workers that were ever found."""

    def start(self, out: Path, at_the_end: int = 0) -> "subprocess.Popen[bytes]":
        program = ["-m", "clipshards.tools.cli"]
        if at_the_end:
            tests = str(Path(__file__).parent)
            program = ["-c", KILLED_AT_THE_END, tests, str(out), str(at_the_end)]
        return subprocess.Popen(
            [sys.executable, *program, *arguments(self.world, out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run_once(self, out: Path, most: int) -> bool:
        """Run the packing and kill what a draw says, up to `most` times; return if it ended."""
        parent = self.start(out)
        started = time.monotonic()
        workers_killed = 0
        try:
            for _ in range(most):
                wait = self.draw.uniform(0.1, 1.3)
                while time.monotonic() < started + wait and parent.poll() is None:
                    self.seen.update(workers_of(parent.pid))
                    time.sleep(0.005)
                started = time.monotonic()
                workers = workers_of(parent.pid)
                if parent.poll() is not None:
                    break
                if workers and workers_killed < MOST_WORKERS_KILLED and self.draw.random() < 0.5:
                    self.kill(self.draw.choice(workers))
                    workers_killed += 1
                else:
                    self.kill(parent.pid)
                    parent.wait(timeout=60)
                    self.check_what_stands(out)
                    return False
            assert parent.wait(timeout=120) == 1
            return True
        finally:
            parent.kill()
            parent.wait(timeout=60)

    def kill(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills += 1

    def kill_at_the_end(self, out: Path, number: int) -> bool:
        """Kill the packing at a change from the manifest on; return if it was not over before."""
        process = self.start(out, number)
        try:
            code = process.wait(timeout=120)
        finally:
            process.kill()
            process.wait(timeout=60)
        assert code in (1, -signal.SIGKILL)
        if code == -signal.SIGKILL:
            self.kills += 1
        self.check_what_stands(out)
        return code == -signal.SIGKILL

    def check_what_stands(self, out: Path) -> None:
        """Whatever has its final name is what an uninterrupted run puts there."""
        found = dict(self.digests(out))
        assert found.items() <= self.clean.items()
        if "t/manifest.json" in found:
            assert verify(out).damage == []

    def digests(self, out: Path) -> Iterator[tuple[str, str]]:
        # Workers whose parent was killed may still be at the last of their shards, and remove
        # what a look has found in the build folder.
        for file in sorted(out.rglob("*")):
            name = str(file.relative_to(out))
            if not name.startswith("t/.build") and file.is_file():
                yield name, hashlib.sha256(file.read_bytes()).hexdigest()

    def finish(self, out: Path) -> None:
        """Let it come to its end and compare; no process is left behind."""
        process = self.start(out)
        try:
            while process.poll() is None:
                self.seen.update(workers_of(process.pid))
                time.sleep(0.02)
            assert process.wait(timeout=120) == 1
        finally:
            process.kill()
            process.wait(timeout=60)
        self.wait_for_the_workers()
        assert self.tree(out) == self.clean
        assert not (out / "t" / ".build").exists()
        assert verify(out).damage == []

    def wait_for_the_workers(self) -> None:
        deadline = time.monotonic() + 60
        while any(self.works(pid) for pid in self.seen):
            assert time.monotonic() < deadline, "a process was left behind"
            time.sleep(0.02)

    def works(self, pid: int) -> bool:
        """Return whether a worker of ours still runs; its number may be another's by now."""
        try:
            return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False


@pytest.fixture
def killing(world: Path, clean: Path, tree: Tree) -> Iterator[Callable[[int], Killing]]:
    """Return a function that gives a `Killing` of a seed."""
    made: list[Killing] = []

    def killing(seed: int) -> Killing:
        made.append(Killing(world, tree(clean), tree, random.Random(seed)))
        return made[-1]

    yield killing
    for one in made:
        for pid in filter(one.works, one.seen):
            os.kill(pid, signal.SIGKILL)


def test_tree_to_compare_with_has_many_shards(clean: Path, tree: Tree) -> None:
    assert len([name for name in tree(clean) if name.endswith(".tar")]) >= 10
    assert len((clean / "t" / "rejects.jsonl").read_text().splitlines()) == 2


def kill_again_and_again(killing: Killing, out: Path, times: int, *, end: int) -> None:
    """Kill one packing up to `times` times and once more at its end; then let it end."""
    before, ended = killing.kills, False
    while killing.kills - before < times and not ended:
        ended = killing.run_once(out, times - (killing.kills - before))
    if not ended:
        killing.kill_at_the_end(out, end)
    killing.finish(out)


def test_killed_a_few_times(tmp_path: Path, killing: Callable[[int], Killing]) -> None:
    one = killing(1)
    kill_again_and_again(one, tmp_path / "out", 3, end=2)
    assert one.kills >= 2


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2))
def test_killed_thirty_times(tmp_path: Path, killing: Callable[[int], Killing], seed: int) -> None:
    one = killing(seed)
    for number in range(60):
        if one.kills >= 30:
            break
        end = one.draw.randrange(1, 12)
        kill_again_and_again(one, tmp_path / f"out-{number}", one.draw.randrange(2, 7), end=end)
    assert one.kills >= 30


@pytest.mark.deep
def test_killed_at_each_of_the_last_changes(
    tmp_path: Path, killing: Callable[[int], Killing]
) -> None:
    one = killing(0)
    for number in range(1, 200):
        out = tmp_path / f"out-{number}"
        if not one.kill_at_the_end(out, number):
            break
        one.finish(out)
    # The manifest, the file for wids, and the build folder with all that is in it.
    assert 15 < number < 199
