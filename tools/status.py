"""`clipshards status`: how far a packing job has come."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipshards.tools.printing import bytes_text, count_text, print_json, print_pairs, seconds_text

if TYPE_CHECKING:
    from clipshards.packer.status import Run


@click.command()
@click.argument("location")
@click.option("--split", help="One split; default: all.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(location: str, split: str | None, as_json: bool) -> None:
    """Print how far the packing at LOCATION has come, of running and of killed jobs."""
    from clipshards.packer.status import packed_splits, read_status

    names = packed_splits(location) if split is None else [split]
    found = [read_status(location, split=name) for name in names]
    if as_json:
        print_json(
            [
                asdict(status)
                | {"runs": [asdict(run) | {"alive": run.alive} for run in status.runs]}
                for status in found
            ]
        )
        return
    for status in found:
        made = f"{status.shards_made} of {count_text(status.shards, 'shard')}"
        click.echo(f"{status.split}: {status.state}, {made}")
        samples = f"{count_text(status.samples, 'sample')}, {bytes_text(status.bytes)}"
        pairs: list[tuple[str, object]] = [("in shards", samples)]
        if status.rejects:
            pairs.append(("rejects", status.rejects))
        pairs += [(f"part {run.part}/{run.parts}", _run_text(run)) for run in status.runs]
        print_pairs(pairs)
        if status.state == "stopped" and status.too_many_rejects:
            click.echo(
                "  ended over its rejects, listed in rejects.jsonl: mend the media and give the "
                "same pack command, or allow more by --max-rejects"
            )
        elif status.state == "stopped" and status.shards_made == status.shards:
            click.echo("  all shards are made: clipshards finish, or the same pack command")
        elif status.state == "stopped":
            click.echo("  the same pack command goes on; --replan starts over")


def _run_text(run: "Run") -> str:
    ago = seconds_text(max(time.time() - run.told_s, 0))
    where = f"process {run.pid} on {run.host}"
    if run.workers:
        where += f", {count_text(run.workers, 'worker')}"
    done = f"{run.entries} of {count_text(run.entries_due, 'entry')}"
    if not run.alive:
        return f"{done}; {where}, ended without a word, last heard of {ago} ago"
    left = "" if run.seconds_left is None else f", about {seconds_text(run.seconds_left)} to go"
    return f"{done}{left}; {where}, heard of {ago} ago"
