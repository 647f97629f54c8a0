"""Runs the rows of a benchmark side by side: fresh processes, in turn, compared pair by pair.

Each measurement is a new Python process that runs one row once. Rows alternate and the
order rotates, so that a drift of the machine meets all of them; a ratio is the median of
the ratios inside each repeat. CPU seconds are user + system of the process and the
children it waited for.
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
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Row = Callable[[argparse.Namespace, Path], int]
"""Does the work once, given the arguments and an empty folder; returns the units done."""


def run_rows(
    parser: argparse.ArgumentParser,
    rows: dict[str, Row],
    *,
    unit: str,
    prepare: Callable[[argparse.Namespace], None],
    imports: Sequence[str] = (),
) -> None:
    """Measure every row and print a table, or run one row when called for it.

    Args:
        parser: The benchmark's own arguments.
        rows: Name to work; the first row is what the ratios refer to.
        unit: What the rows count, as MB or clips.
        prepare: Called once before all and not measured.
        imports: Modules that a job loads once, however long it is; loaded before the clock.
    """
    parser.add_argument("--work", type=Path, required=True, help="folder for data and results")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", help="comma list; default: all")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        for name in imports:
            importlib.import_module(name)
        print(json.dumps(_measure(rows[args.one], args)))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    prepare(args)
    names = args.rows.split(",") if args.rows else list(rows)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for repeat in range(args.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            command = [sys.executable, *sys.argv, "--one", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    _print_table(results, names, unit)


def _measure(row: Row, args: argparse.Namespace) -> dict[str, float]:
    folder = args.work / f"out-{os.getpid()}"
    folder.mkdir()
    os.sync()  # nobody pays for what the one before left unwritten
    cpu, wall = _cpu_seconds(), time.perf_counter()
    units = row(args, folder)
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"units": units, "wall_s": wall, "cpu_s": cpu, "peak_mb": peak}


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _print_table(results: dict[str, list[dict[str, float]]], names: list[str], unit: str) -> None:
    base = results[names[0]]
    print(f"{_versions()}\nmedians of {len(base)} interleaved repeats; x = {names[0]}\n")
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


def _versions() -> str:
    found = []
    for name in ("clipshards", "av", "numpy", "torch", "webdataset"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")
    return f"Python {platform.python_version()}, {', '.join(found)}, {os.cpu_count()} CPUs"


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
