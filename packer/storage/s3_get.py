"""Ranges of an object: resumed at the byte where a body breaks, all of one version."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import ProtocolError

from clipshards.packer.format.errors import NotFoundError, StorageError
from clipshards.packer.storage import s3_connection
from clipshards.packer.storage.patience import SLOWEST, Patience
from clipshards.packer.storage.s3_client import S3Process, check_head
from clipshards.packer.storage.s3_connection import S3Connection
from clipshards.packer.storage.s3_errors import TROUBLES, Answer, words_for

# At most so much of a broken body is asked for again.
_PIECE = 256 * 2**10
# Of a body of this size, a thread that watches it is not to be noticed.
_MANY = 16 * 2**20
_OF_WHOLE = ("ETag", "Content-Length")
_OF_RANGE = (*_OF_WHOLE, "Content-Range")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class ObjectReader:
    """Reads a range of an object piece by piece, by as many requests as it takes."""

    def __init__(
        self, process: S3Process, key: str, *, where: str, start: int, stop: int | None, etag: str
    ) -> None:
        """Set up; nothing is requested yet.

        Args:
            process: Of this process.
            key: The object.
            where: The same, for errors.
            start: First byte.
            stop: Behind the last byte; None for the end of the object.
            etag: The version that it must be of; empty for any.
        """
        self.etag = etag
        """Of the version that is being read."""
        self.checksum = ""
        """CRC-32C of the whole object as the store keeps it, where all of it is asked for."""
        self._process = process
        self._key = key
        self._where = where
        self._start = self._place = start
        self._stop = stop

    def pieces(self, size: int = _PIECE) -> Iterator[bytes]:
        """Yield the bytes, `size` at a time at most; they end where the object ends.

        Raises:
            NotFoundError: There is no such object.
            StorageError: It changed, or cannot be had within the patience for it.
        """
        patience = Patience(reached=self._process.reached)
        while True:
            connection = self._process.connection
            try:
                for piece in self._once(connection, size):
                    given_s = time.monotonic()
                    yield piece
                    patience.leave_out(time.monotonic() - given_s)
                return
            except TROUBLES as exc:
                if isinstance(exc, Answer) and exc.status == 416:  # it ends before the range
                    return
                if isinstance(exc, Answer) and exc.status == 412:
                    raise StorageError(changed(self._where)) from None
                got = self._place - self._start
                try:
                    self._process.met(exc, patience, connection, where=self._where, got=got)
                except Answer as final:
                    missing = final.code in ("NoSuchBucket", "NoSuchKey")
                    kind = NotFoundError if missing else StorageError
                    raise kind(f"{self._where}: {words_for(final)}") from None

    def _once(self, connection: S3Connection, size: int) -> Iterator[bytes]:
        """Yield what is left by one request.

        Raises:
            Answer, BotoCoreError, HTTPError: It broke; what came needs not come again.
            StorageError: The store does not do what S3 does.
        """
        headers = {"If-Match": self.etag} if self.etag else {}
        whole = not self._place and self._stop is None
        if whole:
            headers["x-amz-checksum-mode"] = "ENABLED"
        else:
            last = "" if self._stop is None else self._stop - 1
            headers["Range"] = f"bytes={self._place}-{last}"
        answer = connection.answer("GET", self._key, headers, where=self._where)
        self._process.reached = True
        body = answer.raw
        try:
            check_head(answer.headers, *(_OF_WHOLE if answer.status_code == 200 else _OF_RANGE))
            etag = answer.headers["ETag"]
            if self.etag not in ("", etag):
                raise StorageError(changed(self._where))
            self.etag = etag
            if whole:
                self.checksum = answer.headers.get("x-amz-checksum-crc32c", "")
            left = self._announced(answer.status_code, answer.headers)
            for piece in (_watched if left > _MANY else _in_time)(body, left, size):
                self._place += len(piece)
                left -= len(piece)
                yield piece
            if left:
                raise ProtocolError(f"the body ended {left} bytes early")
        except BaseException:
            body.close()
            raise
        # Read to its end, the connection serves the next request.
        body.release_conn()

    def _announced(self, status: int, headers: Mapping[str, str]) -> int:
        """Return how many bytes an answer says that it holds, if they are those asked for."""
        length = int(headers.get("Content-Length", -1))
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if not self._place and self._stop is None and status == 200:
            self._stop = length
        elif found is None or int(found[1]) != self._place or status != 206:
            raise StorageError(f"{self._where}: the store answers with another range")
        else:
            end = int(found[3])
            self._stop = end if self._stop is None else min(self._stop, end)
            if int(found[2]) + 1 != self._stop:
                raise StorageError(f"{self._where}: the store answers with a part of the range")
        if length != self._stop - self._place:
            raise StorageError(f"{self._where}: the store announces {length} bytes of a range")
        return length


def _in_time(body: BaseHTTPResponse, left: int, size: int) -> Iterator[bytes]:
    """Yield a body as it comes, a system call at a time; raise ProtocolError where it trickles."""
    # Of a while; what came fast before excuses nothing later.
    waited_s, got = 0.0, 0
    while left:
        asked_s = time.monotonic()
        piece = body.read1(min(left, size))
        waited_s += time.monotonic() - asked_s
        if not piece:
            return
        left -= len(piece)
        got += len(piece)
        yield piece
        if waited_s > s3_connection.READ_S:
            if got < waited_s * SLOWEST:
                raise ProtocolError(f"{got} bytes came in {waited_s:.0f} s")
            waited_s, got = 0.0, 0


def _watched(body: BaseHTTPResponse, left: int, size: int) -> Iterator[bytes]:
    """Yield a body in whole pieces, which takes a third less CPU time; the same errors."""
    watch = _Watch(body, size)
    watch.start()
    try:
        while left and (piece := watch.read(min(left, size))):
            left -= len(piece)
            yield piece
    finally:
        watch.done.set()


class _Watch(threading.Thread):
    """Ends a connection whose next piece does not come in time, which a read cannot see itself."""

    def __init__(self, body: BaseHTTPResponse, size: int) -> None:
        super().__init__(name="clipshards-watch", daemon=True)
        self.done = threading.Event()
        self._body = body
        self._most_s = s3_connection.READ_S + size / SLOWEST
        # When the piece was asked for that is being read.
        self._asked_s: float | None = None

    def read(self, size: int) -> bytes:
        """Return the next piece of the body."""
        self._asked_s = time.monotonic()
        try:
            return self._body.read(size)
        finally:
            self._asked_s = None

    def run(self) -> None:
        """Look now and then, until all is read."""
        while not self.done.wait(self._most_s / 10):
            asked_s = self._asked_s
            if asked_s is not None and time.monotonic() - asked_s > self._most_s:
                # RuntimeError: it came after all, and the connection is free again.
                with suppress(OSError, RuntimeError):
                    self._body.shutdown()


def changed(where: str) -> str:
    """Return what is to be said of an object whose bytes come from two versions."""
    return (
        f"{where}: it was replaced while it was being read; verify the data set, and begin the "
        "run again"
    )
