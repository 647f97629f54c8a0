"""What `Packing` is given, made plain."""

import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import SupportsIndex, get_args

from clipshards.packer.entries import Entry
from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.origins import as_unicode
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import VideoRecord
from clipshards.packer.samples.video import video_part


def check_shard_size(shard_size: SupportsIndex) -> int:
    """Return a plain integer of at least 1, so that 2 and numpy's 2 are the same request."""
    number = _whole(shard_size, "shard_size")
    if number < 1:
        raise ValueError(f"shard_size {number}: expected at least 1 byte")
    return number


def check_seed(seed: SupportsIndex | None) -> int | None:
    """Return a plain integer, or None for the order of the annotation."""
    return None if seed is None else _whole(seed, "seed")


def check_max_rejects(max_rejects: SupportsIndex) -> int:
    """Return a plain integer of at least 0."""
    number = _whole(max_rejects, "max_rejects")
    if number < 0:
        raise ValueError(f"max_rejects {number}: expected at least 0")
    return number


def _whole(value: SupportsIndex, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError as exc:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from exc


def label_mode(records: object, labels: LabelMode | None) -> LabelMode:
    """Return the labels of each item, by what was given or what the records say."""
    mode: LabelMode = getattr(records, "labels", "one") if labels is None else labels
    if mode not in get_args(LabelMode):
        raise ValueError(f"labels {mode!r}: expected one of {get_args(LabelMode)}")
    return mode


def class_names_of(records: object, class_names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the classes, by what was given or what the records say."""
    if class_names is None:
        class_names = getattr(records, "class_names", ())
    # Text is a sequence of letters, which are no classes.
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise TypeError(f"class_names: expected a sequence of names, got {class_names!r}")
    for name in class_names:
        if as_unicode(name) != name:
            raise ValueError(f"class_names: expected valid Unicode, got {name!a}")
    return tuple(class_names)


def warnings_of_records(
    records: object, planned: Mapping[int, Entry], recipe: Recipe
) -> tuple[str, ...]:
    """Return what is allowed of records and may yet not be what was meant."""
    warnings = tuple(getattr(records, "warnings", ()))
    containers = set()
    for entry in planned.values() if recipe.media == "copy" else ():
        if isinstance(entry.value, VideoRecord):
            with suppress(MediaError):
                containers.add(video_part(entry.value.path))
    if len(containers) < 2:
        return warnings
    names = ", ".join(sorted(containers))
    mixed = f"the split mixes {names}; tools that expect one part name will miss the others"
    return (*warnings, f"{mixed} (recipe remux makes all mp4)")
