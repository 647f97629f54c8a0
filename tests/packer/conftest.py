"""What the tests of packing share: tiny videos, lists of them, and the look at a folder."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from clipshards.packer.media.synthetic import write_video


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with v0.mp4 to v7.mp4, shared by all tests: copy it before changing it."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(8):
        write_video(folder / f"v{number}.mp4", frames=12, width=64, height=48, seed=number)
    return folder


@pytest.fixture
def media(videos: Path, tmp_path: Path) -> Path:
    """The test's own copy of the videos."""
    return Path(shutil.copytree(videos, tmp_path / "media"))


@pytest.fixture
def junk(tmp_path: Path) -> Path:
    """A folder with j00.mp4 to j19.mp4 that are no videos, for packing unopened."""
    folder = tmp_path / "junk"
    folder.mkdir()
    for number in range(20):
        data = hashlib.sha256(b"%d" % number).digest() * (500 + 100 * number)
        (folder / f"j{number:02d}.mp4").write_bytes(data)
    return folder


@pytest.fixture
def annotate(tmp_path: Path) -> Callable[[Sequence[str]], Path]:
    """Return a function that writes lines to a list file and returns its path."""

    def annotate(lines: Sequence[str]) -> Path:
        file = tmp_path / "list.txt"
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return file

    return annotate


@pytest.fixture
def tree() -> Callable[[Path], dict[str, str]]:
    """Return a function that gives the sha256 of every file under a folder, by its name."""

    def tree(folder: Path) -> dict[str, str]:
        return {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }

    return tree


@pytest.fixture
def read_samples() -> Callable[[Path], dict[str, dict[str, bytes]]]:
    """Return a function that reads the samples of a split's folder with tarfile, in order."""

    def read_samples(split: Path) -> dict[str, dict[str, bytes]]:
        samples: dict[str, dict[str, bytes]] = {}
        for shard in sorted(split.glob("*.tar")):
            with tarfile.open(shard, "r:") as archive:
                members = archive.getmembers()
                assert members[-1].name == "__index__"
                for member in members[:-1]:
                    key, part = member.name.split(".", 1)
                    file = archive.extractfile(member)
                    assert file is not None
                    parts = samples.setdefault(key, {})
                    assert part not in parts
                    parts[part] = file.read()
        return samples

    return read_samples


@pytest.fixture
def read_abouts(
    read_samples: Callable[[Path], dict[str, dict[str, bytes]]],
) -> Callable[[Path], dict[str, Any]]:
    """Return a function that reads the `json` part of every sample of a split's folder."""

    def read_abouts(split: Path) -> dict[str, Any]:
        return {key: json.loads(parts["json"]) for key, parts in read_samples(split).items()}

    return read_abouts
