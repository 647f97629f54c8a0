"""`clipshards finish`: a split whose shards were made in parts becomes whole."""

import click

from clipshards.packer.format.errors import RejectsError
from clipshards.tools.pack_report import print_rejects
from clipshards.tools.pack_run import tell_report


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
        if not as_json:
            print_rejects(exc.rejects)
        raise
    tell_report(report, as_json=as_json)
    if report.rejects:
        raise click.exceptions.Exit(1)
