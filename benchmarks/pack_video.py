"""Packing rate beside what it cannot go below, and beside webdataset's ShardWriter.

    python benchmarks/pack_video.py --work FOLDER [--videos FOLDER] [--copies 8]

Rows: `copy`: read, sha256, crc32c, write and fsync of the same bytes, the floor of
`--frame-table none`. `copy+decode`: the same and one bare single-thread decode of each
video, the floor of `--frame-table decode`.
"""

import argparse
import hashlib
import io
import os
from pathlib import Path

from harness import run_rows, video_files

MB = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder with mp4 files; default: made here")
    parser.add_argument("--copies", type=int, default=8, help="how often each video is listed")
    rows = {
        "copy": copy,
        "clipshards none": lambda args, out: pack(args, out, "none"),
        "webdataset ShardWriter": webdataset,
        "copy+decode": copy_and_decode,
        "clipshards decode": lambda args, out: pack(args, out, "decode"),
    }
    imports = ("av", "google_crc32c", "webdataset", "clipshards.packer.packing")
    run_rows(parser, rows, unit="MB", prepare=prepare, imports=imports)


def prepare(args: argparse.Namespace) -> None:
    files = video_files(args)
    lines = [f"{path.name} {label}" for label, path in enumerate(files)] * args.copies
    (args.work / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def listed(args: argparse.Namespace) -> list[tuple[Path, int]]:
    root = args.videos or args.work / "videos"
    lines = (args.work / "list.txt").read_text(encoding="utf-8").splitlines()
    return [(root / line.split()[0], int(line.split()[1])) for line in lines]


def copy(args: argparse.Namespace, out: Path, *, decode: bool = False) -> int:
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
            if decode:
                decode_all(data)
        os.fsync(file.fileno())
    return total // MB


def copy_and_decode(args: argparse.Namespace, out: Path) -> int:
    return copy(args, out, decode=True)


def decode_all(data: bytes) -> None:
    import av

    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def pack(args: argparse.Namespace, out: Path, frame_table: str) -> int:
    from clipshards.packer import Recipe, VideoList
    from clipshards.packer import pack as pack_records

    pack_records(
        VideoList(args.work / "list.txt"),
        out / "shards",
        split="train",
        media_root=args.videos or args.work / "videos",
        recipe=Recipe(frame_table="none" if frame_table == "none" else "decode"),
    )
    return sum(path.stat().st_size for path, _ in listed(args)) // MB


def webdataset(args: argparse.Namespace, out: Path) -> int:
    import webdataset as wds

    total = 0
    pattern = str(out / "train-%06d.tar")
    with wds.ShardWriter(pattern, maxsize=256_000_000, verbose=0, mtime=0) as writer:
        for number, (path, label) in enumerate(listed(args)):
            data = path.read_bytes()
            writer.write({"__key__": f"{number:08d}", "json": {"label": label}, "mp4": data})
            total += len(data)
    os.sync()
    return total // MB


if __name__ == "__main__":
    main()
