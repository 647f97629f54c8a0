"""Proving a data set whole: every byte read, every promise of index and manifest checked."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from clipshards.packer.format.checksums import crc32c, sha256_hex
from clipshards.packer.format.errors import CorruptShardError, DatasetError, FormatError
from clipshards.packer.format.frame_table import NO_PICTURE, RANK, check_frame_table
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import Manifest, ShardEntry, labels_fit
from clipshards.packer.format.names import (
    INDEX_MEMBER,
    MANIFEST_NAME,
    REJECTS_NAME,
    member_name,
)
from clipshards.packer.format.rejects import decode_rejects
from clipshards.packer.format.tar import BLOCK, END, decode_header, padding
from clipshards.packer.format.tasks import PART_KINDS, task_named
from clipshards.packer.storage import Storage, open_storage
from clipshards.readers.split import Split, open_dataset, split_names

_PIECE = 1 << 22
_ALTERED = "crc32c is not the index's: the bytes were altered"

Progress = Callable[[int], None]
"""Called with the bytes checked since the last call."""


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
    """
    storage = open_storage(location)
    report = VerifyReport(storage.url)
    tick = progress or (lambda _: None)
    for name in split_names(storage) if split is None else [split]:
        try:
            opened = open_dataset(location, split=name)
        except FormatError as exc:
            report.findings.append(Finding(name, "", "", "", f"{MANIFEST_NAME}: {exc}"))
            continue
        report.splits[name] = opened.manifest.content_digest
        report.findings += _check_split_files(storage, opened.manifest)
        for number in range(len(opened.manifest.shards)):
            report.findings += _check_shard(opened, number, report, tick)
    return report


def total_bytes(location: str | os.PathLike[str], *, split: str | None = None) -> int:
    """Return how many bytes `verify` would read, as far as manifests can be read."""
    storage = open_storage(location)
    total = 0
    for name in split_names(storage) if split is None else [split]:
        try:
            total += open_dataset(location, split=name).manifest.size_bytes
        except FormatError:
            continue
    return total


def _check_split_files(storage: Storage, manifest: Manifest) -> Iterator[Finding]:
    """Check what stands beside the shards, and which shards stand there."""
    split = manifest.split
    expected = {shard.name for shard in manifest.shards}
    for name in storage.names(split):
        if name.endswith(".tar") and name not in expected:
            yield Finding(split, name, "", "", "a shard that the manifest does not list")
    try:
        data = storage.read_all(f"{split}/{REJECTS_NAME}")
        if sha256_hex(data) != manifest.rejects_sha256:
            yield Finding(split, REJECTS_NAME, "", "", "sha256 is not the manifest's")
        rejects = decode_rejects(data, where=REJECTS_NAME)
        if len(rejects) != manifest.accounting.rejected:
            count = manifest.accounting.rejected
            message = f"{len(rejects)} lines, the manifest counts {count} rejects"
            yield Finding(split, REJECTS_NAME, "", "", message)
    except DatasetError as exc:
        yield Finding(split, REJECTS_NAME, "", "", str(exc))
    if manifest.samples != manifest.accounting.packed:
        message = (
            f"the shards hold {manifest.samples} samples, "
            f"{manifest.accounting.packed} entries are counted as packed"
        )
        yield Finding(split, MANIFEST_NAME, "", "", message)


def _check_shard(
    split: Split, number: int, report: VerifyReport, tick: Progress
) -> Iterator[Finding]:
    """Check one shard from its first byte to its last."""
    entry = split.manifest.shards[number]
    name = f"{split.name}/{entry.name}"

    def finding(message: str, sample: str = "", part: str = "") -> Finding:
        return Finding(split.name, entry.name, sample, part, message)

    report.shards += 1
    size = split.storage.size(name)
    if size is None:
        yield finding("missing")
        return
    if size != entry.bytes:
        yield finding(f"{size} bytes, the manifest expects {entry.bytes}")
    index = None
    try:
        index = split.read_index(number)
    except DatasetError as exc:
        yield finding(str(exc))
    reader = _ShardReader(split.storage, name, entry, tick)
    try:
        yield from _check_members(split, entry, index, reader, report, finding)
    except DatasetError as exc:
        # A broken header hides where the next member begins; the checksums below and
        # those of the parts still say which samples are whole.
        yield finding(str(exc))
        if index is not None:
            yield from _check_parts_by_index(split, number, index, finding)
        reader.skip_to_end()
    report.bytes += reader.place
    if size == entry.bytes:
        if reader.sha256.hexdigest() != entry.sha256:
            yield finding("sha256 of the file is not the manifest's")
        if reader.crc32c != entry.crc32c:
            yield finding("crc32c of the file is not the manifest's")


class _ShardReader:
    """Reads a shard once from front to back, hashing as it goes."""

    def __init__(self, storage: Storage, name: str, entry: ShardEntry, tick: Progress) -> None:
        self.place = 0
        self.sha256 = hashlib.sha256()
        self.crc32c = 0
        self.where = f"{entry.name}"
        self._storage = storage
        self._name = name
        self._end = storage.size(name) or 0
        self._tick = tick
        self._buffer = b""
        self._used = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            CorruptShardError: The file ends before them.
        """
        pieces = []
        missing = size
        while missing:
            if self._used == len(self._buffer) and not self._fill():
                raise CorruptShardError(
                    f"the file ends at byte {self.place}, {missing} bytes before its member does"
                )
            piece = self._buffer[self._used : self._used + missing]
            self._used += len(piece)
            self.place += len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def skip_to_end(self) -> None:
        """Hash all that is left."""
        self.place += len(self._buffer) - self._used
        self._used = len(self._buffer)
        while self._fill():
            self.place += len(self._buffer)
            self._used = len(self._buffer)

    @property
    def at_end(self) -> bool:
        """Whether every byte was taken."""
        return self._used == len(self._buffer) and not self._fill()

    def _fill(self) -> bool:
        self._buffer = self._storage.read(self._name, self.place, _PIECE)
        self._used = 0
        self.sha256.update(self._buffer)
        self.crc32c = crc32c(self._buffer, self.crc32c)
        self._tick(len(self._buffer))
        return bool(self._buffer)


_MakeFinding = Callable[..., Finding]


def _check_members(
    split: Split,
    entry: ShardEntry,
    index: ShardIndex | None,
    reader: _ShardReader,
    report: VerifyReport,
    finding: _MakeFinding,
) -> Iterator[Finding]:
    """Walk the members and hold each against the index."""
    expected = {} if index is None else _members_of(index)
    sample_parts: dict[str, bytes] = {}
    current = -1
    while True:
        at = reader.place
        header = decode_header(reader.take(BLOCK), where=f"byte {at}")
        if header is None:
            break
        name, size = header
        data = reader.take(size)
        if any(reader.take(padding(size))):
            yield finding(f"padding behind {name} is not zero")
        if name == INDEX_MEMBER:
            if (at + BLOCK, size) != (entry.index_offset, entry.index_bytes):
                yield finding("the index does not stand where the manifest says")
            continue
        if index is None:
            continue
        if name not in expected:
            yield finding(f"member {name} is not in the index")
            continue
        member = expected.pop(name)
        if (at + BLOCK, size) != (member.offset, member.size):
            yield finding("does not stand where the index says", member.key, member.part)
        if member.row != current:
            yield from _check_sample(split, index, current, sample_parts, finding)
            current, sample_parts = member.row, {}
            report.samples += 1
        if crc32c(data) != member.crc32c:
            yield finding(_ALTERED, member.key, member.part)
        else:
            sample_parts[member.part] = data
    if index is not None:
        yield from _check_sample(split, index, current, sample_parts, finding)
    if any(reader.take(BLOCK)) or not reader.at_end:
        yield finding(f"expected {len(END)} zero bytes as the end, found more")
        reader.skip_to_end()
    for name in expected:
        yield finding(f"member {name} of the index is missing")


class _Member(NamedTuple):
    """One part as the index promises it."""

    row: int
    """Place of the sample in the index."""
    key: str
    part: str
    offset: int
    size: int
    crc32c: int


def _members_of(index: ShardIndex) -> dict[str, _Member]:
    """Return all that an index promises, by member name."""
    members = {}
    for part, columns in index.parts.items():
        rows = zip(index.keys, columns.offset, columns.size, columns.crc32c, strict=True)
        for row, (key, offset, size, crc) in enumerate(rows):
            if offset >= 0:
                members[member_name(key, part)] = _Member(row, key, part, offset, size, crc)
    return members


def _check_parts_by_index(
    split: Split, number: int, index: ShardIndex, finding: _MakeFinding
) -> Iterator[Finding]:
    """Name the samples of a damaged shard that are not whole, by the index alone."""
    name = f"{split.name}/{split.manifest.shards[number].name}"
    for member in _members_of(index).values():
        if crc32c(split.storage.read(name, member.offset, member.size)) != member.crc32c:
            yield finding(_ALTERED, member.key, member.part)


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
            values[part] = PART_KINDS[part].decode(data, where=part)
        except FormatError as exc:
            yield finding(str(exc), key, part)
    media = next((part for part in task.media if part in parts), None)
    table, about = values.get("frames.npy"), values.get("json")
    if table is not None and media is not None:
        try:
            check_frame_table(table, part_bytes=len(parts[media]), where="frames.npy")
        except FormatError as exc:
            yield finding(str(exc), key, "frames.npy")
    if about is None:
        return
    if not labels_fit(split.manifest.labels, len(about.labels)):
        message = f"{len(about.labels)} labels in a split of mode {split.manifest.labels!r}"
        yield finding(message, key, "json")
    if table is not None and len(table):
        pictures = int((table[:, RANK] != NO_PICTURE).sum())
        if pictures != about.video.frames:
            message = f"{pictures} pictures, the json says {about.video.frames} frames"
            yield finding(message, key, "frames.npy")
    said = {"id": about.id, "origin": about.origin} | about.summary()
    listed = {"id": index.ids[row], "origin": index.origins[row]}
    listed |= {name: column[row] for name, column in index.summary.items()}
    for name, value in said.items():
        if value != listed[name]:
            yield finding(f"{name} is {value!r}, the index says {listed[name]!r}", key, "json")
