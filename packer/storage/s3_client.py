"""S3 for one process: its connection and threads, and how trouble is met."""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError
from urllib3.exceptions import ProtocolError

from clipshards.packer.format.errors import StorageError
from clipshards.packer.storage.patience import Patience
from clipshards.packer.storage.s3_connection import S3Connection
from clipshards.packer.storage.s3_errors import (
    CUT_SHORT,
    TROUBLES,
    is_expired,
    is_passing,
    words_for,
)
from clipshards.packer.storage.threads import Threads


class S3Process:
    """What one process needs to talk to S3. Not for a process forked from it."""

    def __init__(self, url: str, bucket: str, *, reached: bool) -> None:
        """Set up; no request is made.

        Args:
            url: The location, for errors.
            bucket: Its bucket.
            reached: Whether its store has answered before, in another process.

        Raises:
            StorageError: The settings of AWS cannot be used.
        """
        self.bucket = bucket
        self.reached = reached
        self.threads = Threads()
        self._pid = os.getpid()
        self._url = url
        self.connection = S3Connection(url, bucket)
        self._renewing = threading.Lock()

    @property
    def is_mine(self) -> bool:
        """Whether it belongs to the process that asks; sockets and threads do not fork."""
        return self._pid == os.getpid()

    @property
    def about_payer(self) -> dict[str, str]:
        """What requests say of who pays for them, as arguments of the client's methods."""
        return self.connection.about_payer

    def tried(
        self, request: Callable[[S3Connection], Any], *, where: str, most_s: float = float("inf")
    ) -> Any:
        """Return what a request gives, made again while the store is in passing trouble.

        Args:
            request: Called with the connection, once or more.
            where: What it is about, for errors.
            most_s: Seconds after which it is no longer worth it, if the patience is longer.

        Raises:
            ClientError, Answer: The store refuses, for a reason that the caller may know; those
                that are the user's to mend are StorageError.
            StorageError: It cannot be had, or not within the patience for it.
        """
        patience = Patience(reached=self.reached, most_s=most_s)
        while True:
            connection = self.connection
            try:
                found = request(connection)
                _check(found)
            except TROUBLES as exc:
                self.met(exc, patience, connection, where=where)
            else:
                self.reached = True
                return found

    def met(
        self,
        trouble: Exception,
        patience: Patience,
        connection: S3Connection,
        *,
        where: str,
        got: int = 0,
    ) -> None:
        """Wait if a request is worth another try, else raise.

        Args:
            trouble: What became of the last try.
            patience: Of this request.
            connection: What the last try was made by; once it is told that its credentials are
                expired, the next one is made by another.
            where: What the request is about, for errors.
            got: Bytes that came so far.

        Raises:
            StorageError: It is not, or the patience is at its end.
            ClientError, Answer: The store refuses what was asked; the caller may know why.
        """
        if is_expired(trouble) and not patience.renewed:
            # Whoever keeps them in a file may have written new ones.
            patience.renewed = True
            patience.tries += 1
            with self._renewing:
                if self.connection is connection:
                    self.connection = S3Connection(self._url, self.bucket)
            return
        if is_passing(trouble):
            if patience.again(got=got):
                return
            raise StorageError(
                f"{where}: {words_for(trouble)}; given up after {patience.tries} tries in "
                f"{patience.waited_s:.0f} s"
            ) from None  # its own message may hold what ours must not
        if isinstance(trouble, BotoCoreError):
            raise StorageError(f"{where}: {words_for(trouble)}") from None
        self.reached = True
        raise trouble


def _check(answer: Any) -> None:
    """Raise ProtocolError if the head of an answer of botocore broke off."""
    if not isinstance(answer, dict):
        return
    of_answer = answer["ResponseMetadata"]
    headers = of_answer["HTTPHeaders"]
    bare = of_answer["HTTPStatusCode"] == 204 or "transfer-encoding" in headers
    check_head(headers, *(() if bare else ("content-length",)))


def check_head(headers: Mapping[str, str], *needed: str) -> None:
    """Look whether the head of an answer came whole.

    Raises:
        ProtocolError: It did not, or is none of S3.
    """
    etag = headers.get("etag", '""')
    if etag[:1] not in ("", '"'):
        raise ProtocolError(
            f"the ETag {etag} is none of S3; does a proxy on the way change what it passes on?"
        )
    for name in needed:
        if name not in headers:
            raise ProtocolError(f"the answer broke off, or comes without {name}")
    if len(etag) < 2 or etag[-1] != '"':
        raise ProtocolError(CUT_SHORT)


def split_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix of an address s3://bucket/prefix.

    Raises:
        ValueError: It is no such address.
    """
    parts = urlsplit(url)
    path = url.removeprefix("s3://")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.rstrip("/")
    odd = "" in prefix.split("/") and prefix != ""
    if parts.scheme != "s3" or not bucket or odd or "?" in path or "#" in path:
        raise ValueError(f"{url}: expected s3://bucket or s3://bucket/prefix")
    return bucket, prefix
