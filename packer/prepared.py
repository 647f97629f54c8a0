"""A packing job before it touches a location: checked records, and what is asked of them."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from clipshards.packer.arguments import (
    check_seed,
    check_shard_size,
    class_names_of,
    label_mode,
    warnings_of_records,
)
from clipshards.packer.entries import check_entries
from clipshards.packer.finish import check_rejects, rejects_of_entries
from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.format.names import check_split
from clipshards.packer.labels import LabelRule
from clipshards.packer.making import Job
from clipshards.packer.media_bytes import Expected, expect, families, growth_warning
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.notes import Notes
from clipshards.packer.plan import Plan, Request, digest_of_entries, make_plan
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import Excluded, Record, Reject
from clipshards.packer.reports import PlanSummary
from clipshards.packer.samples.base import Material
from clipshards.packer.storage import Storage


class Prepared:
    """The checked records of a job; the arguments are those of `Packing`."""

    def __init__(
        self,
        records: Iterable[Record | Reject | Excluded],
        *,
        split: str,
        media_root: str | os.PathLike[str] | None,
        labels: LabelMode | None,
        class_names: Sequence[str] | None,
        recipe: Recipe | None,
        seed: int | None,
        shard_size: int,
        max_rejects: int | None,
        allow_outside: bool,
    ) -> None:
        check_split(split)
        shard_size, seed = check_shard_size(shard_size), check_seed(seed)
        if recipe is not None and not isinstance(recipe, Recipe):
            raise TypeError(f"recipe: expected a Recipe, got {recipe!r}")
        recipe = recipe or Recipe()
        rule = LabelRule(label_mode(records, labels), class_names_of(records, class_names))
        kind, entries = check_entries(records, rule)
        self.entries = sum(entry.entries for entry in entries)
        """Entries of the annotation."""
        if not self.entries:
            raise AnnotationError("expected at least one record, got none")
        self.unusable = rejects_of_entries(split, entries)
        """What the annotation itself makes unusable, in its order."""
        check_rejects(
            self.unusable, max_rejects, self.entries, "nothing was packed; mend the annotation"
        )
        if kind is None:
            first = f" or rejected, the first: {self.unusable[0].message}" if self.unusable else ""
            raise AnnotationError(f"all {self.entries} entries are excluded by options{first}")
        if rule.mode not in kind.label_modes:
            if labels is not None:
                raise ValueError(
                    f"labels {labels!r}: {kind.task} takes {' or '.join(kind.label_modes)}"
                )
            rule = LabelRule(kind.label_modes[0], rule.class_names)
        recipe.check_task(kind.task)
        self.planned = {
            entry.ordinal: entry
            for entry in entries
            if not isinstance(entry.value, Reject | Excluded)
        }
        """Records by ordinal, in the order of the annotation."""
        self.request = Request(
            split=split,
            task=kind.task,
            optional=kind.optional(entry.value for entry in self.planned.values()),
            labels=rule.mode,
            class_names=rule.class_names,
            recipe=recipe,
            seed=seed,
            shard_size=shard_size,
            allow_outside=allow_outside,
            records_digest=digest_of_entries(entries),
        )
        self._kind = kind
        self._excluded = Counter(
            entry.value.option for entry in entries if isinstance(entry.value, Excluded)
        )
        self._warnings = warnings_of_records(records, self.planned, recipe)
        self._media_folder = Path(media_root or "")
        self._expected: Expected | None = None

    @property
    def families(self) -> dict[int, int] | None:
        """First ordinal that has the same source, of each; None where each has its own."""
        return families(self._kind, self.planned)

    def media_root(self) -> MediaRoot:
        """Return where the media are.

        Raises:
            ValueError: There is no such folder.
        """
        try:
            if self._media_folder.is_dir():
                return MediaRoot(self._media_folder.absolute(), self.request.allow_outside)
        except OSError as exc:  # of a working directory that is gone
            raise ValueError(f"media_root {str(self._media_folder)!r}: {exc.strerror}") from exc
        raise ValueError(f"media_root {str(self._media_folder)!r}: no such folder")

    def expected(self) -> Expected:
        """Return what the records will weigh, looked at once.

        Raises:
            ValueError: As for `media_root`.
        """
        if self._expected is None:
            root, recipe = self.media_root(), self.request.recipe
            self._expected = expect(self._kind, self.planned, root, recipe)
        return self._expected

    def plan(self) -> tuple[Plan, Notes, PlanSummary]:
        """Return the plan, what its end needs to know, and what it comes to.

        Raises:
            ValueError: As for `media_root`.
        """
        kind, expected = self._kind, self.expected()
        size = expected.bytes + kind.side_bytes * len(self.planned)
        plan = make_plan(
            self.request,
            self.entries,
            expected.sizes,
            families=self.families,
            side_bytes=kind.side_bytes,
        )
        summary = PlanSummary(
            samples=len(self.planned),
            shards=len(plan.shards),
            bytes=size,
            media_bytes=expected.source_bytes or expected.bytes,
            source_bytes=expected.source_bytes,
            rejects=tuple(self.unusable),
            excluded=dict(self._excluded),
            annotation_warnings=self._warnings,
            warnings=growth_warning(size, expected.source_bytes, "will take about"),
        )
        return plan, self.notes(expected.source_bytes), summary

    def notes(self, source_bytes: int) -> Notes:
        """Return what the end of the job needs to know beside its plan."""
        return Notes(tuple(self.unusable), dict(self._excluded), source_bytes, self._warnings)

    def job(self, storage: Storage, plan_digest: str) -> Job:
        """Return what making any of its shards takes.

        Raises:
            ValueError: As for `media_root`.
        """
        request = self.request
        return Job(
            storage=storage,
            split=request.split,
            plan_digest=plan_digest,
            recipe=request.recipe.to_json(request.task),
            record=self._kind.record,
            material=Material(self.media_root(), request.recipe, request.optional),
        )
