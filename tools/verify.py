"""`clipshards verify`: what is damaged, named, on three levels."""

from typing import TYPE_CHECKING

import click

from clipshards.tools.printing import bytes_text, count_text, print_json, printable, progress_bar

if TYPE_CHECKING:
    from clipshards.readers.findings import Level, VerifyReport

# Starting a process costs as much as checking some hundred megabytes.
_WORTH_A_PROCESS = 256 * 10**6


def _share(_context: click.Context, _option: click.Parameter, text: str) -> float:
    """Return a share such as 1% or 0.01 as a number above 0 and up to 1."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise click.BadParameter(f"{text!r}: expected a share as 1% or 0.01, above 0, up to 100%")
    return share


@click.command()
@click.argument("location")
@click.option("--split", help="One split; default: all.")
@click.option(
    "--level",
    type=click.Choice(["quick", "full", "deep"]),
    default="full",
    show_default=True,
    help="quick: sizes, and the checksums that a store keeps, no shard is read. full: every "
    "byte. deep: full, and all media are decoded.",
)
@click.option(
    "--sample",
    callback=_share,
    metavar="SHARE",
    default="100%",
    show_default=True,
    help="Read this share of the shards, as 1%; at least one of each split.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes; default: one a processor where there is much to read.",
)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False),
    help="Keep in this file which shards are whole; the same command again reads only the others.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(
    location: str,
    split: str | None,
    level: "Level",
    sample: float,
    workers: int | None,
    journal: str | None,
    as_json: bool,
) -> None:
    """Check the data set at LOCATION and say what is damaged.

    Prints a line for each finding: what it concerns, what was expected and found, what to do.
    Exit code 0: whole, perhaps with warnings (media that stand twice). 1: damaged.
    """
    from clipshards.packer.processes import processors
    from clipshards.readers.integrity import total_bytes
    from clipshards.readers.integrity import verify as verify_location

    total = total_bytes(location, split=split, level=level, sample=sample)
    if workers is None:
        workers = min(processors(), max(total // _WORTH_A_PROCESS, 1))
    with progress_bar(total, "B", "verify") as bar:
        report = verify_location(
            location,
            split=split,
            level=level,
            sample=sample,
            workers=workers,
            journal=journal,
            progress=bar.update,
        )
    if as_json:
        print_json(report.to_json())
    else:
        for finding in report.findings:
            click.echo(printable(str(finding)))
        click.echo(_summary(report))
    if not report.whole:
        raise click.exceptions.Exit(1)


def _summary(report: "VerifyReport") -> str:
    errors = len(report.damage)
    warnings = len(report.findings) - errors
    all_read = report.level != "quick" and not report.left_out
    sound = "whole" if all_read else "no damage found"
    state = f"DAMAGED, {count_text(errors, 'finding')}" if errors else sound
    state += f", {count_text(warnings, 'warning')}" if warnings else ""
    digests = ", ".join(f"{name} {digest[:12]}" for name, digest in report.splits.items())
    looked = count_text(report.shards, "shard")
    if report.level == "quick":
        sums = f"the store's checksums of {report.stored_checksums or 'none'}"
        return f"{state}: {looked}, presence, sizes and {sums}; no shard was read ({digests})"
    if report.left_out:
        looked = f"{report.shards} of {count_text(report.shards + report.left_out, 'shard')}"
    if report.skipped:
        looked += f", {report.skipped} of them earlier by the journal"
    read = f"{bytes_text(report.bytes)} read"
    decoded = ", media decoded" if report.level == "deep" else ""
    return f"{state}: {looked}, {count_text(report.samples, 'sample')}, {read}{decoded} ({digests})"
