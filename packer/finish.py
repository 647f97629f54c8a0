"""The end of packing a split: rejects, manifest, side files; then the build folder goes."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from clipshards.packer.arguments import check_max_rejects
from clipshards.packer.entries import Entry
from clipshards.packer.format.checksums import sha256_hex
from clipshards.packer.format.errors import (
    FormatError,
    NotFoundError,
    PlanError,
    RejectsError,
    StorageError,
)
from clipshards.packer.format.manifest import Accounting, LabelMode, Manifest
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    MANIFEST_NAME,
    REJECTS_NAME,
    check_split,
    sample_key,
    wids_name,
)
from clipshards.packer.format.rejects import RejectRow, decode_rejects, encode_rejects
from clipshards.packer.interop import wids_index
from clipshards.packer.media_bytes import growth_warning
from clipshards.packer.notes import Notes, load_notes
from clipshards.packer.plan import Plan
from clipshards.packer.receipts import Receipt, load_receipts, warnings_of
from clipshards.packer.records import Reject
from clipshards.packer.reports import PackReport
from clipshards.packer.run_length import run_length
from clipshards.packer.standing import stored_manifest, stored_plan
from clipshards.packer.storage import Storage, open_storage

_SHOWN = 3


def finish_split(
    out: str | os.PathLike[str], *, split: str, max_rejects: int | None = None
) -> PackReport:
    """Finish a split whose shards were made in parts; safe to do again.

    Args:
        out: Folder of the data set.
        split: Name of the split.
        max_rejects: Rejects up to which the manifest is written; default: the greater of 10
            and 1 % of the entries.

    Returns:
        The report; `report.rejects` lists what could not be packed and why.

    Raises:
        NotFoundError: Nothing was packed there.
        PlanError: Shards are missing.
        FormatError: A plan, receipt or manifest that stands there is damaged.
        RejectsError: Too many rejects, or nothing but rejects; there is no manifest.
        StorageError: The location cannot be written.
    """
    started = time.monotonic()
    storage = open_storage(out)
    check_split(split)
    if max_rejects is not None:
        max_rejects = check_max_rejects(max_rejects)
    notes = Notes((), {}, 0, ())
    receipts: list[Receipt] = []
    manifest = stored_manifest(storage, split)
    if manifest is None:
        try:
            plan, notes, receipts = _all_made(storage, split)
            manifest, rejects = close_split(storage, plan, notes, receipts, max_rejects)
        except (StorageError, PlanError):
            # Somebody else can have finished it in the meantime.
            manifest = stored_manifest(storage, split)
            if manifest is None:
                raise
            rejects = read_rejects(storage, manifest)
    else:
        rejects = read_rejects(storage, manifest)
    settle(storage, manifest)
    return report_on(storage, manifest, notes, receipts, rejects, made=0, started=started)


def _all_made(storage: Storage, split: str) -> tuple[Plan, Notes, list[Receipt]]:
    """Return what stands of a split whose shards are all made."""
    plan = stored_plan(storage, split)
    if plan is None:
        raise NotFoundError(f"{storage.url}/{split}: no split and no plan of one stands here")
    receipts, missing = load_receipts(storage, plan)
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise PlanError(
            f"{storage.url}/{split}: {len(missing)} of {len(plan.shards)} shards are not made "
            f"yet: {', '.join(missing[:_SHOWN])}{more}; run the parts that make them"
        )
    return plan, load_notes(storage, plan), receipts


def close_split(
    storage: Storage,
    plan: Plan,
    notes: Notes,
    receipts: Sequence[Receipt],
    max_rejects: int | None,
) -> tuple[Manifest, list[RejectRow]]:
    """Write `rejects.jsonl` and then the manifest, which makes the split exist; return both.

    Args:
        storage: The location.
        plan: The plan that all shards were made by.
        notes: What goes with it.
        receipts: Of all shards, in order.
        max_rejects: As for `pack`.

    Raises:
        RejectsError: There are more rejects, or nothing else; there is no manifest.
    """
    split = plan.split
    rejects = sorted(
        [*notes.rejects, *(row for receipt in receipts for row in receipt.rejects)],
        key=lambda row: row.ordinal,
    )
    lines = encode_rejects(rejects)
    storage.put(f"{split}/{REJECTS_NAME}", lines, staging=f"{split}/{BUILD_FOLDER}")
    check_rejects(
        rejects,
        max_rejects,
        plan.entries,
        "no manifest was written, the finished shards are kept. Mend the media and run the "
        "same command again, or allow more rejects; another annotation or option needs "
        f"a new plan (--replan). All reasons are in {storage.url}/{split}/{REJECTS_NAME}",
    )
    labels: LabelMode = plan.request["labels"]
    manifest = Manifest(
        task=plan.request["task"],
        split=split,
        labels=labels,
        class_names=tuple(plan.request["class_names"]),
        recipe=plan.request["recipe"],
        run_length=run_length(plan.request, [receipt.entry for receipt in receipts]),
        request_digest=plan.request_digest,
        plan_digest=plan.digest,
        accounting=Accounting(
            entries=plan.entries,
            packed=sum(receipt.entry.entries for receipt in receipts),
            rejected=sum(row.entries for row in rejects),
            excluded=notes.excluded,
        ),
        rejects_sha256=sha256_hex(lines),
        made_with=made_with(plan.request["recipe"]),
        shards=tuple(receipt.entry for receipt in receipts),
    )
    data = manifest.encode()
    # What cannot be read back must not be written.
    Manifest.decode(data, where=MANIFEST_NAME)
    name = f"{split}/{MANIFEST_NAME}"
    made = storage.put_new(name, data, staging=f"{split}/{BUILD_FOLDER}")
    # Another run of this job can have ended; or the answer to our own request was lost.
    if not made and storage.read_all(name) != data:
        raise PlanError(
            f"{storage.url}/{name}: another run finished this split in the meantime, otherwise"
        )
    return manifest, rejects


def report_on(
    storage: Storage,
    manifest: Manifest,
    notes: Notes,
    receipts: Sequence[Receipt],
    rejects: Sequence[RejectRow],
    *,
    made: int,
    started: float,
) -> PackReport:
    """Return the report on a finished split.

    Args:
        storage: The location.
        manifest: Of the split.
        notes: What goes with its plan.
        receipts: Of the shards, where the split was finished by this run.
        rejects: All of them.
        made: Shards that this run made.
        started: When it began, by `time.monotonic`.
    """
    return PackReport(
        location=storage.url,
        split=manifest.split,
        entries=manifest.accounting.entries,
        packed=manifest.accounting.packed,
        excluded=manifest.accounting.excluded,
        rejects=tuple(rejects),
        shards=len(manifest.shards),
        shards_made=made,
        bytes=manifest.size_bytes,
        source_bytes=notes.source_bytes,
        content_digest=manifest.content_digest,
        warnings=(
            *notes.warnings,
            *warnings_of(receipts),
            *growth_warning(manifest.size_bytes, notes.source_bytes, "take"),
        ),
        seconds=time.monotonic() - started,
    )


def check_rejects(
    rejects: Sequence[RejectRow], max_rejects: int | None, total: int, words: str
) -> None:
    """Raise RejectsError if there are too many, or nothing else.

    Args:
        rejects: All that are known.
        max_rejects: How many there may be; None for the greater of 10 and 1 % of `total`.
        total: Entries of the annotation.
        words: What that means, and what to do.
    """
    limit = max(10, total // 100) if max_rejects is None else max_rejects
    count = sum(row.entries for row in rejects)
    if count <= limit and count < total:
        return
    if count == total:
        amount = f"none of the {total} entries can be packed"
    else:
        amount = f"{count} of {total} entries cannot be packed, {limit} may be rejected"
    raise RejectsError(
        f"{amount}; {words}. The first: {rejects[0].origin}: {rejects[0].message}",
        rejects,
    )


def read_rejects(storage: Storage, manifest: Manifest) -> list[RejectRow]:
    """Return the rejects of a finished split.

    Raises:
        FormatError: They are not those that the manifest knows.
        StorageError: They cannot be read.
    """
    where = f"{manifest.split}/{REJECTS_NAME}"
    data = storage.read_all(where)
    where = f"{storage.url}/{where}"
    if sha256_hex(data) != manifest.rejects_sha256:
        raise FormatError(f"{where}: its sha256 is not the manifest's; mend it (pack ... --repair)")
    return decode_rejects(data, where=where)


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


def settle(storage: Storage, manifest: Manifest) -> None:
    """Write the files for other tools and remove the build folder; safe to do again."""
    staging = f"{manifest.split}/{BUILD_FOLDER}"
    name, data = wids_name(manifest.split), wids_index(manifest)
    # A split that is finished can stand where nothing may be written.
    if storage.size(name) != len(data) or storage.read_all(name) != data:
        storage.put(name, data, staging=staging)
    storage.remove_folder(staging)
    storage.remove_unfinished(manifest.split)


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
