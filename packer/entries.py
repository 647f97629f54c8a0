"""Entries of any iterable of records, checked against what the split promises."""

import operator
from collections.abc import Iterable
from dataclasses import replace
from typing import SupportsIndex, cast

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
    origin = replace(origin, file=_as_unicode(origin.file))
    if isinstance(entry, Reject):
        return replace(
            entry,
            message=_as_unicode(entry.message),
            id=_as_unicode(entry.id),
            origin=origin,
        )
    found = tuple(_class_id(label) for label in entry.labels)
    wrong = _fault(entry, found, labels, class_names)
    if wrong:
        return Reject(wrong, id=_as_unicode(entry.id or entry.path), origin=origin)
    return replace(entry, labels=found, origin=origin)


def _class_id(label: object) -> int:
    """Return a label as a plain integer, -1 for what is none."""
    # NumPy's integers are welcome, True and 1.0 are not.
    if isinstance(label, bool):
        return -1
    try:
        return operator.index(cast(SupportsIndex, label))
    except TypeError:
        return -1


def _as_unicode(text: str) -> str:
    """Return text that can be stored: bytes that were no UTF-8 are spelled out."""
    return text.encode(errors="backslashreplace").decode()


def _fault(
    record: VideoRecord, found: tuple[int, ...], labels: LabelMode, class_names: tuple[str, ...]
) -> str:
    """Return what is wrong with a record, empty for nothing."""
    try:
        (record.path + record.id).encode()
    except UnicodeEncodeError:
        return f"expected a path and an id in valid Unicode, got {record.path!a}, {record.id!a}"
    if not record.path or "\0" in record.path:
        return f"expected a path, got {record.path!r}"
    if not labels_fit(labels, len(found)):
        return f"expected {_EXPECTED_LABELS[labels]}, got {list(record.labels)}"
    for label, number in zip(record.labels, found, strict=True):
        if not 0 <= number < 2**63:
            return f"expected class ids of 0 or more, got {label!r}"
    beyond = [label for label in found if class_names and label >= len(class_names)]
    if beyond:
        return f"expected a class id below {len(class_names)} (class names given), got {beyond[0]}"
    return ""
