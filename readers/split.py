"""One split, opened: every sample by its place, every byte checked on the way."""

import os
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError, FormatError, NotFoundError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_parts import JsonPart
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    MANIFEST_NAME,
    REJECTS_NAME,
    check_split,
    is_shard_name,
    is_split,
    member_name,
)
from clipshards.packer.format.rejects import RejectRow, decode_rejects
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.storage import Storage, open_storage
from clipshards.readers.order import WINDOW_SHARDS

# Of two windows of the reading order: a batch can reach into the next one.
_KEPT_INDEXES = 2 * WINDOW_SHARDS


class Place(NamedTuple):
    """Where an item stands."""

    shard: int
    """Which shard of the split, counted from 0."""
    sample: int
    """Which sample of the shard, counted from 0."""
    item: int
    """Which item of the sample, counted from 0."""


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as it stands in the shard."""

    key: str
    parts: dict[str, bytes]
    """Part name to bytes, in the order of the shard."""
    where: str
    """Location, shard and key, for error messages."""
    unread: tuple[str, ...] = ()
    """Parts that are there and were not wanted."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """A shard's index, packed: a few numbers a sample."""

    keys: npt.NDArray[np.bytes_]
    first_item: npt.NDArray[np.int64]
    """Items before each sample; one more entry for the total."""
    parts: tuple[str, ...]
    offset: npt.NDArray[np.int64]
    """(parts, samples); -1 where a sample lacks the part."""
    size: npt.NDArray[np.int64]
    crc32c: npt.NDArray[np.int64]


class Split:
    """One split of a data set.

    Random access to samples in storage order. Objects can be pickled and used after a fork.
    """

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        """See `open_dataset`."""
        self.storage = storage
        self.manifest = manifest
        self._first_item = np.concatenate(
            ([0], np.cumsum([shard.items for shard in manifest.shards], dtype=np.int64))
        )
        self._columns: OrderedDict[int, _Columns] = OrderedDict()

    @property
    def name(self) -> str:
        """Name of the split."""
        return self.manifest.split

    def __len__(self) -> int:
        """Return the number of items."""
        return int(self._first_item[-1])

    def __repr__(self) -> str:
        digest = self.manifest.content_digest[:12]
        return f"<split {self.name} of {self.storage.url}, {len(self)} items, {digest}>"

    def place_of(self, item: int) -> Place:
        """Return where an item stands; items are counted in storage order.

        Raises:
            IndexError: There is no such item.
        """
        if not 0 <= item < len(self):
            raise IndexError(f"item {item} of {self!r}")
        shard = int(np.searchsorted(self._first_item, item, side="right")) - 1
        inside = item - int(self._first_item[shard])
        first = self._columns_of(shard).first_item
        sample = int(np.searchsorted(first, inside, side="right")) - 1
        return Place(shard, sample, inside - int(first[sample]))

    def read_sample(self, shard: int, sample: int, *, without: Collection[str] = ()) -> RawSample:
        """Return the parts of a sample, checked against their checksums.

        Args:
            shard: Which shard, counted from 0.
            sample: Which sample of it, counted from 0.
            without: Parts that are not wanted, and not read.

        Raises:
            CorruptShardError: Bytes are missing or altered; names shard, key and part.
            StorageError: The shard cannot be read.
        """
        columns = self._columns_of(shard)
        name = f"{self.name}/{self.manifest.shards[shard].name}"
        key = columns.keys[sample].decode()
        parts = {}
        unread = []
        for row, part in enumerate(columns.parts):
            offset, size = int(columns.offset[row, sample]), int(columns.size[row, sample])
            if offset < 0:
                continue
            if part in without:
                unread.append(part)
                continue
            data = self.storage.read(name, offset, size)
            if len(data) != size or crc32c(data) != columns.crc32c[row, sample]:
                raise CorruptShardError(
                    f"{self.storage.url}/{name}: {member_name(key, part)}: "
                    f"{size} bytes at {offset} are not what was packed "
                    f"({_difference(data, size)}); run verify, and restore the shard"
                )
            parts[part] = data
        return RawSample(key, parts, f"{self.storage.url}/{name}: {key}", tuple(unread))

    def first_item_of(self, shard: int) -> int:
        """Return the number of the first item of a shard."""
        return int(self._first_item[shard])

    def class_ids(self, shard: int) -> list[list[int]]:
        """Return the class ids of each item of a shard.

        Raises:
            ValueError: The index does not tell them: the task's labels are of another kind.
            CorruptShardError, StorageError: As for `read_index`.
        """
        index = self.read_index(shard)
        labels = index.summary.get("labels")
        kind = TASKS[index.task].summary.get("labels")
        if labels is None or kind not in ([int], [[int]]):
            raise ValueError(f"the items of task {index.task} have no class ids")
        if kind == [int]:
            return [list(of_sample) for of_sample in labels]
        return [list(of_item) for of_sample in labels for of_item in of_sample]

    def read_index(self, shard: int) -> ShardIndex:
        """Return the whole index of a shard, ids and origins too.

        Raises:
            CorruptShardError: It is not the index that the manifest knows.
            StorageError: The shard cannot be read.
        """
        entry = self.manifest.shards[shard]
        name = f"{self.name}/{entry.name}"
        data = self.storage.read(name, entry.index_offset, entry.index_bytes)
        where = f"{self.storage.url}/{name}: index"
        if len(data) != entry.index_bytes or crc32c(data) != entry.index_crc32c:
            raise CorruptShardError(
                f"{where}: {entry.index_bytes} bytes at {entry.index_offset} are not what was "
                f"packed ({_difference(data, entry.index_bytes)}); run verify, and restore "
                "the shard"
            )
        index = ShardIndex.decode(data, where=where)
        _check_belongs(index, self.manifest, shard, entry, where)
        return index

    def read_rejects(self) -> list[RejectRow]:
        """Return the entries that could not be packed, in the order of the annotation.

        Raises:
            FormatError: The list is damaged.
            StorageError: It cannot be read.
        """
        name = f"{self.name}/{REJECTS_NAME}"
        where = f"{self.storage.url}/{name}"
        return decode_rejects(self.storage.read_all(name), where=where)

    def find(self, key_or_id: str) -> Iterator[Place]:
        """Yield the first item of every sample with this key or this id of the user's.

        Reads every index: for looking, not for training.
        """
        for shard in range(len(self.manifest.shards)):
            index = self.read_index(shard)
            for sample, (key, name) in enumerate(zip(index.keys, index.ids, strict=True)):
                if key_or_id in (key, name):
                    yield Place(shard, sample, 0)

    def _columns_of(self, shard: int) -> _Columns:
        columns = self._columns.get(shard)
        if columns is None:
            columns = self._columns[shard] = _pack_columns(self.read_index(shard))
            if len(self._columns) > _KEPT_INDEXES:
                self._columns.popitem(last=False)
        return columns


def open_dataset(location: str | os.PathLike[str], *, split: str | None = None) -> Split:
    """Return one split of the data set at `location`.

    Args:
        location: Folder of the data set.
        split: Name of the split; None where there is only one.

    Raises:
        ValueError: None was named and there are several.
        NotFoundError: There is no such split.
        FormatError: The manifest is damaged, or of another format version.
        StorageError: The location cannot be read.
    """
    storage = open_storage(location)
    if split is None:
        names = split_names(storage)
        if len(names) != 1:
            raise ValueError(f"{storage.url} has the splits {', '.join(names)}: name one of them")
        split = names[0]
    name = f"{check_split(split)}/{MANIFEST_NAME}"
    if storage.size(name) is None:
        raise NotFoundError(f"{storage.url}: there is no split {split!r}{_hint(storage, split)}")
    manifest = Manifest.decode(storage.read_all(name), where=f"{storage.url}/{name}")
    manifest.check_split(split, where=f"{storage.url}/{name}")
    return Split(storage, manifest)


def split_names(storage: Storage) -> list[str]:
    """Return the names of all splits that have a manifest, sorted.

    Raises:
        NotFoundError: There is none.
    """
    names = _finished_splits(storage)
    if not names:
        begun = ", ".join(unfinished_splits(storage))
        if begun:
            raise NotFoundError(
                f"{storage.url}: packing of {begun} has not ended; give the pack command again"
            )
        raise NotFoundError(
            f"{storage.url}: no data set here, no folder holds a {MANIFEST_NAME}"
            + _hint_inside(storage)
        )
    return names


def unfinished_splits(storage: Storage) -> list[str]:
    """Return the names of the splits that were begun and have no manifest, sorted."""
    return [
        folder
        for folder in storage.folders()
        if is_split(folder)
        and storage.size(f"{folder}/{MANIFEST_NAME}") is None
        and (
            any(is_shard_name(folder, name) for name in storage.names(folder))
            or storage.names(f"{folder}/{BUILD_FOLDER}")
        )
    ]


def _finished_splits(storage: Storage) -> list[str]:
    return [
        folder
        for folder in storage.folders()
        if is_split(folder) and storage.size(f"{folder}/{MANIFEST_NAME}") is not None
    ]


def _hint(storage: Storage, split: str) -> str:
    """Return what else a location without this split holds, in words."""
    if split in unfinished_splits(storage):
        return "; packing has not ended there, give the pack command again"
    names = _finished_splits(storage)
    return f", there are: {', '.join(names)}" if names else _hint_inside(storage)


def _hint_inside(storage: Storage) -> str:
    """Return a hint for a location that is a split itself."""
    inside = storage.size(MANIFEST_NAME) is not None
    return "; this is one split, give the folder above it" if inside else ""


def check_opened(split: object) -> None:
    """Raise TypeError for what is no opened split."""
    if not isinstance(split, Split):
        raise TypeError(f"split: expected what open_dataset returns, got {split!r}")


def check_item(item: int, about: JsonPart, *, where: str) -> None:
    """Check that a sample has the item that the index promises.

    Raises:
        FormatError: It has fewer.
    """
    if item >= about.items:
        raise FormatError(f"{where}.json: {about.items} items, the index promises more")


def _difference(data: bytes, size: int) -> str:
    return f"{len(data)} bytes there" if len(data) != size else "crc32c differs"


def _check_belongs(
    index: ShardIndex, manifest: Manifest, shard: int, entry: ShardEntry, where: str
) -> None:
    """Check that an intact index is the one of this place in this split."""
    pairs = {
        "task": (index.task, manifest.task),
        "split": (index.split, manifest.split),
        "number": (index.number, shard),
        "plan digest": (index.plan_digest, manifest.plan_digest),
        "entries": (sum(index.entries), entry.entries),
        "samples": (len(index.keys), entry.samples),
        "items": (sum(index.items), entry.items),
    }
    for name, (found, expected) in pairs.items():
        if found != expected:
            raise CorruptShardError(
                f"{where}: {name} is {found!r}, the manifest expects {expected!r}; "
                "the shard belongs elsewhere"
            )


def _pack_columns(index: ShardIndex) -> _Columns:
    parts = tuple(index.parts)
    offset, size, crc = (
        np.array([getattr(index.parts[part], column) for part in parts], dtype=np.int64)
        for column in ("offset", "size", "crc32c")
    )
    return _Columns(
        keys=np.array([key.encode() for key in index.keys], dtype=np.bytes_),
        first_item=np.concatenate(([0], np.cumsum(index.items, dtype=np.int64))),
        parts=parts,
        offset=offset,
        size=size,
        crc32c=crc,
    )
