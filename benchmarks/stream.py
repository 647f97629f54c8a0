"""Samples a second of shuffled batches, beside bare loops over the same bytes and the peers.

    python benchmarks/stream.py --work FOLDER --case skeleton|mel|video [--workers 0|2]
        [--peers-python ENVIRONMENT/bin/python] [--rows 'bare loop,clipshards']

Cases: `skeleton`: 20,000 of two persons, 100 frames, 17 joints and their scores, float16
(20.4 kB), batches of 64. `mel`: 5,000 of 626 x 80 float32 (200 kB; `--samples 20000` takes 4 GB
for each reader), batches of 16. `video`: 304 copies of `--videos`, or of four made here, batches
of 8; clips of 8 frames, one from each eighth, or 32 frames, every second (`--clip dense`), in
the middle cut to the size that all videos have.

Rows: `bare loop`: pread, crc32c, the parts of each sample parsed and checked by our format's
own functions, PyAV on the packets that the frame table tells, and arrays filled row by row, in
our order, one process; it makes the arrays and the label of a sample, nothing else. `plain` parses
by json.loads and np.load, `unchecked` by json.loads and what a header of npy meant the last
time; neither looks whether the values are what they should be. `bare raw` ends with the crc32c
and a dict of bytes; `raw` rows hand out samples as bytes. `webdataset raw, ours` reads
our shards, `webdataset raw` its own. MMAction2's row does what its PoseDataset, AudioDataset,
and VideoDataset with DecordInit, SampleFrames and DecordDecode do, as a plain torch
DataLoader: the list pickled item by item into one array, or files opened one by one. Peers
decode videos by PyAV: packets read once, forward to the nearest key frame, one thread.

All files are read before each run. A rate is that of the batches behind the first few, over
`--seconds`, one epoch behind the other; so are CPU seconds. `first batch` is from the making
of the data set on, libraries loaded. PSS is that of all processes, at the end.

mosaicml-streaming, litdata and decord need an environment of their own:

    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install -c constraints.txt mosaicml-streaming litdata av decord
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import stream_bare
import stream_data
import stream_peers
from harness import Results, Row, run_rows, video_files
from stream_common import (
    BATCH,
    SAMPLES,
    SEED,
    common_size,
    cut_to,
    data_of,
    forever,
    in_batches,
)

SKIP = {"skeleton": 4, "mel": 4, "video": 2}
"""Batches before the rate counts."""
BARE = {"raw": "bare raw", "batches": "bare loop"}
WEBDATASET = {"raw": "webdataset raw", "batches": "webdataset"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=tuple(BATCH), required=True)
    parser.add_argument("--workers", type=int, default=0, help="loader processes; default: none")
    parser.add_argument("--samples", type=int, help="default: see above")
    parser.add_argument("--seconds", type=float, default=4.0, help="that each run is timed")
    parser.add_argument("--videos", type=Path, help="folder with mp4 files; default: made here")
    parser.add_argument("--clip", choices=("sparse", "dense"), default="sparse")
    streams: dict[str, Callable[[argparse.Namespace], Iterable[int]]] = {
        "bare loop": partial(stream_bare.bare_loop, stream_bare.parse_checked),
        "bare loop, plain": partial(stream_bare.bare_loop, stream_bare.parse_plainly),
        "bare loop, unchecked": partial(stream_bare.bare_loop, stream_bare.parse_known),
        "clipshards": clipshards,
        "clipshards, 2 threads": partial(clipshards, threads=2),
        "webdataset": stream_peers.webdataset,
        "mosaicml-streaming": stream_peers.mosaicml,
        "litdata": stream_peers.litdata,
        "MMAction2": stream_peers.mmaction2,
        "bare raw": stream_bare.bare_raw,
        "clipshards raw": clipshards_raw,
        "webdataset raw": stream_peers.webdataset_raw,
        "webdataset raw, ours": stream_peers.webdataset_raw_ours,
    }
    rows: dict[str, Row] = {name: partial(timed, name, make) for name, make in streams.items()}
    ours = ("torch", "google_crc32c", "av", "clipshards.readers.data")
    imports = dict.fromkeys(rows, ours) | {
        "bare loop": ("torch", "google_crc32c", "av"),
        "bare loop, plain": ("torch", "google_crc32c", "av"),
        "bare loop, unchecked": ("torch", "google_crc32c", "av"),
        "bare raw": ("google_crc32c",),
        "webdataset": ("torch", "av", "webdataset"),
        "webdataset raw": ("webdataset",),
        "webdataset raw, ours": ("webdataset",),
        "mosaicml-streaming": ("av", "peers"),
        "litdata": ("av", "peers"),
        "MMAction2": ("torch", "decord"),
    }
    # One thread in each process, as DataLoader's workers have.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    peers = ("mosaicml-streaming", "litdata", "MMAction2")
    run_rows(
        parser,
        rows,
        unit="samples",
        prepare=prepare,
        imports=imports,
        peers=peers,
        report=print_figures,
    )


def prepare(args: argparse.Namespace) -> None:
    stream_data.make_data(
        data_of(args),
        args.case,
        samples=args.samples or SAMPLES[args.case],
        videos=video_files(args)[:4] if args.case == "video" else [],
        peers_python=args.peers_python,
    )


# Measuring


def timed(
    name: str,
    make: Callable[[argparse.Namespace], Iterable[int]],
    args: argparse.Namespace,
    _: Path,
) -> dict[str, Any]:
    """Return the figures of a row; `make` returns the samples of each batch, without an end."""
    folder = data_of(args) / READ.get(name, "clipshards")
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass
    args.size = common_size(args) if args.case == "video" else None
    np.random.seed(SEED)
    begin, done, batches, counted = time.perf_counter(), 0, 0, 0
    first_s = since = cpu_s = 0.0
    # Held, so that workers are still there when they are measured.
    stream = iter(make(args))
    for samples in stream:
        done, batches = done + samples, batches + 1
        now = time.perf_counter()
        if batches == 1:
            first_s = now - begin
        if batches == SKIP[args.case]:
            since, counted, cpu_s = time.perf_counter(), done, _cpu_seconds()
        elif batches > SKIP[args.case] and now - since > args.seconds:
            break
    seconds, samples = time.perf_counter() - since, done - counted
    return {
        "units": done,
        "rate": samples / seconds,
        "first_s": first_s,
        "cpu_s": (_cpu_seconds() - cpu_s) / samples * 1000,
        "pss_mb": _pss_mb(),
    }


READ = {
    "webdataset": "webdataset",
    "webdataset raw": "webdataset",
    "mosaicml-streaming": "mds",
    "litdata": "litdata",
    "MMAction2": "raw",
}
"""What a row reads, if not our shards."""


def print_figures(runs: Results) -> None:
    print("batches behind the first alone; each ratio is to the row of the same kind\n")
    print("| row | samples/s (min-max) | x bare | x webdataset | first batch s |", end="")
    print(" CPU s per 1000 samples | PSS MB |")
    print("|---|---|---|---|---|---|---|")
    for row, mine in runs.items():
        rates = [run["rate"] for run in mine]
        kind = "raw" if " raw" in row else "batches"
        ratios = []
        for base in (BARE[kind], WEBDATASET[kind]):
            pairs = zip(rates, (run["rate"] for run in runs.get(base, ())), strict=False)
            found = [rate / other for rate, other in pairs]
            ratios.append(f"{statistics.median(found):.2f}" if found else "-")
        first, cpu, pss = (
            statistics.median(run[name] for run in mine) for name in ("first_s", "cpu_s", "pss_mb")
        )
        # Before the first batch, a bare loop looks for the places of all samples.
        first = "-" if row.startswith("bare") else f"{first:.3f}"
        print(
            f"| {row} | {statistics.median(rates):.1f} ({min(rates):.1f}-{max(rates):.1f}) "
            f"| {' | '.join(ratios)} | {first} | {cpu:.3f} | {pss:.0f} |"
        )


def _processes() -> list[int]:
    """Return this process and all that it started, directly or not."""
    found = [os.getpid()]
    for process in found:
        with suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _cpu_seconds() -> float:
    """Return user and system time of these processes, and of those that they waited for."""
    ticks = 0
    for process in _processes():
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _pss_mb() -> float:
    """Return the memory of these processes, shared pages counted once."""
    total = 0
    for process in _processes():
        with suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def clipshards(args: argparse.Namespace, threads: int = 0) -> Iterator[int]:
    workers = 0 if threads else args.workers
    return forever(make_dataset(args).loader(workers=workers, threads=threads))


def make_dataset(args: argparse.Namespace) -> Any:
    from clipshards.readers import DenseClip, ShardDataset, UniformClip, open_dataset

    clip, transform = None, None
    if args.case == "video":
        clip = UniformClip(8) if args.clip == "sparse" else DenseClip(32, stride=2)
        transform = partial(cut_item, args.size)
    split = open_dataset(data_of(args) / "clipshards", split="train")
    return ShardDataset(
        split, batch_size=BATCH[args.case], clip=clip, seed=SEED, transform=transform
    )


def cut_item(size: tuple[int, int], item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "frames": cut_to(item["frames"], size)}


def clipshards_raw(args: argparse.Namespace) -> Iterator[int]:
    from clipshards.readers.webdataset import samples

    while True:
        yield from in_batches(args, samples(data_of(args) / "clipshards", split="train"))


if __name__ == "__main__":
    main()
