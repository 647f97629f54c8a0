"""What may stand in a value that comes out of a pickle.

What is half made, and the names of `pickle_globals`, never enter a container, so neither can
come out. Dict keys are scalars or short tuples of such, since the hash of a deep tuple is
recursive. All raise AnnotationError, with the place in the file.
"""

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from clipshards.packer.annotations.pickle_globals import Global, Pending
from clipshards.packer.annotations.pickle_source import MAX_SHOWN, Source

INTERNAL = frozenset({Global, Pending})
"""Types of what never comes out."""

_SCALARS = frozenset({str, bytes, int, float, bool, type(None)})
_MAX_KEY_LENGTH = 16


def fail_global(source: Source, name: str) -> NoReturn:
    """Refuse a name that is imported."""
    source.refuse(f"global {name[:MAX_SHOWN]!r}")


def check_value(source: Source, value: object) -> None:
    """Look whether a value may come out."""
    if isinstance(value, Global):
        fail_global(source, value.name)
    if isinstance(value, Pending):
        source.fail_broken("an array or a dtype without its state")


def check_values(source: Source, values: Iterable[Any]) -> None:
    """Look whether all values may."""
    if not INTERNAL.isdisjoint(map(type, values)):
        for value in values:
            check_value(source, value)


def check_keys(source: Source, keys: list[Any]) -> None:
    """Look whether values may be keys of a dict."""
    if _SCALARS.issuperset(map(type, keys)):
        return
    for key in keys:
        parts = key if type(key) is tuple and len(key) <= _MAX_KEY_LENGTH else (key,)
        for part in parts:
            if type(part) not in _SCALARS and not isinstance(part, np.generic):
                check_value(source, part)
                source.refuse(f"a {type(part).__name__} in a dict key")
