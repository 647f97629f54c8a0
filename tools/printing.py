"""How the commands print: byte counts, tables, JSON, progress bars."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def bytes_text(count: float) -> str:
    """Return a byte count with a decimal unit.

    >>> bytes_text(999), bytes_text(2_088_448)
    ('999 B', '2.1 MB')
    """
    unit = 0
    while count >= 999.95 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{count:.0f} B"


def count_text(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> count_text(1, "shard"), count_text(0, "shard"), count_text(2, "entry")
    ('1 shard', '0 shards', '2 entries')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def seconds_text(seconds: float) -> str:
    """Return a length of time in two units at most.

    >>> seconds_text(0.4), seconds_text(75), seconds_text(90_000)
    ('0.4 s', '1 min 15 s', '25 h')
    >>> seconds_text(9.96), seconds_text(59.7), seconds_text(3599.9)
    ('10 s', '1 min 0 s', '1 h 0 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 36_000:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 3600:.0f} h"


def printable(text: str) -> str:
    r"""Return text of the user's data with control characters spelled out.

    >>> printable("a\x1b[31mb\n")
    'a\\x1b[31mb\\n'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def print_json(value: Any) -> None:
    """Print one JSON document for machines."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def print_pairs(pairs: Sequence[tuple[str, object]], *, indent: int = 2) -> None:
    """Print names and values in two columns."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{' ' * indent}{name:<{width}}  {value}")


def progress_bar(total: int, unit: str, label: str) -> Any:
    """Return a tqdm bar on standard error, silent where that is not a terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        unit=unit,
        unit_scale=True,
        desc=label,
        file=sys.stderr,
        disable=None,
        leave=False,
        dynamic_ncols=True,
    )
