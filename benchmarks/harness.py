"""Runs the rows of a benchmark side by side: fresh processes, in turn, compared pair by pair.

Each measurement is a new Python process that runs one row once. Rows alternate and the
order rotates, so that a drift of the machine meets all of them; a ratio is the median of
the ratios inside each repeat. CPU seconds are user + system of the process and the
children it waited for. The peak is the resident memory of the largest of them.
"""

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Row = Callable[[argparse.Namespace, Path], float | dict[str, Any]]
"""Does the work once, given the arguments and an empty folder; returns the units done, or figures
of its own by name, which take the place of those measured from outside."""

Results = dict[str, list[dict[str, Any]]]
"""Row to the figures of each repeat."""

_PACKAGES = ("clipshards", "av", "numpy", "torch", "webdataset", "mosaicml-streaming", "litdata")


def run_rows(
    parser: argparse.ArgumentParser,
    rows: Mapping[str, Row],
    *,
    unit: str,
    prepare: Callable[[argparse.Namespace], None],
    imports: Sequence[str] | Mapping[str, Sequence[str]] = (),
    peers: Collection[str] = (),
    report: Callable[[Results], None] | None = None,
) -> None:
    """Measure every row and print a table, or run one row when called for it.

    Args:
        parser: The benchmark's own arguments.
        rows: Name to work; the first row is what the ratios refer to.
        unit: What the rows count, as MB or clips.
        prepare: Called once before all and not measured.
        imports: Modules that a job loads once, however long it is; loaded before the clock.
            By row where each has its own, so that the peak of each is that of its own.
        peers: Rows that need the environment of `--peers-python`.
        report: Prints the results, where the common table does not tell them.
    """
    parser.add_argument("--work", type=Path, required=True, help="folder for data and results")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", help="comma list; default: all")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    if peers:
        parser.add_argument("--peers-python", help=f"interpreter for {', '.join(peers)}")
    args = parser.parse_args()
    if args.one:
        for name in imports[args.one] if isinstance(imports, Mapping) else imports:
            importlib.import_module(name)
        print(json.dumps(_measure(rows[args.one], args) | {"versions": _versions()}))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    prepare(args)
    names = args.rows.split(",") if args.rows else list(rows)
    if peers and not args.peers_python:
        skipped = [name for name in names if name in peers]
        names = [name for name in names if name not in peers]
        if skipped:
            print(f"skipped without --peers-python: {', '.join(skipped)}\n")
    results: Results = {name: [] for name in names}
    for repeat in range(args.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            python = args.peers_python if name in peers else sys.executable
            command = [python, *sys.argv, "--one", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    _print_versions(results)
    if report is None:
        _print_table(results, names, unit)
    else:
        report(results)


def _measure(row: Row, args: argparse.Namespace) -> dict[str, Any]:
    folder = args.work / f"out-{os.getpid()}"
    folder.mkdir()
    os.sync()  # nobody pays for what the one before left unwritten
    cpu, wall = _cpu_seconds(), time.perf_counter()
    units = row(args, folder)
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    peak = max(_own_peak_kib(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1.024e-3
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    measured = {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak}
    return measured | (units if isinstance(units, dict) else {"units": units})


def _own_peak_kib() -> int:
    """Return the peak since this program was loaded; `ru_maxrss` has that of who started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def _usage() -> list[resource.struct_rusage]:
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def _cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in _usage())


def sync_files(folder: Path) -> None:
    """Wait until what a row has written is on disk, as our own writer does."""
    for path in folder.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _print_versions(results: Results) -> None:
    known: dict[str, str] = {}
    for runs in results.values():
        known = runs[0]["versions"] | known
    versions = ", ".join(f"{package} {number}" for package, number in known.items())
    print(f"{versions}, {os.cpu_count()} CPUs")
    print(f"medians of {len(next(iter(results.values())))} interleaved repeats\n")


def _print_table(results: Results, names: list[str], unit: str) -> None:
    base = results[names[0]]
    print(f"x = {names[0]}\n")
    print(f"| row | {unit}/s (min-max) | wall x | CPU x | CPU s per 1000 {unit} | peak MB |")
    print("|---|---|---|---|---|---|")
    for name in names:
        runs = results[name]
        rates = [run["units"] / run["wall_s"] for run in runs]
        wall, cpu = (
            statistics.median(run[key] / other[key] for run, other in zip(runs, base, strict=True))
            for key in ("wall_s", "cpu_s")
        )
        cost = statistics.median(run["cpu_s"] / run["units"] * 1000 for run in runs)
        peak = statistics.median(run["peak_mb"] for run in runs)
        print(
            f"| {name} | {statistics.median(rates):.1f} ({min(rates):.1f}-{max(rates):.1f}) "
            f"| {wall:.2f} | {cpu:.2f} | {cost:.1f} | {peak:.0f} |"
        )


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def video_files(args: Any) -> list[Path]:
    """Return the videos to work on: those of `--videos`, or some made in the work folder."""
    if args.videos:
        return sorted(path for path in args.videos.iterdir() if path.suffix == ".mp4")
    from clipshards.packer.media.synthetic import write_video

    folder = args.work / "videos"
    folder.mkdir(exist_ok=True)
    for number in range(6):
        path = folder / f"{number}.mp4"
        if not path.exists():
            write_video(path, frames=250, width=340, height=256, seed=number)
    return sorted(folder.iterdir())


def textured_videos(
    folder: Path, *, count: int, megabytes: float, width: int, height: int
) -> list[Path]:
    """Return videos of 10 s and about a size each, made where they are not there yet.

    A noisy texture of many scales moves and swells, so that an encoder has as much to do as
    with what a camera sees; a drawing would take 45 kB.
    """
    import av
    import numpy as np

    folder.mkdir(exist_ok=True)
    paths = [folder / f"{width}x{height}-{megabytes:g}MB-{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        tall, wide = height + 256, width + 256
        texture = np.zeros((tall, wide), dtype=np.float32)
        for scale in (64, 32, 16, 8, 4, 2):
            coarse = rng.standard_normal((-(-tall // scale), -(-wide // scale)))
            fine = np.repeat(np.repeat(coarse, scale, 0), scale, 1)
            texture += 6 * scale**0.4 * fine[:tall, :wide]
        making = path.with_suffix(".part")
        with av.open(str(making), "w", format="mp4") as container:
            rate = round(megabytes * 800_000)
            options = {"preset": "veryfast", "maxrate": str(2 * rate), "bufsize": str(4 * rate)}
            stream: Any = container.add_stream("libx264", rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.bit_rate, stream.codec_context.thread_count = rate, 1
            for tick in range(250):
                y, x = (int(128 + 120 * np.sin(tick / pace)) for pace in (23 + number, 37 - number))
                light = 128 + texture[y : y + height, x : x + width]
                light += 3 * rng.standard_normal((height, width), dtype=np.float32)
                picture = np.full((height * 3 // 2, width), 128, dtype=np.uint8)
                picture[:height] = light.clip(16, 235)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
            container.mux(stream.encode(None))
        making.rename(path)
    return paths
