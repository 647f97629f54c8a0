"""Running the command line as a user does, and a small data set to point it at."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import makers
import pytest

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.one_call import pack
from clipshards.tools.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `clipshards` with these arguments; return exit code, standard output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["clipshards", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as exc:
            code = exc.code or 0
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def packed(media_root: makers.MediaRoot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with the splits train (3 shards, class names) and val: look, do not write."""
    out = tmp_path_factory.mktemp("tools") / "set"
    records = VideoList(media_root.annotation)
    pack(
        records,
        out,
        split="train",
        media_root=media_root.root,
        class_names=("run", "jump", "sit down"),
        shard_size=120_000,
    )
    pack(records, out, split="val", media_root=media_root.root, seed=1)
    return out


@pytest.fixture
def copied(packed: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(packed, tmp_path / "copied"))


@pytest.fixture
def damaged(copied: Path) -> Path:
    """A copy with one byte flipped in the last sample of train's second shard."""
    path = copied / "train" / "train-000001.tar"
    data = bytearray(path.read_bytes())
    place = data.rindex(b".mp4\0") // 512 * 512 + 512 + 40
    data[place] ^= 1
    path.write_bytes(data)
    return copied
