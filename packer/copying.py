"""Copying finished splits from one location to another, every byte checked on its way."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from clipshards.packer.format.errors import (
    CorruptShardError,
    NotFoundError,
    PlanError,
)
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import (
    MANIFEST_NAME,
    check_split,
    is_split,
)
from clipshards.packer.proving import Count
from clipshards.packer.split_copy import (
    Damage,
    Progress,
    SplitCopy,
    SplitCopying,
    check_no_plan,
    mark_of,
)
from clipshards.packer.standing import copy_mark_name, stored_manifest, stored_plan
from clipshards.packer.storage import Storage, open_storage


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did."""

    source: str
    target: str
    splits: tuple[SplitCopy, ...]
    unfinished: tuple[str, ...]
    """Splits at the source whose packing has not ended, and which were not copied."""
    damaged: tuple[Damage, ...]
    """What is damaged at the source, in the order of the manifests."""
    seconds: float = field(compare=False)
    """Wall-clock time of this run."""


class DamagedSourceError(CorruptShardError):
    """Files at the source of a copy are damaged; all others were copied."""

    def __init__(self, message: str, report: CopyReport) -> None:
        super().__init__(message)
        self.report = report
        """What was copied, and all that is damaged."""


def copy(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    split: str | None = None,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy the finished splits of a data set to another location, byte for byte.

    A shard appears at the target only if its size, sha256 and crc32c are the manifest's, and
    the manifest only when all else stands there. After a crash the same call goes on: a shard
    that stands at the target whole is not copied again. What proves it whole is its size and
    the checksum that a store keeps of it, or reading it where none is kept.

    Args:
        source: Folder of the data set, or s3://bucket/prefix.
        target: Folder or s3://bucket/prefix to copy to; splits of other names there stay.
        split: The one to copy; None for all that are finished.
        progress: Called now and then, in this thread; in all, `total_bytes`.

    Returns:
        The report.

    Raises:
        ValueError: Source and target are one, or the target lies inside the source.
        NotFoundError: There is no such split, or none at all.
        PlanError: Another split of the name stands at the target, finished or not; nothing
            was written.
        FormatError: A manifest is damaged; nothing was written.
        DamagedSourceError: Files at the source are damaged. All others were copied; splits with
            a damaged file have no manifest at the target.
        StorageError: A location cannot be read or written.
    """
    here, there = open_storage(source), open_storage(target)
    check_apart(here, there)
    found = finished_splits(here, split)
    for manifest, _ in found:
        _check_place(there, manifest)
    unfinished = _unfinished(here) if split is None else ()
    return copy_splits(here, there, found, unfinished, progress=progress)


def copy_splits(
    here: Storage,
    there: Storage,
    found: Sequence[tuple[Manifest, bytes]],
    unfinished: tuple[str, ...] = (),
    *,
    progress: Progress | None,
    replaces: bool = False,
) -> CopyReport:
    """Copy splits to a place that is known to be theirs.

    Args:
        here: Source.
        there: Target.
        found: Manifests with their bytes.
        unfinished: Splits of the source that are told as left out.
        progress: As for `copy`.
        replaces: Whether a shard that stands there is replaced whoever wrote it.

    Raises:
        DamagedSourceError, PlanError, StorageError: As for `copy`.
    """
    started = time.monotonic()
    count = Count(progress)
    splits, damaged = [], []
    for manifest, data in found:
        copying = SplitCopying(here, there, manifest, data, count, replaces=replaces)
        splits.append(copying.run())
        damaged += copying.damaged
    report = CopyReport(
        source=here.url,
        target=there.url,
        splits=tuple(splits),
        unfinished=unfinished,
        damaged=tuple(damaged),
        seconds=time.monotonic() - started,
    )
    if damaged:
        more = f", and {len(damaged) - 1} more files are damaged" if len(damaged) > 1 else ""
        lacking = ", ".join(one.split for one in splits if not one.finished)
        raise DamagedSourceError(
            f"{here.url}/{damaged[0]}{more}; all else was copied. Restore what is damaged and run "
            f"again, until then {lacking} at {there.url} is not whole",
            report,
        )
    return report


def total_bytes(location: str | os.PathLike[str], *, split: str | None = None) -> int:
    """Return how many bytes the shards have that `copy` would copy from `location`.

    Raises:
        NotFoundError, FormatError, StorageError: As for `copy`.
    """
    return sum(
        manifest.size_bytes for manifest, _ in finished_splits(open_storage(location), split)
    )


def check_apart(source: Storage, target: Storage) -> None:
    """Check that copying does not change what is copied.

    Raises:
        ValueError: It would.
    """
    a, b = (
        PurePosixPath(one.url if one.url.startswith("s3://") else os.path.realpath(one.url))
        for one in (source, target)
    )
    if a == b:
        raise ValueError(f"{target.url}: source and target are the same location")
    if b.is_relative_to(a):
        raise ValueError(f"{target.url}: the target lies inside the source {source.url}")


def finished_splits(storage: Storage, split: str | None) -> list[tuple[Manifest, bytes]]:
    """Return the manifests of a split, or of all that have one, and their bytes.

    Raises:
        NotFoundError: There is none.
        FormatError: One is damaged.
    """
    found = []
    names = filter(is_split, storage.folders()) if split is None else [check_split(split)]
    for name in names:
        file = f"{name}/{MANIFEST_NAME}"
        if storage.size(file) is not None:
            data = storage.read_all(file)
            manifest = Manifest.decode(data, where=f"{storage.url}/{file}")
            manifest.check_split(name, where=f"{storage.url}/{file}")
            found.append((manifest, data))
    if not found:
        begun = _unfinished(storage)
        if split is not None:
            hint = "; packing has not ended there" if split in begun else ""
            raise NotFoundError(f"{storage.url}: there is no split {split!r}{hint}")
        if begun:
            raise NotFoundError(f"{storage.url}: packing of {', '.join(begun)} has not ended")
        raise NotFoundError(f"{storage.url}: no data set here, no folder holds a {MANIFEST_NAME}")
    return found


def _unfinished(storage: Storage) -> tuple[str, ...]:
    """Return the names of the splits that have a plan and no manifest."""
    return tuple(
        name
        for name in filter(is_split, storage.folders())
        if storage.size(f"{name}/{MANIFEST_NAME}") is None
        and stored_plan(storage, name) is not None
    )


def _check_place(storage: Storage, manifest: Manifest) -> None:
    """Check that nothing else stands where a split is to be copied to.

    Raises:
        PlanError: Something does.
        FormatError: A manifest or plan that stands there is damaged.
    """
    split = manifest.split
    where = f"{storage.url}/{split}"
    standing = stored_manifest(storage, split)
    if standing is not None:
        if standing.content_digest == manifest.content_digest:
            return
        raise PlanError(
            f"{where}: another split stands here, {standing.content_digest[:12]}, not "
            f"{manifest.content_digest[:12]}; choose another location, or remove it first"
        )
    check_no_plan(storage, split)
    mark = copy_mark_name(split)
    if storage.size(mark) is not None:
        if storage.read_all(mark) != mark_of(manifest):
            raise PlanError(
                f"{where}: an unfinished copy of another split stands here; end it by the same "
                "command, choose another location, or remove it first"
            )
        return
    sizes = {shard.name: shard.bytes for shard in manifest.shards}
    for name, size in storage.sizes(split).items():
        if name.endswith(".tar") and sizes.get(name) != size:
            raise PlanError(
                f"{where}: shards of something else stand here ({name}) without plan or "
                "manifest; choose another location, or remove them first"
            )
