"""Receipts: one small file for each finished shard, so that a killed job can go on.

A shard with a receipt is done. A shard without one is made again, which gives the same
bytes; so a crash between the two costs one shard's work and nothing else.
"""

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.manifest import SHARD_SCHEMA, ShardEntry
from clipshards.packer.format.names import BUILD_FOLDER, shard_name
from clipshards.packer.format.rejects import REJECT_SCHEMA, RejectRow
from clipshards.packer.plan import Plan
from clipshards.packer.storage import Storage

_SHOWN = 10
_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Receipt:
    """One finished shard."""

    plan_digest: str
    entry: ShardEntry
    rejects: tuple[RejectRow, ...]
    warnings: tuple[tuple[str, str], ...]
    """(origin, message) of the samples that lack something of their media."""


def store_receipt(storage: Storage, split: str, receipt: Receipt) -> None:
    """Store the receipt of a shard that stands under its final name."""
    value = {
        "plan_digest": receipt.plan_digest,
        "entry": asdict(receipt.entry),
        "rejects": [asdict(reject) for reject in receipt.rejects],
        "warnings": receipt.warnings,
    }
    name = _receipt_name(split, receipt.entry.name)
    data = encode_json(value | {"crc32c": crc32c(encode_json(value))})
    storage.put(name, data, staging=f"{split}/{BUILD_FOLDER}")


def find_receipts(
    storage: Storage, split: str, shards: Iterable[str], plan_digest: str
) -> dict[str, Receipt]:
    """Return the receipts of those shards that this plan made; the others must be made."""
    sizes, noted = storage.sizes(split), storage.sizes(f"{split}/{BUILD_FOLDER}")
    names = [shard for shard in shards if shard in sizes and f"{shard}.json" in noted]

    def load(shard: str) -> Receipt:
        return _load(storage, split, shard)

    # One by one, a far storage would keep a large job waiting for minutes.
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        receipts = dict(zip(names, pool.map(load, names), strict=True))
    return {
        shard: receipt
        for shard, receipt in receipts.items()
        if receipt.plan_digest == plan_digest
        and (receipt.entry.name, receipt.entry.bytes) == (shard, sizes[shard])
    }


def _load(storage: Storage, split: str, shard: str) -> Receipt:
    name = _receipt_name(split, shard)
    value: dict[str, Any] = decode_json(storage.read_all(name), where=name)
    check_schema(
        value,
        {
            "plan_digest": str,
            "entry": SHARD_SCHEMA,
            "rejects": [REJECT_SCHEMA],
            "warnings": [(str, str)],
            "crc32c": int,
        },
        where=name,
    )
    # What it says of its shard goes into the manifest as it is.
    if value.pop("crc32c") != crc32c(encode_json(value)):
        raise FormatError(f"{storage.url}/{name}: its checksum is another one; remove this file")
    return Receipt(
        value["plan_digest"],
        ShardEntry(**value["entry"]),
        rejects=tuple(RejectRow(**row) for row in value["rejects"]),
        warnings=tuple((origin, message) for origin, message in value["warnings"]),
    )


def load_receipts(
    storage: Storage, plan: Plan, *, skip: Collection[str] = ()
) -> tuple[list[Receipt], tuple[str, ...]]:
    """Return the receipts of all shards that are made, and the names of the others, in order.

    Args:
        storage: The location.
        plan: That they were made by.
        skip: Shards that are not looked at.
    """
    shards = (shard_name(plan.split, number) for number in range(len(plan.shards)))
    names = [name for name in shards if name not in skip]
    found = find_receipts(storage, plan.split, names, plan.digest)
    return list(found.values()), tuple(name for name in names if name not in found)


def warnings_of(receipts: Iterable[Receipt]) -> tuple[str, ...]:
    """Return what samples lack of their media, each thing once, the most frequent ones first."""
    origins: dict[str, list[str]] = {}
    for receipt in receipts:
        for origin, message in receipt.warnings:
            origins.setdefault(message, []).append(origin)
    kinds = sorted(origins.items(), key=lambda kind: -len(kind[1]))
    warnings = [
        f"{found[0]}: {message}" + (f" ({len(found)} samples)" if len(found) > 1 else "")
        for message, found in kinds[:_SHOWN]
    ]
    if len(kinds) > _SHOWN:
        rest = sum(len(found) for _, found in kinds[_SHOWN:])
        warnings.append(f"{rest} more samples lack something of their media")
    return tuple(warnings)


def _receipt_name(split: str, shard: str) -> str:
    return f"{split}/{BUILD_FOLDER}/{shard}.json"
