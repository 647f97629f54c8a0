"""`<split>/manifest.json`: the list of a split's shards, and the identity of the split."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.checksums import is_sha256_hex, sha256_hex
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.names import MANIFEST_NAME, REJECTS_NAME, VERSION, check_split
from clipshards.packer.format.tasks import task_named
from clipshards.packer.format.versions import check_version

MANIFEST_FORMAT = "clipshards-manifest"

LabelMode = Literal["one", "many", "none"]
"""Labels of each sample of a split: exactly one, at least one, or none at all."""


def labels_fit(mode: LabelMode, count: int) -> bool:
    """Return whether a sample with `count` labels may stand in a split of this mode.

    >>> labels_fit("one", 1), labels_fit("many", 0)
    (True, False)
    """
    return {"one": count == 1, "many": count > 0, "none": count == 0}[mode]


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard, as the manifest knows it."""

    name: str
    """File name inside the split's folder."""
    bytes: int
    """Size of the file."""
    records: int
    """Of the plan: its samples, and those that were rejected."""
    entries: int
    """Entries of the annotation that its samples hold."""
    samples: int
    items: int
    """What `len()` of a data set counts; a sample has one or more."""
    index_at: str
    """`inside` the shard, in version 1; `beside` it is reserved for foreign tars."""
    index_offset: int
    """First byte of the index's payload."""
    index_bytes: int
    index_crc32c: int
    sha256: str
    """Of the whole file, hexadecimal."""
    crc32c: int
    """Of the whole file."""


SHARD_SCHEMA = {entry.name: entry.type for entry in fields(ShardEntry)}
"""The fields of an entry and their types; in the manifest each is a column."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where the entries of the annotation went: packed, rejected or excluded."""

    entries: int
    packed: int
    rejected: int
    excluded: dict[str, int]
    """Option that left entries out, to how many."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is known of a split without opening a shard."""

    task: str
    split: str
    labels: LabelMode
    class_names: tuple[str, ...]
    """Name of class 0, 1, ...; empty when none were given."""
    recipe: dict[str, Any]
    """How media became parts."""
    run_length: int
    """Neighbours that the reading order keeps together, at least 1."""
    request_digest: str
    """sha256 of what the user asked for: records, recipe, seed, shard size."""
    plan_digest: str
    """sha256 of the plan that the shards were cut by."""
    accounting: Accounting
    rejects_sha256: str
    """Of `rejects.jsonl`."""
    made_with: dict[str, str]
    """Versions of the tools, and the platform."""
    shards: tuple[ShardEntry, ...]
    # Once computed: of 100,000 shards it takes a third of a second.
    _digest: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def samples(self) -> int:
        """Samples of the split."""
        return sum(shard.samples for shard in self.shards)

    @property
    def items(self) -> int:
        """Items of the split: what `len()` of a data set counts."""
        return sum(shard.items for shard in self.shards)

    @property
    def size_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def content_digest(self) -> str:
        """The split's identity: sha256 of the manifest's canonical bytes without this field."""
        if not self._digest:
            self._digest.append(sha256_hex(encode_json(self._body())))
        return self._digest[0]

    def encode(self) -> bytes:
        """Return the bytes of `manifest.json`."""
        return encode_json(self._body() | {"content_digest": self.content_digest}) + b"\n"

    def _body(self) -> dict[str, Any]:
        return {
            "format": MANIFEST_FORMAT,
            "version": VERSION,
            "task": self.task,
            "split": self.split,
            "labels": self.labels,
            "class_names": list(self.class_names),
            "recipe": self.recipe,
            "run_length": self.run_length,
            "request_digest": self.request_digest,
            "plan_digest": self.plan_digest,
            "accounting": {
                "entries": self.accounting.entries,
                "packed": self.accounting.packed,
                "rejected": self.accounting.rejected,
                "excluded": self.accounting.excluded,
            },
            "rejects_sha256": self.rejects_sha256,
            "made_with": self.made_with,
            "totals": self._totals(),
            "shards": {
                name: [getattr(shard, name) for shard in self.shards] for name in SHARD_SCHEMA
            },
        }

    def _totals(self) -> dict[str, int]:
        return {"samples": self.samples, "items": self.items, "bytes": self.size_bytes}

    @staticmethod
    def decode(data: bytes, *, where: str) -> "Manifest":
        """Return the manifest in `data`, its own digest and its sums checked.

        Raises:
            UnsupportedVersionError: Another format version.
            FormatError: Anything else that is not as `encode` writes it.
        """
        if not data.endswith(b"\n"):
            raise FormatError(f"{where}: cut short, expected a line end behind the JSON")
        value = decode_json(data[:-1], where=where)
        check_version(value, MANIFEST_FORMAT, where=where)
        check_schema(value, _MANIFEST_SCHEMA, where=where)
        task_named(value["task"], where=where)
        if value["labels"] not in get_args(LabelMode):
            raise FormatError(f"{where}: unknown label mode {value['labels']!r}")
        columns = value["shards"]
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise FormatError(f"{where}: the columns of shards are of unequal length")
        names = list(columns)
        shards = tuple(
            ShardEntry(**dict(zip(names, row, strict=True)))
            for row in zip(*columns.values(), strict=True)
        )
        manifest = Manifest(
            task=value["task"],
            split=value["split"],
            labels=value["labels"],
            class_names=tuple(value["class_names"]),
            recipe=value["recipe"],
            run_length=value["run_length"],
            request_digest=value["request_digest"],
            plan_digest=value["plan_digest"],
            accounting=Accounting(**value["accounting"]),
            rejects_sha256=value["rejects_sha256"],
            made_with=value["made_with"],
            shards=shards,
        )
        # Of the file's own values: what is made here from sums would hide altered ones.
        digest, found = value.pop("content_digest"), sha256_hex(encode_json(value))
        if digest != found:
            raise FormatError(
                f"{where}: content digest {digest[:12]} does not fit the manifest, which gives "
                f"{found[:12]}; it was altered"
            )
        if value["totals"] != manifest._totals():
            raise FormatError(f"{where}: the totals are not the sums of the shards")
        manifest.check(where=where)
        manifest._digest.append(digest)
        return manifest

    def check_split(self, split: str, *, where: str) -> None:
        """Check that it is the manifest of the split in whose folder it stands.

        Raises:
            FormatError: It is that of another one.
        """
        if self.split != split:
            raise FormatError(
                f"{where}: the manifest of split {self.split!r} stands in the folder of {split!r}; "
                "give the folder its name back"
            )

    def check(self, *, where: str) -> None:
        """Check what types and digest do not say.

        Raises:
            FormatError: A name that leaves the split's folder, a count below zero, sums
                that do not close.
        """
        try:
            check_split(self.split)
        except ValueError as exc:
            raise FormatError(f"{where}: {exc}") from exc
        if self.run_length < 1:
            raise FormatError(f"{where}: run length {self.run_length}, expected at least 1")
        for name, version in self.made_with.items():
            if type(version) is not str:
                raise FormatError(f"{where}: made_with.{name}: expected text")
        digests = (self.request_digest, self.plan_digest, self.rejects_sha256)
        if not all(map(is_sha256_hex, (*digests, *(shard.sha256 for shard in self.shards)))):
            raise FormatError(f"{where}: a digest is not a sha256 in hexadecimal")
        for shard in self.shards:
            taken = ("", ".", "..", MANIFEST_NAME, REJECTS_NAME)
            if "/" in shard.name or shard.name in taken or "\0" in shard.name:
                raise FormatError(f"{where}: shard name {shard.name!r} is not a plain file name")
            if shard.index_at != "inside":
                raise FormatError(
                    f"{where}: {shard.name}: index place {shard.index_at!r}, expected 'inside'"
                )
            if not 0 <= shard.samples <= min(shard.items, shard.entries, shard.records):
                raise FormatError(
                    f"{where}: {shard.name}: {shard.samples} samples with {shard.items} items "
                    f"of {shard.entries} entries, {shard.records} records"
                )
            if not (0 <= shard.crc32c < 2**32 and 0 <= shard.index_crc32c < 2**32):
                raise FormatError(f"{where}: {shard.name}: a crc32c is out of range")
            if (
                min(shard.bytes, shard.index_offset, shard.index_bytes) < 0
                or shard.index_offset + shard.index_bytes > shard.bytes
            ):
                raise FormatError(f"{where}: {shard.name}: the index lies outside the shard")
        if len({shard.name for shard in self.shards}) != len(self.shards):
            raise FormatError(f"{where}: a shard is listed twice")
        count = self.accounting
        excluded = count.excluded.values()
        if any(type(number) is not int or number < 1 for number in excluded):
            raise FormatError(f"{where}: accounting.excluded: expected counts of 1 or more")
        if (
            count.entries != count.packed + count.rejected + sum(excluded)
            or min(count.packed, count.rejected) < 0
        ):
            raise FormatError(f"{where}: entries are not packed + rejected + excluded")
        if count.packed != sum(shard.entries for shard in self.shards):
            raise FormatError(
                f"{where}: {count.packed} entries are counted as packed, the shards hold "
                f"{sum(shard.entries for shard in self.shards)}"
            )


_MANIFEST_SCHEMA = {
    "format": str,
    "version": int,
    "task": str,
    "split": str,
    "labels": str,
    "class_names": [str],
    "recipe": dict,
    "run_length": int,
    "request_digest": str,
    "plan_digest": str,
    "accounting": {"entries": int, "packed": int, "rejected": int, "excluded": dict},
    "rejects_sha256": str,
    "made_with": dict,
    "totals": {"samples": int, "items": int, "bytes": int},
    "shards": {name: [kind] for name, kind in SHARD_SCHEMA.items()},
    "content_digest": str,
}
