"""What several tests pack: a folder of small media, and records of all tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers
import numpy as np
from PIL import Image

from clipshards.packer import (
    ActivityNetRecord,
    AudioRecord,
    AvaCsv,
    FrameRange,
    Packing,
    RawframesRecord,
    Recipe,
    Reject,
    SkeletonRecord,
    VideoRecord,
)


def write_videos(folder: Path) -> Path:
    """Write 0.mp4 to 11.mp4, of 20 to 31 frames, and one that is none; return the folder."""
    for number in range(12):
        data = makers.video_bytes(size=(64, 48), frames=20 + number, seed=number)
        (folder / f"{number}.mp4").write_bytes(data)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def videos() -> list[VideoRecord]:
    names = [f"{number}.mp4" for number in range(12)] + ["broken.mp4", "gone.mp4"]
    return [VideoRecord(name, (number,)) for number, name in enumerate(names)]


def skeletons(
    count: int = 40,
    *,
    shape: tuple[int, int, int] = (9, 17, 2),
    dtype: type = np.float16,
    classes: int = 3,
) -> list[SkeletonRecord]:
    """Return skeletons of one person, no two alike; the shape is frames, joints, coordinates."""
    rng = np.random.default_rng(0)
    return [
        SkeletonRecord(
            id=f"s{number}",
            total_frames=shape[0],
            keypoint=rng.random((1, *shape)).astype(dtype),
            labels=(number % classes,),
        )
        for number in range(count)
    ]


def small_skeletons(count: int) -> list[SkeletonRecord]:
    """Return skeletons of six frames and four classes, in single precision."""
    return skeletons(count, shape=(6, 5, 2), dtype=np.float32, classes=4)


def moments(folder: Path) -> AvaCsv:
    rows = [f"{video}.mp4,{n},0.1,0.1,0.5,0.5,1,0" for video in range(4) for n in (3, 9, 15)]
    (folder / "a.csv").write_text("".join(f"{row}\n" for row in rows))
    return AvaCsv(folder / "a.csv", fps=1, timestamp_start=0, timestamp_end=None, clip_frames=6)


def write_world(folder: Path) -> Path:
    """Write media of all tasks, among them some that cannot be packed; return the folder."""
    write_videos(folder)
    moments(folder)
    for number in range(8):
        (folder / f"f{number}").mkdir()
        for place, picture in enumerate(makers.pictures(4, (48, 32), seed=number)):
            Image.fromarray(picture).save(folder / f"f{number}" / f"img_{place + 1:05}.jpg")
        rows = np.random.default_rng(number).random((9 + number, 80)).astype(np.float32)
        np.save(folder / f"mel{number}.npy", rows)
        np.savetxt(folder / f"feature{number}.csv", rows[:, :6], delimiter=",")
    return folder


def of_folders(world: Path) -> list[Any]:
    ranges = [FrameRange(total_frames=4, labels=(number % 3,)) for number in range(8)]
    records = [RawframesRecord(folder=f"f{n}", ranges=(one,)) for n, one in enumerate(ranges)]
    return [*records, RawframesRecord(folder="gone", ranges=(ranges[0],))]


def of_sounds(world: Path) -> list[Any]:
    records = [AudioRecord(path=f"mel{n}.npy", total_frames=9, labels=(n,)) for n in range(8)]
    return [*records, Reject("no path"), AudioRecord(path="gone.npy", total_frames=9, labels=(1,))]


def of_untrimmed(world: Path) -> list[Any]:
    return [
        ActivityNetRecord(
            id=f"v{number}",
            duration_s=10.0,
            segments=((0.0, 1.0 + number),),
            segment_labels=("jump",),
            features=f"feature{number}.csv",
            video=f"{number}.mp4",
        )
        for number in range(8)
    ]


# Task, or task and recipe -> records, bytes of a shard, recipe.
TASKS: dict[str, tuple[Callable[[Path], Any], int, Recipe]] = {
    "video": (lambda world: videos(), 70_000, Recipe()),
    "remux": (lambda world: videos(), 70_000, Recipe(media="remux")),
    "rawframes": (of_folders, 8_000, Recipe()),
    "skeleton": (lambda world: skeletons(), 15_000, Recipe()),
    "audio": (of_sounds, 9_000, Recipe()),
    "ava": (moments, 30_000, Recipe()),
    "activitynet": (of_untrimmed, 60_000, Recipe()),
}


def job_of(task: str, world: Path, out: str | Path, **options: Any) -> Packing:
    records, size, recipe = TASKS[task]
    given: dict[str, Any] = {"split": "t", "media_root": world, "shard_size": size}
    if task == "activitynet":
        given["labels"] = "none"
    return Packing(records(world), out, recipe=recipe, **(given | options))
