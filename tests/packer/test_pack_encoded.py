"""Packing by recipes that encode: the same bytes anywhere, nothing encoded twice or for nothing."""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, cast

import makers
import numpy as np
import pytest

from clipshards.packer import (
    ActivityNetRecord,
    PlanError,
    Recipe,
    SkeletonRecord,
    VideoRecord,
    finish_split,
    pack,
)
from clipshards.packer.encoding import RECIPES, Audio
from clipshards.packer.making import Job, Progress, ShardTask, make_shard
from clipshards.packer.media import x264
from clipshards.packer.packing import Packing
from clipshards.packer.receipts import Receipt
from clipshards.packer.recipe import MediaMode
from clipshards.readers import open_dataset, verify

Tree = Callable[[Path], dict[str, str]]

NAMES = ["a.mp4", "b.mkv", "c.avi", "d.webm", "turned.mp4", "loud.mp4"]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    made = {
        "a.mp4": makers.video_bytes(size=(64, 48), frames=20),
        "b.mkv": makers.video_bytes("matroska", size=(98, 66), frames=31, seed=1),
        "c.avi": makers.video_bytes("avi", "mpeg4", size=(64, 48), frames=20, seed=2),
        "d.webm": makers.video_bytes("webm", "libvpx-vp9", size=(64, 48), frames=12, seed=3),
        "turned.mp4": makers.video_bytes(size=(96, 64), frames=20, seed=4, rotation=90),
        "loud.mp4": makers.video_bytes(size=(64, 48), frames=25, seed=5, sound=True),
        "broken.mp4": b"no video",
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return folder


def records(*more: str) -> list[VideoRecord]:
    return [VideoRecord(name, (number,)) for number, name in enumerate([*NAMES, *more])]


def options(media: Path, recipe: Recipe) -> dict[str, Any]:
    return {"split": "t", "media_root": media, "recipe": recipe, "shard_size": 50_000}


@pytest.fixture
def videos_of(read_abouts: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    """Return a function that gives what is known of each video of a data set, by its id."""

    def videos_of(out: Path) -> dict[str, Any]:
        return {about["id"]: about["video"] for about in read_abouts(out / "t").values()}

    return videos_of


class Shuffled:
    """An engine whose shards are ready in an order of chance."""

    workers = 1

    def make(self, job: Job, tasks: Iterable[ShardTask], progress: Progress) -> Iterator[Receipt]:
        for task in random.Random(3).sample(given := list(tasks), len(given)):
            yield make_shard(job, task, progress)


@pytest.mark.parametrize("name", ["copy", "remux", *RECIPES])
def test_every_way_of_making_the_shards_gives_the_same_bytes(
    name: Any, tmp_path: Path, media: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = Recipe(name, short_side=40, preset="veryfast") if name in RECIPES else Recipe(name)
    asked = options(media, encoded)
    report = pack(records("broken.mp4"), tmp_path / "one", **asked)
    assert (report.packed, [reject.id for reject in report.rejects]) == (6, ["broken.mp4"])
    assert report.shards > 2
    clean = tree(tmp_path / "one")
    for workers in (2, 4):
        pack(records("broken.mp4"), tmp_path / f"{workers}", workers=workers, **asked)
        assert tree(tmp_path / f"{workers}") == clean
    Packing(records("broken.mp4"), tmp_path / "shuffled", **asked).run(engine=Shuffled())
    assert tree(tmp_path / "shuffled") == clean
    # Parts, the last one first, from another working directory.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for part in (3, 1, 2):
        Packing(records("broken.mp4"), tmp_path / "parts", **asked).run_part(part, 3)
    finish_split(tmp_path / "parts", split="t")
    assert tree(tmp_path / "parts") == clean
    assert verify(tmp_path / "one").damage == []


def test_what_was_asked_is_what_comes_out(
    tmp_path: Path, media: Path, videos_of: Callable[[Path], dict[str, Any]]
) -> None:
    pack(records(), tmp_path, **options(media, Recipe("balanced", short_side=48, fps=10, gop=4)))
    found = videos_of(tmp_path)
    assert set(found) == set(NAMES)
    for name, info in found.items():
        plain = (info["codec"], info["pixel_format"], info["rotation"], info["no_table_because"])
        assert plain == ("h264", "yuv420p", 0, ""), name
        assert min(info["width"], info["height"]) == 48
        assert (info["width"] % 2, info["height"] % 2) == (0, 0)
        assert info["rate"] == [10, 1]
    # 25 frames a second before: 20 frames were 0.8 s.
    assert {name: info["frames"] for name, info in found.items()} == {
        "a.mp4": 8, "b.mkv": 12, "c.avi": 8, "d.webm": 5, "turned.mp4": 8, "loud.mp4": 10,
    }  # fmt: skip
    assert (found["turned.mp4"]["width"], found["turned.mp4"]["height"]) == (48, 72)
    split = open_dataset(tmp_path)
    recipe = split.manifest.recipe
    assert recipe["encoding"]["fps"] == [10, 1]
    assert recipe["encoder"]["x264"].startswith("core ")
    assert split.read_index(0).recipe == recipe


def test_videos_that_need_nothing_are_copied_when_asked(
    tmp_path: Path, media: Path, read_samples: Callable[[Path], dict[str, dict[str, bytes]]]
) -> None:
    recipe = Recipe("fast", short_side=40)
    pack(records(), tmp_path / "first", **options(media, recipe))
    made = read_samples(tmp_path / "first" / "t")
    (tmp_path / "again").mkdir()
    for key, parts in made.items():
        (tmp_path / "again" / f"{key}.mp4").write_bytes(parts["mp4"])
    (tmp_path / "again" / "other.mp4").write_bytes((media / "a.mp4").read_bytes())
    lists = [VideoRecord(f"{key}.mp4", (0,)) for key in made] + [VideoRecord("other.mp4", (0,))]
    once = Recipe("fast", short_side=40, if_needed=True)
    pack(lists, tmp_path / "second", **options(tmp_path / "again", once))
    second = read_samples(tmp_path / "second" / "t")
    # As they were, but for the one that is too large.
    for number, parts in enumerate(made.values()):
        assert second[f"t-{number:08d}"]["mp4"] == parts["mp4"]
    last = second[f"t-{len(made):08d}"]["mp4"]
    assert last != (media / "a.mp4").read_bytes()
    # Without the option each is encoded again, with another loss.
    pack(lists, tmp_path / "third", **options(tmp_path / "again", recipe))
    third = read_samples(tmp_path / "third" / "t")
    same = [key for key, parts in second.items() if third[key]["mp4"] == parts["mp4"]]
    assert same == [f"t-{len(made):08d}"]


def test_sound_is_kept_or_dropped(
    tmp_path: Path, media: Path, read_samples: Callable[[Path], dict[str, dict[str, bytes]]]
) -> None:
    loud = [VideoRecord("loud.mp4", (0,))]
    for mode, audio in product(("intra", "remux"), ("keep", "drop")):
        out = tmp_path / mode / audio
        recipe = Recipe(cast(MediaMode, mode), audio=cast(Audio, audio))
        report = pack(loud, out, **options(media, recipe))
        assert report.warnings == ()
        (parts,) = read_samples(out / "t").values()
        assert (b"mp4a" in parts["mp4"]) == (audio == "keep")


def test_sound_that_an_mp4_cannot_hold_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "v.avi").write_bytes(makers.with_half_a_second_of("pcm_u8", np.uint8, "u8"))
    recipe = Recipe("intra")
    report = pack([VideoRecord("v.avi", (0,))], tmp_path / "out", **options(tmp_path, recipe))
    (warning,) = report.warnings
    assert warning.startswith("records[0]: the sound cannot be copied into an mp4")


def test_untrimmed_videos_are_encoded_too(
    tmp_path: Path, media: Path, videos_of: Callable[[Path], dict[str, Any]]
) -> None:
    record = ActivityNetRecord(
        id="v", video="a.mp4", segments=((0.0, 0.5),), segment_labels=("run",), duration_s=0.8
    )
    pack([record], tmp_path, **options(media, Recipe("sparse", short_side=32)))
    assert videos_of(tmp_path)["v"]["height"] == 32


def test_another_encoder_cannot_go_on(
    tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(media, Recipe("intra"))
    Packing(records(), tmp_path, **asked).run_part(1, 2)
    known = x264.encoder_identity()
    monkeypatch.setattr(x264, "encoder_identity", lambda: known | {"x264": "core 999"})
    with pytest.raises(PlanError, match=r"recipe\.encoder\.x264: planned .*, now 'core 999'"):
        pack(records(), tmp_path, **asked)


def test_where_bytes_are_not_pinned_it_must_be_allowed(
    tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(x264, "pinned_fault", lambda: "the processor has no AVX2")
    with pytest.raises(ValueError, match=r"recipe intra: the processor has no AVX2.*--allow-unpin"):
        pack(records(), tmp_path, **options(media, Recipe("intra")))
    assert not (tmp_path / "t").exists()
    pack(records(), tmp_path, **options(media, Recipe("intra", allow_unpinned=True)))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"media": "copy", "short_side": 256}, "short_side 256: needs a recipe that encodes"),
    ({"media": "remux", "crf": 20}, "crf 20: needs a recipe that encodes"),
    ({"media": "copy", "audio": "drop"}, "a copied video keeps its sound"),
    ({"media": "fast", "short_side": 255}, "short_side 255: expected an even number"),
    ({"media": "fast", "short_side": 40.0}, "short_side 40.0: expected a whole number"),
    ({"media": "fast", "gop": -1}, "gop -1: expected a whole number from 0"),
    ({"media": "fast", "crf": 52}, "crf 52: expected a whole number from 0 to 51"),
    ({"media": "fast", "fps": -1}, "fps -1: expected"),
    ({"media": "fast", "fps": "x"}, "fps 'x': expected a number"),
    ({"media": "fast", "fps": True}, "fps True: expected a number"),
    ({"media": "fast", "fps": 1e-9}, "fps 1e-09: too small"),
    ({"media": "fast", "fps": Fraction(30000000001, 1000000001)}, "too fine a fraction"),
    ({"media": "fast", "if_needed": "no"}, "if_needed 'no': expected True or False"),
    ({"media": "fast", "fps": float("nan")}, "fps nan: expected"),
    ({"media": "fast", "preset": "placebo"}, "preset 'placebo': expected one of"),
    ({"media": "fast", "frame_table": "none"}, "videos that are not copied always get one"),
    ({"media": "remux", "frame_table": "demux"}, "videos that are not copied always get one"),
    ({"media": "intra", "gop": 2}, "recipe intra is of random-access points alone"),
]


@pytest.mark.parametrize(("fields", "says"), BAD, ids=lambda value: str(value)[:30])
def test_recipes_that_mean_nothing_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Recipe(**fields)


def test_recipes_of_videos_are_refused_for_other_tasks(tmp_path: Path) -> None:
    pose = SkeletonRecord(
        id="s", total_frames=2, keypoint=np.zeros((1, 2, 3, 2), np.float32), labels=(0,)
    )
    with pytest.raises(ValueError, match="recipe fast: is of videos, not of task skeleton"):
        pack([pose], tmp_path, split="t", recipe=Recipe("fast"))


def test_broadcast_rates_are_meant_exactly(tmp_path: Path, media: Path) -> None:
    for given, meant in ((29.97, [30000, 1001]), (12.5, [25, 2]), (Fraction(24), [24, 1])):
        value = Recipe("fast", fps=given).to_json("video")
        assert value["encoding"]["fps"] == meant
    assert json.dumps(Recipe("fast").to_json("video"))
