"""Packing a split: records -> plan -> shards -> manifest."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from clipshards.packer.arguments import (
    class_names_of,
    label_mode,
    warnings_of_records,
    whole_numbers,
)
from clipshards.packer.engines.local import LocalEngine
from clipshards.packer.entries import check_entries
from clipshards.packer.finish import (
    check_rejects,
    close_split,
    read_rejects,
    rejects_of_entries,
    report_on,
    settle,
)
from clipshards.packer.format.errors import AnnotationError, PlanError, StorageError
from clipshards.packer.format.manifest import LabelMode, Manifest
from clipshards.packer.format.names import check_split
from clipshards.packer.labels import LabelRule
from clipshards.packer.making import Engine, Job, Progress, make_shards
from clipshards.packer.media_bytes import expect, families, growth_warning
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.notes import Notes, load_notes, store_notes
from clipshards.packer.plan import Plan, Request, digest_of_entries, make_plan
from clipshards.packer.receipts import Receipt, load_receipts
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import Excluded, Record, Reject
from clipshards.packer.reports import PackReport, PartReport, PlanSummary
from clipshards.packer.samples.base import Material
from clipshards.packer.standing import (
    discard,
    finished_split,
    reopen,
    settled_plan,
    unfinished_plan,
)
from clipshards.packer.status import SignsOfLife, Status, read_status
from clipshards.packer.storage import open_storage
from clipshards.packer.trial import Estimate, try_samples

DEFAULT_SHARD_SIZE = 256_000_000


class Packing:
    """A packing job: the records of one split, and what is to become of them.

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
        warnings: What is to be said of the records beside what `records.warnings` says.

    Raises:
        ValueError, TypeError: An argument is out of range, or of another type.
        AnnotationError: There is no entry at all, or the annotation is unreadable.
        RejectsError: The annotation makes too many entries unusable, or all.
    """

    def __init__(
        self,
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
        warnings: Sequence[str] = (),
    ) -> None:
        check_split(split)
        shard_size, seed, self._max_rejects = whole_numbers(shard_size, seed, max_rejects)
        rule = LabelRule(label_mode(records, labels), class_names_of(records, class_names))
        kind, entries = check_entries(records, rule)
        self.entries = sum(entry.entries for entry in entries)
        """Entries of the annotation."""
        if not self.entries:
            raise AnnotationError("expected at least one record, got none")
        self._unusable = rejects_of_entries(split, entries)
        check_rejects(
            self._unusable,
            self._max_rejects,
            self.entries,
            "nothing was packed; mend the annotation",
        )
        if kind is not None and rule.mode not in kind.label_modes:
            if labels is not None:
                raise ValueError(
                    f"labels {labels!r}: {kind.task} takes {' or '.join(kind.label_modes)}"
                )
            rule = LabelRule(kind.label_modes[0], rule.class_names)
        if kind is None:
            first = self._unusable[0].message if self._unusable else ""
            rejected = f" or rejected, the first: {first}" if first else ""
            raise AnnotationError(f"all {self.entries} entries are excluded by options{rejected}")
        recipe = recipe or Recipe()
        recipe.check_task(kind.task)
        self._kind = kind
        self._planned = {
            entry.ordinal: entry
            for entry in entries
            if not isinstance(entry.value, Reject | Excluded)
        }
        self._excluded = Counter(
            entry.value.option for entry in entries if isinstance(entry.value, Excluded)
        )
        self._request = Request(
            split=split,
            task=kind.task,
            optional=kind.optional(entry.value for entry in self._planned.values()),
            labels=rule.mode,
            class_names=rule.class_names,
            recipe=recipe,
            seed=seed,
            shard_size=shard_size,
            allow_outside=allow_outside,
            records_digest=digest_of_entries(entries),
        )
        self._warnings = (
            *warnings,
            *warnings_of_records(records, self._planned, self._request.recipe),
        )
        self._media_folder = media_root
        self._storage = open_storage(out)

    def plan(self) -> PlanSummary:
        """Return what the job comes to, from what can be seen without opening media.

        Nothing is written.

        Raises:
            ValueError: There is no such media root.
        """
        return self._make_plan(self._media_root())[2]

    def estimate(self, *, limit_s: float = 20.0) -> Estimate:
        """Return what the job will take, by a few samples that are made and thrown away.

        Nothing is written.

        Args:
            limit_s: Seconds to try for, about.

        Raises:
            ValueError: There is no such media root.
        """
        root = self._media_root()
        expected = expect(self._kind, self._planned, root, self._request.recipe)
        return try_samples(self._job(root, "0" * 64), self._planned, expected, limit_s=limit_s)

    def standing(self) -> Status | None:
        """Return how far this very job has come at its location; None where nothing stands.

        Raises:
            PlanError: A plan or split of another request stands there.
            FormatError, StorageError: As for `run`.
        """
        if finished_split(self._storage, self._request) is None:
            plan = unfinished_plan(self._storage, self._request)
            if plan is None:
                return None
        return read_status(self._storage.url, split=self._request.split)

    def run(
        self,
        *,
        engine: Engine | None = None,
        replan: bool = False,
        retry_rejects: bool = False,
        planning: Callable[[PlanSummary], None] | None = None,
        progress: Progress | None = None,
    ) -> PackReport:
        """Make all shards and finish the split.

        The same job with the same media gives the same bytes. After a crash the same job
        goes on where the killed one was; after its end it finds all done.

        Args:
            engine: What makes the shards, whose bytes do not depend on it; default: this
                process.
            replan: Discard a plan or a split that stands there, and its shards.
            retry_rejects: Open a finished split again and make those shards anew that lack
                samples; the others stay. For media that were mended.
            planning: Called with a new plan, before it is stored: what it raises stops the
                run.
            progress: Called after each sample, or ten times a second with several workers,
                with (entries done, bytes packed) since the call before.

        Returns:
            The report; `report.rejects` lists what could not be packed and why.

        Raises:
            ValueError: There is no such media root.
            PlanError: A plan or split of another request stands there.
            FormatError: A plan, receipt or manifest that stands there is damaged.
            RejectsError: Too many rejects, or nothing but rejects; there is no manifest.
            StorageError: The location cannot be written.
            WorkerError: Worker processes died over one shard, again and again.
        """
        started = time.monotonic()
        manifest = self._standing(replan=replan, retry_rejects=retry_rejects)
        notes, made = self._notes(0), 0
        receipts: list[Receipt] = []
        if manifest is None:
            try:
                plan, notes, receipts, made = self._make((1, 1), engine, planning, progress)
                manifest, rejects = close_split(
                    self._storage, plan, notes, receipts, self._max_rejects
                )
            except (StorageError, PlanError):
                # Another run of this very job can have ended in the meantime.
                manifest = finished_split(self._storage, self._request)
                if manifest is None:
                    raise
                rejects = read_rejects(self._storage, manifest)
        else:
            rejects = read_rejects(self._storage, manifest)
        settle(self._storage, manifest)
        return report_on(
            self._storage, manifest, notes, receipts, rejects, made=made, started=started
        )

    def run_part(
        self,
        part: int,
        parts: int,
        *,
        engine: Engine | None = None,
        planning: Callable[[PlanSummary], None] | None = None,
        progress: Progress | None = None,
    ) -> PartReport:
        """Make the shards of one part of the job; `finish_split` ends it when all parts are made.

        Parts need nothing of each other but the location: they can run at any time, on any
        machine that has the annotation and the media, each as often as it takes.

        Args:
            part: Number of the part, from 1.
            parts: How many there are.
            engine: As for `run`.
            planning: As for `run`.
            progress: As for `run`.

        Raises:
            ValueError: There is no such part, or no such media root.
            PlanError, FormatError, StorageError, WorkerError: As for `run`.
        """
        started = time.monotonic()
        if not 1 <= part <= parts:
            raise ValueError(f"part {part}/{parts}: expected 1/N to N/N")
        storage = self._storage
        manifest = finished_split(storage, self._request)
        receipts: list[Receipt] = []
        missing: tuple[str, ...] = ()
        made = 0
        if manifest is None:
            try:
                plan, _, receipts, made = self._make((part, parts), engine, planning, progress)
                missing = load_receipts(storage, plan)[1]
            except (StorageError, PlanError):
                # The split can have been finished in the meantime.
                manifest = finished_split(storage, self._request)
                if manifest is None:
                    raise
        entries = [receipt.entry for receipt in receipts]
        rejects = [row for receipt in receipts for row in receipt.rejects]
        if manifest is not None:
            settle(storage, manifest)
            entries = list(manifest.shards[part - 1 :: parts])
            rejects = read_rejects(storage, manifest)
        return PartReport(
            location=storage.url,
            split=self._request.split,
            part=part,
            parts=parts,
            shards=len(entries),
            shards_made=made,
            bytes=sum(entry.bytes for entry in entries),
            rejects=tuple(sorted(rejects, key=lambda row: row.ordinal)),
            missing=missing,
            seconds=time.monotonic() - started,
        )

    def _standing(self, *, replan: bool, retry_rejects: bool) -> Manifest | None:
        """Return the manifest if there is nothing left to do."""
        storage, request = self._storage, self._request
        if replan:
            # Nothing is thrown away for a request that cannot be carried out.
            self._media_root()
            discard(storage, request.split)
        manifest = finished_split(storage, request)
        if manifest is None or not retry_rejects:
            return manifest
        rejects = read_rejects(storage, manifest)
        if not {row.ordinal for row in rejects} - {row.ordinal for row in self._unusable}:
            return manifest
        self._media_root()
        reopen(
            storage,
            manifest,
            request,
            self._planned,
            families(self._kind, self._planned),
            self._notes(0),
            rejects,
        )
        return None

    def _make(
        self,
        part: tuple[int, int],
        engine: Engine | None,
        planning: Callable[[PlanSummary], None] | None,
        progress: Progress | None,
    ) -> tuple[Plan, Notes, list[Receipt], int]:
        """Return the plan, its notes, the receipts of a part, and how many were made now."""
        storage, request = self._storage, self._request
        root = self._media_root()

        def make() -> Plan:
            plan, notes, summary = self._make_plan(root)
            if planning is not None:
                planning(summary)
            store_notes(storage, plan, notes)
            return plan

        plan = settled_plan(storage, request, make)
        tick = progress or (lambda *_: None)
        tick(self.entries - sum(entry.entries for entry in self._planned.values()), 0)
        notes = load_notes(storage, plan)
        job = self._job(root, plan.digest)
        engine = engine or LocalEngine()
        with SignsOfLife(
            storage,
            request.split,
            part,
            workers=engine.workers,
            entries_due=self._entries_of(plan, part),
        ) as signs:

            def counted(entries: int, size: int) -> None:
                signs.count(entries, size)
                tick(entries, size)

            receipts, made = make_shards(
                job, plan, self._planned, engine=engine, progress=counted, part=part
            )
        return plan, notes, receipts, made

    def _job(self, root: MediaRoot, plan_digest: str) -> Job:
        request = self._request
        return Job(
            storage=self._storage,
            split=request.split,
            plan_digest=plan_digest,
            recipe=request.recipe.to_json(request.task),
            record=self._kind.record,
            material=Material(root, request.recipe, request.optional),
        )

    def _entries_of(self, plan: Plan, part: tuple[int, int]) -> int:
        """Return how many entries stand in the shards of a part."""
        shards = plan.shards[part[0] - 1 :: part[1]]
        return sum(self._planned[ordinal].entries for shard in shards for ordinal in shard)

    def _make_plan(self, root: MediaRoot) -> tuple[Plan, Notes, PlanSummary]:
        kind, planned, request = self._kind, self._planned, self._request
        expected = expect(kind, planned, root, request.recipe)
        size = expected.bytes + kind.side_bytes * len(planned)
        plan = make_plan(
            request,
            self.entries,
            expected.sizes,
            families=families(kind, planned),
            side_bytes=kind.side_bytes,
        )
        summary = PlanSummary(
            samples=len(planned),
            shards=len(plan.shards),
            bytes=size,
            media_bytes=expected.source_bytes or expected.bytes,
            source_bytes=expected.source_bytes,
            rejects=tuple(self._unusable),
            excluded=dict(self._excluded),
            annotation_warnings=self._warnings,
            warnings=growth_warning(size, expected.source_bytes, "will take about"),
        )
        return plan, self._notes(expected.source_bytes), summary

    def _notes(self, source_bytes: int) -> Notes:
        return Notes(tuple(self._unusable), dict(self._excluded), source_bytes, self._warnings)

    def _media_root(self) -> MediaRoot:
        folder = Path.cwd() if self._media_folder is None else Path(self._media_folder)
        if not folder.is_dir():
            raise ValueError(f"media_root {str(self._media_folder)!r}: no such folder")
        return MediaRoot(folder, self._request.allow_outside)


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
    retry_rejects: bool = False,
    workers: int = 1,
    planning: Callable[[PlanSummary], None] | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack records and their media into one split of a data set, on this machine.

    The same call with the same media gives the same bytes. After a crash the same call
    goes on where the killed one was; after its end it finds all done. `Packing` does it in
    parts, or on other machines.

    Args:
        records: As for `Packing`, like all others down to `allow_outside`.
        out: Folder of the data set.
        split: Name of the split.
        media_root: Folder that record paths start from.
        labels: Labels of each item.
        class_names: Names of the classes.
        recipe: How media become parts.
        seed: Of the order in the shards.
        shard_size: Bytes a shard should have, about.
        max_rejects: Rejects up to which the manifest is still written.
        allow_outside: Let record paths lead out of the media root.
        replan: As for `Packing.run`, like those that follow.
        retry_rejects: Make shards anew that lack samples.
        workers: Processes that make shards, whose bytes do not depend on it; 1 for this one
            alone. A script that asks for more must guard itself by `if __name__ == "__main__":`.
        planning: Called with a new plan.
        progress: Called after each sample.

    Returns:
        The report; `report.rejects` lists what could not be packed and why.

    Raises:
        Exception: As for `Packing` and `Packing.run`.
    """
    started = time.monotonic()
    job = Packing(
        records,
        out,
        split=split,
        media_root=media_root,
        labels=labels,
        class_names=class_names,
        recipe=recipe,
        seed=seed,
        shard_size=shard_size,
        max_rejects=max_rejects,
        allow_outside=allow_outside,
    )
    report = job.run(
        engine=LocalEngine(workers),
        replan=replan,
        retry_rejects=retry_rejects,
        planning=planning,
        progress=progress,
    )
    return replace(report, seconds=time.monotonic() - started)
