"""How the packing commands print what they did, or would do."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from clipshards.tools.printing import (
    bytes_text,
    count_text,
    print_pairs,
    printable,
    seconds_text,
)

if TYPE_CHECKING:
    from clipshards.packer.format.rejects import RejectRow
    from clipshards.packer.reports import PackReport, PartReport, PlanSummary, RemakeReport
    from clipshards.packer.status import Status
    from clipshards.packer.trial import Estimate

_REJECTS_SHOWN = 10


def plan_line(plan: "PlanSummary") -> str:
    """Return one line on a plan whose samples are cut from videos."""
    size = f"{count_text(plan.shards, 'shard')}, about {bytes_text(plan.bytes)}"
    growth = f"{plan.bytes / plan.source_bytes:.1f} times the bytes of their videos"
    return f"plan: {count_text(plan.samples, 'clip')} in {size}, {growth}"


def print_plan(plan: "PlanSummary", status: "Status | None") -> None:
    """Print what a pack command would make, as far as it is known without opening media."""
    click.echo(f"{count_text(plan.samples, 'sample')} in {count_text(plan.shards, 'shard')}")
    print_pairs(
        [
            ("media", bytes_text(plan.media_bytes)),
            *((f"excluded by {option}", number) for option, number in plan.excluded.items()),
        ]
    )
    if plan.rejects:
        print_pairs([("rejects", f"{len(plan.rejects)} by the annotation alone:")])
        print_rejects(plan.rejects)
    if status is not None:
        made = f"{status.shards_made} of {count_text(status.shards, 'shard')} made"
        click.echo(f"there: this very job, {status.state}, {made}")
    else:
        click.echo("there: nothing of this split")
    print_warnings((*plan.annotation_warnings, *plan.warnings))


def print_estimate(plan: "PlanSummary", estimate: "Estimate", *, workers: int) -> None:
    """Print what it would take, by some samples."""
    pairs: list[tuple[str, object]] = []
    if estimate.bytes:
        media = plan.media_bytes
        growth = f", {estimate.bytes / media:.2f} times the media" if media else ""
        workers = min(workers, plan.shards)
        time = seconds_text(estimate.seconds / workers)
        pairs += [
            ("size", f"about {bytes_text(estimate.bytes)}{growth}"),
            ("time", f"about {time} with {count_text(workers, 'worker')}, storage not counted"),
        ]
    tried = count_text(estimate.tried, "sample")
    refused = f", {len(estimate.rejects)} of them cannot be packed:" if estimate.rejects else ""
    print_pairs([*pairs, ("tried", f"{tried}{refused}")])
    for origin, message in estimate.rejects[:_REJECTS_SHOWN]:
        click.echo(f"    {printable(origin)}: {printable(message)}")
    if len(estimate.rejects) > _REJECTS_SHOWN:
        click.echo(f"    and {len(estimate.rejects) - _REJECTS_SHOWN} more")
    if len(estimate.rejects) == estimate.tried:
        click.echo("  not one of them can be packed: is --media-root right?")


def print_part(report: "PartReport") -> None:
    """Print what one part of a job did."""
    click.echo(
        f"part {report.part}/{report.parts}: {report.shards_made} of "
        f"{count_text(report.shards, 'shard')} made in {report.seconds:.1f} s, "
        f"{bytes_text(report.bytes)}"
    )
    if report.rejects:
        rejected = sum(row.entries for row in report.rejects)
        click.echo(f"  {count_text(rejected, 'entry')} of it cannot be packed:")
        print_rejects(report.rejects)
    if report.missing:
        click.echo(f"  {count_text(len(report.missing), 'shard')} of other parts to come")
    else:
        place = shlex.quote(report.location)
        click.echo(f"next: clipshards finish {place} --split {report.split}")


def print_remade(report: "RemakeReport") -> None:
    """Print what a repair from the sources did."""
    for name, reason in report.refused:
        click.echo(f"{report.split}/{name}: left as it is: {printable(reason)}")
    state = "DAMAGED" if report.refused else "whole"
    click.echo(
        f"{state}: {report.shards_made} of {count_text(report.shards, 'shard')} made anew in "
        f"{report.seconds:.1f} s, {bytes_text(report.bytes_made)} "
        f"({report.split} {report.content_digest[:12]})"
    )
    if report.refused:
        click.echo(
            "next: restore the media and run again, take the files from a copy (clipshards "
            "repair), or pack the split anew (--replan)"
        )


def print_report(report: "PackReport") -> None:
    """Print what a packing run did, in which shards were or could have been made."""
    done = "packed" if report.shards_made else "already packed"
    click.echo(
        f"{report.packed} of {report.entries} entries {done} in {report.seconds:.1f} s "
        f"({report.shards_made} of {count_text(report.shards, 'shard')} made by this run)"
    )
    print_split(report)


def print_split(report: "PackReport") -> None:
    """Print what a finished split is like, and what to do next."""
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
        rejected = sum(row.entries for row in report.rejects)
        again = "once they are mended: --retry-rejects"
        pairs.append(("rejects", f"{rejected}, listed in {report.split}/rejects.jsonl ({again}):"))
    print_pairs(pairs)
    print_rejects(report.rejects)
    print_warnings(report.warnings)
    click.echo(f"next: clipshards verify {shlex.quote(report.location)}")


def print_warnings(warnings: Sequence[str]) -> None:
    """Print what may not be what was meant, a line each."""
    for warning in warnings:
        click.echo(f"warning: {printable(warning)}")


def print_rejects(rejects: "Sequence[RejectRow]") -> None:
    """Print the first of what could not be packed."""
    for reject in rejects[:_REJECTS_SHOWN]:
        click.echo(f"    {printable(reject.origin)}: {printable(reject.message)}")
    if len(rejects) > _REJECTS_SHOWN:
        click.echo(f"    and {len(rejects) - _REJECTS_SHOWN} more")
