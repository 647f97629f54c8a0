"""Items a second of shuffled batches from S3, near and far, beside the same split on disk.

    python benchmarks/s3_stream.py --work FOLDER --case video|skeleton [--threads 2]
        [--rows 'local disk,S3'] [--seconds 10]

Cases: `video`: 304 copies of `--videos`, or of four made here (10 s, 340x256, `--megabytes` each),
batches of 8, clips of 8 frames, one from each eighth, in the middle cut to the size that
all have. `skeleton`: 20,000 of 20.4 kB (see `stream.py`), batches of 64.

Rows: `local disk`: files in memory. `S3`: the same files by the cheapest server, on this machine.
`+ 50 ms`: each answer comes so much later (`--latency`). Rates and CPU seconds are those behind the
first batches, over `--seconds`, one epoch behind the other. `cold` rows are the first epoch alone,
from the opening of the data set on, libraries loaded; their ratio is to `local disk cold`.

CPU seconds are those of the reading process; those of the server, which takes them
from the same processors, stand beside them. `waiting` is the share of the time in which the next
batch was not there because of the storage.
"""

import argparse
import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import stream_data
from harness import Results, Row, run_rows, textured_videos
from s3_sendfile import SendfileS3
from stream_common import BATCH, SAMPLES, SEED, common_size, cut_to, data_of

SKIP = {"video": 8, "skeleton": 100}
"""Batches before the rate counts: the lookahead is filled by then."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=tuple(SKIP), required=True)
    parser.add_argument("--samples", type=int, help="default: see above")
    parser.add_argument("--seconds", type=float, default=10.0, help="that each run is timed")
    parser.add_argument("--threads", type=int, default=2, help="of the loader")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds, of the `far` rows")
    parser.add_argument("--videos", type=Path, help="folder with mp4 files; default: made here")
    parser.add_argument("--megabytes", type=float, default=1.0, help="of a video made here")
    rows: dict[str, Row] = {
        "local disk": partial(timed, "disk", False),
        "S3": partial(timed, "near", False),
        "S3 + 50 ms": partial(timed, "far", False),
        "local disk cold": partial(timed, "disk", True),
        "S3 cold": partial(timed, "near", True),
        "S3 + 50 ms cold": partial(timed, "far", True),
    }
    # One thread in each process, as DataLoader's workers have.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_rows(
        parser,
        rows,
        unit="items",
        prepare=prepare,
        imports=(
            "torch",
            "google_crc32c",
            "av",
            "clipshards.readers.data",
            "clipshards.packer.storage.s3",
        ),
        report=print_figures,
    )


def prepare(args: argparse.Namespace) -> None:
    videos: list[Path] = []
    if args.case == "video":
        videos = sorted(args.videos.glob("*.mp4")) if args.videos else make_videos(args)
    data, samples = folder_of(args), args.samples or SAMPLES[args.case]
    for name in ("raw", "clipshards"):
        done = data / f"{name}.done"
        if not done.exists():
            (data / name).mkdir(parents=True, exist_ok=True)
            if name == "raw":
                stream_data.make_raw(data / name, args.case, samples, videos)
            else:
                stream_data.write_clipshards(data / "raw", args.case, data / name)
            done.touch()


def make_videos(args: argparse.Namespace) -> list[Path]:
    return textured_videos(
        videos_of(args), count=4, megabytes=args.megabytes, width=340, height=256
    )


def videos_of(args: argparse.Namespace) -> Path:
    return Path(args.videos or args.work / f"textured-{args.megabytes:g}mb")


def folder_of(args: argparse.Namespace) -> Path:
    """Return the folder of the data, whose name as a bucket is one that S3 allows."""
    if args.case == "video":
        args.videos = videos_of(args)
    return data_of(args)


def timed(where: str, cold: bool, args: argparse.Namespace, _: Path) -> dict[str, Any]:
    """Return the figures of a row."""
    data = folder_of(args)
    for path in (data / "clipshards").rglob("*.tar"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
    args.size = common_size(args) if args.case == "video" else None
    if where == "disk":
        return measured(str(data / "clipshards"), cold, args, None)
    latency_s = args.latency if where == "far" else 0.0
    with SendfileS3(data.parent, latency_s=latency_s) as server:
        server.set_environment()
        return measured(f"s3://{data.name}/clipshards", cold, args, server)


def measured(
    location: str, cold: bool, args: argparse.Namespace, server: SendfileS3 | None
) -> dict[str, Any]:
    """Return the figures of the batches behind the first, or of all of the first epoch."""
    begin, done, batches, first_s = time.perf_counter(), 0, 0, 0.0
    before, since, counted, cpu_s, server_s = None, begin, 0, time.process_time(), 0.0
    loader = make_loader(location, args)
    while True:
        for batch in loader:
            done, batches = done + len(batch["label"]), batches + 1
            now = time.perf_counter()
            if batches == 1:
                first_s = now - begin
            if cold:
                continue
            if batches == SKIP[args.case]:
                since, counted, cpu_s = time.perf_counter(), done, time.process_time()
                server_s = server.cpu_s if server else 0.0
                before = loader.accounting()
            elif batches > SKIP[args.case] and now - since > args.seconds:
                break
        else:
            if not cold:
                continue
        break
    seconds, items = time.perf_counter() - since, done - counted
    account = loader.accounting() if before is None else loader.accounting().since(before)
    return {
        "units": done,
        "rate": items / seconds,
        "first_s": first_s,
        "cpu_s": (time.process_time() - cpu_s) / items * 1000,
        "server_s": ((server.cpu_s if server else 0.0) - server_s) / items * 1000,
        "waiting": account.storage_s / account.seconds,
        "used": account.bytes_used / account.bytes_fetched,
    }


def make_loader(location: str, args: argparse.Namespace) -> Any:
    from clipshards.readers import ShardDataset, UniformClip, open_dataset

    clip, transform = None, None
    if args.case == "video":
        clip, transform = UniformClip(8), partial(cut_item, args.size)
    dataset = ShardDataset(
        open_dataset(location, split="train"),
        batch_size=BATCH[args.case],
        clip=clip,
        seed=SEED,
        transform=transform,
    )
    return dataset.loader(threads=args.threads)


def cut_item(size: tuple[int, int], item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "frames": cut_to(item["frames"], size)}


def print_figures(results: Results) -> None:
    print("| row | items/s (min-max) | x local disk | CPU s per 1000 items | CPU x |", end="")
    print(" server's | waiting | bytes used | first batch s | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row, runs in results.items():
        rates = [run["rate"] for run in runs]
        base = results.get("local disk cold" if row.endswith("cold") else "local disk", ())
        speed, cost = (
            [run[name] / other[name] for run, other in zip(runs, base, strict=False)]
            for name in ("rate", "cpu_s")
        )
        ratios = [f"{statistics.median(each):.2f}" if each else "-" for each in (speed, cost)]
        cpu, server, waiting, used, first, peak = (
            statistics.median(run[name] for run in runs)
            for name in ("cpu_s", "server_s", "waiting", "used", "first_s", "peak_mb")
        )
        print(
            f"| {row} | {statistics.median(rates):.1f} ({min(rates):.1f}-{max(rates):.1f}) "
            f"| {ratios[0]} | {cpu:.3f} | {ratios[1]} | {server:.3f} | {waiting:.1%} "
            f"| {used:.0%} | {first:.3f} | {peak:.0f} |"
        )


if __name__ == "__main__":
    main()
