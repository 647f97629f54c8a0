"""Packing a split: records -> plan -> shards -> manifest."""

import operator
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from clipshards.packer.entries import Entry, check_entries
from clipshards.packer.finish import rejects_of_entries, settle, write_manifest, write_rejects
from clipshards.packer.format.errors import AnnotationError, MediaError, RejectsError
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.format.names import (
    REJECTS_NAME,
    check_split,
)
from clipshards.packer.format.rejects import RejectRow, decode_rejects
from clipshards.packer.labels import LabelRule
from clipshards.packer.making import Job, Progress, make_shards
from clipshards.packer.media_bytes import expect, families, growth_warning, source_bytes
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.origins import as_unicode
from clipshards.packer.plan import Plan, Request, digest_of_entries, make_plan
from clipshards.packer.receipts import warnings_of
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import Excluded, Record, Reject, VideoRecord
from clipshards.packer.samples.base import Material
from clipshards.packer.samples.video import video_part
from clipshards.packer.standing import discard, finished_split, settled_plan
from clipshards.packer.storage import open_storage

DEFAULT_SHARD_SIZE = 256_000_000


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a new plan comes to, before anything is decoded."""

    samples: int
    shards: int
    bytes: int
    """Of all shards, about."""
    source_bytes: int
    """Of the videos that several samples are cut from; 0 where each sample has its own."""
    warnings: tuple[str, ...]
    """What is allowed and may yet not be what was meant."""


@dataclass(frozen=True, slots=True)
class PackReport:
    """What a packing run did."""

    location: str
    split: str
    entries: int
    """Entries of the annotation: packed, rejected or excluded."""
    packed: int
    """Entries that are in the shards."""
    excluded: dict[str, int]
    """Option that left entries out, to how many."""
    rejects: tuple[RejectRow, ...]
    """What could not be packed and why, in the order of the annotation."""
    shards: int
    """Shards of the split."""
    shards_made: int
    """Shards made by this run; the others stood already."""
    bytes: int
    """Of all shards."""
    source_bytes: int
    """Of the videos that several samples were cut from; 0 where each sample has its own, and
    where this run made nothing."""
    content_digest: str
    """Identity of the split."""
    warnings: tuple[str, ...]
    """What is allowed and may yet not be what was meant."""
    seconds: float = field(compare=False)
    """Wall-clock time of this run."""


def pack(
    records: Iterable[Record | Reject | Excluded],
    out: str | os.PathLike[str],
    *,
    split: str,
    media_root: str | os.PathLike[str] | None = None,
    labels: LabelMode | None = None,
    class_names: Sequence[str] | None = None,
    recipe: Recipe | None = None,
    seed: int | None = 0,
    shard_size: int = DEFAULT_SHARD_SIZE,
    max_rejects: int | None = None,
    allow_outside: bool = False,
    replan: bool = False,
    workers: int = 1,
    planning: Callable[[PlanSummary], None] | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack records and their media into one split of a data set.

    The same call with the same media gives the same bytes. After a crash the same call
    goes on where the killed one was; after its end it finds all done.

    Args:
        records: An annotation such as `VideoList`, or any iterable of records of one class
            (and of `Reject`, for entries that are known to be unusable, and `Excluded`). An
            entry's place is its key for good.
        out: Folder of the data set; made if missing.
        split: Name of the split: 1 to 32 of a-z, 0-9 and `_`.
        media_root: Folder that record paths start from; default: the working directory.
        labels: Labels of each item: `one`, `many` (at least one) or `none`. Default:
            what the annotation says (`records.labels`), else `one`.
        class_names: Name of class 0, 1, ...; labels beyond them are rejected. Default: what
            the annotation says (`records.class_names`), else none.
        recipe: How media become parts; default: copied, frame table by decoding.
        seed: Of the order in the shards; None keeps the order of the records.
        shard_size: Bytes a shard should have, about.
        max_rejects: Rejects up to which the manifest is still written; default: the
            greater of 10 and 1 % of the entries.
        allow_outside: Let record paths lead out of the media root.
        replan: Discard a plan or a split that stands there, and its shards.
        workers: Processes that make shards, whose bytes do not depend on it; 1 for this one
            alone. A script that asks for more must guard itself by `if __name__ == "__main__":`.
        planning: Called with a new plan, before it is stored: what it raises stops the run.
        progress: Called after each sample, or ten times a second with several workers, with
            (entries done, bytes packed) since the call before.

    Returns:
        The report; `report.rejects` lists what could not be packed and why.

    Raises:
        ValueError, TypeError: An argument is out of range, or of another type.
        AnnotationError: There is no entry at all, or the annotation is unreadable.
        PlanError: A plan or split of another request stands there.
        FormatError: A plan, receipt or manifest that stands there is damaged.
        RejectsError: Too many rejects, or nothing but rejects; there is no manifest.
        StorageError: The location cannot be written.
        WorkerError: Worker processes died over one shard, again and again.
    """
    started = time.monotonic()
    check_split(split)
    shard_size, seed, limit = _whole_numbers(shard_size, seed, max_rejects)
    rule = LabelRule(_label_mode(records, labels), _class_names(records, class_names))
    kind, entries = check_entries(records, rule)
    total = sum(entry.entries for entry in entries)
    if not total:
        raise AnnotationError("expected at least one record, got none")
    limit = max(10, total // 100) if limit is None else limit
    unusable = rejects_of_entries(split, entries)
    _check_rejects(unusable, limit, total, "nothing was packed; mend the annotation")
    if kind is not None and rule.mode not in kind.label_modes:
        if labels is not None:
            raise ValueError(
                f"labels {labels!r}: {kind.task} takes {' or '.join(kind.label_modes)}"
            )
        rule = LabelRule(kind.label_modes[0], rule.class_names)
    if kind is None:
        rejected = f" or rejected, the first: {unusable[0].message}" if unusable else ""
        raise AnnotationError(f"all {total} entries are excluded by options{rejected}")
    planned = {e.ordinal: e for e in entries if not isinstance(e.value, Reject | Excluded)}
    request = Request(
        split=split,
        task=kind.task,
        optional=kind.optional(entry.value for entry in planned.values()),
        labels=rule.mode,
        class_names=rule.class_names,
        recipe=recipe or Recipe(),
        seed=seed,
        shard_size=shard_size,
        allow_outside=allow_outside,
        records_digest=digest_of_entries(entries),
    )
    storage = open_storage(out)
    if replan:
        # Nothing is thrown away for a request that cannot be carried out.
        _media_root(media_root, allow_outside)
        discard(storage, split)
    manifest = finished_split(storage, request)
    made = sources = 0
    lacks: tuple[str, ...] = ()
    if manifest is None:
        root = _media_root(media_root, allow_outside)

        def make() -> Plan:
            expected = expect(kind, planned, root, request.recipe)
            size = expected.bytes + kind.side_bytes * len(planned)
            plan = make_plan(
                request,
                total,
                expected.sizes,
                families=families(kind, planned),
                side_bytes=kind.side_bytes,
            )
            if planning is not None:
                planning(
                    PlanSummary(
                        samples=len(planned),
                        shards=len(plan.shards),
                        bytes=size,
                        source_bytes=expected.source_bytes,
                        warnings=growth_warning(size, expected.source_bytes, "will take about"),
                    )
                )
            return plan

        plan = settled_plan(storage, request, make)
        tick = progress or (lambda *_: None)
        tick(total - sum(entry.entries for entry in planned.values()), 0)
        job = Job(
            storage=storage,
            split=split,
            plan_digest=plan.digest,
            recipe=plan.request["recipe"],
            record=kind.record,
            material=Material(root, request.recipe, request.optional),
        )
        receipts, made = make_shards(job, plan, planned, workers=workers, progress=tick)
        rejects = sorted(
            [*unusable, *(row for receipt in receipts for row in receipt.rejects)],
            key=lambda row: row.ordinal,
        )
        try:
            _check_rejects(
                rejects,
                limit,
                total,
                "no manifest was written, the finished shards are kept. Mend the media and run the "
                "same command again, or allow more rejects; another annotation or option needs "
                f"a new plan (--replan). All reasons are in {storage.url}/{split}/{REJECTS_NAME}",
            )
        except RejectsError:
            write_rejects(storage, split, rejects)
            raise
        manifest = write_manifest(storage, plan, entries, receipts, rejects)
        lost = {
            row.ordinal
            for row in rejects
            if row.ordinal in planned and row.entries == planned[row.ordinal].entries
        }
        lacks = warnings_of(receipts)
        cut = {ordinal: entry for ordinal, entry in planned.items() if ordinal not in lost}
        sources = source_bytes(kind, cut, root)
    else:
        name = f"{split}/{REJECTS_NAME}"
        rejects = decode_rejects(storage.read_all(name), where=f"{storage.url}/{name}")
    settle(storage, manifest)
    return PackReport(
        location=storage.url,
        split=split,
        entries=manifest.accounting.entries,
        packed=manifest.accounting.packed,
        excluded=manifest.accounting.excluded,
        rejects=tuple(rejects),
        shards=len(manifest.shards),
        shards_made=made,
        bytes=manifest.size_bytes,
        source_bytes=sources,
        content_digest=manifest.content_digest,
        warnings=(
            *_warnings(records, planned, request.recipe),
            *lacks,
            *growth_warning(manifest.size_bytes, sources, "take"),
        ),
        seconds=time.monotonic() - started,
    )


def _whole_numbers(
    shard_size: int, seed: int | None, max_rejects: int | None
) -> tuple[int, int | None, int | None]:
    """Return the three as plain integers, so that 2 and numpy's 2 are the same request."""
    try:
        shard_size = operator.index(shard_size)
        seed = None if seed is None else operator.index(seed)
        max_rejects = None if max_rejects is None else operator.index(max_rejects)
    except TypeError as exc:
        raise TypeError(
            "expected whole numbers, got "
            f"shard_size={shard_size!r}, seed={seed!r}, max_rejects={max_rejects!r}"
        ) from exc
    if shard_size < 1:
        raise ValueError(f"shard_size {shard_size}: expected at least 1 byte")
    if max_rejects is not None and max_rejects < 0:
        raise ValueError(f"max_rejects {max_rejects}: expected at least 0")
    return shard_size, seed, max_rejects


def _label_mode(records: object, labels: LabelMode | None) -> LabelMode:
    mode: LabelMode = getattr(records, "labels", "one") if labels is None else labels
    if mode not in get_args(LabelMode):
        raise ValueError(f"labels {mode!r}: expected one of {get_args(LabelMode)}")
    return mode


def _class_names(records: object, class_names: Sequence[str] | None) -> tuple[str, ...]:
    if class_names is None:
        class_names = getattr(records, "class_names", ())
    # Text is a sequence of letters, which are no classes.
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise TypeError(f"class_names: expected a sequence of names, got {class_names!r}")
    for name in class_names:
        if as_unicode(name) != name:
            raise ValueError(f"class_names: expected valid Unicode, got {name!a}")
    return tuple(class_names)


def _media_root(media_root: str | os.PathLike[str] | None, allow_outside: bool) -> MediaRoot:
    folder = Path.cwd() if media_root is None else Path(media_root)
    if not folder.is_dir():
        raise ValueError(f"media_root {str(media_root)!r}: no such folder")
    return MediaRoot(folder, allow_outside)


def _check_rejects(rejects: Sequence[RejectRow], limit: int, total: int, words: str) -> None:
    """Raise RejectsError if there are too many, or nothing else."""
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


def _warnings(records: object, planned: Mapping[int, Entry], recipe: Recipe) -> tuple[str, ...]:
    warnings = tuple(getattr(records, "warnings", ()))
    containers = set()
    for entry in planned.values() if recipe.media == "copy" else ():
        if isinstance(entry.value, VideoRecord):
            with suppress(MediaError):
                containers.add(video_part(entry.value.path))
    if len(containers) < 2:
        return warnings
    names = ", ".join(sorted(containers))
    mixed = f"the split mixes {names}; tools that expect one part name will miss the others"
    return (*warnings, f"{mixed} (recipe remux makes all mp4)")
