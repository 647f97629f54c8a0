"""`clipshards finish`: a split whose shards were made in parts becomes whole."""

from dataclasses import asdict

import click

from clipshards.packer.format.errors import RejectsError
from clipshards.tools.pack_report import print_rejects, print_split
from clipshards.tools.printing import print_json


@click.command()
@click.argument("location")
@click.option("--split", required=True, help="Name of the split.")
@click.option(
    "--max-rejects",
    type=click.IntRange(min=0),
    help="Rejects up to which the split is still finished.  [default: 10, or 1 % if that is more]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def finish(location: str, split: str, max_rejects: int | None, as_json: bool) -> None:
    """Finish a split at LOCATION whose shards were made by `pack --part`.

    Exit code 0: finished. 1: finished, or not, with entries that could not be packed.
    2: shards are missing.
    """
    from clipshards.packer.finish import finish_split

    try:
        report = finish_split(location, split=split, max_rejects=max_rejects)
    except RejectsError as exc:
        if as_json:
            print_json({"error": str(exc), "rejects": [asdict(row) for row in exc.rejects]})
        else:
            print_rejects(exc.rejects)
        raise
    if as_json:
        print_json(asdict(report))
    else:
        click.echo(f"finished: {report.packed} of {report.entries} entries packed")
        print_split(report)
    if report.rejects:
        raise click.exceptions.Exit(1)
