"""Entries of any iterable of records, checked against what the split promises."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from clipshards.packer.format.errors import AnnotationError
from clipshards.packer.labels import LabelRule
from clipshards.packer.origins import as_unicode, check_text, plain_origin
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
        if not isinstance(value, _VALUES):
            expected = "a record" if kind is None else kind.record.__name__
            raise TypeError(f"records[{place}]: expected {expected}, got {value!r}")
        if not isinstance(value, (Reject, Excluded)):
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
    origin = (
        plain_origin(value.origin) if value.origin is not None else Origin("records", index=place)
    )
    if isinstance(value, Reject):
        check_text(value, "message", "error", "id")
        error = as_unicode(value.error) or "AnnotationError"
        reject = Reject(as_unicode(value.message), error, as_unicode(value.id), origin)
        return Entry(ordinal, 1, reject)
    if isinstance(value, Excluded):
        check_text(value, "option", "id")
        excluded = Excluded(as_unicode(value.option), as_unicode(value.id), origin)
        return Entry(ordinal, 1, excluded)
    assert kind is not None
    texts = _TEXTS[type(value)]
    check_text(value, *texts)
    count = kind.entries(value)
    try:
        for name in texts:
            text = getattr(value, name)
            # Almost all text is plain, and this is quickly said.
            if not (text.isascii() and text.isprintable()):
                _check_unicode(name, text)
        checked = kind.check(value, rule)
    except AnnotationError as exc:
        name = as_unicode(kind.name(value))
        return Entry(ordinal, count, Reject(str(exc), "AnnotationError", name, origin))
    if checked.origin is not origin:
        checked = replace(checked, origin=origin)
    return Entry(ordinal, count, checked)


_VALUES = (Reject, Excluded, *RECORD_KINDS)
_TEXTS = {
    record: tuple(field.name for field in fields(record) if field.type is str)
    for record in RECORD_KINDS
}
"""The fields of each record class that hold text."""


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise AnnotationError(f"{name}: expected valid Unicode, got {text!a}") from None
    if "\0" in text:
        raise AnnotationError(f"{name}: expected text without NUL characters, got {text!r}")
