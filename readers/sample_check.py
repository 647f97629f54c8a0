"""The parts of one sample held against their format, each other, index and manifest."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.frame_table import CRC32C, OFFSET, SIZE
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_parts import JsonPart
from clipshards.packer.format.manifest import Manifest, labels_fit
from clipshards.packer.format.ranges import range_faults
from clipshards.packer.format.structure import FRAME_TABLES, Fault, ava_label_lists
from clipshards.packer.format.tasks import task_named


def sample_faults(
    manifest: Manifest, index: ShardIndex, row: int, parts: Mapping[str, bytes], *, deep: bool
) -> Iterator[Fault]:
    """Yield what is wrong with the parts of a sample whose checksums are right.

    Args:
        manifest: Of the split.
        index: Of the shard.
        row: Which sample of the shard.
        parts: Part name to bytes, of those that are intact.
        deep: Whether media are decoded and arrays looked through.
    """
    task = task_named(manifest.task, where=manifest.split)
    values: dict[str, Any] = {}
    for part, data in parts.items():
        try:
            values[part] = task.decode(part, data, where=part)
        except FormatError as exc:
            yield part, str(exc)
    promised = [part for part, columns in index.parts.items() if columns.offset[row] >= 0]
    about: JsonPart | None = values.get("json")
    label_lists: Sequence[Sequence[int]] = [] if about is None else about.label_lists
    if len(values) == len(promised):
        faults = list(task.faults(values))
        yield from faults
        if not faults:
            yield from _packet_faults(values)
            if task.name == "ava":
                label_lists = ava_label_lists(values)
            if deep:
                yield from range_faults(task.name, values)
                # PyAV is not loaded where nothing is decoded.
                from clipshards.packer.frames.proof import media_faults

                yield from media_faults(values)
    if about is None:
        return
    yield from _label_faults(manifest, about, label_lists)
    classes = len(manifest.class_names)
    rows = values.get("labels.npy")
    if classes and rows is not None and rows.ndim == 2 and rows[:, -1].max(initial=0) >= classes:
        yield "labels.npy", f"action {rows[:, -1].max()} of {classes} classes"
    said = {"id": about.id, "origin": about.origin, "items": about.items} | about.summary()
    listed = {"id": index.ids[row], "origin": index.origins[row], "items": index.items[row]}
    listed |= {name: column[row] for name, column in index.summary.items()}
    for name, value in said.items():
        if value != listed[name]:
            yield "json", f"{name} is {value!r}, the index says {listed[name]!r}"


def _label_faults(
    manifest: Manifest, about: JsonPart, label_lists: Sequence[Sequence[int]]
) -> Iterator[Fault]:
    classes = len(manifest.class_names)
    for name in getattr(about, "segment_labels", ()):
        if classes and name not in manifest.class_names:
            yield "json", f"label {name!r} is none of the class names"
    for labels in label_lists:
        if not labels_fit(manifest.labels, len(labels)):
            yield "json", f"{len(labels)} labels in a split of mode {manifest.labels!r}"
        if classes and max(labels, default=0) >= classes:
            yield "json", f"label {max(labels)} of {classes} classes"


def _packet_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Check the checksums by which readers know single packets of a video."""
    for video, table in FRAME_TABLES.items():
        if video in values:
            data, rows = values[video], values[table]
            starts, stops = rows[:, OFFSET], rows[:, OFFSET] + rows[:, SIZE]
            seen = [
                crc32c(data[start:stop])
                for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
            ]
            other = np.flatnonzero(rows[:, CRC32C] != seen)
            if len(other):
                yield table, f"packet {other[0]}: its checksum is another one"
