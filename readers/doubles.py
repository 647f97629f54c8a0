"""Keys that stand twice in a split, and media that stand twice in a data set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.checksums import sha256_hex
from clipshards.packer.format.errors import DatasetError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.npy import decode_npy
from clipshards.packer.storage import Storage
from clipshards.readers.findings import Finding
from clipshards.readers.shard_check import Marks, ShardChecked, content_parts
from clipshards.readers.split import Split

# Samples that are told as copies one by one; those of a data set packed twice would fill screens.
_TOLD = 1000
# Doubles tend to stand in the same shards; an index takes some hundred kilobytes.
_INDEXES_KEPT = 64
_APART = "take one of them out of the annotation, unless it is meant"


@dataclass(frozen=True, slots=True)
class _Sample:
    """A sample that may be another's double."""

    index: ShardIndex
    """Of its shard."""
    shard: str
    """File name."""
    row: int

    @property
    def key(self) -> str:
        return self.index.keys[self.row]

    @property
    def id(self) -> str:
        return self.index.ids[self.row]


def double_keys(split: Split, checked: Sequence[ShardChecked]) -> Iterator[Finding]:
    """Yield the samples whose key stands in an earlier shard of the split.

    Args:
        split: That the shards belong to.
        checked: Its shards, by number.
    """
    for group in _groups([shard.keys for shard in checked]):
        seen: set[str] = set()
        for at, row in group:
            number = checked[at].number
            index = split.read_index(number)
            key = index.keys[row]
            if key in seen:
                shard = split.manifest.shards[number].name
                what = "a sample of this key stands in another shard too"
                yield Finding(split.name, shard, what, key=key, id=index.ids[row])
            seen.add(key)


def double_contents(
    splits: Mapping[str, Split], checked: Mapping[str, Sequence[ShardChecked]]
) -> Iterator[Finding]:
    """Yield the samples whose media are those of an earlier sample, byte for byte, by sha256.

    The marks of the samples come from the indexes; only what shares one is read again.

    Args:
        splits: Split name to split.
        checked: Split name to its shards.
    """

    @lru_cache(maxsize=_INDEXES_KEPT)
    def look(name: str, number: int) -> ShardIndex:
        return splits[name].read_index(number)

    shards = [(name, shard) for name, found in checked.items() for shard in found]
    told = more = 0
    for group in _groups([shard.contents for _, shard in shards]):
        if told >= _TOLD:
            more += len(group) - 1
            continue
        first: dict[str, _Sample] = {}
        for at, row in group:
            name, shard = shards[at]
            entry = splits[name].manifest.shards[shard.number]
            sample = _Sample(look(name, shard.number), entry.name, row)
            digest = _digest(splits[name].storage, sample)
            if not digest:
                break
            earlier = first.setdefault(digest, sample)
            if earlier is not sample and not _is_one_video(sample, earlier):
                told += 1
                yield _double(sample, earlier)
    if more:
        what = f"{more} more samples with the size and crc32c of others, not compared"
        yield Finding("", "", what, remedy=_APART, severity="warning")


def _groups(marks: Sequence[Marks]) -> Iterator[list[tuple[int, int]]]:
    """Yield (place in `marks`, row) of those that share a mark other than 0, in their order."""
    if not marks:
        return
    every = np.concatenate(marks)
    starts = np.concatenate(([0], np.cumsum([len(some) for some in marks], dtype=np.int64)))
    order = np.argsort(every, kind="stable")
    values = every[order]
    same: npt.NDArray[np.bool_] = (values[1:] == values[:-1]) & (values[1:] != 0)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    groups = [order[start : stop + 1] for start, stop in edges.reshape(-1, 2).tolist()]
    for group in sorted(groups, key=lambda group: int(group[0])):
        at = np.searchsorted(starts, group, side="right") - 1
        yield [(int(a), int(place - starts[a])) for a, place in zip(at, group, strict=True)]


def _digest(storage: Storage, sample: _Sample) -> str:
    """Return the sha256 of a sample's media; empty where they hold nothing, or are damaged."""
    index, row = sample.index, sample.row
    digests = []
    try:
        for part in content_parts(index.task, index):
            columns = index.parts[part]
            if columns.offset[row] >= 0:
                name = f"{index.split}/{sample.shard}"
                data = storage.read(name, columns.offset[row], columns.size[row])
                if part.endswith(".npy") and not decode_npy(data, where=part).size:
                    return ""
                digests.append(sha256_hex(data))
    except DatasetError:  # found when the shard was checked
        return ""
    return " ".join(digests)


def _double(sample: _Sample, earlier: _Sample) -> Finding:
    split = earlier.index.split
    what = f"the same media as {split}/{earlier.shard}: {earlier.key} (id {earlier.id!r})"
    if sample.index.split != split:
        what += ": what one split trains on, the other measures"
    return Finding(
        sample.index.split,
        sample.shard,
        what,
        key=sample.key,
        id=sample.id,
        remedy=_APART,
        severity="warning",
    )


def _is_one_video(sample: _Sample, earlier: _Sample) -> bool:
    """Return whether two samples are cuts of one video, for moments that lie near each other."""
    same = (sample.index.split, sample.id) == (earlier.index.split, earlier.id)
    return same and sample.index.task == "ava"
