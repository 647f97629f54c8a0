"""Proving a data set whole: every byte read, every promise of index and manifest checked."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.errors import (
    CorruptShardError,
    DatasetError,
    FormatError,
    NotFoundError,
    StorageError,
)
from clipshards.packer.format.frame_table import CRC32C, OFFSET, SIZE
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import Manifest, ShardEntry, labels_fit
from clipshards.packer.format.names import (
    INDEX_MEMBER,
    MANIFEST_NAME,
    REJECTS_NAME,
    is_shard_name,
    member_name,
)
from clipshards.packer.format.rejects import decode_rejects
from clipshards.packer.format.structure import FRAME_TABLES, ava_label_lists
from clipshards.packer.format.tar import BLOCK, END, decode_header, padding
from clipshards.packer.format.tasks import task_named
from clipshards.packer.storage import Storage, open_storage
from clipshards.readers.opening import open_dataset, split_names, unfinished_splits
from clipshards.readers.shard_reader import Progress, ShardReader
from clipshards.readers.split import Split

_ALTERED = "crc32c is not the index's: the bytes were altered"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was packed."""

    split: str
    shard: str
    """File name; empty for what concerns the whole split."""
    sample: str
    """Key; empty for what concerns the whole shard."""
    part: str
    """Part name; empty for what concerns the whole sample."""
    message: str
    """What was expected, and what was found."""

    def __str__(self) -> str:
        place = "/".join(filter(None, (self.split, self.shard)))
        member = ".".join(filter(None, (self.sample, self.part)))
        return f"{place}: {member}: {self.message}" if member else f"{place}: {self.message}"


@dataclass(slots=True)
class VerifyReport:
    """What a check found."""

    location: str
    splits: dict[str, str] = field(default_factory=dict)
    """Split to content digest, of those whose manifest could be read."""
    shards: int = 0
    samples: int = 0
    bytes: int = 0
    """Shards, samples and bytes that were looked at."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(
    location: str | os.PathLike[str],
    *,
    split: str | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Return what is wrong with a data set, reading every byte of it.

    Checked are the manifest's own digest, the rejects against it, and of every shard its
    size, sha256 and crc32c, every header, padding and end, the index and all that it says
    of the parts, each part's checksum, and the counts.

    Args:
        location: Folder of the data set.
        split: The one to check; None for all.
        progress: Called as bytes are checked.

    Raises:
        NotFoundError: There is no data set, or no such split.
        StorageError: The location cannot be listed.
    """
    storage = open_storage(location)
    report = VerifyReport(storage.url)
    tick = progress or (lambda _: None)
    for name in split_names(storage) if split is None else [split]:
        try:
            opened = open_dataset(location, split=name)
        except NotFoundError:
            raise
        except (FormatError, StorageError) as exc:
            report.findings.append(Finding(name, "", "", "", str(exc)))
            continue
        report.splits[name] = opened.manifest.content_digest
        report.findings += _check_split_files(storage, opened.manifest)
        seen = _Seen()
        for number in range(len(opened.manifest.shards)):
            report.findings += _check_shard(opened, number, seen, report, tick)
    for name in unfinished_splits(storage) if split is None else ():
        if any(is_shard_name(name, file) for file in storage.sizes(name)):
            message = f"shards without {MANIFEST_NAME}: packing has not ended, or it was lost"
            report.findings.append(Finding(name, "", "", "", message))
    return report


def total_bytes(location: str | os.PathLike[str], *, split: str | None = None) -> int:
    """Return how many bytes `verify` would read, as far as manifests can be read.

    Raises:
        NotFoundError: There is no data set, or no such split.
        StorageError: The location cannot be listed.
    """
    storage = open_storage(location)
    total = 0
    for name in split_names(storage) if split is None else [split]:
        try:
            total += open_dataset(location, split=name).manifest.size_bytes
        except NotFoundError:
            raise
        except (FormatError, StorageError):
            continue
    return total


def _check_split_files(storage: Storage, manifest: Manifest) -> Iterator[Finding]:
    """Check what stands beside the shards, and which shards stand there."""
    split = manifest.split
    expected = {shard.name for shard in manifest.shards}
    try:
        for name in storage.sizes(split):
            if name.endswith(".tar") and name not in expected:
                yield Finding(split, name, "", "", "a shard that the manifest does not list")
    except StorageError as exc:
        yield Finding(split, "", "", "", str(exc))
    try:
        data = storage.read_all(f"{split}/{REJECTS_NAME}")
        if sha256_hex(data) != manifest.rejects_sha256:
            yield Finding(split, REJECTS_NAME, "", "", "sha256 is not the manifest's")
        rejects = decode_rejects(data, where=REJECTS_NAME)
        entries = sum(row.entries for row in rejects)
        if entries != manifest.accounting.rejected:
            count = manifest.accounting.rejected
            message = f"{entries} rejected entries, the manifest counts {count}"
            yield Finding(split, REJECTS_NAME, "", "", message)
    except DatasetError as exc:
        yield Finding(split, REJECTS_NAME, "", "", str(exc))


@dataclass(slots=True)
class _Seen:
    """What the shards of a split that were looked at hold."""

    keys: set[str] = field(default_factory=set)
    layout: tuple[str, ...] = ()
    """Parts that their samples have; empty before the first sample."""


def _layout(index: ShardIndex) -> tuple[str, ...]:
    """Return the parts that all samples of the split must have as these do."""
    media = task_named(index.task, where=index.split).media
    single = tuple(name for name in index.parts if name not in media)
    return single if len(single) == len(index.parts) else (*single, "media")


def _check_shard(
    split: Split, number: int, seen: _Seen, report: VerifyReport, tick: Progress
) -> Iterator[Finding]:
    """Check one shard from its first byte to its last, and against the shards before."""
    entry = split.manifest.shards[number]
    name = f"{split.name}/{entry.name}"

    def finding(message: str, sample: str = "", part: str = "") -> Finding:
        return Finding(split.name, entry.name, sample, part, message)

    report.shards += 1
    index = None
    reader = ShardReader(split.storage, name, tick)
    try:
        size = split.storage.size(name)
        if size is None:
            yield finding("missing")
            return
        if size != entry.bytes:
            yield finding(f"{size} bytes, the manifest expects {entry.bytes}")
        try:
            index = split.read_index(number)
        except FormatError as exc:
            yield finding(str(exc))
        if index is not None and index.keys:
            for key in seen.keys.intersection(index.keys):
                yield finding("a sample of this key stands in another shard too", key)
            seen.keys.update(index.keys)
            seen.layout = seen.layout or _layout(index)
            if _layout(index) != seen.layout:
                parts = " ".join(_layout(index))
                yield finding(f"samples of {parts}, those before have {' '.join(seen.layout)}")
        if index is None:
            yield from _walk_headers(reader, finding)
        else:
            yield from _check_by_index(split, entry, index, reader, report, finding)
        reader.skip_to_end()
        if size == entry.bytes:
            if reader.sha256.hexdigest() != entry.sha256:
                yield finding("sha256 of the file is not the manifest's")
            if reader.crc32c != entry.crc32c:
                yield finding("crc32c of the file is not the manifest's")
    except StorageError as exc:
        yield finding(f"cannot be read: {exc}")
    finally:
        report.bytes += reader.place


_MakeFinding = Callable[..., Finding]


def _check_by_index(
    split: Split,
    entry: ShardEntry,
    index: ShardIndex,
    reader: ShardReader,
    report: VerifyReport,
    finding: _MakeFinding,
) -> Iterator[Finding]:
    """Hold every member against the index, which says where each byte of the shard belongs."""
    sample_parts: dict[str, bytes] = {}
    current = -1
    try:
        for row, key, part, size, crc in _members_of(index):
            if row != current:
                yield from _check_sample(split, index, current, sample_parts, finding)
                current, sample_parts = row, {}
                report.samples += 1
            try:
                header, data = reader.take(BLOCK), reader.take(size)
                gap = reader.take(padding(size))
            except CorruptShardError as exc:
                yield finding(str(exc), key, part)
                return
            if fault := _header_fault(header, member_name(key, part), size):
                yield finding(fault, key, part)
            if crc32c(data) != crc:
                yield finding(_ALTERED, key, part)
            else:
                sample_parts[part] = data
            if any(gap):
                yield finding("the padding behind it is not zero", key, part)
        yield from _check_sample(split, index, current, sample_parts, finding)
        if reader.place + BLOCK != entry.index_offset:
            yield finding("the index does not stand where the manifest says")
            return
        if fault := _header_fault(reader.take(BLOCK), INDEX_MEMBER, entry.index_bytes):
            yield finding(fault)
        # Its bytes were checked when it was read.
        reader.take(entry.index_bytes)
        if any(reader.take(padding(entry.index_bytes))):
            yield finding("the padding behind the index is not zero")
        if reader.take(len(END)) != END or not reader.at_end:
            yield finding(f"expected {len(END)} zero bytes as the end, and nothing behind them")
    except CorruptShardError as exc:
        yield finding(str(exc))


def _header_fault(block: bytes, name: str, size: int) -> str:
    """Return what is wrong with the header of a member, empty for nothing."""
    try:
        found = decode_header(block, where=f"in front of {name}")
    except CorruptShardError as exc:
        return str(exc)
    if found != (name, size):
        return f"header: expected {name!r} of {size} bytes, got {found}"
    return ""


def _members_of(index: ShardIndex) -> Iterator[tuple[int, str, str, int, int]]:
    """Yield (row, key, part, size, crc32c) of all that an index promises, in file order."""
    for row, key in enumerate(index.keys):
        for part, columns in index.parts.items():
            if columns.offset[row] >= 0:
                yield row, key, part, columns.size[row], columns.crc32c[row]


def _walk_headers(reader: ShardReader, finding: _MakeFinding) -> Iterator[Finding]:
    """Say where a shard without its index stops making sense; the headers alone guide."""
    key = part = ""
    try:
        while header := decode_header(reader.take(BLOCK), where=f"byte {reader.place - BLOCK}"):
            name, size = header
            if name != INDEX_MEMBER:
                key, _, part = name.partition(".")
            reader.take(size)
            if any(reader.take(padding(size))):
                yield finding("the padding behind it is not zero", key, part)
            key = part = ""
    except CorruptShardError as exc:
        yield finding(str(exc), key, part)


def _check_packets(values: dict[str, Any], key: str, finding: _MakeFinding) -> Iterator[Finding]:
    """Check the checksums by which readers know single packets of a video."""
    for video, table in FRAME_TABLES.items():
        if video in values:
            for number, row in enumerate(values[table].tolist()):
                packet = values[video][row[OFFSET] : row[OFFSET] + row[SIZE]]
                if crc32c(packet) != row[CRC32C]:
                    yield finding(f"packet {number}: its checksum is another one", key, table)
                    break


def _check_sample(
    split: Split, index: ShardIndex, row: int, parts: dict[str, bytes], finding: _MakeFinding
) -> Iterator[Finding]:
    """Check that intact parts say what their format allows, and fit each other and the index."""
    if row < 0:
        return
    key = index.keys[row]
    task = task_named(split.manifest.task, where=split.name)
    values: dict[str, Any] = {}
    for part, data in parts.items():
        try:
            values[part] = task.decode(part, data, where=part)
        except FormatError as exc:
            yield finding(str(exc), key, part)
    promised = [part for part, columns in index.parts.items() if columns.offset[row] >= 0]
    about = values.get("json")
    label_lists = [] if about is None else about.label_lists
    if len(values) == len(promised):
        faults = list(task.faults(values))
        for part, fault in faults:
            yield finding(fault, key, part)
        if not faults:
            yield from _check_packets(values, key, finding)
        if task.name == "ava" and not faults:
            label_lists = ava_label_lists(values)
    if about is None:
        return
    classes = len(split.manifest.class_names)
    for name in getattr(about, "segment_labels", ()):
        if classes and name not in split.manifest.class_names:
            yield finding(f"label {name!r} is none of the class names", key, "json")
    for labels in label_lists:
        if not labels_fit(split.manifest.labels, len(labels)):
            message = f"{len(labels)} labels in a split of mode {split.manifest.labels!r}"
            yield finding(message, key, "json")
        if classes and max(labels, default=0) >= classes:
            yield finding(f"label {max(labels)} of {classes} classes", key, "json")
    rows = values.get("labels.npy")
    if classes and rows is not None and rows.ndim == 2 and rows[:, -1].max(initial=0) >= classes:
        yield finding(f"action {rows[:, -1].max()} of {classes} classes", key, "labels.npy")
    said = {"id": about.id, "origin": about.origin, "items": about.items} | about.summary()
    listed = {"id": index.ids[row], "origin": index.origins[row], "items": index.items[row]}
    listed |= {name: column[row] for name, column in index.summary.items()}
    for name, value in said.items():
        if value != listed[name]:
            yield finding(f"{name} is {value!r}, the index says {listed[name]!r}", key, "json")
