"""One set of samples in the format of each reader that `stream.py` compares.

What the user has (`raw`): a pickle of skeletons, npy files of mel features and their list, or
mp4 files and their list. From it: our shards by the default recipe; tar shards of webdataset,
skeletons as one pickled member each, which it reads fastest; shards of mosaicml-streaming and
chunks of litdata. The last two are written in the environment of these libraries:

    python stream_data.py FOLDER CASE FORMAT
"""

import io
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

PERSONS, FRAMES, JOINTS = 2, 100, 17
"""Of a skeleton: 20.4 kB as float16."""
MEL_SHAPE = (626, 80)
"""Ten seconds at MMAction2's settings: 200 kB as float32."""
CLASSES = 60
SHARDS = 8
SHARD_BYTES = 64_000_000
"""Of the peers; ours have the default size."""

COLUMNS = {
    "skeleton": {
        "keypoint": f"ndarray:float16:{PERSONS},{FRAMES},{JOINTS},2",
        "score": f"ndarray:float16:{PERSONS},{FRAMES},{JOINTS}",
        "label": "int",
    },
    "mel": {"mel": f"ndarray:float32:{MEL_SHAPE[0]},{MEL_SHAPE[1]}", "label": "int"},
    "video": {"video": "bytes", "label": "int"},
}


def make_data(
    folder: Path, case: str, *, samples: int, videos: list[Path], peers_python: str | None
) -> None:
    """Make all that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Path], Any]] = {
        "raw": lambda out: make_raw(out, case, samples, videos)
    }
    for name in ("clipshards", "webdataset"):
        makers[name] = partial(WRITERS[name], folder / "raw", case)
    if peers_python:
        for name in ("mds", "litdata"):
            # These refer to a place by its name, and so are made where they stay.
            command = [peers_python, __file__, str(folder), case, name]
            makers[name] = partial(_run, command)
    for name, make in makers.items():
        done = folder / f"{name}.done"
        if not done.exists():
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
            make(folder / name)
            done.touch()


def _run(command: list[str], _out: Path) -> None:
    subprocess.run(command, check=True)


def make_raw(out: Path, case: str, samples: int, videos: list[Path]) -> None:
    rng = np.random.default_rng(0)
    if case == "skeleton":
        shape = (PERSONS, FRAMES, JOINTS)
        annotations = [
            {
                "frame_dir": f"S{number:08d}",
                "label": number % CLASSES,
                "img_shape": (1080, 1920),
                "original_shape": (1080, 1920),
                "total_frames": FRAMES,
                "keypoint": (rng.random((*shape, 2), dtype=np.float32) * 1080).astype(np.float16),
                "keypoint_score": rng.random(shape, dtype=np.float32).astype(np.float16),
            }
            for number in range(samples)
        ]
        split = {"train": [entry["frame_dir"] for entry in annotations]}
        with (out / "skeleton.pkl").open("wb") as file:
            pickle.dump({"split": split, "annotations": annotations}, file, protocol=4)
        return
    names = []
    for number in range(samples):
        if case == "mel":
            names.append(f"{number:08d}.npy")
            np.save(out / names[-1], rng.standard_normal(MEL_SHAPE, dtype=np.float32))
        else:
            names.append(f"{number:08d}.mp4")
            shutil.copyfile(videos[number % len(videos)], out / names[-1])
    frames = " 300" if case == "mel" else ""
    lines = "".join(f"{name}{frames} {n % CLASSES}\n" for n, name in enumerate(names))
    (out / "list.txt").write_text(lines, encoding="utf-8")


def listed(raw: Path) -> list[tuple[Path, int]]:
    """Return the files of a list and their labels."""
    lines = (raw / "list.txt").read_text(encoding="utf-8").splitlines()
    return [(raw / line.split()[0], int(line.split()[-1])) for line in lines]


def stored(raw: Path, case: str) -> Iterator[dict[str, Any]]:
    """Yield each sample as the peers store it."""
    if case == "skeleton":
        for entry in pickle.loads((raw / "skeleton.pkl").read_bytes())["annotations"]:
            score = entry["keypoint_score"]
            yield {"keypoint": entry["keypoint"], "score": score, "label": entry["label"]}
        return
    for path, label in listed(raw):
        value = np.load(path) if case == "mel" else path.read_bytes()
        yield {case: value, "label": label}


def write_clipshards(raw: Path, case: str, out: Path) -> None:
    from clipshards.packer import AudioList, SkeletonFile, VideoList, pack

    records: SkeletonFile | AudioList | VideoList
    if case == "skeleton":
        records = SkeletonFile(raw / "skeleton.pkl")
    elif case == "mel":
        records = AudioList(raw / "list.txt")
    else:
        records = VideoList(raw / "list.txt")
    report = pack(records, out, split="train", media_root=raw)
    if report.rejects:
        sys.exit(f"not all could be packed: {report.rejects[0]}")


def write_webdataset(raw: Path, case: str, out: Path) -> None:
    import webdataset as wds

    pattern, per_shard = str(out / "train-%06d.tar"), _per_shard(raw, case)
    # A time that is a float, the default, takes 1 kB more for each member.
    with wds.ShardWriter(pattern, maxcount=per_shard, maxsize=1 << 40, mtime=0, verbose=0) as sink:
        for number, sample in enumerate(stored(raw, case)):
            if case == "skeleton":
                parts = {"pyd": pickle.dumps(sample, protocol=5)}
            elif case == "mel":
                npy = io.BytesIO()
                np.save(npy, sample["mel"])
                parts = {"npy": npy.getvalue(), "cls": sample["label"]}
            else:
                parts = {"mp4": sample["video"], "cls": sample["label"]}
            sink.write({"__key__": f"{number:08d}", **parts})


def write_mds(raw: Path, case: str, out: Path) -> None:
    from peers import STREAMING

    size = SHARD_BYTES if case != "video" else _raw_bytes(raw) // SHARDS
    writer = STREAMING.MDSWriter(out=str(out), columns=COLUMNS[case], size_limit=size)
    with writer as sink:
        for sample in stored(raw, case):
            sink.write(sample)


def write_litdata(raw: Path, case: str, out: Path) -> None:
    from peers import LITDATA

    # Chunks are made there and moved: it must be the same disk.
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out / "cache")
    samples = list(stored(raw, case))
    LITDATA.optimize(
        fn=samples.__getitem__,
        inputs=list(range(len(samples))),
        output_dir=str(out / "chunks"),
        chunk_size=_per_shard(raw, case),
        num_workers=1,
        start_method="fork",
        keep_data_ordered=True,
        reorder_files=False,
        verbose=False,
    )


def _raw_bytes(raw: Path) -> int:
    return sum(path.stat().st_size for path in raw.iterdir())


def _per_shard(raw: Path, case: str) -> int:
    """Return the samples that make up a shard of the peers."""
    if case == "mel":
        return SHARD_BYTES // (4 * MEL_SHAPE[0] * MEL_SHAPE[1])
    samples = len(listed(raw)) if case == "video" else sum(1 for _ in stored(raw, case))
    return -(-samples // SHARDS)


WRITERS = {
    "clipshards": write_clipshards,
    "webdataset": write_webdataset,
    "mds": write_mds,
    "litdata": write_litdata,
}

if __name__ == "__main__":
    base = Path(sys.argv[1])
    WRITERS[sys.argv[3]](base / "raw", sys.argv[2], base / sys.argv[3])
