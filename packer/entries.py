"""Entries of any iterable of records, checked against what the split promises."""

from collections.abc import Iterable
from dataclasses import replace

from clipshards.packer.format.manifest import LabelMode, labels_fit
from clipshards.packer.records import Origin, Reject, VideoRecord

_EXPECTED_LABELS = {"one": "exactly one label", "many": "at least one label", "none": "no label"}


def check_entries(
    records: Iterable[VideoRecord | Reject], *, labels: LabelMode, class_names: tuple[str, ...]
) -> list[VideoRecord | Reject]:
    """Return all entries in order, each with an origin, those that cannot be packed as Rejects.

    Raises:
        TypeError: Something else than a record or a reject is among them.
    """
    return [
        _check_entry(entry, ordinal, labels, class_names) for ordinal, entry in enumerate(records)
    ]


def _check_entry(
    entry: VideoRecord | Reject, ordinal: int, labels: LabelMode, class_names: tuple[str, ...]
) -> VideoRecord | Reject:
    if not isinstance(entry, VideoRecord | Reject):
        raise TypeError(f"records[{ordinal}]: expected a VideoRecord, got {entry!r}")
    origin = entry.origin or Origin("records", index=ordinal)
    if isinstance(entry, Reject):
        return replace(entry, origin=origin)
    name = entry.id or entry.path
    wrong = _fault(entry, labels, class_names)
    if wrong:
        # What cannot be written as UTF-8 cannot stand in the report either.
        return Reject(wrong, id=name.encode(errors="replace").decode(), origin=origin)
    return replace(entry, origin=origin)


def _fault(record: VideoRecord, labels: LabelMode, class_names: tuple[str, ...]) -> str:
    """Return what is wrong with a record, empty for nothing."""
    try:
        (record.path + record.id).encode()
    except UnicodeEncodeError:
        return f"expected a path and an id in valid Unicode, got {record.path!a}, {record.id!a}"
    if not record.path or "\0" in record.path:
        return f"expected a path, got {record.path!r}"
    if not labels_fit(labels, len(record.labels)):
        return f"expected {_EXPECTED_LABELS[labels]}, got {list(record.labels)}"
    for label in record.labels:
        if type(label) is not int or not 0 <= label < 2**63:
            return f"expected class ids of 0 or more, got {label!r}"
        if class_names and label >= len(class_names):
            return f"expected a class id below {len(class_names)} (class names given), got {label}"
    return ""
