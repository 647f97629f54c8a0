"""What stands at a location already: a finished split, an unfinished plan, or strays."""

from collections.abc import Callable

from clipshards.packer.format.errors import PlanError
from clipshards.packer.format.manifest import Manifest
from clipshards.packer.format.names import (
    BUILD_FOLDER,
    MANIFEST_NAME,
    REJECTS_NAME,
    is_shard_name,
    wids_name,
)
from clipshards.packer.plan import Plan, Request
from clipshards.packer.storage import Storage


def finished_split(storage: Storage, request: Request) -> Manifest | None:
    """Return the manifest that this very request made earlier, None if none stands there.

    Raises:
        PlanError: The split of another request stands there.
    """
    name = f"{request.split}/{MANIFEST_NAME}"
    if storage.size(name) is None:
        return None
    manifest = Manifest.decode(storage.read_all(name), where=f"{storage.url}/{name}")
    if manifest.request_digest == request.digest:
        return manifest
    known = {
        "task": (manifest.task, request.task),
        "labels": (manifest.labels, request.labels),
        "class names": (manifest.class_names, request.class_names),
        "recipe": (manifest.recipe, request.recipe.to_json(request.task)),
    }
    differences = "; ".join(
        f"{name}: packed {repr(old)[:60]}, now {repr(new)[:60]}"
        for name, (old, new) in known.items()
        if old != new
    )
    raise PlanError(
        f"{storage.url}/{request.split}: a split that another request made stands here, "
        f"{manifest.content_digest[:12]} "
        f"({differences or 'other entries, order, shard size or --allow-outside'}); choose "
        "another name or location, or replace it (--replan)"
    )


def settled_plan(storage: Storage, request: Request, make: Callable[[], Plan]) -> Plan:
    """Return the stored plan of this request; if there is none, `make` it and store it.

    Raises:
        PlanError: The plan of another request stands there, or shards of none.
    """
    name = f"{request.split}/{BUILD_FOLDER}/plan.json"
    if storage.size(name) is None:
        strays = [n for n in storage.names(request.split) if is_shard_name(request.split, n)]
        if strays:
            raise PlanError(
                f"{storage.url}/{request.split}: shards stand here ({strays[0]} ...) without "
                "plan or manifest; choose another location, or replace them (--replan)"
            )
        plan = make()
        staging = f"{request.split}/{BUILD_FOLDER}"
        if storage.put_new(name, plan.encode(), staging=staging):
            return plan
    plan = Plan.decode(storage.read_all(name), where=f"{storage.url}/{name}")
    differences = plan.differences(request)
    if differences:
        raise PlanError(
            f"{storage.url}/{request.split}: an unfinished plan of another request stands here "
            f"({differences}); run that request again, or replace it (--replan)"
        )
    return plan


def discard(storage: Storage, split: str) -> None:
    """Remove a split; the manifest first, so that it never names shards that are gone."""
    storage.remove(f"{split}/{MANIFEST_NAME}")
    for name in storage.names(split):
        if is_shard_name(split, name):
            storage.remove(f"{split}/{name}")
    storage.remove(f"{split}/{REJECTS_NAME}")
    storage.remove(wids_name(split))
    storage.remove_folder(f"{split}/{BUILD_FOLDER}")
