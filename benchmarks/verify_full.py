"""Full verification of a split on disk, beside a bare loop that reads and hashes the same bytes.

    python benchmarks/verify_full.py --work FOLDER --case video|skeleton [--megabytes 1024]

Cases: `video`: copies of four videos made here (10 s, 340x256, 1 MB), each made another file by a
box of its own at the end, tables by `--frame-table demux`. `skeleton`: samples of 20 kB.

Rows: `bare loop`: every shard read by 1 MiB, sha256 and crc32c of it. `full`: `verify` in one
process. `deep`: the same with every part decoded. All files are in memory.
"""

import argparse
import hashlib
import struct
from pathlib import Path

import numpy as np
from harness import run_rows, textured_videos

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=("video", "skeleton"), required=True)
    parser.add_argument("--megabytes", type=int, default=1024)
    run_rows(
        parser,
        {"bare loop": bare, "full": full, "deep": deep},
        unit="MiB",
        prepare=prepare,
        imports={
            "bare loop": ("google_crc32c", "hashlib", "numpy"),
            "full": ("clipshards.readers.integrity", "google_crc32c"),
            "deep": ("clipshards.readers.integrity", "google_crc32c", "av"),
        },
    )


def set_of(args: argparse.Namespace) -> Path:
    return Path(args.work) / f"{args.case}-{args.megabytes}"


def shards(args: argparse.Namespace) -> list[Path]:
    return sorted((set_of(args) / "train").glob("*.tar"))


def prepare(args: argparse.Namespace) -> None:
    from clipshards.packer import Recipe, SkeletonRecord, VideoRecord, pack

    if args.case == "video":
        videos = textured_videos(
            args.work / "videos", count=4, megabytes=1.0, width=340, height=256
        )
        root = args.work / f"copies-{args.megabytes}"
        root.mkdir(exist_ok=True)
        size = sum(video.stat().st_size for video in videos) // len(videos)
        records = []
        for number in range(args.megabytes * MIB // size):
            copy = root / f"{number:06d}.mp4"
            if not copy.exists():
                box = struct.pack(">I4sQ", 16, b"free", number)
                copy.write_bytes(videos[number % len(videos)].read_bytes() + box)
            records.append(VideoRecord(copy.name, (number % 60,)))
        recipe = Recipe(frame_table="demux")
        pack(records, set_of(args), split="train", media_root=root, recipe=recipe, workers=2)
    else:
        rng = np.random.default_rng(0)
        pack(
            (
                SkeletonRecord(
                    id=f"S{number:08d}",
                    labels=(number % 60,),
                    total_frames=300,
                    keypoint=rng.random((1, 300, 17, 2)).astype(np.float16),
                )
                for number in range(args.megabytes * MIB // 22_000)
            ),
            set_of(args),
            split="train",
        )
    for shard in shards(args):
        shard.read_bytes()


def bare(args: argparse.Namespace, _: Path) -> float:
    import google_crc32c

    total = 0
    for shard in shards(args):
        sha256, crc = hashlib.sha256(), 0
        with shard.open("rb", buffering=0) as file:
            while piece := file.read(MIB):
                sha256.update(piece)
                crc = google_crc32c.extend(crc, piece)
                total += len(piece)
    return total / MIB


def full(args: argparse.Namespace, _: Path) -> float:
    return verified(args, "full")


def deep(args: argparse.Namespace, _: Path) -> float:
    return verified(args, "deep")


def verified(args: argparse.Namespace, level: str) -> float:
    from clipshards.readers import verify

    report = verify(set_of(args), level=level)  # type: ignore[arg-type]
    assert not report.findings, report.findings[:3]
    return report.bytes / MIB


if __name__ == "__main__":
    main()
