"""What can be said of a split without reading a byte of its shards."""

from concurrent.futures import ThreadPoolExecutor

from clipshards.packer.format.errors import CorruptShardError, StorageError
from clipshards.packer.format.manifest import Manifest, ShardEntry
from clipshards.packer.format.names import REJECTS_NAME
from clipshards.packer.storage import Storage
from clipshards.readers.findings import AGAIN, Finding

_AT_A_TIME = 32


def quick_findings(storage: Storage, manifest: Manifest) -> tuple[list[Finding], int]:
    """Check which files stand there, their sizes, and the checksums that a store keeps of them.

    One request lists a thousand shards; for its checksum each shard is asked for by a HEAD,
    many at a time. A folder keeps no checksums.

    Returns:
        What is wrong, and of how many shards a checksum was told.
    """
    split = manifest.split
    try:
        sizes = storage.sizes(split)
    except StorageError as exc:
        return [Finding(split, "", f"cannot be listed: {exc}", remedy=AGAIN)], 0
    expected = {shard.name for shard in manifest.shards}
    found = [
        Finding(
            split,
            name,
            "a shard that the manifest does not list",
            remedy="readers pass over it; remove it if nothing else needs it",
        )
        for name in sizes
        if name.endswith(".tar") and name not in expected
    ]
    if REJECTS_NAME not in sizes:
        found.append(Finding(split, REJECTS_NAME, "missing"))
    right: list[ShardEntry] = []
    for shard in manifest.shards:
        size = sizes.get(shard.name)
        if size is None:
            found.append(Finding(split, shard.name, "missing"))
        elif size != shard.bytes:
            found.append(_other(split, shard, "size", f"{shard.bytes} bytes", f"{size} bytes"))
        else:
            right.append(shard)
    told = 0
    if storage.far:
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="clipshards-quick") as pool:
            for finding, crc in pool.map(lambda shard: _ask(storage, split, shard), right):
                found += finding
                told += crc is not None
    return found, told


def _other(split: str, shard: ShardEntry, what: str, expected: str, found: str) -> Finding:
    return Finding(split, shard.name, what, expected=expected, found=found)


def _ask(storage: Storage, split: str, shard: ShardEntry) -> tuple[list[Finding], int | None]:
    """Return what is wrong with what the store knows of a shard, and the checksum it told."""
    try:
        stored = storage.stored(f"{split}/{shard.name}")
    except StorageError as exc:
        return [Finding(split, shard.name, f"cannot be looked at: {exc}", remedy=AGAIN)], None
    if stored is None:
        return [Finding(split, shard.name, "missing")], None
    if stored.crc32c in (None, shard.crc32c):
        return [], stored.crc32c
    what = "crc32c that the store keeps of the file"
    return [
        _other(split, shard, what, f"{shard.crc32c:08x}", f"{stored.crc32c:08x}")
    ], stored.crc32c


def check_quickly(storage: Storage, manifest: Manifest) -> None:
    """Raise what is found first, if anything is.

    Raises:
        CorruptShardError: A shard is missing, or another than the manifest's.
        StorageError: The storage does not answer.
    """
    found, _ = quick_findings(storage, manifest)
    if not found:
        return
    first = found[0]
    more = f" (and {len(found) - 1} more: clipshards verify --level quick)" if found[1:] else ""
    kind = StorageError if first.remedy == AGAIN else CorruptShardError
    raise kind(f"{storage.url}/{first.place}: {first.message}; {first.remedy}{more}")
