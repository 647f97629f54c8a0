"""A bucket, or a prefix in one, as storage: conditional writes, resumed reads of one version."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from botocore.exceptions import ClientError
from urllib3.exceptions import ProtocolError

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import NotFoundError, StorageError
from clipshards.packer.storage.base import NOTHING, Stored, Write
from clipshards.packer.storage.names import checked_name
from clipshards.packer.storage.s3_client import S3Process, split_url
from clipshards.packer.storage.s3_errors import CUT_SHORT, code_of, status_of, words_for
from clipshards.packer.storage.s3_get import ObjectReader, changed
from clipshards.packer.storage.s3_head import Head, head
from clipshards.packer.storage.s3_put import Upload, checksum_text

# Objects that one request lists or removes; S3 takes no more.
_PAGE = 1000
# Of a whole object that comes damaged.
_TRIES = 3


class S3Storage:
    """A location s3://bucket/prefix; see `Storage` for the methods.

    Credentials, region, endpoint and certificates are found as by any tool of AWS; besides them
    count AWS_NO_SIGN_REQUEST=YES (public buckets), AWS_REQUEST_PAYER=requester and
    CLIPSHARDS_S3_PATIENCE_S. Nothing of these is kept in the object.
    """

    far = True

    def __init__(self, url: str, *, reached: bool = False) -> None:
        """Set up; no request is made.

        Args:
            url: The address.
            reached: Whether the store has answered before, in another process.

        Raises:
            ValueError: It is no such address.
        """
        self._bucket, prefix = split_url(url)
        self.url = f"s3://{self._bucket}/{prefix}".rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._reached = reached
        self._bucket_is_there = False
        self._process: S3Process | None = None
        # Versions that were read from: every later byte must be of the same.
        self._etags: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(S3Storage, reached=self._has_answered), (self.url,)

    @property
    def _has_answered(self) -> bool:
        """Whether the store has, to this process or one before it."""
        return self._reached if self._process is None else self._process.reached

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer only where the object ends."""
        known = self._etags.get(name, "")
        if size <= 0:
            return b""
        reader = self._reader(name, offset, offset + size, etag=known)
        data = b"".join(reader.pieces())
        # Two threads may read from it first, one before and one after it is replaced.
        if reader.etag and not known and reader.etag != self._etags.setdefault(name, reader.etag):
            raise StorageError(changed(self._where(name)))
        return data

    def begin_read(self, name: str, offset: int, size: int) -> Future[bytes]:
        """See `Storage`."""
        return self._here().threads.submit(partial(self.read, name, offset, size))

    def read_all(self, name: str) -> bytes:
        """Return the whole object."""
        for _ in range(_TRIES):
            reader = self._reader(name, 0, None)
            data = b"".join(reader.pieces())
            # Not all stores keep one, nor for all objects; who made the parts of an upload
            # elsewhere may have left one of the parts' sums.
            if "-" in reader.checksum or reader.checksum in ("", checksum_text(crc32c(data))):
                return data
        raise StorageError(
            f"{self._where(name)}: it came {_TRIES} times with another checksum than it was stored "
            "with"
        )

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """See `Storage`."""
        return self._reader(name, 0, None).pieces(size)

    def _reader(self, name: str, start: int, stop: int | None, *, etag: str = "") -> ObjectReader:
        key, where = self._key(name), self._where(name)
        return ObjectReader(self._here(), key, where=where, start=start, stop=stop, etag=etag)

    def size(self, name: str) -> int | None:
        """Return the object's size in bytes, None if there is no such object."""
        found = self._head(name)
        return None if found is None else found.size

    def stored(self, name: str) -> Stored | None:
        """See `Storage`. Asked for is no byte of the object."""
        found = self._head(name)
        return None if found is None else Stored(found.size, found.crc32c)

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Storage`."""
        prefix = f"{self._key(folder)}/"
        return {
            entry["Key"].removeprefix(prefix): int(entry["Size"])
            for page in self._pages(folder, prefix)
            for entry in page.get("Contents", ())
            # Some tools put an empty object where they show a folder.
            if entry["Key"] != prefix
        }

    def folders(self) -> list[str]:
        """Return the names of all folders directly in the location, sorted."""
        return sorted(
            entry["Prefix"].removeprefix(self._prefix).rstrip("/")
            for page in self._pages(None, self._prefix)
            for entry in page.get("CommonPrefixes", ())
        )

    @contextmanager
    def writer(
        self,
        name: str,
        *,
        staging: str,
        about: Mapping[str, str] = NOTHING,
        replaces: bool = False,
    ) -> Iterator[Write]:
        """See `Storage`."""
        checked_name(staging, url=self.url)
        etag, standing = None, self._head(name)
        if standing is not None:
            if not replaces and standing.about != dict(about):
                raise StorageError(
                    f"{self._where(name)}: a file that another job made stands there, and is left "
                    "as it is; choose another location, or pack anew (--replan)"
                )
            etag = standing.etag
        upload = Upload(
            self._here(), self._key(name), where=self._where(name), about=about, etag=etag
        )
        try:
            yield upload.write
            upload.finish()
        except BaseException:
            upload.abort()
            raise
        self._etags.pop(name, None)

    def put(self, name: str, data: bytes, *, staging: str) -> None:
        """Make `name` hold `data`, whole or not at all; replaces."""
        self._put(name, data, {}, staging=staging)

    def put_new(self, name: str, data: bytes, *, staging: str) -> bool:
        """See `Storage`. Where an answer was lost, it may have been made here, and False."""
        condition = {"IfNoneMatch": "*"}
        return self._put(name, data, condition, staging=staging, expected=(412,)) is not None

    def remove(self, name: str) -> None:
        """Remove an object; one that does not exist is no error."""
        self._asked(name, lambda client, target: client.delete_object(**target))
        self._etags.pop(name, None)

    def remove_folder(self, name: str) -> None:
        """Remove all objects below a folder; one that does not exist is no error."""
        prefix = f"{self._key(name)}/"
        pages = self._pages(name, prefix, delimiter="")
        keys = [{"Key": entry["Key"]} for page in pages for entry in page.get("Contents", ())]
        for start in range(0, len(keys), _PAGE):
            self._remove_keys(name, keys[start : start + _PAGE])
        self._etags.clear()

    def _remove_keys(self, folder: str, keys: list[dict[str, str]]) -> None:
        wanted = {"Objects": keys, "Quiet": True}
        answer = self._asked(
            folder, lambda client, of: client.delete_objects(**_bucket(of), Delete=wanted)
        )
        for failed in answer.get("Errors", ()):
            raise StorageError(
                f"s3://{self._bucket}/{failed['Key']}: it cannot be removed: {failed['Code']}"
            )

    def remove_unfinished(self, folder: str) -> None:
        """See `Storage`."""
        prefix = f"{self._key(folder)}/"
        marker: dict[str, str] = {}
        uploads = []
        while True:
            page = self._asked(
                folder,
                lambda client, of: client.list_multipart_uploads(
                    **_bucket(of), Prefix=prefix, **marker
                ),
            )
            uploads += page.get("Uploads", ())
            if not page.get("IsTruncated"):
                break
            marker["KeyMarker"] = page["NextKeyMarker"]
            marker["UploadIdMarker"] = page["NextUploadIdMarker"]
        for upload in uploads:
            self._abort(folder, {"Key": upload["Key"], "UploadId": upload["UploadId"]})

    def _abort(self, folder: str, upload: dict[str, str]) -> None:
        self._asked(
            folder,
            lambda client, of: client.abort_multipart_upload(**of | upload),
            expected=(404,),  # it has ended in the meantime
        )

    def _put(
        self,
        name: str,
        data: bytes,
        condition: Mapping[str, str],
        *,
        staging: str,
        expected: tuple[int, ...] = (),
    ) -> Any:
        checked_name(staging, url=self.url)
        sums = {"ChecksumCRC32C": checksum_text(crc32c(data))}

        def request(client: Any, target: Mapping[str, str]) -> Any:
            answer = client.put_object(**target, **sums, **condition, Body=data)
            if not answer.get("ETag"):
                raise ProtocolError(CUT_SHORT)
            return answer

        self._etags.pop(name, None)
        return self._asked(name, request, expected=expected)

    def _head(self, name: str) -> Head | None:
        found = head(self._here(), self._key(name), where=self._where(name))
        if found is None and not self._bucket_is_there:
            # The answer to a HEAD does not say that it is the bucket that is missing.
            look = {"Prefix": self._prefix, "MaxKeys": 1}
            self._asked(None, lambda client, of: client.list_objects_v2(**_bucket(of), **look))
        self._bucket_is_there = True
        return found

    def _pages(self, folder: str | None, prefix: str, *, delimiter: str = "/") -> Iterator[Any]:
        """Yield the answers that list what stands below a prefix."""
        more: dict[str, Any] = {"Prefix": prefix, "Delimiter": delimiter, "MaxKeys": _PAGE}
        while True:
            page = self._asked(
                folder, lambda client, of: client.list_objects_v2(**_bucket(of), **more)
            )
            yield page
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _asked(
        self,
        name: str | None,
        request: Callable[[Any, dict[str, str]], Any],
        *,
        expected: tuple[int, ...] = (),
    ) -> Any:
        """Return what a request gives; None where the store answers with an expected status.

        Args:
            name: What it is about; None for the location.
            request: Called with the client, and bucket, key and payer as its methods take them.
            expected: HTTP statuses.

        Raises:
            StorageError: It fails.
        """
        here = self._here()
        target = {"Bucket": self._bucket, "Key": self._prefix if name is None else self._key(name)}
        target.update(here.about_payer)
        try:
            return here.tried(lambda to: request(to.client, target), where=self._where(name))
        except ClientError as exc:
            if status_of(exc) in expected:
                return None
            kind = NotFoundError if code_of(exc) == "NoSuchBucket" else StorageError
            raise kind(f"{self._where(name)}: {words_for(exc)}") from exc

    def _here(self) -> S3Process:
        """Return what this process talks to the store with."""
        if self._process is None or not self._process.is_mine:
            self._process = S3Process(self.url, self._bucket, reached=self._has_answered)
        return self._process

    def _key(self, name: str) -> str:
        return self._prefix + checked_name(name, url=self.url)

    def _where(self, name: str | None) -> str:
        return self.url if name is None else f"{self.url}/{name}"


def _bucket(target: Mapping[str, str]) -> dict[str, str]:
    """Return what a request takes that is about no single object."""
    return {name: value for name, value in target.items() if name != "Key"}
