"""What the end of a packing job needs to know beside its plan and its receipts.

The annotation is not read again by then: the parts of a job can have run anywhere.
"""

from dataclasses import asdict, dataclass
from typing import Any

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.names import BUILD_FOLDER
from clipshards.packer.format.rejects import REJECT_SCHEMA, RejectRow
from clipshards.packer.plan import Plan
from clipshards.packer.storage import Storage


@dataclass(frozen=True, slots=True)
class Notes:
    """Where the entries are that no shard is planned for, and what the report will say."""

    rejects: tuple[RejectRow, ...]
    """Entries that the annotation itself makes unusable."""
    excluded: dict[str, int]
    """Option that left entries out, to how many."""
    source_bytes: int
    """Of the videos that several samples are cut from; 0 where each sample has its own."""
    warnings: tuple[str, ...]
    """Of the annotation and the records."""


def store_notes(storage: Storage, plan: Plan, notes: Notes) -> None:
    """Store the notes of a plan, which must be stored after them."""
    value = {
        "rejects": [asdict(reject) for reject in notes.rejects],
        "excluded": notes.excluded,
        "source_bytes": notes.source_bytes,
        "warnings": list(notes.warnings),
    }
    storage.put(_name(plan), encode_json(value), staging=f"{plan.split}/{BUILD_FOLDER}")


def load_notes(storage: Storage, plan: Plan) -> Notes:
    """Return the notes of a plan that stands there.

    Raises:
        FormatError: They are damaged.
        StorageError: They are not there.
    """
    name = _name(plan)
    value: dict[str, Any] = decode_json(storage.read_all(name), where=f"{storage.url}/{name}")
    check_schema(
        value,
        {"rejects": [REJECT_SCHEMA], "excluded": dict, "source_bytes": int, "warnings": [str]},
        where=name,
    )
    return Notes(
        rejects=tuple(RejectRow(**row) for row in value["rejects"]),
        excluded=value["excluded"],
        source_bytes=value["source_bytes"],
        warnings=tuple(value["warnings"]),
    )


def _name(plan: Plan) -> str:
    # Of this plan alone: one that comes too late to be the split's must not overwrite them.
    return f"{plan.split}/{BUILD_FOLDER}/notes-{plan.digest[:12]}.json"
