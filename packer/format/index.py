"""`__index__`, the last member of a shard: where every part of every sample stands."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.checksums import is_sha256_hex
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.names import VERSION, check_split
from clipshards.packer.format.tar import BLOCK, MAX_SIZE
from clipshards.packer.format.tasks import task_named
from clipshards.packer.format.versions import check_version

INDEX_FORMAT = "clipshards-index"


@dataclass(slots=True)
class PartColumns:
    """Where one part stands in the shard, sample by sample; -1 thrice where a sample has none."""

    offset: list[int] = field(default_factory=list)
    """First byte of the payload in the shard, a multiple of 512."""
    size: list[int] = field(default_factory=list)
    """Bytes of the payload."""
    crc32c: list[int] = field(default_factory=list)
    """CRC-32C of the payload."""


_PART_SCHEMA = {"offset": [int], "size": [int], "crc32c": [int]}


@dataclass(slots=True)
class ShardIndex:
    """The samples of one shard, in the order of their bytes."""

    task: str
    split: str
    number: int
    """Which shard of the split, counted from 0."""
    plan_digest: str
    """sha256 of the plan that the shard was cut by."""
    recipe: dict[str, Any]
    """How media became parts."""
    keys: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    """The user's own names of the samples."""
    origins: list[str] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    """Entries of the annotation that each sample holds, at least 1."""
    items: list[int] = field(default_factory=list)
    """Items of each sample, at least 1."""
    summary: dict[str, list[Any]] = field(default_factory=dict)
    """Column name to one value per sample; the columns are the task's."""
    parts: dict[str, PartColumns] = field(default_factory=dict)
    """Part name to its columns, of the parts that occur, in the order of the task."""

    def encode(self) -> bytes:
        """Return the payload of the `__index__` member."""
        return encode_json(
            {
                "format": INDEX_FORMAT,
                "version": VERSION,
                "task": self.task,
                "split": self.split,
                "number": self.number,
                "plan_digest": self.plan_digest,
                "recipe": self.recipe,
                "samples": {
                    "key": self.keys,
                    "id": self.ids,
                    "origin": self.origins,
                    "entries": self.entries,
                    "items": self.items,
                },
                "summary": self.summary,
                "parts": {
                    name: {"offset": part.offset, "size": part.size, "crc32c": part.crc32c}
                    for name, part in self.parts.items()
                },
            }
        )

    @staticmethod
    def decode(data: bytes, *, where: str) -> "ShardIndex":
        """Return the index in `data`, every column of the right type, length and range.

        Raises:
            UnsupportedVersionError: Another format version.
            FormatError: Anything else that is not as `encode` writes it: columns of unequal
                length, a key twice, parts that overlap or are out of order.
        """
        value = decode_json(data, where=where)
        check_version(value, INDEX_FORMAT, where=where)
        task = task_named(value.get("task", ""), where=where)
        check_schema(
            value,
            {
                "format": str,
                "version": int,
                "task": str,
                "split": str,
                "number": int,
                "plan_digest": str,
                "recipe": dict,
                "samples": {
                    "key": [str],
                    "id": [str],
                    "origin": [str],
                    "entries": [int],
                    "items": [int],
                },
                "summary": {name: [schema] for name, schema in task.summary.items()},
                "parts": dict,
            },
            where=where,
        )
        for name in value["parts"]:
            if name not in task.parts:
                raise FormatError(f"{where}.parts: {name!r} is not a part of task {task.name}")
        parts = {}
        for name in task.parts:
            if name in value["parts"]:
                check_schema(value["parts"][name], _PART_SCHEMA, where=f"{where}.parts.{name}")
                parts[name] = PartColumns(**value["parts"][name])
        samples = value["samples"]
        index = ShardIndex(
            task=task.name,
            split=value["split"],
            number=value["number"],
            plan_digest=value["plan_digest"],
            recipe=value["recipe"],
            keys=samples["key"],
            ids=samples["id"],
            origins=samples["origin"],
            entries=samples["entries"],
            items=samples["items"],
            summary=value["summary"],
            parts=parts,
        )
        index.check(where=where)
        return index

    def check(self, *, where: str) -> None:
        """Check what the types alone do not say.

        Raises:
            FormatError: As for `decode`.
        """
        try:
            check_split(self.split)
        except ValueError as exc:
            raise FormatError(f"{where}: {exc}") from exc
        if self.number < 0:
            raise FormatError(f"{where}: shard number {self.number}, expected at least 0")
        if not is_sha256_hex(self.plan_digest):
            raise FormatError(f"{where}: the plan digest is not a sha256 in hexadecimal")
        count = len(self.keys)
        lengths = {
            "id": len(self.ids),
            "origin": len(self.origins),
            "entries": len(self.entries),
            "items": len(self.items),
            **{f"summary.{name}": len(column) for name, column in self.summary.items()},
        }
        for name, part in self.parts.items():
            lengths |= {
                f"{name}.offset": len(part.offset),
                f"{name}.size": len(part.size),
                f"{name}.crc32c": len(part.crc32c),
            }
        for column, length in lengths.items():
            if length != count:
                raise FormatError(f"{where}: column {column} has {length} values for {count} keys")
        if len(set(self.keys)) != count:
            twice = Counter(self.keys).most_common(1)[0][0]
            raise FormatError(f"{where}: a key occurs twice, {twice!r}")
        if self.items and min(min(self.items), min(self.entries)) < 1:
            raise FormatError(f"{where}: a sample has less than one item or entry")
        if task_named(self.task, where=where).one_item and self.items.count(1) != count:
            raise FormatError(f"{where}: a sample of task {self.task} has several items")
        self._check_layout(where)

    def _check_layout(self, where: str) -> None:
        """Parts of a sample stand in the task's order, samples one behind the other."""
        task = task_named(self.task, where=where)
        names = [name for name in task.parts if name in self.parts]
        if not names:
            if self.keys:
                raise FormatError(f"{where}: samples without parts")
            return
        try:
            offset, size, crc = (
                np.array([getattr(self.parts[name], column) for name in names], dtype=np.int64)
                for column in ("offset", "size", "crc32c")
            )
        except OverflowError as exc:
            raise FormatError(f"{where}: an offset, size or crc32c is not an int64") from exc
        there = offset >= 0
        if not there.any(axis=1).all():
            raise FormatError(f"{where}: columns of a part that no sample has")
        media = np.array([name in task.media for name in names])
        wanted = 1 if task.media_required or media.any() else 0
        if (
            not set(task.required) <= set(names)
            or not there[~media].all()
            or (there[media].sum(axis=0) != wanted).any()
        ):
            raise FormatError(f"{where}: a sample lacks a part of task {task.name}")
        if (offset[~there] != -1).any() or (size[~there] != -1).any() or (crc[~there] != -1).any():
            raise FormatError(f"{where}: an absent part must be -1 in all three columns")
        if (size[there] < 0).any() or (size[there] > MAX_SIZE).any():
            raise FormatError(f"{where}: a part's size is out of range")
        if (crc[there] < 0).any() or (crc[there] >= 2**32).any():
            raise FormatError(f"{where}: a crc32c is out of range")
        # Row by row of the transposed arrays is the order of the file.
        starts = offset.T[there.T]
        sizes = size.T[there.T]
        ends = starts + sizes + (-sizes % BLOCK)
        expected = np.concatenate(([BLOCK], ends[:-1] + BLOCK))
        if not np.array_equal(starts, expected[: len(starts)]):
            row = int(np.argmax(starts != expected[: len(starts)]))
            raise FormatError(
                f"{where}: a part starts at {starts[row]}, expected {expected[row]} "
                "behind the part before it"
            )
