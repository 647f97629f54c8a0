"""Tiny data sets, packed once for all tests of the reading side."""

import gc
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import makers
import numpy as np
import numpy.typing as npt
import pytest

from clipshards.packer.annotations.video_list import VideoList
from clipshards.packer.format.checksums import sha256_hex
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import Accounting, Manifest
from clipshards.packer.format.names import sample_key, shard_name
from clipshards.packer.media.synthetic import write_video
from clipshards.packer.one_call import pack
from clipshards.packer.recipe import Recipe
from clipshards.packer.samples.base import Sample
from clipshards.packer.shards import ShardWriter

Frames = npt.NDArray[np.uint8]

_VIDEOS = 15


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    """Loader processes end with their loader, which a traceback may keep alive for a while."""
    yield
    if multiprocessing.active_children():
        gc.collect()
    for process in multiprocessing.active_children():
        process.join(10)
    assert not multiprocessing.active_children()


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with v00.mp4 to v14.mp4, 12 to 30 frames of 64x48, and three lists of them."""
    folder = tmp_path_factory.mktemp("videos")
    lists: dict[str, list[str]] = {"one": [], "many": [], "none": []}
    for number in range(_VIDEOS):
        name = f"v{number:02d}.mp4"
        frames = 12 + 7 * number % 19
        write_video(folder / name, frames=frames, width=64, height=48, seed=number, sound=False)
        lists["one"].append(f"{name} {number % 4}")
        lists["many"].append(" ".join([name, *(str(n) for n in range(number % 3 + 1))]))
        lists["none"].append(name)
    for kind, lines in lists.items():
        (folder / f"{kind}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def location(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with the splits train, multi, bare (no labels, no frame tables) and gaps.

    The second shard of gaps holds no sample: all of its entries were rejected.
    """
    out = tmp_path_factory.mktemp("packed") / "set"
    pack(
        VideoList(videos / "one.txt"),
        out,
        split="train",
        media_root=videos,
        class_names=("north", "east", "south", "west"),
        shard_size=80_000,
    )
    many = VideoList(videos / "many.txt", labels="many")
    pack(many, out, split="multi", media_root=videos, shard_size=200_000)
    none = VideoList(videos / "none.txt", labels="none")
    bare = Recipe(frame_table="none")
    pack(none, out, split="bare", media_root=videos, recipe=bare, shard_size=150_000)
    gaps = videos / "gaps.txt"
    there = [f"v{number:02d}.mp4 0\n" for number in range(6)]
    gone = [f"gone{number}.mp4 0\n" for number in range(9)]
    gaps.write_text("".join(there[:3] + gone + there[3:]))
    report = pack(
        VideoList(gaps), out, split="gaps", media_root=videos, shard_size=100_000, seed=None
    )
    assert len(report.rejects) == len(gone)
    return out


@pytest.fixture
def copied(location: Path, tmp_path: Path) -> Path:
    """The split train alone, to be damaged."""
    shutil.copytree(location / "train", tmp_path / "copied" / "train")
    return tmp_path / "copied"


@pytest.fixture(scope="session")
def decoded(videos: Path) -> Callable[[str], Frames]:
    """All frames of a video by name, from a plain decode of the source file."""
    return cache(lambda name: np.stack(makers.frames_of((videos / name).read_bytes())))


@pytest.fixture
def craft(tmp_path: Path) -> Callable[..., Path]:
    """Write a split from samples made by hand, one list a shard; return its location."""

    def write(
        shards: Sequence[Sequence[Sample]], *, split: str = "train", task: str = "video"
    ) -> Path:
        folder = tmp_path / "crafted" / split
        folder.mkdir(parents=True)
        entries = []
        ordinal = 0
        for number, samples in enumerate(shards):
            pieces: list[bytes] = []
            writer = ShardWriter(pieces.append, ShardIndex(task, split, number, "0" * 64, {}))
            for sample in samples:
                writer.add(sample_key(split, ordinal), sample, entries=sample.items)
                ordinal += sample.items
            entries.append(writer.finish(records=len(samples)))
            (folder / shard_name(split, number)).write_bytes(b"".join(pieces))
        manifest = Manifest(
            task=task,
            split=split,
            labels="one",
            class_names=(),
            recipe={},
            run_length=1,
            request_digest="0" * 64,
            plan_digest="0" * 64,
            accounting=Accounting(ordinal, ordinal, 0, {}),
            rejects_sha256=sha256_hex(b""),
            made_with={},
            shards=tuple(entries),
        )
        (folder / "rejects.jsonl").write_bytes(b"")
        (folder / "manifest.json").write_bytes(manifest.encode())
        return folder.parent

    return write


@pytest.fixture
def rewrite_manifest() -> Callable[..., Manifest]:
    """Replace fields of a split's manifest, its digest made right again."""

    def rewrite(folder: Path, **fields: object) -> Manifest:
        path = folder / "manifest.json"
        manifest = Manifest.decode(path.read_bytes(), where="manifest")
        # mypy cannot know the types of fields given by name.
        changed = replace(manifest, **fields)  # type: ignore[arg-type]
        path.write_bytes(changed.encode())
        return changed

    return rewrite
