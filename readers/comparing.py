"""Whether two data sets are the same, and how they differ: by manifests and indexes alone."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import check_split
from clipshards.packer.format.tasks import task_named
from clipshards.packer.storage import open_storage
from clipshards.readers.comparison import (
    LISTED,
    ClassDifference,
    CompareReport,
    FieldDifference,
    Listed,
    PartDifference,
    SampleDifference,
    SampleName,
    SplitComparison,
)
from clipshards.readers.opening import open_dataset, split_names
from clipshards.readers.split import Split

# Indexes of a far storage that are under way; one is some 100 kB.
_AT_A_TIME = 32


def compare(
    a: str | os.PathLike[str], b: str | os.PathLike[str], *, split: str | None = None
) -> CompareReport:
    """Return in what two data sets differ.

    Both are taken at the word of their manifests and indexes as they stand now: no payload is
    read, and a shard that was damaged since is not noticed; `verify` does that. Where the content
    digests are equal, the manifests are all that is read. Else the indexes of the shards that
    differ tell which samples do; that takes some 200 bytes of memory for each of their samples.

    Args:
        a: Folder of a data set, or s3://bucket/prefix.
        b: Another one.
        split: The one to compare; None for all of both.

    Raises:
        NotFoundError: There is no data set, or no such split in one of them.
        FormatError: A manifest or an index is damaged.
        StorageError: A location cannot be read.
    """
    storages = [open_storage(location) for location in (a, b)]
    if split is None:
        names_a, names_b = (split_names(storage) for storage in storages)
    else:
        names_a = names_b = [check_split(split)]
    common = [name for name in names_a if name in names_b]
    return CompareReport(
        a=storages[0].url,
        b=storages[1].url,
        only_in_a=tuple(name for name in names_a if name not in names_b),
        only_in_b=tuple(name for name in names_b if name not in names_a),
        splits=tuple(
            _compare_splits(open_dataset(a, split=name), open_dataset(b, split=name))
            for name in common
        ),
    )


def _compare_splits(a: Split, b: Split) -> SplitComparison:
    shards_a, shards_b = ({one.name: one for one in split.manifest.shards} for split in (a, b))
    found = _compare_samples(a, b)
    return SplitComparison(
        split=a.name,
        digest_a=a.manifest.content_digest,
        digest_b=b.manifest.content_digest,
        fields=tuple(_fields(a.manifest, b.manifest)),
        class_names=Listed.of(
            list(_class_names(a.manifest.class_names, b.manifest.class_names)),
        ),
        shards_differ=Listed.of(
            [name for name in shards_a if name in shards_b and shards_a[name] != shards_b[name]]
        ),
        shards_only_in_a=Listed.of([name for name in shards_a if name not in shards_b]),
        shards_only_in_b=Listed.of([name for name in shards_b if name not in shards_a]),
        samples_only_in_a=found.only_in_a,
        samples_only_in_b=found.only_in_b,
        samples_differ=found.differ,
        samples_moved=found.moved,
    )


def _fields(a: Manifest, b: Manifest) -> Iterator[FieldDifference]:
    """Yield what differs between two manifests, but for class names and shards."""
    flat_a, flat_b = (dict(_flat(_values(manifest))) for manifest in (a, b))
    # In the order of A's, then what only B has.
    for name in flat_a | flat_b:
        values = flat_a.get(name), flat_b.get(name)
        if values[0] != values[1] or (name in flat_a) != (name in flat_b):
            yield FieldDifference(name, *values)
    common = {one.name for one in a.shards} & {one.name for one in b.shards}
    orders = [[one.name for one in of.shards if one.name in common] for of in (a, b)]
    if orders[0] != orders[1]:
        first = next(i for i, (x, y) in enumerate(zip(*orders, strict=True)) if x != y)
        yield FieldDifference("shards.order", orders[0][first], orders[1][first])


def _values(manifest: Manifest) -> dict[str, Any]:
    count = manifest.accounting
    return {
        "task": manifest.task,
        "labels": manifest.labels,
        "recipe": manifest.recipe,
        "run_length": manifest.run_length,
        "request_digest": manifest.request_digest,
        "plan_digest": manifest.plan_digest,
        "accounting": {
            "entries": count.entries,
            "packed": count.packed,
            "rejected": count.rejected,
            "excluded": count.excluded,
        },
        "rejects_sha256": manifest.rejects_sha256,
        "made_with": manifest.made_with,
        "totals": {
            "samples": manifest.samples,
            "items": manifest.items,
            "bytes": manifest.size_bytes,
            "shards": len(manifest.shards),
        },
    }


def _flat(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values inside of objects by their names with dots."""
    for name, one in value.items():
        if isinstance(one, dict):
            yield from _flat(one, f"{before}{name}.")
        else:
            yield f"{before}{name}", one


def _class_names(a: Sequence[str], b: Sequence[str]) -> Iterator[ClassDifference]:
    for number in range(max(len(a), len(b))):
        one, other = (names[number] if number < len(names) else None for names in (a, b))
        if one != other:
            yield ClassDifference(number, one, other)


class _Found(NamedTuple):
    """What the indexes tell."""

    only_in_a: Listed[SampleName]
    only_in_b: Listed[SampleName]
    differ: Listed[SampleDifference]
    moved: int


# One sample: two halves of a hash of its key, one of its parts, and where it stands.
_ROW = np.dtype(
    [("low", "<u8"), ("high", "<u8"), ("parts", "<u8"), ("shard", "<i4"), ("sample", "<i4")]
)
_Rows = npt.NDArray[np.void]


def _compare_samples(a: Split, b: Split) -> _Found:
    """Compare the samples of the shards that are not the same in both."""
    sums_a, sums_b = ({one.sha256 for one in split.manifest.shards} for split in (a, b))
    rows_a, rows_b = _rows_of(a, sums_b), _rows_of(b, sums_a)
    rows = np.concatenate([rows_a, rows_b])
    if not len(rows):
        return _Found(Listed(0, ()), Listed(0, ()), Listed(0, ()), 0)
    in_b = np.arange(len(rows)) >= len(rows_a)
    # Stable: of one key, those of A first, in the order of their places.
    order = np.lexsort((rows["low"], rows["high"]))
    low, high = rows["low"][order], rows["high"][order]
    begins = np.concatenate(([True], (low[1:] != low[:-1]) | (high[1:] != high[:-1])))
    first = np.flatnonzero(begins)
    count = np.diff(np.append(first, len(rows)))
    count_b = np.add.reduceat(in_b[order].astype(np.int64), first)
    count_a = count - count_b
    # Where a key stands once in each, its two rows are neighbours.
    one, other = rows[order[first]], rows[order[np.minimum(first + 1, len(rows) - 1)]]
    paired = (count_a == 1) & (count_b == 1)
    agree = paired & (one["parts"] == other["parts"])
    # Shards are numbered without gaps, in A as in B.
    moved = (one["shard"] != other["shard"]) | (one["sample"] != other["sample"])
    differ = (count_a > 0) & (count_b > 0) & ~agree
    last = rows[order[first + count - 1]]
    return _Found(
        only_in_a=_named(a, one[count_b == 0]),
        only_in_b=_named(b, one[count_a == 0]),
        differ=_differing(a, b, one[differ], last[differ], paired[differ]),
        moved=int((agree & moved).sum()),
    )


def _rows_of(split: Split, known: set[str]) -> _Rows:
    """Return the samples of all shards whose sha256 is none of the known ones."""
    shards = [n for n, shard in enumerate(split.manifest.shards) if shard.sha256 not in known]

    def rows_of(number: int) -> _Rows:
        return _rows_of_index(split.read_index(number), number)

    found: list[_Rows] = [np.empty(0, _ROW)]
    if not split.storage.far:
        found += map(rows_of, shards)
        return np.concatenate(found)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for start in range(0, len(shards), 4 * _AT_A_TIME):
            found += pool.map(rows_of, shards[start : start + 4 * _AT_A_TIME])
    return np.concatenate(found)


def _rows_of_index(index: ShardIndex, number: int) -> _Rows:
    task = task_named(index.task, where=index.split)
    # Of all parts of the task: an index has the columns of those alone that occur in its shard.
    sums = np.full((len(index.keys), len(task.parts), 2), -1, dtype="<i8")
    for place, name in enumerate(task.parts):
        if name in index.parts:
            sums[:, place, 0] = index.parts[name].size
            sums[:, place, 1] = index.parts[name].crc32c
    about = " ".join(task.parts).encode()
    rows = np.empty(len(index.keys), _ROW)
    keys = b"".join(hashlib.blake2b(key.encode(), digest_size=16).digest() for key in index.keys)
    halves = np.frombuffer(keys, "<u8").reshape(-1, 2)
    rows["low"], rows["high"] = halves[:, 0], halves[:, 1]
    parts = b"".join(hashlib.blake2b(about + row.tobytes(), digest_size=8).digest() for row in sums)
    rows["parts"] = np.frombuffer(parts, "<u8")
    rows["shard"] = number
    rows["sample"] = np.arange(len(index.keys))
    return rows


def _in_order(rows: _Rows) -> npt.NDArray[np.intp]:
    """Return which rows come first by their places, as many as are listed."""
    return np.lexsort((rows["sample"], rows["shard"]))[:LISTED]


def _named(split: Split, rows: _Rows) -> Listed[SampleName]:
    shown = rows[_in_order(rows)]
    indexes = _indexes(split, shown["shard"].tolist())
    return Listed(
        len(rows),
        tuple(
            SampleName(
                key=indexes[shard].keys[sample],
                id=indexes[shard].ids[sample],
                shard=split.manifest.shards[shard].name,
            )
            for shard, sample in zip(shown["shard"].tolist(), shown["sample"].tolist(), strict=True)
        ),
    )


def _differing(
    a: Split, b: Split, rows_a: _Rows, rows_b: _Rows, paired: npt.NDArray[np.bool_]
) -> Listed[SampleDifference]:
    shown = _in_order(rows_a)
    indexes_a = _indexes(a, rows_a["shard"][shown].tolist())
    indexes_b = _indexes(b, rows_b["shard"][shown].tolist())
    found = []
    for number in shown.tolist():
        one, other = rows_a[number], rows_b[number]
        index_a, index_b = indexes_a[int(one["shard"])], indexes_b[int(other["shard"])]
        sample_a, sample_b = int(one["sample"]), int(other["sample"])
        found.append(
            SampleDifference(
                key=index_a.keys[sample_a],
                id_a=index_a.ids[sample_a],
                id_b=index_b.ids[sample_b],
                parts=tuple(_parts(index_a, sample_a, index_b, sample_b)) if paired[number] else (),
            )
        )
    return Listed(len(rows_a), tuple(found))


def _indexes(split: Split, shards: Iterable[int]) -> dict[int, ShardIndex]:
    return {shard: split.read_index(shard) for shard in sorted(set(shards))}


def _parts(
    index_a: ShardIndex, sample_a: int, index_b: ShardIndex, sample_b: int
) -> Iterator[PartDifference]:
    """Yield the parts in which two samples differ, in the order of A's task."""
    sums_a, sums_b = _sums(index_a, sample_a), _sums(index_b, sample_b)
    nothing = (None, None)
    for name in sums_a | sums_b:
        one, other = sums_a.get(name, nothing), sums_b.get(name, nothing)
        if one != other:
            yield PartDifference(name, one[0], other[0], one[1], other[1])


def _sums(index: ShardIndex, sample: int) -> dict[str, tuple[int | None, int | None]]:
    """Return size and crc32c of each part that a sample has."""
    return {
        name: (columns.size[sample], columns.crc32c[sample])
        for name, columns in index.parts.items()
        if columns.offset[sample] >= 0
    }
