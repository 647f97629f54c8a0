"""`<split>/rejects.jsonl`: the entries that could not be packed, one a line."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.errors import FormatError


@dataclass(frozen=True, slots=True)
class RejectRow:
    """One line of `rejects.jsonl`."""

    ordinal: int
    """Place of the entry in the annotation, counted from 0."""
    entries: int
    """Entries that are lost with it: 1, or all that would have made up an item or a sample."""
    key: str
    """The key that the sample would have had, or has, where only some entries of it are lost."""
    id: str
    """The entry's own name; empty where none could be read."""
    origin: str
    """File and line (or index), without folders."""
    error: str
    """Class name of the error."""
    message: str
    """What was expected and what stood there."""


REJECT_SCHEMA = {
    "ordinal": int,
    "entries": int,
    "key": str,
    "id": str,
    "origin": str,
    "error": str,
    "message": str,
}


def encode_rejects(rejects: Iterable[RejectRow]) -> bytes:
    """Return the bytes of `rejects.jsonl`: canonical JSON objects, a line each, by ordinal."""
    ordered = sorted(rejects, key=lambda reject: reject.ordinal)
    return b"".join(encode_json(asdict(reject)) + b"\n" for reject in ordered)


def decode_rejects(data: bytes, *, where: str) -> list[RejectRow]:
    """Return the rows of `rejects.jsonl`.

    Raises:
        FormatError: Not as `encode_rejects` writes it, or an ordinal twice.
    """
    rows = []
    for number, line in enumerate(data.splitlines(), start=1):
        value = decode_json(line, where=f"{where}:{number}")
        check_schema(value, REJECT_SCHEMA, where=f"{where}:{number}")
        if value["entries"] < 1:
            raise FormatError(f"{where}:{number}.entries: {value['entries']}, expected at least 1")
        if value["ordinal"] < 0:
            raise FormatError(f"{where}:{number}.ordinal: {value['ordinal']}, expected at least 0")
        rows.append(RejectRow(**value))
    if len({row.ordinal for row in rows}) != len(rows) or encode_rejects(rows) != data:
        raise FormatError(f"{where}: expected one line an entry, each ended by \\n, by ordinal")
    return rows
