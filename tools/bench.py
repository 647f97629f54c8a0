"""`clipshards bench`: how fast this data set comes on this machine, and which knob to turn."""

import math
import re
from typing import TYPE_CHECKING

import click

from clipshards.tools.printing import print_json

if TYPE_CHECKING:
    from clipshards.readers.clips import Clip

_DENSE = re.compile(r"dense:([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_UNIFORM = re.compile(r"uniform:([1-9][0-9]{0,4})")


@click.command()
@click.argument("location")
@click.option("--split", help="Name of the split; default: the only one.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Items in a batch.",
)
@click.option(
    "--clip",
    default="uniform:8",
    show_default=True,
    metavar="WHICH",
    help="Frames of an item: uniform:N, dense:NxSTRIDE, or all.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    help="For which each way of reading is measured.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, help="Seed of the order.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def bench(
    location: str,
    split: str | None,
    batch_size: int,
    clip: str,
    seconds: float,
    seed: int,
    as_json: bool,
) -> None:
    """Measure how fast the data set at LOCATION comes on this machine.

    Its bytes alone, read and checked in the order of training; then as batches, made by the
    training process itself, by threads, and by loader processes. The last line says which is
    the fastest and what limits it. What was read before lies in the machine's memory: a data
    set that does not fit there is read slower in its first epoch than its second row says.
    """
    chosen = _clip(clip)
    if not math.isfinite(seconds):
        raise click.UsageError(f"--seconds {seconds}: expected a number of seconds")
    from clipshards.readers.measuring import measure
    from clipshards.readers.opening import open_dataset

    opened = open_dataset(location, split=split)
    if not len(opened):
        raise click.UsageError(f"{opened!r} has no items")

    def told(how: str) -> None:
        click.echo(f"measuring {how}, {seconds:g} s ...", err=True)

    found = measure(
        opened, batch_size=batch_size, clip=chosen, seed=seed, seconds=seconds, told=told
    )
    if as_json:
        print_json(
            {
                "rows": [
                    {
                        "how": row.how,
                        "first_s": row.first_s,
                        "cpu_s_per_1000_items": row.cpu_s,
                        **row.account.as_json(),
                    }
                    for row in found.rows
                ],
                "stacked": found.stacked,
                "impossible": list(found.impossible),
                "advice": found.advice,
            }
        )
        return
    click.echo(f"{opened!r}, batches of {batch_size}")
    click.echo(
        f"{'':12}  {'items/s':>12}  {'MB/s':>9}  {'first batch s':>13}  CPU s per 1,000 items"
    )
    for row in found.rows:
        mb_per_s = row.account.bytes_used / 1e6 / row.account.seconds
        click.echo(
            f"{row.how:12}  {row.account.items_per_s:12,.1f}  {mb_per_s:9,.1f}  "
            f"{row.first_s:13.2f}  {row.cpu_s:.2f}"
        )
    if not found.stacked:
        click.echo("items differ in size and were not stacked: a transform= has to make them one")
    for words in found.impossible:
        click.echo(f"not possible here: {words}")
    click.echo(found.advice)


def _clip(text: str) -> "Clip | None":
    from clipshards.readers.clips import DenseClip, UniformClip

    if text == "all":
        return None
    if match := _UNIFORM.fullmatch(text):
        return UniformClip(int(match[1]))
    if match := _DENSE.fullmatch(text):
        return DenseClip(int(match[1]), int(match[2]))
    raise click.UsageError(f"--clip {text}: expected uniform:N, dense:NxSTRIDE or all")
