"""`clipshards verify`: every byte read, what is damaged named."""

from dataclasses import asdict

import click

from clipshards.tools.printing import bytes_text, count_text, print_json, progress_bar


@click.command()
@click.argument("location")
@click.option("--split", help="One split; default: all.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(location: str, split: str | None, as_json: bool) -> None:
    """Read every byte of the data set at LOCATION and say what is damaged.

    Exit code 0: whole. 1: damaged, a line for each finding.
    """
    from clipshards.readers.integrity import total_bytes
    from clipshards.readers.integrity import verify as verify_location

    with progress_bar(total_bytes(location, split=split), "B", "verify") as bar:
        report = verify_location(location, split=split, progress=bar.update)
    if as_json:
        print_json(asdict(report) | {"whole": report.whole})
    else:
        for finding in report.findings:
            click.echo(str(finding))
        digests = ", ".join(f"{name} {digest[:12]}" for name, digest in report.splits.items())
        state = (
            "whole" if report.whole else f"DAMAGED, {count_text(len(report.findings), 'finding')}"
        )
        click.echo(
            f"{state}: {count_text(report.shards, 'shard')}, "
            f"{count_text(report.samples, 'sample')}, "
            f"{bytes_text(report.bytes)} read ({digests})"
        )
    if not report.whole:
        raise click.exceptions.Exit(1)
