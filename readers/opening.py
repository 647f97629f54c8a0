"""Opening a split of a location, and what a location holds."""

import os
from typing import Literal

from clipshards.packer.format.errors import NotFoundError
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    MANIFEST_NAME,
    check_split,
    is_shard_name,
    is_split,
)
from clipshards.packer.storage import Storage, open_storage
from clipshards.readers.cache import open_cache
from clipshards.readers.quick_check import check_quickly
from clipshards.readers.split import Split


def open_dataset(
    location: str | os.PathLike[str],
    *,
    split: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
    check: Literal["", "quick"] = "",
) -> Split:
    """Return one split of the data set at `location`.

    Args:
        location: Folder of the data set, or s3://bucket/prefix.
        split: Name of the split; None where there is only one.
        cache_dir: Folder on a disk of this node that keeps what is read, for all processes on
            it and all later runs; None for no cache.
        cache_bytes: Bytes that all splits in `cache_dir` may take; None for nine tenths of what
            its disk has free.
        check: `quick` looks first whether all shards stand there in their size, and with the
            checksums that the store keeps of them: some seconds for 10,000 shards. Reading
            itself checks every byte that it uses in any case.

    Raises:
        ValueError: No split was named and there are several; `cache_bytes` is negative, or
            without a folder; another `check`.
        NotFoundError: There is no such split.
        FormatError: The manifest is damaged, or of another format version.
        CorruptShardError: The check found a shard that is missing, or another one.
        StorageError: The location cannot be read.
    """
    if check not in ("", "quick"):
        raise ValueError(f"check {check!r}: expected 'quick'; `verify` has the other levels")
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
    if check:
        check_quickly(storage, manifest)
    if cache_dir is None:
        if cache_bytes is not None:
            raise ValueError("cache_bytes: expected a cache_dir with it")
        return Split(storage, manifest)
    return Split(storage, manifest, open_cache(cache_dir, manifest, cache_bytes=cache_bytes))


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
                f"{storage.url}: packing of {begun} has not ended; give the pack or copy "
                "command again"
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
            any(is_shard_name(folder, name) for name in storage.sizes(folder))
            or storage.sizes(f"{folder}/{BUILD_FOLDER}")
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
        return "; packing has not ended there, give the pack or copy command again"
    names = _finished_splits(storage)
    if names:
        return f", there are: {', '.join(names)}"
    return _hint_inside(storage) or "; no folder there holds a data set, is the location right?"


def _hint_inside(storage: Storage) -> str:
    """Return a hint for a location that is a split itself."""
    inside = storage.size(MANIFEST_NAME) is not None
    return "; this is one split, give the folder above it" if inside else ""
