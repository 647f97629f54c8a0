"""Encoding rate beside a bare PyAV loop, and what a second process brings.

    python benchmarks/pack_encode.py --work FOLDER [--videos FOLDER] [--clips 24]

`bare loop`: each video is read, decoded on one thread, scaled by one filter, encoded by
libx264 with the same options and muxed; the result is decoded once, hashed (sha256, crc32c)
and written, one file and one fsync for all. `2 bare loops`: the same by two processes, each
with half of the videos: what this machine can give. `clipshards encode`: `pack` in the
process itself. `1 worker`, `2 workers`: whole runs of the command line, 8 shards.
"""

import argparse
import hashlib
import io
import multiprocessing
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from harness import Row, run_rows, textured_videos

SHARDS = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder with mp4 files; default: made here")
    parser.add_argument("--clips", type=int, default=24, help="videos that are listed")
    parser.add_argument("--recipe", default="balanced")
    parser.add_argument("--short-side", type=int, default=256)
    rows: dict[str, Row] = {
        "bare loop": lambda args, out: bare_loop(args, out),
        "clipshards encode": encode,
        "2 bare loops": two_bare_loops,
        "1 worker": lambda args, out: command(args, out, 1),
        "2 workers": lambda args, out: command(args, out, 2),
    }
    ours = ("av", "google_crc32c", "clipshards.packer.packing", "clipshards.packer.media.encode")
    # The command line loads its own.
    imports = dict.fromkeys(rows, ours) | {"1 worker": (), "2 workers": ()}
    run_rows(parser, rows, unit="clips", prepare=prepare, imports=imports)


def prepare(args: argparse.Namespace) -> None:
    if args.videos:
        files = sorted(path for path in args.videos.iterdir() if path.suffix == ".mp4")
    else:
        files = textured_videos(root(args), count=6, megabytes=1.5, width=456, height=342)
    names = [files[number % len(files)].name for number in range(args.clips)]
    lines = "".join(f"{name} {label}\n" for label, name in enumerate(names))
    (args.work / "list.txt").write_text(lines, encoding="utf-8")


def root(args: argparse.Namespace) -> Path:
    return Path(args.videos or args.work / "videos")


def listed(args: argparse.Namespace) -> list[Path]:
    lines = (args.work / "list.txt").read_text(encoding="utf-8").splitlines()
    return [root(args) / line.split()[0] for line in lines]


def bare_loop(args: argparse.Namespace, out: Path, *, number: int = 0, processes: int = 1) -> int:
    import google_crc32c

    sha, crc = hashlib.sha256(), 0
    files = listed(args)[number::processes]
    with (out / f"all-{number}").open("wb", buffering=0) as file:
        for path in files:
            data = encode_bare(path.read_bytes(), args.recipe, args.short_side)
            decode(data)
            file.write(data)
            sha.update(data)
            crc = google_crc32c.extend(crc, data)
        os.fsync(file.fileno())
    return len(files)


def encode_bare(data: bytes, recipe: Any, short_side: int) -> bytes:
    import av
    from av.filter import Graph

    from clipshards.packer import Recipe
    from clipshards.packer.media.x264 import encoder_options

    encoding = Recipe(recipe, short_side=short_side).encoding
    assert encoding is not None
    made = io.BytesIO()
    with av.open(io.BytesIO(data), mode="r") as source, av.open(made, "w", format="mp4") as target:
        stream = source.streams.video[0]
        stream.codec_context.thread_count = 1
        scale = Fraction(short_side, min(stream.width, stream.height))
        width, height = (round(side * scale / 2) * 2 for side in (stream.width, stream.height))
        graph = Graph()
        graph.threads = 1
        scaler = graph.add("scale", w=f"{width}", h=f"{height}")
        graph.link_nodes(graph.add_buffer(template=stream), scaler, graph.add("buffersink"))
        graph.configure()
        track: Any = target.add_stream(
            "libx264", rate=stream.average_rate, options=encoder_options(encoding)
        )
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        track.codec_context.thread_count = 1
        for frame in source.decode(stream):
            graph.vpush(frame)
            scaled = graph.vpull()
            scaled.pict_type = av.video.frame.PictureType.NONE
            target.mux(track.encode(scaled))
        target.mux(track.encode(None))
    return made.getvalue()


def decode(data: bytes) -> None:
    import av

    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def two_bare_loops(args: argparse.Namespace, out: Path) -> int:
    context = multiprocessing.get_context("fork")
    loops = [
        context.Process(
            target=bare_loop, args=(args, out), kwargs={"number": number, "processes": 2}
        )
        for number in range(2)
    ]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
        assert not loop.exitcode
    return len(listed(args))


def encode(args: argparse.Namespace, out: Path) -> int:
    from clipshards.packer import Recipe, VideoList
    from clipshards.packer import pack as pack_records

    report = pack_records(
        VideoList(args.work / "list.txt"),
        out / "shards",
        split="train",
        media_root=root(args),
        recipe=Recipe(args.recipe, short_side=args.short_side, audio="drop"),
    )
    return report.packed


def command(args: argparse.Namespace, out: Path, workers: int) -> int:
    size = sum(path.stat().st_size for path in listed(args)) // SHARDS
    subprocess.run(
        [
            *(Path(sys.executable).with_name("clipshards"), "pack", "video"),
            *(args.work / "list.txt", "--media-root", root(args)),
            *("--out", out / "shards", "--split", "train", "--shard-size", f"{size}"),
            *("--recipe", args.recipe, "--short-side", f"{args.short_side}", "--audio", "drop"),
            *("--workers", f"{workers}"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shards = len(list((out / "shards" / "train").glob("*.tar")))
    if abs(shards - SHARDS) > 1:
        raise ValueError(f"{shards} shards")
    return len(listed(args))


if __name__ == "__main__":
    main()
