"""What a sample is, and what it is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.json_parts import JsonPart
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Material:
    """What all samples of a split are made with."""

    root: MediaRoot
    recipe: Recipe
    optional: tuple[str, ...]
    """Optional parts that the split's samples have."""
    opened: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What a task keeps open from one sample to the next, by path."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item of a record that lies outside its media, where the others do not."""

    place: int
    """Entries of the record before it."""
    entries: int
    """Entries of the annotation that it stands for."""
    id: str
    origin: str
    message: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What goes into a shard for one record."""

    id: str
    origin: str
    items: int
    summary: dict[str, Any]
    """One value for each summary column of the task."""
    parts: dict[str, bytes]
    """Part name to bytes, in the order of the task's table."""
    left_out: tuple[LeftOut, ...] = ()
    """Items of the record that are not in it."""
    warning: str = ""
    """What of the record's media is not in it, in words for the user; empty for nothing."""


def make_sample(
    task_name: str,
    about: JsonPart,
    values: dict[str, Any],
    *,
    left_out: Sequence[LeftOut] = (),
    warning: str = "",
) -> Sample:
    """Return the sample of a task whose parts beside `json` have these values.

    Raises:
        MediaError: The values do not fit each other.
    """
    task = TASKS[task_name]
    values = {"json": about, **values}
    for part, fault in task.faults(values):
        raise MediaError(f"{about.id!r}: {part}: {fault}")
    return Sample(
        id=about.id,
        origin=about.origin,
        items=about.items,
        summary=about.summary(),
        parts={part: task.encode(part, values[part]) for part in task.parts if part in values},
        left_out=tuple(left_out),
        warning=warning,
    )
