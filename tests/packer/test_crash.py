"""Killed at any moment, the same command again ends with the tree of an uninterrupted run."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipshards.packer import Recipe, RejectsError, VideoRecord, pack
from clipshards.readers import verify

Tree = Callable[[Path], dict[str, str]]
Kill = Callable[[list[tuple[dict[str, Any], list[Any]]]], list[int]]

VIDEOS = [(f"v{number}.mp4", number) for number in range(8)] + [("missing.mp4", 3)]
JUNK = [(f"j{number:02d}.mp4", number) for number in range(12)] + [("missing.mp4", 3)]


@pytest.fixture
def kill(tmp_path: Path) -> Kill:
    """Return a function that runs killed_packing.py."""

    def kill(runs: list[tuple[dict[str, Any], list[Any]]]) -> list[int]:
        request = tmp_path / "request.json"
        request.write_text(json.dumps(runs))
        script = Path(__file__).with_name("killed_packing.py")
        done = subprocess.run(
            [sys.executable, script, request], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        killed: list[int] = json.loads(done.stdout)
        return killed

    return kill


def options_of(out: Path, media: Path, **more: Any) -> dict[str, Any]:
    opened = media.name == "media"
    return {
        "records": VIDEOS if opened else JUNK,
        "out": str(out),
        "split": "train",
        "media_root": str(media),
        "frame_table": "decode" if opened else "none",
        "shard_size": 60_000 if opened else 120_000,
    } | more


def pack_to_the_end(options: dict[str, Any]) -> None:
    options = dict(options)
    records = [VideoRecord(path, (label,)) for path, label in options.pop("records")]
    recipe = Recipe(frame_table=options.pop("frame_table"))
    pack(records, options.pop("out"), recipe=recipe, **options)


def check_what_stands(found: dict[str, str], clean: dict[str, str]) -> None:
    """Whatever has its final name is what an uninterrupted run puts there."""
    final = {name: digest for name, digest in found.items() if "/.build/" not in name}
    assert final.items() <= clean.items()


def check_moments(
    tmp_path: Path, tree: Tree, kill: Kill, media: Path, moments: list[list[Any]]
) -> list[int]:
    """Kill one packing for each list of moments, check what stands, and pack to the end."""
    pack_to_the_end(options_of(tmp_path / "clean", media))
    clean = tree(tmp_path / "clean")
    assert len([name for name in clean if name.endswith(".tar")]) > 2
    outs = [tmp_path / f"out-{number}" for number in range(len(moments))]
    killed = kill(
        [(options_of(out, media), kills) for out, kills in zip(outs, moments, strict=True)]
    )
    for out in outs:
        if out.exists():
            check_what_stands(tree(out), clean)
        pack_to_the_end(options_of(out, media))
        assert tree(out) == clean
        assert not (out / "train" / ".build").exists()
        shutil.rmtree(out)
    return killed


def test_killed_at_every_change_of_the_folder(
    tmp_path: Path, junk: Path, tree: Tree, kill: Kill
) -> None:
    moments: list[list[Any]] = [[number] for number in range(1, 70)]
    killed = check_moments(tmp_path, tree, kill, junk, moments)
    # Killed at each, up to the last change of a whole run.
    assert killed == sorted(killed, reverse=True)
    assert 35 < sum(killed) < len(moments)


def check_seeded_moments(
    tmp_path: Path, media: Path, tree: Tree, kill: Kill, *, times: int
) -> None:
    draw = random.Random(times)
    by_change = [[draw.randrange(1, 25) for _ in range(4)] for _ in range(times // 2)]
    by_time = [[draw.uniform(0.0, 0.12) for _ in range(3)] for _ in range(times - times // 2)]
    killed = check_moments(tmp_path, tree, kill, media, [*by_change, *by_time])
    assert sum(killed) > times // 2


def test_killed_at_random_moments_again_and_again(
    tmp_path: Path, media: Path, tree: Tree, kill: Kill
) -> None:
    check_seeded_moments(tmp_path, media, tree, kill, times=8)


@pytest.mark.deep
def test_killed_at_many_random_moments(tmp_path: Path, media: Path, tree: Tree, kill: Kill) -> None:
    check_seeded_moments(tmp_path, media, tree, kill, times=40)


@pytest.mark.parametrize("standing", ["finished", "unfinished"])
def test_killed_while_replanning(
    tmp_path: Path, junk: Path, tree: Tree, kill: Kill, standing: str
) -> None:
    old = options_of(tmp_path / "old", junk, seed=1)
    new = options_of(tmp_path / "new", junk)
    if standing == "finished":
        pack_to_the_end(old)
    else:
        assert kill([(old, [15])]) == [1]
    pack_to_the_end(new)
    clean = tree(tmp_path / "new")
    outs = [tmp_path / f"out-{number}" for number in range(1, 70, 2)]
    for out in outs:
        shutil.copytree(tmp_path / "old", out)
    options = [options_of(out, junk, replan=True) for out in outs]
    killed = kill([(o, [number]) for o, number in zip(options, range(1, 70, 2), strict=True)])
    assert 10 < sum(killed) < len(outs)
    for out, again in zip(outs, options, strict=True):
        # A manifest that stands fits the shards beside it.
        if (out / "train" / "manifest.json").exists():
            assert verify(out).damage == []
        pack_to_the_end(again)
        assert tree(out) == clean


def test_killed_while_packing_mended_media(
    tmp_path: Path, junk: Path, tree: Tree, kill: Kill
) -> None:
    broken = [junk / f"j{number:02d}.mp4" for number in (0, 2, 5, 8, 9, 11)]
    for file in broken:
        file.rename(f"{file}.away")
    failed = options_of(tmp_path / "failed", junk, max_rejects=2)
    with pytest.raises(RejectsError):
        pack_to_the_end(failed)
    for file in broken:
        file.with_name(f"{file.name}.away").rename(file)
    numbers = range(1, 70)
    outs = [tmp_path / f"out-{number}" for number in numbers]
    for out in [*outs, tmp_path / "clean"]:
        shutil.copytree(tmp_path / "failed", out)
    pack_to_the_end(failed | {"out": str(tmp_path / "clean")})
    clean = tree(tmp_path / "clean")
    killed = kill(
        [(failed | {"out": str(out)}, [number]) for out, number in zip(outs, numbers, strict=True)]
    )
    assert 5 < sum(killed) < len(outs)
    for out in outs:
        pack_to_the_end(failed | {"out": str(out)})
        assert tree(out) == clean
