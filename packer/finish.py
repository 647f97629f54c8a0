"""The end of packing a split: rejects, manifest, side files; then the build folder goes."""

import platform
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from clipshards.packer.entries import Entry
from clipshards.packer.format.checksums import sha256_hex
from clipshards.packer.format.manifest import Accounting, LabelMode, Manifest
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    MANIFEST_NAME,
    REJECTS_NAME,
    sample_key,
    wids_name,
)
from clipshards.packer.format.rejects import RejectRow, encode_rejects
from clipshards.packer.interop import wids_index
from clipshards.packer.plan import Plan
from clipshards.packer.receipts import Receipt
from clipshards.packer.records import Excluded, Reject
from clipshards.packer.storage import Storage


def rejects_of_entries(split: str, entries: Sequence[Entry]) -> list[RejectRow]:
    """Return the entries that were rejected before any media was opened."""
    return [
        RejectRow(
            ordinal=entry.ordinal,
            entries=entry.entries,
            key=sample_key(split, entry.ordinal),
            id=entry.value.id,
            origin=str(entry.value.origin),
            error=entry.value.error,
            message=entry.value.message,
        )
        for entry in entries
        if isinstance(entry.value, Reject)
    ]


def write_manifest(
    storage: Storage,
    plan: Plan,
    entries: Sequence[Entry],
    receipts: Sequence[Receipt],
    rejects: Sequence[RejectRow],
) -> Manifest:
    """Write `rejects.jsonl` and then the manifest, which makes the split exist; return it."""
    split = plan.split
    excluded = Counter(entry.value.option for entry in entries if isinstance(entry.value, Excluded))
    labels: LabelMode = plan.request["labels"]
    lines = write_rejects(storage, split, rejects)
    manifest = Manifest(
        task=plan.request["task"],
        split=split,
        labels=labels,
        class_names=tuple(plan.request["class_names"]),
        recipe=plan.request["recipe"],
        # A sample is worth a request of its own; the order may part all neighbours.
        run_length=1,
        request_digest=plan.request_digest,
        plan_digest=plan.digest,
        accounting=Accounting(
            entries=plan.entries,
            packed=sum(receipt.entry.entries for receipt in receipts),
            rejected=sum(row.entries for row in rejects),
            excluded=dict(excluded),
        ),
        rejects_sha256=sha256_hex(lines),
        made_with=made_with(plan.request["recipe"]),
        shards=tuple(receipt.entry for receipt in receipts),
    )
    data = manifest.encode()
    # What cannot be read back must not be written.
    Manifest.decode(data, where=MANIFEST_NAME)
    storage.put(f"{split}/{MANIFEST_NAME}", data, staging=f"{split}/{BUILD_FOLDER}")
    return manifest


def write_rejects(storage: Storage, split: str, rejects: Sequence[RejectRow]) -> bytes:
    """Write `rejects.jsonl`; return its bytes."""
    lines = encode_rejects(rejects)
    storage.put(f"{split}/{REJECTS_NAME}", lines, staging=f"{split}/{BUILD_FOLDER}")
    return lines


def settle(storage: Storage, manifest: Manifest) -> None:
    """Write the files for other tools and remove the build folder; safe to do again."""
    staging = f"{manifest.split}/{BUILD_FOLDER}"
    name, data = wids_name(manifest.split), wids_index(manifest)
    # A split that is finished can stand where nothing may be written.
    if storage.size(name) != len(data) or storage.read_all(name) != data:
        storage.put(name, data, staging=staging)
    storage.remove_folder(staging)


def made_with(recipe: dict[str, Any]) -> dict[str, str]:
    """Return versions of the tools that shape the bytes, and the platform."""
    # The basis of mel features, and what brings sound to their rate.
    sound = ("librosa", "soxr") if recipe.get("features") == "compute" else ()
    return {name: version(name) for name in sound} | {
        "clipshards": version("clipshards"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "av": version("av"),
        "platform": f"{sys.platform}-{platform.machine()}",
    }
