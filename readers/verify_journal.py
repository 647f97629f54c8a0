"""A file that keeps which shards were found whole, so that a long check can go on."""

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np

from clipshards.packer.format.canonical import check_schema, decode_json, encode_json
from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import FormatError, StateError, StorageError
from clipshards.readers.findings import LEVELS, Level
from clipshards.readers.shard_check import Marks, ShardChecked

_FORMAT = "clipshards-verify"
_VERSION = 0
_HEAD = {"format": str, "version": int, "level": str}
_LINE = {
    "content_digest": str,
    "number": int,
    "samples": int,
    "bytes": int,
    "layout": [str],
    "keys": str,
    "contents": str,
    "crc32c": int,
}


class VerifyJournal:
    """Canonical JSON: a head, then one line a shard that was found whole, as soon as it is."""

    def __init__(self, path: str | os.PathLike[str], level: Level) -> None:
        """Open it, or make it; a line that a crash cut short is taken away.

        Raises:
            StateError: The file is none of ours, or of a check of another level.
            StorageError: It cannot be read or written.
        """
        self._path = Path(path)
        self._shards: dict[tuple[str, int], ShardChecked] = {}
        try:
            whole = self._read(level) if self._path.exists() else 0
            self._file = self._path.open("r+b" if self._path.exists() else "wb")
            self._file.truncate(whole)
            self._file.seek(whole)
        except OSError as exc:
            raise StorageError(f"{self._path}: {exc.strerror or exc}") from exc
        if not whole:
            self._write(_head(level))

    def find(self, content_digest: str, number: int) -> ShardChecked | None:
        """Return what an earlier run saw of a shard that it found whole, None if there is none."""
        return self._shards.get((content_digest, number))

    def add(self, content_digest: str, checked: ShardChecked) -> None:
        """Keep a shard in which nothing was found."""
        value = {
            "content_digest": content_digest,
            "number": checked.number,
            "samples": checked.samples,
            "bytes": checked.bytes,
            "layout": list(checked.layout),
            "keys": _text(checked.keys),
            "contents": _text(checked.contents),
        }
        # An altered line could call a shard whole that nobody has read.
        self._write(value | {"crc32c": crc32c(encode_json(value))})

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def _write(self, value: dict[str, Any]) -> None:
        try:
            self._file.write(encode_json(value) + b"\n")
            self._file.flush()
        except OSError as exc:
            raise StorageError(f"{self._path}: {exc.strerror or exc}") from exc

    def _read(self, level: Level) -> int:
        """Read what is there; return how many bytes of it are whole lines."""
        place = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{self._path}:{number}"
                if not line.endswith(b"\n"):
                    self._check_cut(line, where, head=not place)
                    break
                try:
                    value = decode_json(line[:-1], where=where)
                    check_schema(value, _LINE if place else _HEAD, where=where)
                    if place:
                        self._keep(value, where)
                    elif (value["format"], value["version"]) != (_FORMAT, _VERSION):
                        raise FormatError(f"{where}: not a journal of this release")
                    elif value["level"] != level:
                        raise FormatError(
                            f"{where}: of a check of level {value['level']}, expected {level}"
                        )
                except (FormatError, ValueError) as exc:
                    raise StateError(f"{exc}; give another journal") from None
                place += len(line)
        return place

    def _check_cut(self, line: bytes, where: str, *, head: bool) -> None:
        """Check that a line without an end may be taken away: it may be of another file."""
        heads = [encode_json(_head(level)) for level in LEVELS]
        if head and not any(whole.startswith(line) for whole in heads):
            raise StateError(f"{where}: not a journal of this release; give another journal")

    def _keep(self, value: dict[str, Any], where: str) -> None:
        if value.pop("crc32c") != crc32c(encode_json(value)):
            raise FormatError(f"{where}: the line was altered")
        checked = ShardChecked(
            value["number"],
            samples=value["samples"],
            bytes=value["bytes"],
            layout=tuple(value["layout"]),
            keys=_marks(value["keys"]),
            contents=_marks(value["contents"]),
        )
        if {len(checked.keys), len(checked.contents)} != {checked.samples} or checked.bytes < 0:
            raise FormatError(f"{where}: a count of a shard is not that of its samples")
        self._shards[value["content_digest"], checked.number] = checked


def _head(level: Level) -> dict[str, Any]:
    return {"format": _FORMAT, "version": _VERSION, "level": level}


def _text(marks: Marks) -> str:
    return base64.b64encode(marks.astype("<u8").tobytes()).decode("ascii")


def _marks(text: str) -> Marks:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<u8").astype(np.uint64)
