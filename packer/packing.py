"""Packing a split: records -> plan -> shards -> manifest."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from clipshards.packer.entries import check_entries
from clipshards.packer.finish import rejects_of_entries, settle, write_manifest, write_rejects
from clipshards.packer.format.errors import AnnotationError, MediaError, PlanError, RejectsError
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.manifest import LabelMode, Manifest
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    MANIFEST_NAME,
    REJECTS_NAME,
    check_split,
    is_shard_name,
    sample_key,
    shard_name,
    wids_name,
)
from clipshards.packer.format.rejects import RejectRow, decode_rejects
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.plan import Plan, Request, digest_of_entries, make_plan
from clipshards.packer.receipts import Receipt, load_receipt, store_receipt
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import Reject, VideoRecord
from clipshards.packer.samples import make_video_sample, video_part
from clipshards.packer.shards import ShardWriter
from clipshards.packer.storage import Storage, open_storage

DEFAULT_SHARD_SIZE = 256_000_000

Progress = Callable[[int, int], None]
"""Called after each sample with (entries done, media bytes packed), both since the last call."""


@dataclass(frozen=True, slots=True)
class PackReport:
    """What a packing run did."""

    location: str
    split: str
    entries: int
    packed: int
    rejects: tuple[RejectRow, ...]
    shards: int
    shards_made: int
    """Shards made by this run; the others stood already."""
    bytes: int
    """Of all shards."""
    content_digest: str
    """Identity of the split."""
    warnings: tuple[str, ...]
    """What is allowed and may yet not be what was meant."""
    seconds: float = field(compare=False)


def pack(
    records: Iterable[VideoRecord | Reject],
    out: str | os.PathLike[str],
    *,
    split: str,
    media_root: str | os.PathLike[str],
    labels: LabelMode | None = None,
    class_names: Sequence[str] = (),
    recipe: Recipe | None = None,
    seed: int | None = 0,
    shard_size: int = DEFAULT_SHARD_SIZE,
    max_rejects: int | None = None,
    allow_outside: bool = False,
    replan: bool = False,
    progress: Progress | None = None,
) -> PackReport:
    """Pack records and their media into one split of a data set.

    The same call with the same media gives the same bytes. After a crash the same call
    goes on where the killed one was; after its end it finds all done.

    Args:
        records: A `VideoList`, or any iterable of `VideoRecord` (and `Reject`, for entries
            that are known to be unusable). An entry's place is its key for good.
        out: Folder of the data set; made if missing.
        split: Name of the split: 1 to 32 of a-z, 0-9 and `_`.
        media_root: Folder that record paths start from.
        labels: Labels of each record: `one`, `many` (at least one) or `none`. Default:
            what the annotation says (`records.labels`), else `one`.
        class_names: Name of class 0, 1, ...; labels beyond them are rejected.
        recipe: How media become parts; default: copied, frame table by decoding.
        seed: Of the order in the shards; None keeps the order of the records.
        shard_size: Bytes a shard should have, about.
        max_rejects: Rejects up to which the manifest is still written; default: the
            greater of 10 and 1 % of the entries.
        allow_outside: Let record paths lead out of the media root.
        replan: Discard a plan or a split that stands there, and its shards.
        progress: Called after each sample.

    Returns:
        The report; `report.rejects` lists what could not be packed and why.

    Raises:
        ValueError, TypeError: An argument is out of range, or of another type.
        AnnotationError: There is no entry at all, or the annotation is unreadable.
        PlanError: A plan or split of another request stands there.
        RejectsError: Too many rejects, or nothing but rejects; there is no manifest.
        StorageError: The location cannot be written.
    """
    started = time.monotonic()
    check_split(split)
    if shard_size < 1:
        raise ValueError(f"shard_size {shard_size}: expected at least 1 byte")
    if max_rejects is not None and max_rejects < 0:
        raise ValueError(f"max_rejects {max_rejects}: expected at least 0")
    mode = _label_mode(records, labels)
    names = tuple(class_names)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"class_names: expected text, got {names!r}")
    entries = check_entries(records, labels=mode, class_names=names)
    if not entries:
        raise AnnotationError("expected at least one record, got none")
    limit = max(10, len(entries) // 100) if max_rejects is None else max_rejects
    request = Request(
        split=split,
        labels=mode,
        class_names=names,
        recipe=recipe or Recipe(),
        seed=seed,
        shard_size=shard_size,
        allow_outside=allow_outside,
        records_digest=digest_of_entries(entries),
    )
    unusable = rejects_of_entries(split, entries)
    if len(unusable) > limit or len(unusable) == len(entries):
        raise RejectsError(
            f"{len(unusable)} of {len(entries)} entries cannot be used, {limit} may; "
            f"nothing was packed. The first: {unusable[0].origin}: {unusable[0].message}",
            unusable,
        )
    storage = open_storage(out)
    root = MediaRoot(Path(media_root), allow_outside)
    if replan:
        _discard(storage, split)
    manifest = _finished(storage, request)
    made = 0
    if manifest is None:
        plan = _settled_plan(storage, request, entries, root)
        tick = progress or (lambda *_: None)
        tick(len(unusable), 0)
        receipts, made = _make_shards(storage, plan, root, tick)
        rejects = sorted(
            [*unusable, *(row for receipt in receipts for row in receipt.rejects)],
            key=lambda row: row.ordinal,
        )
        packed = sum(receipt.entry.samples for receipt in receipts)
        if len(rejects) > limit or not packed:
            write_rejects(storage, split, rejects)
            raise RejectsError(
                f"{len(rejects)} of {len(entries)} entries could not be packed, {limit} may; "
                f"no manifest was written, the {len(receipts)} shards are kept. Mend the media "
                "and run the same command again, or allow more rejects. All reasons are in "
                f"{storage.url}/{split}/{REJECTS_NAME}. "
                f"The first: {rejects[0].origin}: {rejects[0].message}",
                rejects,
            )
        manifest = write_manifest(storage, plan, receipts, rejects)
    else:
        name = f"{split}/{REJECTS_NAME}"
        rejects = decode_rejects(storage.read_all(name), where=f"{storage.url}/{name}")
    settle(storage, manifest)
    return PackReport(
        location=storage.url,
        split=split,
        entries=manifest.accounting.entries,
        packed=manifest.accounting.packed,
        rejects=tuple(rejects),
        shards=len(manifest.shards),
        shards_made=made,
        bytes=manifest.size_bytes,
        content_digest=manifest.content_digest,
        warnings=_warnings(entries),
        seconds=time.monotonic() - started,
    )


def _label_mode(records: object, labels: LabelMode | None) -> LabelMode:
    mode: LabelMode = getattr(records, "labels", "one") if labels is None else labels
    if mode not in get_args(LabelMode):
        raise ValueError(f"labels {mode!r}: expected one of {get_args(LabelMode)}")
    return mode


def _warnings(entries: Iterable[VideoRecord | Reject]) -> tuple[str, ...]:
    containers = set()
    for entry in entries:
        if isinstance(entry, VideoRecord):
            with suppress(MediaError):
                containers.add(video_part(entry.path))
    if len(containers) < 2:
        return ()
    names = ", ".join(sorted(containers))
    warning = f"the split mixes {names}; tools that expect one part name will miss the others"
    return (warning,)


def _discard(storage: Storage, split: str) -> None:
    """Remove a split; the manifest first, so that it never names shards that are gone."""
    storage.remove(f"{split}/{MANIFEST_NAME}")
    for name in storage.names(split):
        if is_shard_name(split, name):
            storage.remove(f"{split}/{name}")
    storage.remove(f"{split}/{REJECTS_NAME}")
    storage.remove(wids_name(split))
    storage.remove_folder(f"{split}/{BUILD_FOLDER}")


def _finished(storage: Storage, request: Request) -> Manifest | None:
    """Return the manifest that this very request made earlier, None if none stands there."""
    name = f"{request.split}/{MANIFEST_NAME}"
    if storage.size(name) is None:
        return None
    manifest = Manifest.decode(storage.read_all(name), where=f"{storage.url}/{name}")
    if manifest.request_digest != request.digest:
        raise PlanError(
            f"{storage.url}/{request.split}: a split that another request made stands here "
            f"({manifest.content_digest[:12]}); choose another name or location, or replan "
            "to replace it"
        )
    return manifest


def _settled_plan(
    storage: Storage, request: Request, entries: list[VideoRecord | Reject], root: MediaRoot
) -> Plan:
    """Return the stored plan of this request, making it if there is none."""
    name = f"{request.split}/{BUILD_FOLDER}/plan.json"
    if storage.size(name) is None:
        strays = [n for n in storage.names(request.split) if is_shard_name(request.split, n)]
        if strays:
            raise PlanError(
                f"{storage.url}/{request.split}: shards stand here ({strays[0]} ...) without "
                "plan or manifest; choose another location, or replan to replace them"
            )
        sizes = [
            root.size(entry.path) if isinstance(entry, VideoRecord) else None for entry in entries
        ]
        plan = make_plan(request, entries, sizes)
        staging = f"{request.split}/{BUILD_FOLDER}"
        if storage.put_new(name, plan.encode(), staging=staging):
            return plan
    plan = Plan.decode(storage.read_all(name), where=f"{storage.url}/{name}")
    differences = plan.differences(request)
    if differences:
        raise PlanError(
            f"{storage.url}/{request.split}: an unfinished plan of another request stands here "
            f"({differences}); run that request again, or replan to replace it"
        )
    return plan


def _make_shards(
    storage: Storage, plan: Plan, root: MediaRoot, progress: Progress
) -> tuple[list[Receipt], int]:
    """Return the receipts of all shards in order, and how many of them were made now."""
    split = plan.request["split"]
    names = [shard_name(split, number) for number in range(len(plan.shards))]
    stored = [load_receipt(storage, split, name, plan.digest) for name in names]
    # Rejects without a manifest: the last run ended over them, and the media may have been
    # mended since. A run that was killed has not written them, and tries nothing twice.
    retry = storage.size(f"{split}/{REJECTS_NAME}") is not None
    receipts = []
    made = 0
    for number, receipt in enumerate(stored):
        if receipt is None or (retry and receipt.rejects):
            receipt = make_shard(storage, plan, number, root, progress)
            store_receipt(storage, split, receipt)
            made += 1
        else:
            progress(len(plan.shards[number]), 0)
        receipts.append(receipt)
    return receipts, made


def make_shard(
    storage: Storage, plan: Plan, number: int, root: MediaRoot, progress: Progress
) -> Receipt:
    """Make one shard of a plan under its final name; return its receipt, not yet stored."""
    split: str = plan.request["split"]
    recipe = Recipe(**plan.request["recipe"])
    index = ShardIndex(
        task="video",
        split=split,
        number=number,
        plan_digest=plan.digest,
        recipe=plan.request["recipe"],
    )
    rejects = []
    name = f"{split}/{shard_name(split, number)}"
    with storage.writer(name, staging=f"{split}/{BUILD_FOLDER}") as write:
        shard = ShardWriter(write, index)
        for ordinal in plan.shards[number]:
            record = plan.entries[ordinal]
            if isinstance(record, Reject):
                raise PlanError(f"{split}: the plan puts the rejected entry {ordinal} into a shard")
            key = sample_key(split, ordinal)
            size = 0
            try:
                sample = make_video_sample(record, root, recipe)
            except MediaError as exc:
                rejects.append(
                    RejectRow(
                        ordinal=ordinal,
                        key=key,
                        id=record.id or record.path,
                        origin=str(record.origin),
                        error=type(exc).__name__,
                        message=str(exc),
                    )
                )
            else:
                shard.add(key, sample)
                size = sum(map(len, sample.parts.values()))
            progress(1, size)
        entry = shard.finish()
    return Receipt(plan.digest, entry, tuple(rejects))
