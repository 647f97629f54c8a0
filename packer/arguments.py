"""What `Packing` is given, made plain."""

import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import get_args

from clipshards.packer.entries import Entry
from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.origins import as_unicode
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import VideoRecord
from clipshards.packer.samples.video import video_part


def whole_numbers(
    shard_size: int, seed: int | None, max_rejects: int | None
) -> tuple[int, int | None, int | None]:
    """Return the three as plain integers, so that 2 and numpy's 2 are the same request."""
    try:
        shard_size = operator.index(shard_size)
        seed = None if seed is None else operator.index(seed)
        max_rejects = None if max_rejects is None else operator.index(max_rejects)
    except TypeError as exc:
        raise TypeError(
            "expected whole numbers, got "
            f"shard_size={shard_size!r}, seed={seed!r}, max_rejects={max_rejects!r}"
        ) from exc
    if shard_size < 1:
        raise ValueError(f"shard_size {shard_size}: expected at least 1 byte")
    if max_rejects is not None and max_rejects < 0:
        raise ValueError(f"max_rejects {max_rejects}: expected at least 0")
    return shard_size, seed, max_rejects


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
