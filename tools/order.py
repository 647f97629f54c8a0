"""`clipshards batch` and `clipshards when`: the reading order, asked from both sides."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from clipshards.tools.printing import count_text, print_json, printable

if TYPE_CHECKING:
    from clipshards.readers.lookup import Lookup


def _order_options(command: Callable[..., None]) -> Callable[..., None]:
    options = (
        click.option("--split", help="Name of the split; default: the only one."),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**63 - 1),
            default=0,
            show_default=True,
            help="Seed of the run.",
        ),
        click.option("--no-shuffle", is_flag=True, help="The run has the order of storage."),
        click.option(
            "--global-batch",
            type=click.IntRange(min=1),
            required=True,
            help="Items in a batch of all ranks.",
        ),
        click.option("--repeat", default=1.0, show_default=True, help="Passes of an epoch."),
        click.option(
            "--tail",
            type=click.Choice(["pad", "drop", "ragged"]),
            help="What becomes of the last batch of an epoch.  "
            "[default: pad, with --no-shuffle ragged]",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print as JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _lookup(
    location: str,
    split: str | None,
    seed: int,
    no_shuffle: bool,
    global_batch: int,
    repeat: float,
    tail: Any,
) -> "Lookup":
    from clipshards.readers.lookup import Lookup
    from clipshards.readers.opening import open_dataset

    return Lookup(
        open_dataset(location, split=split),
        seed=None if no_shuffle else seed,
        global_batch=global_batch,
        repeat=repeat,
        tail=tail,
    )


@click.command()
@click.argument("location")
@_order_options
@click.option(
    "--step",
    type=click.IntRange(min=0),
    required=True,
    help="Which batch of the run, counted from 0 through all epochs.",
)
def batch(location: str, step: int, as_json: bool, **order: Any) -> None:
    """List the items that make a step of training on the data set at LOCATION."""
    lookup = _lookup(location, **order)
    try:
        rows = lookup.batch(step)
    except IndexError as exc:
        raise click.UsageError(f"--step: {exc}") from exc
    epoch, number = divmod(step, lookup.steps_per_epoch)
    if as_json:
        print_json({"epoch": epoch, "batch": number, "items": [row._asdict() for row in rows]})
        return
    click.echo(f"step {step}: batch {number} of epoch {epoch}, {count_text(len(rows), 'item')}")
    for row in rows:
        item = f" item {row.item}" if row.item else ""
        pad = "" if row.valid else "  fills up"
        click.echo(f"  {row.shard} {row.key}{item}  {printable(row.id)}{pad}")


@click.command()
@click.argument("location")
@click.argument("key")
@_order_options
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many epochs to look through.",
)
def when(location: str, key: str, epochs: int, as_json: bool, **order: Any) -> None:
    """Say in which steps of training the sample KEY (or your id) comes up."""
    comings = list(_lookup(location, **order).comings(key, epochs=epochs))
    if as_json:
        print_json([coming._asdict() for coming in comings])
        return
    for coming in comings:
        item = f" item {coming.item}" if coming.item else ""
        click.echo(
            f"{coming.key}{item}: step {coming.step}, batch {coming.batch} of epoch {coming.epoch}"
        )
    if not comings:
        click.echo(f"{printable(key)} does not come up in {count_text(epochs, 'epoch')}")
