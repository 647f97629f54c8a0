"""`clipshards pack`: an annotation and its media become shards."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipshards.packer.format.errors import RejectsError
from clipshards.tools.printing import bytes_text, count_text, print_json, print_pairs, progress_bar

if TYPE_CHECKING:
    from clipshards.packer.format.manifest import LabelMode
    from clipshards.packer.format.rejects import RejectRow
    from clipshards.packer.packing import PackReport

_REJECTS_SHOWN = 10


@click.group()
def pack() -> None:
    """Pack an annotation and its media into shards."""


@pack.command()
@click.argument("annotation", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--media-root",
    required=True,
    type=click.Path(exists=True, file_okay=False),
    help="Folder that the annotation's paths start from.",
)
@click.option("--out", required=True, metavar="LOCATION", help="Folder of the data set.")
@click.option("--split", required=True, help="Name of the split, as train or val.")
@click.option("--multi-label", is_flag=True, help="Lines hold one label or more.")
@click.option("--unlabelled", is_flag=True, help="Lines hold a path alone.")
@click.option("--delimiter", default=" ", help="Between two fields, once.  [default: one space]")
@click.option(
    "--class-names",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Text file with the name of class 0, 1, ... on a line each.",
)
@click.option(
    "--frame-table",
    type=click.Choice(["decode", "none"]),
    default="decode",
    show_default=True,
    help="decode: decode each video once, which proves it whole and lets readers jump. "
    "none: pack videos unopened.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the order in the shards.")
@click.option("--keep-order", is_flag=True, help="Keep the annotation's order in the shards.")
@click.option(
    "--shard-size",
    default="256MB",
    show_default=True,
    metavar="SIZE",
    help="Size of a shard, about; a number with kB, MB or GB.",
)
@click.option(
    "--max-rejects",
    type=click.IntRange(min=0),
    help="Rejects up to which the split is still finished.  [default: 10, or 1 % if that is more]",
)
@click.option("--allow-outside", is_flag=True, help="Let paths lead out of the media root.")
@click.option("--replan", is_flag=True, help="Replace a split or a plan that stands there.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def video(
    annotation: Path,
    media_root: str,
    out: str,
    split: str,
    multi_label: bool,
    unlabelled: bool,
    delimiter: str,
    class_names: Path | None,
    frame_table: Any,
    seed: int,
    keep_order: bool,
    shard_size: str,
    max_rejects: int | None,
    allow_outside: bool,
    replan: bool,
    as_json: bool,
) -> None:
    """Pack a video list, `path label [label ...]` a line.

    A run that was killed goes on when the same command is given again. Entries that
    cannot be packed are listed with file, line and reason, here and in rejects.jsonl; the
    exit code is then 1.
    """
    from clipshards.packer.annotations.class_names import read_class_names
    from clipshards.packer.annotations.video_list import VideoList
    from clipshards.packer.packing import pack as pack_records
    from clipshards.packer.recipe import Recipe

    if multi_label and unlabelled:
        raise click.UsageError("--multi-label and --unlabelled exclude each other.")
    labels: LabelMode = "many" if multi_label else "none" if unlabelled else "one"
    # Read once: the annotation may be a pipe.
    records = list(VideoList(annotation, labels=labels, delimiter=delimiter.replace("\\t", "\t")))
    with progress_bar(len(records), "entry", f"pack {split}") as bar:
        packed_bytes = 0

        def progress(entries: int, media_bytes: int) -> None:
            nonlocal packed_bytes
            packed_bytes += media_bytes
            bar.set_postfix_str(bytes_text(packed_bytes), refresh=False)
            bar.update(entries)

        try:
            report = pack_records(
                records,
                out,
                split=split,
                media_root=media_root,
                labels=labels,
                class_names=() if class_names is None else read_class_names(class_names),
                recipe=Recipe(frame_table=frame_table),
                seed=None if keep_order else seed,
                shard_size=parse_size(shard_size),
                max_rejects=max_rejects,
                allow_outside=allow_outside,
                replan=replan,
                progress=progress,
            )
        except RejectsError as exc:
            if as_json:
                print_json({"error": str(exc), "rejects": [asdict(row) for row in exc.rejects]})
            else:
                _print_rejects(exc.rejects)
            raise
    if as_json:
        print_json(asdict(report))
    else:
        _print_report(report)
    if report.rejects:
        raise click.exceptions.Exit(1)


def _print_report(report: "PackReport") -> None:
    done = "packed" if report.shards_made else "already packed"
    click.echo(
        f"{report.packed} of {report.entries} entries {done} in {report.seconds:.1f} s "
        f"({report.shards_made} of {count_text(report.shards, 'shard')} made by this run)"
    )
    pairs = [
        ("split", f"{report.location}/{report.split}"),
        ("size", f"{count_text(report.shards, 'shard')}, {bytes_text(report.bytes)}"),
        ("digest", report.content_digest[:12]),
    ]
    if report.rejects:
        pairs.append(("rejects", f"{len(report.rejects)}, listed in {report.split}/rejects.jsonl:"))
    print_pairs(pairs)
    _print_rejects(report.rejects)
    for warning in report.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"next: clipshards verify {shlex.quote(report.location)}")


def _print_rejects(rejects: "Sequence[RejectRow]") -> None:
    for reject in rejects[:_REJECTS_SHOWN]:
        click.echo(f"    {reject.origin}: {reject.message}")
    if len(rejects) > _REJECTS_SHOWN:
        click.echo(f"    and {len(rejects) - _REJECTS_SHOWN} more")


def parse_size(text: str) -> int:
    """Return the bytes that a text like `256MB` stands for.

    Raises:
        ValueError: Not a number with B, kB, MB, GB or nothing behind it.

    >>> parse_size("256MB"), parse_size("1.5 GB"), parse_size("4096")
    (256000000, 1500000000, 4096)
    """
    units = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9}
    number = text.strip().rstrip("bBkKmMgG ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise ValueError(f"size {text!r}: expected a number of bytes, or one with kB, MB or GB")
    return size
