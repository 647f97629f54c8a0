"""Packing a split: records -> plan -> shards -> manifest."""

import operator
import os
import time
from collections.abc import Callable, Iterable, Sequence

from clipshards.packer.arguments import check_max_rejects
from clipshards.packer.engines.local import LocalEngine
from clipshards.packer.finish import close_split, read_rejects, report_on, settle
from clipshards.packer.format.errors import PlanError, StorageError
from clipshards.packer.format.manifest import LabelMode, Manifest
from clipshards.packer.making import Engine, Progress, make_shards
from clipshards.packer.notes import Notes, load_notes, store_notes
from clipshards.packer.plan import Plan
from clipshards.packer.prepared import Prepared
from clipshards.packer.receipts import Receipt, load_receipts
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import Excluded, Record, Reject
from clipshards.packer.remaking import remake
from clipshards.packer.reports import PackReport, PartReport, PlanSummary, RemakeReport
from clipshards.packer.standing import (
    discard,
    finished_split,
    reopen,
    settled_plan,
    unfinished_plan,
)
from clipshards.packer.status import SignsOfLife, Status, status_of
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
    ) -> None:
        self._max_rejects = None if max_rejects is None else check_max_rejects(max_rejects)
        self._prepared = Prepared(
            records,
            split=split,
            media_root=media_root,
            labels=labels,
            class_names=class_names,
            recipe=recipe,
            seed=seed,
            shard_size=shard_size,
            max_rejects=self._max_rejects,
            allow_outside=allow_outside,
        )
        self._request = self._prepared.request
        self._storage = open_storage(out)

    @property
    def entries(self) -> int:
        """Entries of the annotation."""
        return self._prepared.entries

    def plan(self) -> PlanSummary:
        """Return what the job comes to, from what can be seen without opening media.

        Nothing is written.

        Raises:
            ValueError: There is no such media root.
        """
        return self._prepared.plan()[2]

    def estimate(self, *, limit_s: float = 20.0) -> Estimate:
        """Return what the job will take, by a few samples that are made and thrown away.

        Nothing is written.

        Args:
            limit_s: Seconds to try for, about.

        Raises:
            ValueError: There is no such media root.
        """
        prepared = self._prepared
        job = prepared.job(self._storage, "0" * 64)
        return try_samples(job, prepared.planned, prepared.expected(), limit_s=limit_s)

    def standing(self) -> Status | None:
        """Return how far this very job has come at its location; None where nothing stands.

        Raises:
            PlanError: A plan or split of another request stands there.
            FormatError, StorageError: As for `run`.
        """
        storage, request = self._storage, self._request
        if finished_split(storage, request) is None and unfinished_plan(storage, request) is None:
            return None
        return status_of(storage, request.split)

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
            RuntimeError: Processes cannot begin, as in a script that is not guarded.
        """
        started = time.monotonic()
        manifest = self._standing(replan=replan, retry_rejects=retry_rejects)
        notes, made = self._prepared.notes(0), 0
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

    def repair(
        self, *, engine: Engine | None = None, progress: Callable[[int], None] | None = None
    ) -> RemakeReport:
        """Make anew what is damaged or missing of the split that this job made.

        Each shard is read, or known by the checksum that a store keeps. One that is not the
        manifest's is made by its plan, and written only if its size, sha256 and crc32c are
        the manifest's; so is the list of rejects. All else stays as it is, the manifest too,
        whatever versions the tools have now.

        Args:
            engine: As for `run`.
            progress: Called now and then with the bytes that were checked or made since the
                call before.

        Raises:
            SourcesDifferError: The sources or tools give other bytes now. All else was made.
            PlanError: No split stands there, or that of another request.
            ValueError, FormatError, StorageError, WorkerError: As for `run`; the manifest
                cannot be made anew.
        """
        return remake(self._storage, self._prepared, engine or LocalEngine(), progress)

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
        part, parts = int(operator.index(part)), int(operator.index(parts))
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
                known = {receipt.entry.name for receipt in receipts}
                missing = load_receipts(storage, plan, skip=known)[1]
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
            self._prepared.media_root()
            discard(storage, request.split)
        manifest = finished_split(storage, request)
        if manifest is None or not retry_rejects:
            return manifest
        rejects = read_rejects(storage, manifest)
        prepared = self._prepared
        if not {row.ordinal for row in rejects} - {row.ordinal for row in prepared.unusable}:
            return manifest
        prepared.media_root()
        reopen(
            storage,
            manifest,
            request,
            prepared.planned,
            prepared.families,
            prepared.notes(0),
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
        storage, prepared = self._storage, self._prepared

        def make() -> Plan:
            plan, notes, summary = prepared.plan()
            if planning is not None:
                planning(summary)
            store_notes(storage, plan, notes)
            return plan

        prepared.media_root()
        plan = settled_plan(storage, self._request, make)
        tick = progress or (lambda *_: None)
        planned = prepared.planned
        tick(self.entries - sum(entry.entries for entry in planned.values()), 0)
        notes = load_notes(storage, plan)
        engine = engine or LocalEngine()
        due = (ordinal for shard in plan.shards[part[0] - 1 :: part[1]] for ordinal in shard)
        with SignsOfLife(
            storage,
            plan.split,
            part,
            workers=engine.workers,
            entries_due=sum(planned[ordinal].entries for ordinal in due),
        ) as signs:

            def counted(entries: int, size: int) -> None:
                signs.count(entries, size)
                tick(entries, size)

            receipts, made = make_shards(
                prepared.job(storage, plan.digest),
                plan,
                planned,
                engine=engine,
                progress=counted,
                part=part,
            )
        return plan, notes, receipts, made
