"""Origins and other text of records, made fit to be stored."""

import operator
from typing import Any

from clipshards.packer.records import Origin


def plain_origin(origin: Origin) -> Origin:
    """Return an origin with plain integers and valid Unicode.

    Raises:
        TypeError: It is none, or a field has another type.
    """
    if not isinstance(origin, Origin):
        raise TypeError(f"origin: expected an Origin, got {origin!r}")
    check_text(origin, "file")
    try:
        line, index = operator.index(origin.line), operator.index(origin.index)
    except TypeError as exc:
        raise TypeError(f"origin: expected whole numbers, got {origin!r}") from exc
    checked = Origin(as_unicode(origin.file), line, index)
    # Large annotations hold many: a sound one is not made again.
    sound = type(origin.line) is type(origin.index) is int and checked == origin
    return origin if sound else checked


def check_text(value: Any, *names: str) -> None:
    """Raise TypeError for a field that should be text and is not."""
    for name in names:
        text = getattr(value, name)
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected text, got {text!r}")


def as_unicode(text: str) -> str:
    """Return text that can be stored: bytes that were no UTF-8 are spelled out."""
    return text.encode(errors="backslashreplace").decode()
