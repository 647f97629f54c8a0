"""`clipshards repair`: what is damaged is replaced from an intact copy."""

from dataclasses import asdict

import click

from clipshards.tools.printing import bytes_text, count_text, print_json, progress_bar


@click.command()
@click.argument("location")
@click.option(
    "--from", "source", required=True, metavar="COPY", help="An intact copy: folder or s3://."
)
@click.option("--split", help="One split; default: all that the copy has.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def repair(location: str, source: str, split: str | None, as_json: bool) -> None:
    """Make the data set at LOCATION whole again from a copy of it.

    Only what is damaged or missing is replaced, and only by bytes whose checksums are the
    manifest's. All else stays as it is.

    Exit code 0: whole. 1: files of the copy are damaged too, a line for each; all others were
    repaired. 2: LOCATION is not a copy of that data set.
    """
    from clipshards.packer.copying import DamagedSourceError, total_bytes
    from clipshards.packer.repairing import repair as repair_location

    with progress_bar(total_bytes(source, split=split), "B", "repair") as bar:
        try:
            report = repair_location(location, source, split=split, progress=bar.update)
        except DamagedSourceError as exc:
            report = exc.report
    if as_json:
        print_json(asdict(report) | {"whole": not report.damaged})
    else:
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
    if report.damaged:
        raise click.exceptions.Exit(1)
