"""Entries of any iterable of records, checked against what the split promises."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.labels import LabelRule
from clipshards.packer.record_kinds import RECORD_KINDS, RecordKind
from clipshards.packer.records import Excluded, Origin, Record, Reject


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, reject or exclusion, with its place."""

    ordinal: int
    """Entries of the annotation before it."""
    entries: int
    """How many entries of the annotation it stands for."""
    value: Record | Reject | Excluded
    """Checked, with an origin."""


def check_entries(
    records: Iterable[Record | Reject | Excluded], rule: LabelRule
) -> tuple[RecordKind | None, list[Entry]]:
    """Return all entries in order, those that cannot be packed as Rejects, and their kind.

    The kind is None where no entry is a record.

    Raises:
        TypeError: Something else than a record is among them, records of two kinds, or a
            field of another type.
    """
    kind = None
    entries = []
    ordinal = 0
    for place, value in enumerate(records):
        if not isinstance(value, (Reject, Excluded, *RECORD_KINDS)):
            expected = "a record" if kind is None else kind.record.__name__
            raise TypeError(f"records[{place}]: expected {expected}, got {value!r}")
        if not isinstance(value, Reject | Excluded):
            if kind is not None and type(value) is not kind.record:
                raise TypeError(
                    f"records[{place}]: expected {kind.record.__name__} as before, got {value!r}"
                )
            kind = RECORD_KINDS[type(value)]
        try:
            entry = _check(value, place, ordinal, kind, rule)
        except TypeError as exc:
            raise TypeError(f"records[{place}]: {exc}") from exc
        entries.append(entry)
        ordinal += entry.entries
    return kind, entries


def _check(
    value: Record | Reject | Excluded,
    place: int,
    ordinal: int,
    kind: RecordKind | None,
    rule: LabelRule,
) -> Entry:
    origin = _origin(value.origin, place)
    if isinstance(value, Reject):
        _check_text(value, "message", "error", "id")
        error = _as_unicode(value.error) or "AnnotationError"
        reject = Reject(_as_unicode(value.message), error, _as_unicode(value.id), origin)
        return Entry(ordinal, 1, reject)
    if isinstance(value, Excluded):
        _check_text(value, "option", "id")
        excluded = Excluded(_as_unicode(value.option), _as_unicode(value.id), origin)
        return Entry(ordinal, 1, excluded)
    assert kind is not None
    texts = [field.name for field in fields(value) if field.type is str]
    _check_text(value, *texts)
    count = kind.entries(value)
    try:
        for name in texts:
            _check_unicode(name, getattr(value, name))
        checked = kind.check(value, rule)
    except AnnotationError as exc:
        name = _as_unicode(kind.name(value))
        return Entry(ordinal, count, Reject(str(exc), "AnnotationError", name, origin))
    return Entry(ordinal, count, replace(checked, origin=origin))


def _origin(origin: Origin | None, place: int) -> Origin:
    if origin is None:
        return Origin("records", index=place)
    if not isinstance(origin, Origin):
        raise TypeError(f"origin: expected an Origin, got {origin!r}")
    _check_text(origin, "file")
    try:
        line, index = operator.index(origin.line), operator.index(origin.index)
    except TypeError as exc:
        raise TypeError(f"origin: expected whole numbers, got {origin!r}") from exc
    return Origin(_as_unicode(origin.file), line, index)


def _check_text(value: Any, *names: str) -> None:
    for name in names:
        text = getattr(value, name)
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected text, got {text!r}")


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise AnnotationError(f"{name}: expected valid Unicode, got {text!a}") from None
    if "\0" in text:
        raise AnnotationError(f"{name}: expected text without NUL characters, got {text!r}")


def _as_unicode(text: str) -> str:
    """Return text that can be stored: bytes that were no UTF-8 are spelled out."""
    return text.encode(errors="backslashreplace").decode()
