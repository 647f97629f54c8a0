"""The same list, media and options give the same bytes, whatever stands around them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Tree = Callable[[Path], dict[str, str]]

LINES = [
    *(f"v{number}.mp4 {number % 3}" for number in range(6)),
    "t\xe4nze/v6.mp4 1",
    "missing.mp4 1",
    "broken.mp4 1",
    "",
    "v7.mp4\t1",
    "v7.mp4 0",
]
CLASS_NAMES = "run\nj\xfcmp\n\u8df3\u821e\n"


def pack_in_a_process(
    media: str,
    annotation: str,
    out: str,
    *,
    cwd: Path,
    environment: dict[str, str] | None = None,
    umask: int = 0o022,
) -> None:
    """Run `clipshards pack` as a user does, in a process of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LC_") and name not in ("LANG", "LANGUAGE", "TZ")
    }
    command = [sys.executable, "-m", "clipshards.tools.cli", "pack", "video", annotation]
    done = subprocess.run(
        [
            *command,
            *("--media-root", media, "--out", out, "--split", "train"),
            *("--shard-size", "40kB", "--class-names", f"{annotation}.classes"),
        ],
        cwd=cwd,
        env=kept | (environment or {}),
        umask=umask,
        capture_output=True,
        timeout=120,
    )
    # 1, as entries were rejected.
    assert done.returncode == 1, done.stderr.decode()


@pytest.fixture(scope="module")
def home(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with media, a list and what they give: `out`."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(videos, home / "media")
    (home / "media" / "t\xe4nze").mkdir()
    (home / "media" / "v6.mp4").rename(home / "media" / "t\xe4nze" / "v6.mp4")
    (home / "media" / "broken.mp4").write_bytes(b"no video")
    (home / "list.txt").write_text("\n".join(LINES), encoding="utf-8")
    (home / "list.txt.classes").write_text(CLASS_NAMES, encoding="utf-8")
    pack_in_a_process("media", "list.txt", "out", cwd=home)
    return home


def test_run_to_compare_with_has_all_that_could_differ(home: Path, tree: Tree) -> None:
    names = list(tree(home / "out"))
    assert "train/manifest.json" in names
    assert "train.wids.json" in names
    assert len([name for name in names if name.endswith(".tar")]) > 2
    assert len((home / "out" / "train" / "rejects.jsonl").read_text().splitlines()) == 4
    # No trace of this machine's folders.
    for file in (home / "out").rglob("*"):
        if file.is_file():
            assert str(home).encode() not in file.read_bytes()


def test_same_command_gives_the_same_bytes(home: Path, tree: Tree) -> None:
    pack_in_a_process("media", "list.txt", "again", cwd=home)
    assert tree(home / "again") == tree(home / "out")


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C.UTF-8"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"TZ": "Pacific/Kiritimati"},
        {"TZ": "America/Noronha", "SOURCE_DATE_EPOCH": "0"},
        {"PYTHONHASHSEED": "0"},
        {"PYTHONHASHSEED": "4242"},
        {"PYTHONOPTIMIZE": "2"},
        {"OMP_NUM_THREADS": "1", "HOME": "/nonexistent", "USER": "somebody"},
    ],
    ids=lambda environment: "-".join(f"{name}={value}" for name, value in environment.items()),
)
def test_environment_does_not_matter(
    home: Path, tmp_path: Path, tree: Tree, environment: dict[str, str]
) -> None:
    pack_in_a_process("media", "list.txt", str(tmp_path / "out"), cwd=home, environment=environment)
    assert tree(tmp_path / "out") == tree(home / "out")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_umask_does_not_matter_for_the_bytes(
    home: Path, tmp_path: Path, tree: Tree, umask: int
) -> None:
    pack_in_a_process("media", "list.txt", str(tmp_path / "out"), cwd=home, umask=umask)
    assert tree(tmp_path / "out") == tree(home / "out")
    manifest = tmp_path / "out" / "train" / "manifest.json"
    assert manifest.stat().st_mode & 0o777 == 0o666 & ~umask


def test_working_directory_and_ways_of_naming_do_not_matter(
    home: Path, tmp_path: Path, tree: Tree
) -> None:
    away = tmp_path / "a" / "b"
    away.mkdir(parents=True)
    media = os.path.relpath(home / "media", away)
    annotation = f"{home}/./media/../list.txt"
    pack_in_a_process(f"{media}/", annotation, "../out/", cwd=away)
    assert tree(tmp_path / "a" / "out") == tree(home / "out")


def test_place_of_the_media_and_order_of_the_folder_do_not_matter(
    home: Path, tmp_path: Path, tree: Tree
) -> None:
    moved = tmp_path / "another place" / "m\xe9dia"
    (moved / "t\xe4nze").mkdir(parents=True)
    for file in sorted((home / "media").rglob("*.mp4"), reverse=True):
        target = moved / file.relative_to(home / "media")
        shutil.copy(file, target)
        target.chmod(0o600)
        os.utime(target, (1, 1))
    shutil.copy(home / "list.txt", tmp_path / "list.txt")
    shutil.copy(home / "list.txt.classes", tmp_path / "list.txt.classes")
    pack_in_a_process(str(moved), "list.txt", "out", cwd=tmp_path)
    assert tree(tmp_path / "out") == tree(home / "out")


def test_links_to_the_media_give_the_same_bytes(home: Path, tmp_path: Path, tree: Tree) -> None:
    linked = tmp_path / "linked"
    for file in (home / "media").rglob("*.mp4"):
        target = linked / file.relative_to(home / "media")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    pack_in_a_process(str(linked), f"{home}/list.txt", str(tmp_path / "out"), cwd=tmp_path)
    assert tree(tmp_path / "out") == tree(home / "out")
