"""What all rows of the streaming benchmark share: the cases, their clips, and endless epochs."""

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import stream_data

BATCH = {"skeleton": 64, "mel": 16, "video": 8}
SAMPLES = {"skeleton": 20_000, "mel": 5_000, "video": 304}
SEED = 7

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def data_of(args: argparse.Namespace) -> Path:
    samples = args.samples or SAMPLES[args.case]
    name = f"{args.case}-{samples}" + (f"-{args.videos.name}" if args.videos else "")
    return Path(args.work).absolute() / name


def forever(loader: Iterable[Any]) -> Iterator[int]:
    """Yield the samples of each batch, one epoch behind the other."""
    while True:
        for batch in loader:
            yield len(batch["label"])


def in_batches(args: argparse.Namespace, samples: Iterable[Any]) -> Iterator[int]:
    """Yield how many single samples were taken, as many as a batch would have."""
    taking = iter(samples)
    while taken := sum(1 for _ in islice(taking, BATCH[args.case])):
        yield taken


def choose_frames(args: argparse.Namespace, total: int) -> list[int]:
    """Return the frames of a clip as MMAction2's SampleFrames draws them."""
    if args.clip == "sparse":
        length = total // 8
        numbers = np.arange(8) * length + np.random.randint(length, size=8)
    else:
        start = np.random.randint(max(total - 63, 1))
        numbers = (start + np.arange(32) * 2) % total
    return [int(number) for number in numbers]


def cut_to(frames: Pixels, size: tuple[int, int]) -> Pixels:
    """Return the middle of each frame."""
    top, left = ((have - want) // 2 for have, want in zip(frames.shape[1:3], size, strict=True))
    return np.ascontiguousarray(frames[:, top : top + size[0], left : left + size[1]])


def common_size(args: argparse.Namespace) -> tuple[int, int]:
    """Return the height and width that all videos have; of a few, the others are copies."""
    import av

    sizes = []
    for path, _ in stream_data.listed(data_of(args) / "raw")[:4]:
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            sizes.append((context.height, context.width))
    return min(height for height, _ in sizes), min(width for _, width in sizes)
