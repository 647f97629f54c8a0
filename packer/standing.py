"""What stands at a location already: a finished split, an unfinished plan, or strays."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from clipshards.packer.entries import Entry
from clipshards.packer.format.errors import PlanError
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    MANIFEST_NAME,
    REJECTS_NAME,
    is_shard_name,
    wids_name,
)
from clipshards.packer.format.rejects import RejectRow
from clipshards.packer.notes import Notes, store_notes
from clipshards.packer.plan import Plan, Request, differences, plan_again
from clipshards.packer.receipts import Receipt, store_receipt
from clipshards.packer.storage import Storage


def stored_manifest(storage: Storage, split: str) -> Manifest | None:
    """Return the manifest of a finished split, None if there is none.

    Raises:
        FormatError: It is damaged, or that of another split.
    """
    name = f"{split}/{MANIFEST_NAME}"
    if storage.size(name) is None:
        return None
    manifest = Manifest.decode(storage.read_all(name), where=f"{storage.url}/{name}")
    manifest.check_split(split, where=f"{storage.url}/{name}")
    return manifest


def finished_split(storage: Storage, request: Request) -> Manifest | None:
    """Return the manifest that this very request made earlier, None if none stands there.

    Raises:
        PlanError: The split of another request stands there.
        FormatError: As for `stored_manifest`.
    """
    manifest = stored_manifest(storage, request.split)
    if manifest is None or manifest.request_digest == request.digest:
        return manifest
    found = differences(
        {
            "task": manifest.task,
            "labels": manifest.labels,
            "class names": list(manifest.class_names),
            "recipe": manifest.recipe,
        },
        {
            "task": request.task,
            "labels": request.labels,
            "class names": list(request.class_names),
            "recipe": request.recipe.to_json(request.task),
        },
        "packed",
    )
    raise PlanError(
        f"{storage.url}/{request.split}: a split that another request made stands here, "
        f"{manifest.content_digest[:12]} "
        f"({'; '.join(found) or 'other entries, order, shard size or --allow-outside'}); choose "
        "another name or location, or replace it (--replan)"
    )


def unfinished_plan(storage: Storage, request: Request) -> Plan | None:
    """Return the stored plan of this request, None if there is none.

    Raises:
        PlanError: The plan of another request stands there, shards of none, or a copy that has
            not ended.
    """
    plan = stored_plan(storage, request.split)
    if plan is None and storage.size(copy_mark_name(request.split)) is not None:
        raise PlanError(
            f"{storage.url}/{request.split}: a copy that has not ended stands here; end it by the "
            "same copy command, choose another location, or replace it (--replan)"
        )
    if plan is None:
        strays = [n for n in storage.sizes(request.split) if is_shard_name(request.split, n)]
        # Another run of this job can have stored its plan between the two looks.
        plan = stored_plan(storage, request.split)
        if strays and plan is None:
            raise PlanError(
                f"{storage.url}/{request.split}: shards stand here ({strays[0]} ...) without "
                "plan or manifest; choose another location, or replace them (--replan)"
            )
        if plan is None:
            return None
    found = plan.differences(request)
    if found:
        raise PlanError(
            f"{storage.url}/{request.split}: an unfinished plan of another request stands here "
            f"({found}); run that request again, or replace it (--replan)"
        )
    return plan


def settled_plan(storage: Storage, request: Request, make: Callable[[], Plan]) -> Plan:
    """Return the stored plan of this request; if there is none, `make` it and store it.

    Raises:
        PlanError: As for `unfinished_plan`.
    """
    plan = unfinished_plan(storage, request)
    if plan is None:
        plan = make()
        staging = f"{request.split}/{BUILD_FOLDER}"
        if not storage.put_new(_plan_name(request.split), plan.encode(), staging=staging):
            # Somebody else was faster, and may have asked for something else.
            return unfinished_plan(storage, request) or plan
    return plan


def is_begun(storage: Storage, split: str) -> bool:
    """Return whether a split is finished, or has a plan."""
    names = (f"{split}/{MANIFEST_NAME}", _plan_name(split))
    return any(storage.size(name) is not None for name in names)


def stored_plan(storage: Storage, split: str) -> Plan | None:
    """Return the plan of an unfinished split, None if there is none.

    Raises:
        FormatError: It is damaged.
    """
    name = _plan_name(split)
    if storage.size(name) is None:
        return None
    return Plan.decode(storage.read_all(name), where=f"{storage.url}/{name}")


def reopen(
    storage: Storage,
    manifest: Manifest,
    request: Request,
    planned: Mapping[int, Entry],
    families: Mapping[int, int] | None,
    notes: Notes,
    rejects: Sequence[RejectRow],
) -> None:
    """Make a finished split an unfinished one, whose shards that lack samples are to be made.

    All is ready before the manifest goes: a run that is killed before has changed nothing.

    Args:
        storage: The location.
        manifest: Of the split.
        request: That made it.
        planned: Its records by ordinal, in annotation order.
        families: As for `make_plan`.
        notes: What goes with the plan.
        rejects: All of the split.

    Raises:
        PlanError: The shards were cut by another plan.
    """
    split = request.split
    plan = original_plan(manifest, request, planned, families, where=f"{storage.url}/{split}")
    number_of = {ordinal: number for number, shard in enumerate(plan.shards) for ordinal in shard}
    ordinals = list(planned)
    unusable = {row.ordinal for row in notes.rejects}
    lacking = {
        # An item that was left out stands behind the ordinal of its record.
        number_of[ordinals[bisect_right(ordinals, row.ordinal) - 1]]
        for row in rejects
        if row.ordinal not in unusable
    }
    store_notes(storage, plan, notes)
    staging = f"{split}/{BUILD_FOLDER}"
    storage.put(_plan_name(split), plan.encode(), staging=staging)
    for number, shard in enumerate(manifest.shards):
        if number not in lacking:
            store_receipt(storage, split, Receipt(plan.digest, shard, (), ()))
    storage.remove(wids_name(split))
    storage.remove(f"{split}/{MANIFEST_NAME}")
    storage.remove(f"{split}/{REJECTS_NAME}")


def original_plan(
    manifest: Manifest,
    request: Request,
    planned: Mapping[int, Entry],
    families: Mapping[int, int] | None,
    *,
    where: str,
) -> Plan:
    """Return the plan that a finished split was made by.

    Args:
        manifest: Of the split.
        request: That made it.
        planned: Its records by ordinal, in annotation order.
        families: As for `make_plan`.
        where: The split, for errors.

    Raises:
        PlanError: The shards were cut by another plan.
    """
    plan = plan_again(
        request,
        manifest.accounting.entries,
        planned,
        [shard.records for shard in manifest.shards],
        families=families,
    )
    if plan.digest != manifest.plan_digest:
        raise PlanError(
            f"{where}: another release cut these shards by rules of its own; pack the split anew "
            "(--replan)"
        )
    return plan


def discard(storage: Storage, split: str) -> None:
    """Remove a split; the manifest first, so that it never names shards that are gone."""
    storage.remove(f"{split}/{MANIFEST_NAME}")
    for name in storage.sizes(split):
        if is_shard_name(split, name):
            storage.remove(f"{split}/{name}")
    storage.remove(f"{split}/{REJECTS_NAME}")
    storage.remove(wids_name(split))
    storage.remove_folder(f"{split}/{BUILD_FOLDER}")
    storage.remove_unfinished(split)


def copy_mark_name(split: str) -> str:
    """Return the file that says whose shards stand there until a copy has a manifest."""
    return f"{split}/{BUILD_FOLDER}/copy.json"


def _plan_name(split: str) -> str:
    return f"{split}/{BUILD_FOLDER}/plan.json"
