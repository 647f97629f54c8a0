"""Making a damaged data set whole again from an intact copy of it."""

import os

from clipshards.packer.copying import (
    CopyReport,
    check_apart,
    copy_splits,
    finished_splits,
)
from clipshards.packer.format.errors import FormatError, PlanError
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import BUILD_FOLDER, MANIFEST_NAME
from clipshards.packer.proving import stored_index
from clipshards.packer.split_copy import Progress
from clipshards.packer.standing import stored_manifest
from clipshards.packer.storage import Storage, open_storage


def repair(
    location: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    split: str | None = None,
    progress: Progress | None = None,
) -> CopyReport:
    """Replace what is damaged or missing at `location` by what an intact copy has.

    Each shard is looked at as `copy` does: by the checksum that a store keeps of it, or by
    reading it. Only shards that are not the manifest's are replaced, whole or not at all, and
    only by bytes whose size, sha256 and crc32c are the manifest's. Lost or damaged rejects and
    manifests come from the copy too; a manifest only where an intact index proves that the
    shards are of that split. Files of no shard stay as they are.

    Args:
        location: Folder of the data set, or s3://bucket/prefix.
        source: The same of its copy.
        split: The one to repair; None for all that the copy has.
        progress: As for `copy`.

    Returns:
        The report; `shards_copied` are those that were replaced.

    Raises:
        ValueError: Both are one, or one lies inside the other.
        NotFoundError: The copy has no such split, or none at all.
        PlanError: Another split stands at the location, or nothing of the split; nothing was
            written.
        FormatError: A manifest of the copy is damaged; nothing was written.
        DamagedSourceError: Files of the copy are damaged too. All others were repaired.
        StorageError: A location cannot be read or written.
    """
    there, here = open_storage(location), open_storage(source)
    check_apart(here, there)
    found = finished_splits(here, split)
    lost = [manifest.split for manifest, _ in found if not _has_manifest(there, manifest)]
    for manifest, data in found:
        if manifest.split in lost:
            name = f"{manifest.split}/{MANIFEST_NAME}"
            there.put(name, data, staging=f"{manifest.split}/{BUILD_FOLDER}")
    return copy_splits(here, there, found, progress=progress, replaces=True)


def _has_manifest(storage: Storage, manifest: Manifest) -> bool:
    """Return whether this manifest stands there; where none can be read, whether it may.

    Raises:
        PlanError: It may not: another split stands there, or nothing proves that it is this one.
    """
    split = manifest.split
    try:
        standing = stored_manifest(storage, split)
    except FormatError:
        standing = None
    if standing is not None:
        if standing.content_digest == manifest.content_digest:
            return True
        raise PlanError(
            f"{storage.url}/{split}: another split stands here, {standing.content_digest[:12]}, "
            f"not {manifest.content_digest[:12]}, which the copy has; nothing was changed"
        )
    if all(stored_index(storage, split, shard) is None for shard in manifest.shards):
        raise PlanError(
            f"{storage.url}/{split}: its manifest cannot be read, and no index of a shard proves "
            "that it is the split that the copy has; nothing was changed. Copy it to another "
            "location instead (clipshards copy)"
        )
    return False
