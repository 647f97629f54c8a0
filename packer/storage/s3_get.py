"""Ranges of an object: resumed at the byte where a body breaks, all of one version."""

import re
from collections.abc import Mapping

from urllib3.exceptions import ProtocolError

from clipshards.packer.format.errors import NotFoundError, StorageError
from clipshards.packer.storage.patience import Patience
from clipshards.packer.storage.s3_client import S3Process
from clipshards.packer.storage.s3_errors import TROUBLES, Answer, words_for

# At most so much of a broken body is asked for again.
_PIECE = 256 * 2**10
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def get_range(
    process: S3Process, key: str, start: int, size: int | None, *, where: str, etag: str = ""
) -> tuple[bytes, str]:
    """Return bytes of an object, and the ETag of its version.

    Args:
        process: Of this process.
        key: The object.
        start: First byte.
        size: How many, at least 1; None for all. Fewer come only where the object ends.
        where: The object, for errors.
        etag: The version that it must be of; empty for any.

    Raises:
        NotFoundError: There is no such object.
        StorageError: It changed, or cannot be had within the patience for it.
    """
    reading = _Reading(start, None if size is None else start + size, etag)
    patience = Patience(reached=process.reached)
    while True:
        try:
            reading.go_on(process, key, where=where)
        except TROUBLES as exc:
            if isinstance(exc, Answer) and exc.status == 416:  # it ends before the range
                break
            if isinstance(exc, Answer) and exc.status == 412:
                raise StorageError(_changed(where)) from None
            try:
                process.met(exc, patience, where=where, got=reading.place - start)
            except Answer as final:
                kind = NotFoundError if final.code == "NoSuchKey" else StorageError
                raise kind(f"{where}: {words_for(final)}") from None
        else:
            break
    return b"".join(reading.pieces), reading.etag


class _Reading:
    """How far the reading of a range has come."""

    def __init__(self, start: int, stop: int | None, etag: str) -> None:
        self.place = start
        self.stop = stop
        self.etag = etag
        self.pieces: list[bytes] = []

    def go_on(self, process: S3Process, key: str, *, where: str) -> None:
        """Read what is left by one request.

        Raises:
            Answer, BotoCoreError, HTTPError: It broke; what came is kept.
            StorageError: The store does not do what S3 does.
        """
        headers = {"If-Match": self.etag} if self.etag else {}
        if self.place or self.stop is not None:
            headers["Range"] = f"bytes={self.place}-{'' if self.stop is None else self.stop - 1}"
        answer = process.get(key, headers, where=where)
        body = answer.raw
        try:
            etag = answer.headers.get("ETag", "")
            if self.etag not in ("", etag):
                raise StorageError(_changed(where))
            self.etag = etag
            left = self._announced(answer.status_code, answer.headers, where=where)
            while left:
                piece = body.read(min(left, _PIECE))
                if not piece:
                    raise ProtocolError(f"the body ended {left} bytes early")
                self.pieces.append(piece)
                self.place += len(piece)
                left -= len(piece)
        except BaseException:
            body.close()
            raise
        # Read to its end, the connection serves the next request.
        body.release_conn()

    def _announced(self, status: int, headers: Mapping[str, str], *, where: str) -> int:
        """Return how many bytes an answer says that it holds, if they are those asked for."""
        length = int(headers.get("Content-Length", -1))
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if not self.place and self.stop is None and status == 200:
            self.stop = length
        elif found is None or int(found[1]) != self.place or status != 206:
            raise StorageError(f"{where}: asked for a range, the store answers with another one")
        else:
            end = int(found[3])
            self.stop = end if self.stop is None else min(self.stop, end)
            if int(found[2]) + 1 != self.stop:
                raise StorageError(f"{where}: asked for a range, the store answers with less")
        if length != self.stop - self.place:
            raise StorageError(f"{where}: {length} bytes announced, expected the range asked for")
        return length


def _changed(where: str) -> str:
    return (
        f"{where}: it was replaced while it was being read; verify the data set, and begin the "
        "run again"
    )
