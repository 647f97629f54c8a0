"""Writing one shard: members one behind the other, the index last, all of it hashed."""

import hashlib
from collections.abc import Iterable

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.index import PartColumns, ShardIndex
from clipshards.packer.format.manifest import ShardEntry
from clipshards.packer.format.names import INDEX_MEMBER, member_name, shard_name
from clipshards.packer.format.tar import BLOCK, END, encode_header, member_bytes, padding
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.samples.base import Sample
from clipshards.packer.storage.base import Write

_LARGE = 1 << 17


class ShardWriter:
    """Appends samples to one shard, and knows at the end what the manifest must say of it."""

    def __init__(self, write: Write, index: ShardIndex) -> None:
        """Start a shard.

        Args:
            write: Where the bytes go.
            index: An index without samples: task, split, number, plan, recipe.
        """
        self._write = write
        self._index = index
        task = TASKS[index.task]
        self._parts = {name: PartColumns() for name in task.parts}
        self._index.summary = {name: [] for name in task.summary}
        self._sha256 = hashlib.sha256()
        self._crc32c = 0
        self._place = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def add(self, key: str, sample: Sample, *, entries: int) -> None:
        """Append the parts of one sample, which must be parts of the task.

        Args:
            key: The sample's key.
            sample: Its parts.
            entries: Entries of the annotation that it holds.
        """
        self._index.keys.append(key)
        self._index.ids.append(sample.id)
        self._index.origins.append(sample.origin)
        self._index.entries.append(entries)
        self._index.items.append(sample.items)
        for name, column in self._index.summary.items():
            column.append(sample.summary[name])
        for name, columns in self._parts.items():
            if name in sample.parts:
                data = sample.parts[name]
                columns.offset.append(self._place + BLOCK)
                columns.size.append(len(data))
                columns.crc32c.append(self._add_member(member_name(key, name), data))
            else:
                for column in (columns.offset, columns.size, columns.crc32c):
                    column.append(-1)

    def finish(self, *, records: int) -> ShardEntry:
        """Append the index and the end of the archive; return the manifest's row.

        Args:
            records: What the plan has for the shard, packed or rejected.
        """
        self._index.parts = {
            name: columns
            for name, columns in self._parts.items()
            if any(offset >= 0 for offset in columns.offset)
        }
        index = self._index.encode()
        index_offset = self._place + BLOCK
        index_crc32c = self._add_member(INDEX_MEMBER, index)
        self._put((END,), len(END))
        self._flush()
        return ShardEntry(
            name=shard_name(self._index.split, self._index.number),
            bytes=self._place,
            records=records,
            entries=sum(self._index.entries),
            samples=len(self._index.keys),
            items=sum(self._index.items),
            index_at="inside",
            index_offset=index_offset,
            index_bytes=len(index),
            index_crc32c=index_crc32c,
            sha256=self._sha256.hexdigest(),
            crc32c=self._crc32c,
        )

    def _add_member(self, name: str, data: bytes) -> int:
        size = len(data)
        pieces = (encode_header(name, size), data, END[: padding(size)])
        self._put(pieces, member_bytes(size))
        return crc32c(data)

    def _put(self, pieces: Iterable[bytes], size: int) -> None:
        self._place += size
        for piece in pieces:
            # What is small is hashed and written in blocks: the calls would cost more than it.
            if len(piece) >= _LARGE:
                self._flush()
                self._out(piece)
            else:
                self._pending.append(piece)
                self._pending_bytes += len(piece)
        if self._pending_bytes >= _LARGE:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._out(b"".join(self._pending))
            self._pending.clear()
            self._pending_bytes = 0

    def _out(self, data: bytes) -> None:
        self._write(data)
        self._sha256.update(data)
        self._crc32c = crc32c(data, self._crc32c)
