"""Packing rate beside what it cannot go below, and beside the peers' writers.

    python benchmarks/pack_video.py --work FOLDER [--videos FOLDER | --megabytes 1]
        [--copies 8] [--peers-python ENVIRONMENT/bin/python]

`copy`: read, sha256, crc32c, write and fsync of the same bytes, the floor of `--frame-table
none`. `copy+demux`: the same, and each video opened by PyAV and its packets read, the floor
of `--frame-table demux`; `copy+demux+picture` decodes the first picture too. `clipshards
demux untried` decodes none: what lies between it and `clipshards demux` is the trial of each
table on the decoder. `copy+decode`: one bare single-thread decode of each video, the floor of
`--frame-table decode`.

The peers write the bytes of each file and its label, into shards of the same size, without
compression and without checksums (their defaults), and their files are synced too. litdata's
one worker is forked, so that it need not load the libraries again. mosaicml-streaming and
litdata need an environment of their own:

    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install -c constraints.txt mosaicml-streaming litdata
"""

import argparse
import hashlib
import importlib
import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import Row, run_rows, sync_files, textured_videos, video_files

MB = 1_000_000
SHARD_BYTES = 256 * MB
FILES = 6
OURS = ("av", "google_crc32c", "clipshards.packer.packing", "clipshards.packer.frames.demux")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder with mp4 files; default: made here")
    parser.add_argument("--megabytes", type=float, help="size of each video made here, about")
    parser.add_argument("--copies", type=int, default=8, help="how often each video is listed")
    rows: dict[str, Row] = {
        "copy": lambda args, out: copy(args, out),
        "clipshards none": lambda args, out: pack(args, out, "none"),
        "webdataset ShardWriter": webdataset,
        "MDSWriter": mds,
        "litdata optimize": litdata,
        "copy+demux": lambda args, out: copy(args, out, demux),
        "copy+demux+picture": lambda args, out: copy(args, out, demux_and_decode_one),
        "clipshards demux untried": pack_untried,
        "clipshards demux": lambda args, out: pack(args, out, "demux"),
        "copy+decode": lambda args, out: copy(args, out, decode),
        "clipshards decode": lambda args, out: pack(args, out, "decode"),
    }
    imports = dict.fromkeys(rows, OURS) | {
        "webdataset ShardWriter": ("webdataset",),
        "MDSWriter": ("peers",),
        "litdata optimize": ("peers",),
    }
    peers = ("MDSWriter", "litdata optimize")
    run_rows(parser, rows, unit="MB", prepare=prepare, imports=imports, peers=peers)


def prepare(args: argparse.Namespace) -> None:
    if args.megabytes:
        size = (
            {"width": 340, "height": 256} if args.megabytes < 2 else {"width": 640, "height": 480}
        )
        folder = args.work / f"videos-{args.megabytes:g}MB"
        files = textured_videos(folder, count=FILES, megabytes=args.megabytes, **size)
    else:
        files = video_files(args)
    lines = [f"{path.name} {label}" for label, path in enumerate(files)] * args.copies
    (args.work / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def root(args: argparse.Namespace) -> Path:
    made = f"videos-{args.megabytes:g}MB" if args.megabytes else "videos"
    return Path(args.videos or args.work / made)


def listed(args: argparse.Namespace) -> list[tuple[Path, int]]:
    folder = root(args)
    lines = (args.work / "list.txt").read_text(encoding="utf-8").splitlines()
    return [(folder / line.split()[0], int(line.split()[1])) for line in lines]


def listed_mb(args: argparse.Namespace) -> float:
    return sum(path.stat().st_size for path, _ in listed(args)) / MB


def copy(args: argparse.Namespace, out: Path, also: Callable[[bytes], None] | None = None) -> float:
    import google_crc32c

    total = 0
    sha, crc = hashlib.sha256(), 0
    # One file for all, as a shard is: cp's cost of making files is not the point.
    with (out / "all").open("wb", buffering=0) as file:
        for path, _ in listed(args):
            data = path.read_bytes()
            file.write(data)
            sha.update(data)
            crc = google_crc32c.extend(crc, data)
            total += len(data)
            if also is not None:
                also(data)
        os.fsync(file.fileno())
    return total / MB


def demux(data: bytes) -> None:
    import av

    with av.open(io.BytesIO(data), mode="r") as container:
        for _ in container.demux(container.streams.video[0]):
            pass


def demux_and_decode_one(data: bytes) -> None:
    import av

    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        packets = list(container.demux(stream))
        stream.codec_context.decode(packets[0])
        stream.codec_context.decode(None)


def decode(data: bytes) -> None:
    import av

    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def pack(args: argparse.Namespace, out: Path, frame_table: Any) -> float:
    from clipshards.packer import Recipe, VideoList
    from clipshards.packer import pack as pack_records

    pack_records(
        VideoList(args.work / "list.txt"),
        out / "shards",
        split="train",
        media_root=root(args),
        recipe=Recipe(frame_table=frame_table),
        shard_size=SHARD_BYTES,
    )
    return listed_mb(args)


def pack_untried(args: argparse.Namespace, out: Path) -> float:
    """Pack with tables that no picture was decoded for: for the comparison only."""
    module: Any = importlib.import_module("clipshards.packer.frames.demux")

    def untried(_data: bytes, _stream: Any, info: Any, table: Any) -> Any:
        return module.VideoScan(replace(info, frames=int(table[:, 3].max()) + 1), table)

    module._try_decoding = untried
    return pack(args, out, "demux")


def webdataset(args: argparse.Namespace, out: Path) -> float:
    import webdataset as wds

    pattern = str(out / "train-%06d.tar")
    # By default the time of each member is a fraction, which takes 1 kB more.
    with wds.ShardWriter(pattern, maxsize=SHARD_BYTES, verbose=0, mtime=0) as writer:
        for number, (path, label) in enumerate(listed(args)):
            writer.write({"__key__": f"{number:08d}", "mp4": path.read_bytes(), "cls": label})
    sync_files(out)
    return listed_mb(args)


def read_video(place: tuple[Path, int]) -> dict[str, Any]:
    path, label = place
    return {"video": path.read_bytes(), "label": label}


def mds(args: argparse.Namespace, out: Path) -> float:
    from peers import write_mds

    write_mds(map(read_video, listed(args)), out, shard_bytes=SHARD_BYTES)
    sync_files(out)
    return listed_mb(args)


def litdata(args: argparse.Namespace, out: Path) -> float:
    from peers import write_litdata

    write_litdata(read_video, listed(args), out, shard_bytes=SHARD_BYTES)
    sync_files(out)
    return listed_mb(args)


if __name__ == "__main__":
    main()
