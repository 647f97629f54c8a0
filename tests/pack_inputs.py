"""What several tests pack: a folder of small videos, and records of three tasks."""

from pathlib import Path

import makers
import numpy as np

from clipshards.packer import AvaCsv, SkeletonRecord, VideoRecord


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
