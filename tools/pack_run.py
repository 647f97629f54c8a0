"""What all `clipshards pack` commands share: their options, the run and its report."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from clipshards.packer.format.errors import RejectsError
from clipshards.tools.printing import (
    bytes_text,
    count_text,
    print_json,
    print_pairs,
    printable,
    progress_bar,
)

if TYPE_CHECKING:
    from clipshards.packer.format.manifest import LabelMode
    from clipshards.packer.format.rejects import RejectRow
    from clipshards.packer.packing import PackReport, PlanSummary
    from clipshards.packer.recipe import Recipe
    from clipshards.packer.records import Excluded, Record, Reject

_REJECTS_SHOWN = 10

annotation_file = click.Path(exists=True, dir_okay=False, path_type=Path)


class Common(TypedDict):
    """Values of the options that every pack command has."""

    media_root: str | None
    out: str
    split: str
    class_names: Path | None
    seed: int
    keep_order: bool
    shard_size: str
    max_rejects: int | None
    workers: int | None
    allow_outside: bool
    replan: bool
    as_json: bool


def label_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the two options that say how many labels an entry has."""
    for option in (
        click.option("--unlabelled", is_flag=True, help="Entries have no label."),
        click.option("--multi-label", is_flag=True, help="Entries have one label or more."),
    ):
        command = option(command)
    return command


def label_mode(multi_label: bool, unlabelled: bool) -> "LabelMode":
    """Return what the two options say."""
    if multi_label and unlabelled:
        raise click.UsageError("--multi-label and --unlabelled exclude each other.")
    return "many" if multi_label else "none" if unlabelled else "one"


def common_options(*, media: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the options of every pack command.

    Args:
        media: Whether entries always name files, so that their root must be given.
    """
    options = (
        click.option(
            "--media-root",
            required=media,
            type=click.Path(exists=True, file_okay=False),
            help="Folder that the annotation's paths start from.",
        ),
        click.option("--out", required=True, metavar="LOCATION", help="Folder of the data set."),
        click.option("--split", required=True, help="Name of the split, as train or val."),
        click.option(
            "--class-names",
            type=annotation_file,
            help="Text file with the name of class 0, 1, ... on a line each.",
        ),
        click.option(
            "--seed", default=0, show_default=True, help="Seed of the order in the shards."
        ),
        click.option(
            "--keep-order", is_flag=True, help="Keep the annotation's order in the shards."
        ),
        click.option(
            "--shard-size",
            default="256MB",
            show_default=True,
            metavar="SIZE",
            help="Size of a shard, about; a number with kB, MB or GB.",
        ),
        click.option(
            "--max-rejects",
            type=click.IntRange(min=0),
            help="Rejects up to which the split is still finished.  "
            "[default: 10, or 1 % if that is more]",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            help="Processes that make shards; their bytes do not depend on it.  "
            "[default: one a processor]",
        ),
        click.option("--allow-outside", is_flag=True, help="Let paths lead out of the media root."),
        click.option("--replan", is_flag=True, help="Start over: replace what stands there."),
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def run_pack(
    source: "Iterable[Record | Reject | Excluded]",
    common: Common,
    *,
    labels: "LabelMode",
    class_names: Sequence[str] = (),
    recipe: "Recipe | None" = None,
) -> None:
    """Pack the records of an annotation and print what happened; exit with 1 on rejects.

    `class_names` are those that the annotation knows; a file of the user's goes before.
    """
    from clipshards.packer.annotations.class_names import read_class_names
    from clipshards.packer.packing import pack as pack_records

    names = common["class_names"]
    # Read once: the annotation may be a pipe.
    records = list(source)
    with progress_bar(len(records), "entry", f"pack {common['split']}") as bar:
        packed_bytes = 0

        def progress(entries: int, media_bytes: int) -> None:
            nonlocal packed_bytes
            packed_bytes += media_bytes
            bar.set_postfix_str(bytes_text(packed_bytes), refresh=False)
            bar.update(entries)

        def planning(plan: "PlanSummary") -> None:
            if plan.source_bytes:
                growth = plan.bytes / plan.source_bytes
                size = f"{count_text(plan.shards, 'shard')}, about {bytes_text(plan.bytes)}"
                clips = f"plan: {count_text(plan.samples, 'clip')} in {size}"
                bar.write(f"{clips}, {growth:.1f} times the bytes of their videos", sys.stderr)
            for text in plan.warnings:
                bar.write(f"warning: {text}", sys.stderr)

        try:
            report = pack_records(
                records,
                common["out"],
                split=common["split"],
                media_root=common["media_root"],
                labels=labels,
                class_names=class_names if names is None else read_class_names(names),
                recipe=recipe,
                seed=None if common["keep_order"] else common["seed"],
                shard_size=parse_size(common["shard_size"]),
                max_rejects=common["max_rejects"],
                allow_outside=common["allow_outside"],
                replan=common["replan"],
                workers=common["workers"] or len(os.sched_getaffinity(0)),
                planning=planning,
                progress=progress,
            )
        except RejectsError as exc:
            if common["as_json"]:
                print_json({"error": str(exc), "rejects": [asdict(row) for row in exc.rejects]})
            else:
                _print_rejects(exc.rejects)
                _print_warnings(getattr(source, "warnings", ()))
            raise
    warnings = (*getattr(source, "warnings", ()), *report.warnings)
    if common["as_json"]:
        print_json(asdict(report) | {"warnings": list(warnings)})
    else:
        _print_report(report, warnings)
    if report.rejects:
        raise click.exceptions.Exit(1)


def _print_report(report: "PackReport", warnings: Sequence[str]) -> None:
    done = "packed" if report.shards_made else "already packed"
    click.echo(
        f"{report.packed} of {report.entries} entries {done} in {report.seconds:.1f} s "
        f"({report.shards_made} of {count_text(report.shards, 'shard')} made by this run)"
    )
    pairs: list[tuple[str, object]] = [
        ("split", f"{report.location}/{report.split}"),
        ("size", f"{count_text(report.shards, 'shard')}, {bytes_text(report.bytes)}"),
        ("digest", report.content_digest[:12]),
    ]
    if report.source_bytes:
        growth = report.bytes / report.source_bytes
        pairs.append(("growth", f"{growth:.1f} times the bytes of the videos"))
    pairs += [(f"excluded by {option}", number) for option, number in report.excluded.items()]
    if report.rejects:
        when = "" if report.shards_made else " when it was packed (to try again: --replan)"
        rejected = sum(row.entries for row in report.rejects)
        pairs.append(("rejects", f"{rejected}{when}, listed in {report.split}/rejects.jsonl:"))
    print_pairs(pairs)
    _print_rejects(report.rejects)
    _print_warnings(warnings)
    click.echo(f"next: clipshards verify {shlex.quote(report.location)}")


def _print_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {printable(warning)}")


def _print_rejects(rejects: "Sequence[RejectRow]") -> None:
    for reject in rejects[:_REJECTS_SHOWN]:
        click.echo(f"    {printable(reject.origin)}: {printable(reject.message)}")
    if len(rejects) > _REJECTS_SHOWN:
        click.echo(f"    and {len(rejects) - _REJECTS_SHOWN} more")


def parse_size(text: str) -> int:
    """Return the bytes that a text like `256MB` stands for.

    Raises:
        ValueError: Not a number with B, kB, MB, GB, TB or nothing behind it.

    >>> parse_size("256MB"), parse_size("1.5 GB"), parse_size("4096")
    (256000000, 1500000000, 4096)
    """
    units = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    number = text.strip().rstrip("bBkKmMgGtT ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise ValueError(
            f"--shard-size {text!r}: expected a number of bytes, or one with kB, MB, GB or TB"
        )
    return size
