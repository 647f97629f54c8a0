"""A small data set in every format, made from nothing: for `clipshards demo`."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipshards.packer.media.synthetic import write_stills, write_video

CLASSES = ("disc a", "disc b", "disc c", "disc d")
FRAMES = 60
RATE = 25


def make_videos(root: Path, split: str, count: int) -> Path:
    """Make the videos of a split, `root/<split>/*.mp4`, and their list; return the list."""
    lines = []
    for number in range(count):
        label = number % len(CLASSES)
        name = f"{split}/{CLASSES[label].replace(' ', '_')}_{number:02d}.mp4"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        seed = number + (1000 if split == "val" else 0)
        write_video(root / name, frames=FRAMES, width=192, height=144, rate=RATE, seed=seed)
        lines.append(f"{name} {label}\n")
    return _write(root / f"{split}.txt", "".join(lines))


def make_rawframes(root: Path, count: int) -> Path:
    """Make folders of JPEG frames below `root`, and their list; return the list."""
    lines = []
    for number in range(count):
        folder = root / f"clip_{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        write_stills(folder, frames=30, width=160, height=120, seed=number)
        lines.append(f"{folder.name} 30 {number % len(CLASSES)}\n")
    return _write(root / "rawframes.txt", "".join(lines))


def make_skeletons(root: Path, count: int) -> Path:
    """Make a pickle of two persons' joints walking at random; return its path."""
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(count):
        steps = rng.normal(0, 2, size=(2, FRAMES, 17, 2)).cumsum(axis=1)
        annotations.append(
            {
                "frame_dir": f"walk_{number:02d}",
                "label": number % len(CLASSES),
                "img_shape": (144, 192),
                "original_shape": (144, 192),
                "total_frames": FRAMES,
                "keypoint": (steps + np.array([96, 72])).astype(np.float16),
                "keypoint_score": rng.random((2, FRAMES, 17)).astype(np.float16),
            }
        )
    names = [annotation["frame_dir"] for annotation in annotations]
    data = {"split": {"train": names}, "annotations": annotations}
    return _write(root / "skeletons.pkl", pickle.dumps(data, protocol=4))


def make_audio_features(root: Path, videos: Path, names: Sequence[str]) -> Path:
    """Compute the mel features of videos' sound, and their list; return the list."""
    from clipshards.packer.media.mel import mel_features
    from clipshards.packer.media.sound import mono_16k

    lines = []
    root.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        feature = f"{Path(name).stem}.npy"
        np.save(root / feature, mel_features(mono_16k(videos / name)))
        lines.append(f"{feature} {FRAMES} {number % len(CLASSES)}\n")
    return _write(root / "audio.txt", "".join(lines))


def make_ava(root: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """Annotate persons in two moments of each video; return the csv and the proposals."""
    rng = np.random.default_rng(0)
    rows = []
    proposals: dict[str, Any] = {}
    for name in names:
        for second in (0, 1):
            for person in range(2):
                box = (rng.random(4) * 0.4 + np.array([0, 0, 0.5, 0.5])).round(3)
                boxes = ",".join(f"{value:.3f}" for value in box)
                rows += [f"{name},{second:04d},{boxes},{person + 1},{person}\n"]
                rows += [f"{name},{second:04d},{boxes},4,{person}\n"]
                key = f"{name},{second:04d}"
                found = np.append(box, 0.9).reshape(1, 5)
                proposals[key] = np.concatenate([proposals.get(key, np.empty((0, 5))), found])
    annotation = _write(root / "ava.csv", "".join(rows))
    return annotation, _write(root / "ava_proposals.pkl", pickle.dumps(proposals, protocol=4))


def make_activitynet(root: Path, count: int) -> Path:
    """Make features of untrimmed videos as csv, and their annotation; return the annotation."""
    rng = np.random.default_rng(0)
    videos = {}
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = f"v_{number:02d}"
        header = ",".join(f"f{column}" for column in range(16))
        np.savetxt(root / f"{name}.csv", rng.random((20, 16)), "%.6f", ",", header=header)
        videos[name] = {
            "duration_second": 10.0,
            "duration_frame": 250,
            "feature_frame": 240,
            "fps": 25.0,
            "rfps": 2.0,
            "annotations": [
                {"segment": [1.0, 3.5], "label": CLASSES[number % len(CLASSES)]},
                {"segment": [6.0, 9.0], "label": CLASSES[(number + 1) % len(CLASSES)]},
            ],
        }
    return _write(root / "activitynet.json", json.dumps(videos, indent=1))


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
