"""One split, opened: every sample by its place, every byte checked on the way."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import CorruptShardError, FormatError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_parts import JsonPart
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.names import (
    REJECTS_NAME,
)
from clipshards.packer.format.rejects import RejectRow, decode_rejects
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.storage import Storage
from clipshards.readers.byte_ranges import TRIES, difference
from clipshards.readers.cache import SplitCache
from clipshards.readers.columns import Columns
from clipshards.readers.fetch import Fetch, RawSample
from clipshards.readers.long_videos import Needed
from clipshards.readers.order import WINDOW_SHARDS, forget

# Of two windows of the reading order: a batch can reach into the next one.
_KEPT_INDEXES = 2 * WINDOW_SHARDS
# An index is some 100 kB.
_INDEXES_AT_A_TIME = 128


class Place(NamedTuple):
    """Where an item stands."""

    shard: int
    """Which shard of the split, counted from 0."""
    sample: int
    """Which sample of the shard, counted from 0."""
    item: int
    """Which item of the sample, counted from 0."""


class Split:
    """One split of a data set.

    Random access to samples in storage order. Objects can be pickled and used after a fork.
    """

    def __init__(
        self, storage: Storage, manifest: Manifest, cache: SplitCache | None = None
    ) -> None:
        """See `open_dataset`."""
        self.storage = storage
        self.manifest = manifest
        self.cache = cache
        self._first_item = np.concatenate(
            ([0], np.cumsum([shard.items for shard in manifest.shards], dtype=np.int64))
        )
        self._columns: OrderedDict[int, Columns] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process gets: what is kept for speed is found anew there."""
        return self.__dict__ | {"_columns": OrderedDict()}

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
        return self.places_of([item])[0]

    def places_of(self, items: Sequence[int]) -> list[Place]:
        """Return where several items stand, as `place_of` does."""
        numbers = np.array(items, dtype=np.int64)
        outside = numbers[(numbers < 0) | (numbers >= len(self))]
        if outside.size:
            raise IndexError(f"item {outside[0]} of {self!r}")
        shards = np.searchsorted(self._first_item, numbers, side="right") - 1
        self.load_columns(shards.tolist())
        inside = numbers - self._first_item[shards]
        samples = np.empty_like(numbers)
        for shard in np.unique(shards):
            those = shards == shard
            first = self.columns_of(int(shard)).first_item
            samples[those] = np.searchsorted(first, inside[those], side="right") - 1
            inside[those] -= first[samples[those]]
        return list(map(Place, shards.tolist(), samples.tolist(), inside.tolist()))

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
        return self.fetch([(shard, sample)], without=without).sample((shard, sample))

    def fetch(
        self,
        places: Iterable[tuple[int, int]],
        *,
        without: Collection[str] = (),
        needed: Mapping[tuple[int, int], Needed] = MappingProxyType({}),
    ) -> Fetch:
        """Return what reads several samples at once: near ranges of bytes are joined.

        Args:
            places: Shard and sample, as its `sample` will be asked for them: in any order, as
                often as here.
            without: Parts that are not wanted, and not read.
            needed: What tells, of some places, which packets of a long video are needed.

        Raises:
            CorruptShardError, StorageError: As for `read_index`.
        """
        return Fetch(self, places, without=without, needed=needed)

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
        return self._parsed_index(shard, self._cached_index(shard) or self._begin_index(shard))

    def _cached_index(self, shard: int) -> Callable[[], bytes] | None:
        """Return what gives the index as the cache has it, None where it has not, or damaged."""
        entry = self.manifest.shards[shard]
        if self.cache is None or self.cache.has(shard, 0, 1) == b"\0":
            return None
        data = self.cache.read(shard, entry.index_offset, entry.index_bytes)
        return partial(bytes, data) if crc32c(data) == entry.index_crc32c else None

    def _begin_index(self, shard: int) -> Callable[[], bytes]:
        """Return what gives the index as it stands in the storage, and puts it into the cache."""
        entry = self.manifest.shards[shard]
        name = self.file_of(shard)
        reading = self.storage.begin_read(name, entry.index_offset, entry.index_bytes).result
        if self.cache is None or not self.cache.keeps_indexes:
            return reading
        cache = self.cache

        def stored() -> bytes:
            data = reading()
            if crc32c(data) == entry.index_crc32c:
                cache.store(shard, 0, entry.index_offset, data)
            return data

        return stored

    def _parsed_index(self, shard: int, reading: Callable[[], bytes]) -> ShardIndex:
        entry = self.manifest.shards[shard]
        name = self.file_of(shard)
        data = reading()
        for _ in range(TRIES - 1 if self.storage.far else 0):
            # Nobody else has checked what came over the network.
            if crc32c(data) == entry.index_crc32c:
                break
            data = self.storage.read(name, entry.index_offset, entry.index_bytes)
        where = f"{self.storage.url}/{name}: index"
        if len(data) != entry.index_bytes or crc32c(data) != entry.index_crc32c:
            raise CorruptShardError(
                f"{where}: {entry.index_bytes} bytes at {entry.index_offset} are not what was "
                f"packed ({difference(data, entry.index_bytes)}); run verify, and restore "
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

    def file_of(self, shard: int) -> str:
        """Return the name of a shard's file in the location."""
        return f"{self.name}/{self.manifest.shards[shard].name}"

    def columns_of(self, shard: int) -> Columns:
        """Return the index of a shard, packed; those of the last shards are kept.

        Raises:
            CorruptShardError, StorageError: As for `read_index`.
        """
        columns = self._columns.get(shard)
        if columns is None:
            columns = self._columns[shard] = Columns.of(self.read_index(shard))
            forget(self._columns, _KEPT_INDEXES)
        return columns

    def load_columns(self, shards: Iterable[int]) -> None:
        """Have the indexes of several shards at hand; far ones are read all at once.

        Raises:
            CorruptShardError, StorageError: As for `read_index`.
        """
        if not self.storage.far:
            return
        missing = sorted(set(shards) - self._columns.keys())
        for start in range(0, len(missing), _INDEXES_AT_A_TIME):
            some = missing[start : start + _INDEXES_AT_A_TIME]
            readings = [self._cached_index(shard) or self._begin_index(shard) for shard in some]
            for shard, reading in zip(some, readings, strict=True):
                self._columns[shard] = Columns.of(self._parsed_index(shard, reading))
            forget(self._columns, _KEPT_INDEXES)


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
