"""`clipshards copy` and `repair`: whole splits between locations, every byte checked."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from clipshards.tools.printing import bytes_text, count_text, print_json, progress_bar

if TYPE_CHECKING:
    from clipshards.packer.copying import CopyReport


@click.command()
@click.argument("source", metavar="A")
@click.argument("target", metavar="B")
@click.option("--split", help="One split; default: all.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def copy(source: str, target: str, split: str | None, as_json: bool) -> None:
    """Copy the finished splits of the data set at A to B, byte for byte.

    A and B are folders or s3://bucket/prefix. A shard appears at B only if its size and both
    checksums are the manifest's; the manifest comes last. Interrupted or killed, the same command
    goes on: what stands at B whole is not copied again.

    Exit code 0: copied. 1: files at A are damaged, a line for each; all others were copied.
    2: another split of the name stands at B.
    """
    from clipshards.packer.copying import copy as copy_location

    _run("copy", partial(copy_location, source, target), source, split, as_json, _print)


@click.command()
@click.argument("location")
@click.option("--from", "source", metavar="COPY", help="An intact copy: folder or s3://.")
@click.option("--split", help="One split; default: all that the copy has.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def repair(location: str, source: str | None, split: str | None, as_json: bool) -> None:
    """Make the data set at LOCATION whole again from a copy of it.

    Only what is damaged or missing is replaced, and only by bytes whose checksums are the
    manifest's. All else stays as it is.

    Without a copy, the sources do: give the command that packed the split again, with --repair.

    Exit code 0: whole. 1: files of the copy are damaged too, a line for each; all others were
    repaired. 2: LOCATION is not a copy of that data set.
    """
    from clipshards.packer.repairing import repair as repair_location

    if source is None:
        raise click.UsageError(
            "Give an intact copy, by --from. Without one, give the command that packed the split "
            "again, with --repair: it makes what is damaged anew from the sources."
        )
    _run(
        "repair", partial(repair_location, location, source), source, split, as_json, _print_repair
    )


def _run(
    label: str,
    work: Callable[..., "CopyReport"],
    source: str,
    split: str | None,
    as_json: bool,
    tell: Callable[["CopyReport"], None],
) -> None:
    """Copy with a progress bar, tell what was done, and end with 1 where files are damaged."""
    from clipshards.packer.copying import DamagedSourceError, total_bytes

    with progress_bar(total_bytes(source, split=split), "B", label) as bar:
        try:
            report = work(split=split, progress=bar.update)
        except DamagedSourceError as exc:
            report = exc.report
    if as_json:
        print_json(asdict(report) | {"whole": not report.damaged})
    else:
        tell(report)
    if report.damaged:
        raise click.exceptions.Exit(1)


def _print_repair(report: "CopyReport") -> None:
    for damage in report.damaged:
        click.echo(f"damaged in the copy too: {damage}")
    replaced = sum(one.shards_copied for one in report.splits)
    shards = sum(one.shards for one in report.splits)
    amount = bytes_text(sum(one.bytes_copied for one in report.splits))
    state = "DAMAGED" if report.damaged else "whole"
    digests = ", ".join(f"{one.split} {one.content_digest[:12]}" for one in report.splits)
    click.echo(
        f"{state}: {replaced} of {count_text(shards, 'shard')} replaced, {amount} ({digests})"
    )


def _print(report: "CopyReport") -> None:
    for damage in report.damaged:
        click.echo(str(damage))
    for name in report.unfinished:
        click.echo(f"{name}: packing has not ended, it was not copied")
    digests = ", ".join(
        f"{one.split} {one.content_digest[:12]}" for one in report.splits if one.finished
    )
    shards = sum(one.shards for one in report.splits)
    copied = sum(one.shards_copied for one in report.splits)
    stood = shards - copied - len([one for one in report.damaged if one.file.endswith(".tar")])
    state = "copied"
    if report.damaged:
        state = f"DAMAGED, {count_text(len(report.damaged), 'file')}; copied"
    click.echo(
        f"{state}: {copied} of {count_text(shards, 'shard')}, "
        f"{bytes_text(sum(one.bytes_copied for one in report.splits))}; {stood} stood there "
        f"already ({digests or 'no split is whole'})"
    )
