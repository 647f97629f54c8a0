"""One shard held against manifest and index, byte for byte, and its parts against each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError, FormatError, StorageError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.names import INDEX_MEMBER, member_name
from clipshards.packer.format.tar import BLOCK, END, decode_header, encode_header, padding
from clipshards.packer.format.tasks import task_named
from clipshards.readers.findings import AGAIN, Finding
from clipshards.readers.sample_check import sample_faults
from clipshards.readers.shard_reader import Progress, ShardReader
from clipshards.readers.split import Split

Marks = npt.NDArray[np.uint64]
"""A number for each sample, the same where something is the same; others seldom share one."""

_ALTERED = "the bytes were altered, their crc32c is another one"

_NO_MARKS: Marks = np.empty(0, dtype=np.uint64)


@dataclass(slots=True)
class ShardChecked:
    """What was looked at in a shard, and what was found."""

    number: int
    """Of the shard in its split."""
    samples: int = 0
    bytes: int = 0
    layout: tuple[str, ...] = ()
    """Parts that its samples have; empty for a shard without samples."""
    keys: Marks = field(default_factory=_NO_MARKS.copy)
    """A mark for the key of each sample."""
    contents: Marks = field(default_factory=_NO_MARKS.copy)
    """A mark for the media of each sample; 0 for those that have none."""
    findings: list[Finding] = field(default_factory=list)


def check_shard(split: Split, number: int, tick: Progress, *, deep: bool) -> ShardChecked:
    """Read a shard from its first byte to its last and return what is wrong with it.

    Args:
        split: That it belongs to.
        number: Of the shard in it.
        tick: Called as bytes are read.
        deep: Whether media are decoded and arrays looked through.
    """
    checked = ShardChecked(number)
    checked.findings = list(_findings(split, number, checked, tick, deep))
    return checked


def _findings(
    split: Split, number: int, checked: ShardChecked, tick: Progress, deep: bool
) -> Iterator[Finding]:
    entry = split.manifest.shards[number]
    name = f"{split.name}/{entry.name}"

    def finding(what: str, **about: str) -> Finding:
        return Finding(split.name, entry.name, what, **about)  # type: ignore[arg-type]

    index = None
    reader = ShardReader(split.storage, name, tick)
    try:
        size = split.storage.size(name)
        if size is None:
            yield finding("missing")
            return
        if size != entry.bytes:
            yield finding("size", expected=f"{entry.bytes} bytes", found=f"{size} bytes")
        try:
            index = split.read_index(number)
        except FormatError as exc:
            yield finding(str(exc))
        if index is not None and index.keys:
            checked.layout = _layout(index)
            checked.keys = np.array([mark(key) for key in index.keys], dtype=np.uint64)
            checked.contents = _content_marks(index)
        if index is None:
            yield from _walk_headers(reader, finding)
        else:
            yield from _by_index(split, index, reader, checked, finding, deep)
        reader.skip_to_end()
        if size == entry.bytes:
            if reader.sha256.hexdigest() != entry.sha256:
                yield finding(
                    "sha256 of the file", expected=entry.sha256, found=reader.sha256.hexdigest()
                )
            if reader.crc32c != entry.crc32c:
                yield finding(
                    "crc32c of the file",
                    expected=f"{entry.crc32c:08x}",
                    found=f"{reader.crc32c:08x}",
                )
    except StorageError as exc:
        yield finding(f"cannot be read: {exc}", remedy=AGAIN)
    finally:
        checked.bytes = reader.place


def mark(text: str) -> int:
    """Return a number of 64 bits for a text, never 0."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") | 1


def content_parts(task: str, index: ShardIndex) -> tuple[str, ...]:
    """Return the parts by which two samples of a task are the same to a model, in file order.

    What is derived of them (frame tables) or said of them (labels, boxes) is none of them.
    """
    media = task_named(task, where=index.split).media
    single = {
        "rawframes": ("mp4", "flow_x.mp4", "flow_y.mp4"),
        "skeleton": ("keypoint.npy",),
        "audio": () if set(media).intersection(index.parts) else ("mel.npy",),
        "activitynet": () if set(media).intersection(index.parts) else ("feature.npy",),
    }.get(task, ())
    return tuple(part for part in index.parts if part in media or part in single)


def _content_marks(index: ShardIndex) -> Marks:
    marks = []
    columns = [index.parts[part] for part in content_parts(index.task, index)]
    for row in range(len(index.keys)):
        sums = [(part.size[row], part.crc32c[row]) for part in columns if part.offset[row] >= 0]
        marks.append(mark(repr(sums)) if sums else 0)
    return np.array(marks, dtype=np.uint64)


def _layout(index: ShardIndex) -> tuple[str, ...]:
    """Return the parts that all samples of the split must have as these do."""
    media = task_named(index.task, where=index.split).media
    single = tuple(name for name in index.parts if name not in media)
    return single if len(single) == len(index.parts) else (*single, "media")


_MakeFinding = Callable[..., Finding]


def _by_index(
    split: Split,
    index: ShardIndex,
    reader: ShardReader,
    checked: ShardChecked,
    finding: _MakeFinding,
    deep: bool,
) -> Iterator[Finding]:
    """Hold every member against the index, which says where each byte of the shard belongs."""
    entry = split.manifest.shards[checked.number]

    def of_sample(row: int, parts: dict[str, bytes]) -> Iterator[Finding]:
        for part, what in sample_faults(split.manifest, index, row, parts, deep=deep):
            yield finding(what, key=index.keys[row], id=index.ids[row], part=part)

    try:
        for row, (key, name) in enumerate(zip(index.keys, index.ids, strict=True)):
            checked.samples += 1
            parts: dict[str, bytes] = {}
            for part, columns in index.parts.items():
                if columns.offset[row] < 0:
                    continue
                size, crc = columns.size[row], columns.crc32c[row]
                about = {"key": key, "id": name, "part": part}
                try:
                    header, data = reader.take(BLOCK), reader.take(size)
                    gap = reader.take(padding(size))
                except CorruptShardError as exc:
                    yield finding(str(exc), **about)
                    return
                if fault := _header_fault(header, member_name(key, part), size):
                    yield finding(fault, **about)
                if (seen := crc32c(data)) != crc:
                    yield finding(_ALTERED, **about, expected=f"{crc:08x}", found=f"{seen:08x}")
                else:
                    parts[part] = data
                if gap.strip(b"\0"):
                    yield finding("the padding behind it is not zero", **about)
            yield from of_sample(row, parts)
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
        if block == encode_header(name, size):
            return ""
        found = decode_header(block, where=f"in front of {name}")
    except (CorruptShardError, ValueError) as exc:
        return str(exc)
    return "" if found == (name, size) else f"header: expected {(name, size)}, got {found}"


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
                yield finding("the padding behind it is not zero", key=key, part=part)
            key = part = ""
    except CorruptShardError as exc:
        yield finding(str(exc), key=key, part=part)
