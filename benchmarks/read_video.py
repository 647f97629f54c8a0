"""Clips a second, 8 uniform frames of each video, beside a bare PyAV loop over the same bytes.

    python benchmarks/read_video.py --work FOLDER [--videos FOLDER] [--copies 8]

`bare loop`: each video is decoded from its start with one thread up to the last frame
wanted; only the wanted frames are converted, by one reused converter, and stacked. It
shuffles nothing, checks nothing and makes no batches.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import run_rows, video_files

FRAMES = 8
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder with mp4 files; default: made here")
    parser.add_argument("--copies", type=int, default=8, help="how often each video is listed")
    rows = {
        "bare loop": bare_loop,
        "clipshards": lambda args, _: stream(args, "decode"),
        "clipshards, no frame table": lambda args, _: stream(args, "none"),
    }
    imports = ("av", "torch", "clipshards.readers.data", "clipshards.packer.frames.decode")
    run_rows(parser, rows, unit="clips", prepare=prepare, imports=imports)


def prepare(args: argparse.Namespace) -> None:
    from clipshards.packer import Recipe, VideoRecord, pack

    files = video_files(args)
    records = [VideoRecord(path.name, (0,)) for path in files] * args.copies
    for split in ("decode", "none"):
        pack(
            records,
            args.work / "shards",
            split=split,
            media_root=files[0].parent,
            recipe=Recipe(frame_table="none" if split == "none" else "decode"),
            replan=True,
        )


def bare_loop(args: argparse.Namespace, _out: Path) -> int:
    import av
    from av.video.reformatter import VideoReformatter

    from clipshards.readers import Span, UniformClip

    clip = UniformClip(FRAMES)
    rng = np.random.RandomState(0)
    converter = VideoReformatter()
    clips = 0
    for path in video_files(args) * args.copies:
        data = path.read_bytes()
        with av.open(io.BytesIO(data), mode="r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            wanted = clip.choose(Span(stream.frames), rng).tolist()
            found = {}
            for number, frame in enumerate(container.decode(stream)):
                if number in wanted:
                    rgb = converter.reformat(frame, format="rgb24", threads=1)
                    found[number] = rgb.to_ndarray()
                if number == wanted[-1]:
                    break
        first = found[wanted[0]]
        frames = np.empty((FRAMES, *first.shape), dtype=np.uint8)
        for row, number in zip(frames, wanted, strict=True):
            row[...] = found[number]
        clips += 1
    return clips


def stream(args: argparse.Namespace, split: str) -> int:
    from clipshards.readers import ShardDataset, UniformClip, open_dataset

    dataset = ShardDataset(
        open_dataset(args.work / "shards", split=split),
        batch_size=BATCH,
        clip=UniformClip(FRAMES),
        tail="ragged",
        collate=list_collate,
    )
    return sum(len(batch["items"]) for batch in dataset)


def list_collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Keep the items apart: the videos of one folder may differ in size."""
    return {"items": items}


if __name__ == "__main__":
    main()
