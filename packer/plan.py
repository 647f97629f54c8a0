"""The plan of a split: which entries go into which shard, decided before media is opened.

It is made once and stored; a shard is a pure function of (plan, media bytes), so that any
process can make it, make it again, or go on where another was killed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from itertools import islice
from operator import attrgetter
from typing import Any

import numpy as np

from clipshards.packer.entries import Entry
from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.checksums import sha256_hex
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.format.names import VERSION
from clipshards.packer.format.tar import member_bytes
from clipshards.packer.format.versions import check_version
from clipshards.packer.recipe import Recipe

PLAN_FORMAT = "clipshards-plan"


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for: all that decides the bytes, except the media themselves."""

    split: str
    task: str
    optional: tuple[str, ...]
    """Optional parts that the samples have."""
    labels: LabelMode
    class_names: tuple[str, ...]
    recipe: Recipe
    seed: int | None
    """Of the order in the shards; None keeps the order of the annotation."""
    shard_size: int
    """Bytes that a shard should have, about."""
    allow_outside: bool
    """Whether record paths may lead out of the media root."""
    records_digest: str
    """sha256 of the parsed entries."""

    def to_json(self) -> dict[str, Any]:
        """Return the request as a JSON value."""
        return {
            "split": self.split,
            "task": self.task,
            "optional_parts": list(self.optional),
            "labels": self.labels,
            "class_names": list(self.class_names),
            "recipe": self.recipe.to_json(self.task),
            "order": "kept" if self.seed is None else f"shuffled, seed {self.seed}",
            "shard_size": self.shard_size,
            "allow_outside": self.allow_outside,
            "records_digest": self.records_digest,
        }

    @property
    def digest(self) -> str:
        """sha256 of the request."""
        return sha256_hex(encode_json(self.to_json()))


@dataclass(frozen=True)
class Plan:
    """A request, and the shards that it comes to."""

    request: dict[str, Any]
    """`Request.to_json()`."""
    entries: int
    """Entries of the annotation."""
    shards: tuple[tuple[int, ...], ...]
    """Ordinals of each shard's records, in the order of the shard."""

    @property
    def split(self) -> str:
        """Name of the split."""
        return str(self.request["split"])

    @property
    def request_digest(self) -> str:
        """sha256 of the request."""
        return sha256_hex(encode_json(self.request))

    @cached_property
    def digest(self) -> str:
        """sha256 of the stored plan."""
        return sha256_hex(self.encode())

    def differences(self, request: Request) -> str:
        """Return what a request asks otherwise than this plan's, in words; empty for nothing."""
        digest = "records_digest"
        asked = request.to_json()
        words = differences(self.request | {digest: ""}, asked | {digest: ""}, "planned")
        if self.request.get(digest) != asked[digest]:
            words.append("the entries of the annotation")
        return "; ".join(words)

    def encode(self) -> bytes:
        """Return the bytes of the stored plan."""
        return encode_json(
            {
                "format": PLAN_FORMAT,
                "version": VERSION,
                "request": self.request,
                "entries": self.entries,
                "shards": [list(shard) for shard in self.shards],
            }
        )

    @staticmethod
    def decode(data: bytes, *, where: str) -> "Plan":
        """Return the plan in `data`.

        Raises:
            FormatError: Not a plan of this version.
        """
        value = decode_json(data, where=where)
        check_version(value, PLAN_FORMAT, where=where)
        check_schema(
            value,
            {
                "format": str,
                "version": int,
                "request": dict,
                "entries": int,
                "shards": [[int]],
            },
            where=where,
        )
        return Plan(
            value["request"],
            value["entries"],
            tuple(tuple(shard) for shard in value["shards"]),
        )


def differences(old: dict[str, Any], new: dict[str, Any], then: str, where: str = "") -> list[str]:
    """Return each place where two JSON objects differ, in words.

    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}, "packed")
    ['a.b: packed 1, now 3']
    """
    words = []
    for key in sorted(old.keys() | new.keys()):
        place = f"{where}.{key}" if where else key
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            words += differences(before, after, then, place)
        elif before != after:
            words.append(f"{place}: {then} {repr(before)[:60]}, now {repr(after)[:60]}")
    return words


def digest_of_entries(entries: Iterable[Entry]) -> str:
    """Return the sha256 that stands for the parsed annotation in a request."""
    digest = hashlib.sha256()
    arrays: list[np.ndarray] = []

    def fields_of(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return {"dtype": value.dtype.str, "shape": value.shape}
        kind: Any = type(value)  # mypy does not take a dataclass's type for hashable
        return [kind.__name__, _fields_getter(kind)(value)]

    # The encoder's own recursion is in C, and comes to us for arrays and records only.
    encoder = json.JSONEncoder(
        separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=fields_of
    )
    for entry in entries:
        digest.update(encoder.encode(fields_of(entry.value)).encode())
        # Behind the line that says how long they are.
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        arrays.clear()
    return digest.hexdigest()


@cache
def _fields_getter(kind: type[Any]) -> Callable[[Any], Any]:
    """Return what takes all fields of a record class, in order, out of a record."""
    return attrgetter(*(field.name for field in fields(kind)))


def make_plan(
    request: Request,
    entries: int,
    sizes: Mapping[int, int | None],
    *,
    families: Mapping[int, int] | None = None,
    side_bytes: int = 16_384,
) -> Plan:
    """Return the plan for a request.

    Args:
        request: What the user asked for.
        entries: Entries of the annotation, those that will not be packed too.
        sizes: Bytes of each record's parts, by its ordinal, in annotation order; None where
            they are not to be had, which counts as the mean of the others.
        families: Ordinal of the first record of each record's family, which the shuffle keeps
            together since they are made from one source; None where each stands alone.
        side_bytes: What a sample takes beside those bytes, about: headers, json, frame table.
    """
    ordinals = _order(request.seed, sizes, families)
    known = [size for size in sizes.values() if size is not None]
    mean = sum(known) // len(known) if known else 0
    expected = [
        member_bytes(mean if (size := sizes[ordinal]) is None else size) + side_bytes
        for ordinal in ordinals
    ]
    shards = cut_evenly(expected, request.shard_size)
    return Plan(
        request.to_json(),
        entries,
        tuple(tuple(ordinals[start:stop]) for start, stop in shards),
    )


def plan_again(
    request: Request,
    entries: int,
    ordinals: Iterable[int],
    counts: Iterable[int],
    *,
    families: Mapping[int, int] | None = None,
) -> Plan:
    """Return a plan that was made earlier, whatever the media weigh now.

    Args:
        request: What the user asked for then.
        entries: Entries of the annotation.
        ordinals: Of all records, in annotation order.
        counts: Records of each shard.
        families: As for `make_plan`.
    """
    ordered = iter(_order(request.seed, ordinals, families))
    return Plan(
        request.to_json(), entries, tuple(tuple(islice(ordered, count)) for count in counts)
    )


def shuffled(
    ordinals: Iterable[int], *, seed: int, families: Mapping[int, int] | None = None
) -> list[int]:
    """Return the ordinals in the order of a seed; those of one family stay together.

    Args:
        ordinals: In annotation order.
        seed: Of the order.
        families: Ordinal of the first of each one's family; None where each stands alone.
    """
    family = families or {}

    # A hash and not a random generator: the same in every release of every library.
    def place(ordinal: int) -> bytes:
        return hashlib.sha256(f"{seed}:{family.get(ordinal, ordinal)}".encode()).digest()

    return sorted(ordinals, key=place)


def _order(
    seed: int | None, ordinals: Iterable[int], families: Mapping[int, int] | None
) -> list[int]:
    """Return the ordinals of all records, in the order of the shards."""
    return list(ordinals) if seed is None else shuffled(ordinals, seed=seed, families=families)


def cut_evenly(sizes: Sequence[int], target: int) -> list[tuple[int, int]]:
    """Return (start, stop) of consecutive pieces of about `target`, all of similar size.

    The number of pieces is the total over the target, rounded; an element goes where its
    middle falls. No piece is empty.

    >>> cut_evenly([10, 10, 10, 10, 10], 20)
    [(0, 2), (2, 3), (3, 5)]
    """
    total = sum(sizes)
    # Halves round up, as a shard below its size is better than one far above.
    count = max(1, (2 * total + target) // (2 * target))
    pieces = []
    start = before = piece = 0
    for place, size in enumerate(sizes):
        # The piece of the element's middle, in integers: floats would round by platform.
        belongs = min((2 * before + size) * count // (2 * total), count - 1) if total else 0
        if belongs != piece and place > start:
            pieces.append((start, place))
            start = place
        piece = belongs
        before += size
    if len(sizes) > start:
        pieces.append((start, len(sizes)))
    return pieces
