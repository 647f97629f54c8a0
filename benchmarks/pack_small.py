"""Packing rate of many small samples on one core, beside webdataset's ShardWriter.

    python benchmarks/pack_small.py --work FOLDER --data skeleton [--samples 20000]

Data: `arrays`: skeletons in memory, 48 frames of one person with 17 joints a video, float16
(4.9 kB). `skeleton`: such skeletons in one pickle as MMAction2 reads it; webdataset's user
loads it by pickle.load, we with restrictions. `mel`: a list of npy files, 190 x 80 float32
(61 kB; ten seconds at MMAction2's settings would be 626 x 80). `mel-bytes`: the same, but
webdataset is given each file's bytes as they are, unopened.

Rows: `webdataset`: the same arrays and fields written as its users do. `floor`: the input
is read, the same payloads are made, sha256 and crc32c taken, one file written and synced;
nothing is checked, and there is no tar. `writer`: our json, npy, tar headers, checksums and
index alone; nothing is checked, planned or put in order. The peak of each row is that of its
own libraries.
"""

import argparse
import hashlib
import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import Row, run_rows

BLOCK = 1 << 18


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=("arrays", "skeleton", "mel", "mel-bytes"), required=True)
    parser.add_argument("--samples", type=int, default=20_000)
    rows: dict[str, Row] = {
        "webdataset": webdataset,
        "clipshards": pack,
        "writer": writer,
        "floor": floor,
    }
    # webdataset loads torch, whose memory would hide what the other rows take.
    ours = ("google_crc32c", "clipshards.packer.packing", "clipshards.packer.annotations.pickles")
    imports = ("webdataset",) if sys.argv[-1] == "webdataset" else ours
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run_rows(parser, rows, unit="samples", prepare=prepare, imports=imports)


def prepare(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    if args.data == "arrays":
        return
    if args.data == "skeleton":
        if pickle_of(args).exists():
            return
        annotations = [
            {
                "frame_dir": f"S{number:08d}",
                "label": number % 60,
                "img_shape": (1080, 1920),
                "original_shape": (1080, 1920),
                "total_frames": 48,
                "keypoint": (rng.random((1, 48, 17, 2)) * 1080).astype(np.float16),
                "keypoint_score": rng.random((1, 48, 17)).astype(np.float16),
            }
            for number in range(args.samples)
        ]
        split = {"train": [entry["frame_dir"] for entry in annotations]}
        data = pickle.dumps({"split": split, "annotations": annotations}, protocol=4)
        pickle_of(args).write_bytes(data)
        return
    folder = args.work / "mel"
    folder.mkdir(exist_ok=True)
    for number in range(args.samples):
        if not (folder / f"{number:08d}.npy").exists():
            np.save(folder / f"{number:08d}.npy", rng.random((190, 80), dtype=np.float32))
    lines = "".join(f"{number:08d}.npy 300 {number % 60}\n" for number in range(args.samples))
    list_of(args).write_text(lines, encoding="utf-8")


def pickle_of(args: argparse.Namespace) -> Path:
    return Path(args.work) / f"skeleton-{args.samples}.pkl"


def list_of(args: argparse.Namespace) -> Path:
    return Path(args.work) / f"mel-{args.samples}.txt"


def pack(args: argparse.Namespace, out: Path) -> int:
    from clipshards.packer import AudioList, SkeletonFile, SkeletonRecord
    from clipshards.packer import pack as pack_records

    records: Any
    if args.data == "arrays":
        records = (
            SkeletonRecord(
                id=fields["frame_dir"],
                labels=(fields["label"],),
                total_frames=fields["total_frames"],
                image_shape=fields["img_shape"],
                original_shape=fields["original_shape"],
                keypoint=parts["keypoint.npy"],
                keypoint_score=parts["keypoint_score.npy"],
            )
            for fields, parts in samples(args)
        )
    else:
        skeleton = args.data == "skeleton"
        records = SkeletonFile(pickle_of(args)) if skeleton else AudioList(list_of(args))
    root = args.work / "mel" if args.data.startswith("mel") else args.work
    return pack_records(records, out / "shards", split="train", media_root=root).packed


def webdataset(args: argparse.Namespace, out: Path) -> int:
    import webdataset as wds

    pattern = str(out / "train-%06d.tar")
    with wds.ShardWriter(pattern, maxsize=256_000_000, verbose=0, mtime=0) as writer:
        for number, (fields, parts) in enumerate(samples(args)):
            writer.write({"__key__": f"{number:08d}", "json": fields, **parts})
    os.sync()
    return int(args.samples)


def samples(args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the fields and the other parts of each sample, read as simply as can be."""
    if args.data == "arrays":
        walk = np.random.default_rng(0).random((args.samples + 48, 17, 2)).astype(np.float16)
        for number in range(args.samples):
            fields = {
                "frame_dir": f"S{number:08d}",
                "label": number % 60,
                "img_shape": (1080, 1920),
                "original_shape": (1080, 1920),
                "total_frames": 48,
            }
            keypoint = walk[None, number : number + 48]
            score = keypoint.reshape(-1)[: 48 * 17].reshape(1, 48, 17)
            yield fields, {"keypoint.npy": keypoint, "keypoint_score.npy": score}
        return
    if args.data == "skeleton":
        for entry in pickle.loads(pickle_of(args).read_bytes())["annotations"]:
            arrays = ("keypoint", "keypoint_score")
            fields = {name: value for name, value in entry.items() if name not in arrays}
            yield fields, {f"{name}.npy": entry[name] for name in arrays}
        return
    for line in list_of(args).read_text(encoding="utf-8").splitlines():
        name, total_frames, label = line.split()
        path = args.work / "mel" / name
        mel = path.read_bytes() if args.data == "mel-bytes" else np.load(path)
        fields = {"id": name, "total_frames": int(total_frames), "label": int(label)}
        yield fields, {"mel.npy": mel}


def writer(args: argparse.Namespace, out: Path) -> int:
    from clipshards.packer.format.index import ShardIndex
    from clipshards.packer.format.json_parts import AudioJson, SkeletonJson
    from clipshards.packer.format.tasks import TASKS
    from clipshards.packer.samples.base import Sample
    from clipshards.packer.shards import ShardWriter
    from clipshards.packer.storage import open_storage

    name = "audio" if args.data.startswith("mel") else "skeleton"
    encode = TASKS[name].encode
    index = ShardIndex(task=name, split="train", number=0, plan_digest="", recipe={})
    with open_storage(out).writer("train-000000.tar", staging="build") as write:
        shard = ShardWriter(write, index)
        for number, (fields, parts) in enumerate(samples(args)):
            known = {"labels": (fields["label"],), "total_frames": fields["total_frames"]}
            about: AudioJson | SkeletonJson
            if name == "audio":
                about = AudioJson(id=fields["id"], origin=f"list.txt:{number}", **known)
            else:
                about = SkeletonJson(
                    id=fields["frame_dir"],
                    origin=f"records[{number}]",
                    compressed=False,
                    image_shape=fields["img_shape"],
                    original_shape=fields["original_shape"],
                    valid=(),
                    box_threshold=0.0,
                    absent=(),
                    **known,
                )
            made = {part: encode(part, value) for part, value in parts.items()}
            made["json"] = about.encode()
            sample = Sample(about.id, about.origin, 1, about.summary(), made)
            shard.add(f"train-{number:08d}", sample, entries=1)
        shard.finish(records=args.samples)
    return int(args.samples)


def floor(args: argparse.Namespace, out: Path) -> int:
    import google_crc32c

    if args.data == "mel":
        args.data = "mel-bytes"
    header = bytes(128)
    sha, crc = hashlib.sha256(), 0
    waiting: list[bytes] = []
    size = 0
    with (out / "all").open("wb", buffering=0) as file:
        for fields, parts in samples(args):
            for value in (json.dumps(fields).encode(), *parts.values()):
                chunks = [value] if isinstance(value, bytes) else [header, value.tobytes()]
                waiting += chunks
                size += sum(map(len, chunks))
            if size >= BLOCK:
                data = b"".join(waiting)
                file.write(data)
                sha.update(data)
                crc = google_crc32c.extend(crc, data)
                waiting, size = [], 0
        data = b"".join(waiting)
        file.write(data)
        sha.update(data)
        crc = google_crc32c.extend(crc, data)
        os.fsync(file.fileno())
    return int(args.samples)


if __name__ == "__main__":
    main()
