"""Objects made piece by piece: uploaded as they grow, there whole at the end or not at all."""

import base64
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import Any

from botocore.exceptions import ClientError
from urllib3.exceptions import ProtocolError

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import StorageError
from clipshards.packer.storage.s3_client import S3Process
from clipshards.packer.storage.s3_connection import S3Connection
from clipshards.packer.storage.s3_errors import CUT_SHORT, code_of, status_of, words_for
from clipshards.packer.storage.s3_head import head

_PART = 16 * 2**20
_MOST_PARTS = 10_000
# Parts on the way while the next one is filled.
_UNDER_WAY = 2
# Seconds for parts on the way that are no longer wanted, and then for giving up their upload.
_ABORT_S = 5.0
_TAKEN = (409, 412)
# What stores say to the second request that completes an upload.
_ENDED = ("InvalidPart", "NoSuchUpload")


class Upload:
    """One object being written.

    Small ones go by one request; larger ones by a multipart upload that is completed last, its
    parts of one size. S3 checks the CRC32C of each part and of the whole, which we computed.
    """

    def __init__(
        self,
        process: S3Process,
        key: str,
        *,
        where: str,
        about: Mapping[str, str],
        etag: str | None,
    ) -> None:
        """Begin; nothing is sent yet.

        Args:
            process: Of this process.
            key: Of the object.
            where: The same, for errors.
            about: Its metadata.
            etag: Of the object that it replaces; None where there must be none.
        """
        self._process = process
        self._where = where
        self._about = dict(about)
        self._target = {"Bucket": process.bucket, "Key": key}
        self._condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        self._extra = process.about_payer
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._size = 0
        self._crc32c = 0
        self._id: str | None = None
        self._sent: list[dict[str, Any]] = []
        self._under_way: deque[Future[bytes]] = deque()

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            StorageError: The store does not take them.
        """
        self._crc32c = crc32c(data, self._crc32c)
        self._size += len(data)
        view = memoryview(data)
        while self._pending_bytes + len(view) >= _PART:
            missing = _PART - self._pending_bytes
            self._pending.append(bytes(view[:missing]))
            view = view[missing:]
            self._send_part()
        if view:
            self._pending.append(bytes(view))
            self._pending_bytes += len(view)

    def finish(self) -> None:
        """Make the object appear.

        Raises:
            StorageError: It cannot, or another one stands there.
        """
        sums = {"ChecksumCRC32C": checksum_text(self._crc32c)}
        whole = {**self._target, **self._condition, **self._extra, **sums}
        if self._id is None:
            body = b"".join(self._pending)
            self._commit(lambda to: to.client.put_object(**whole, Body=body, Metadata=self._about))
            return
        if self._pending:
            self._send_part()
        self._wait(0)
        parts = {"Parts": self._sent}
        self._commit(
            lambda to: to.client.complete_multipart_upload(
                **whole,
                UploadId=self._id,
                MultipartUpload=parts,
                ChecksumType="FULL_OBJECT",
                MpuObjectSize=self._size,
            )
        )

    def abort(self) -> None:
        """Let all that was sent go. What the store does not say yes to is left for later.

        With little patience: somebody may have pressed Ctrl-C because the store does not answer.
        """
        for future in self._under_way:
            future.cancel()
        # A part that arrives behind the end of its upload would stay.
        wait(self._under_way, timeout=_ABORT_S)
        self._pending.clear()
        if self._id is not None:
            with suppress(StorageError, ClientError):
                self._process.tried(
                    lambda to: to.client.abort_multipart_upload(
                        **self._target, **self._extra, UploadId=self._id
                    ),
                    where=self._where,
                    most_s=_ABORT_S,
                )

    def _send_part(self) -> None:
        if self._id is None:
            self._id = self._begun()
        body = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        number = len(self._sent) + 1
        if number > _MOST_PARTS:
            raise StorageError(
                f"{self._where}: more than {_MOST_PARTS} parts of {_PART >> 20} MiB; make smaller "
                "shards (--shard-size)"
            )
        self._wait(_UNDER_WAY - 1)
        entry: dict[str, Any] = {
            "PartNumber": number,
            "ChecksumCRC32C": checksum_text(crc32c(body)),
        }
        self._sent.append(entry)
        self._under_way.append(self._process.threads.submit(partial(self._upload, entry, body)))

    def _begun(self) -> str:
        made = self._refusing(
            lambda to: to.client.create_multipart_upload(
                **self._target,
                **self._extra,
                Metadata=self._about,
                ChecksumAlgorithm="CRC32C",
                ChecksumType="FULL_OBJECT",
            )
        )
        return str(made["UploadId"])

    def _upload(self, entry: dict[str, Any], body: bytes) -> bytes:
        def request(to: S3Connection) -> Any:
            answer = to.client.upload_part(
                **self._target, **self._extra, UploadId=self._id, Body=body, **entry
            )
            if not answer.get("ETag"):
                raise ProtocolError(CUT_SHORT)
            return answer

        entry["ETag"] = self._refusing(request)["ETag"]
        return b""

    def _wait(self, most: int) -> None:
        """Wait until so many parts at most are under way."""
        while len(self._under_way) > most:
            self._under_way.popleft().result()

    def _refusing(self, request: Any) -> Any:
        try:
            return self._process.tried(request, where=self._where)
        except ClientError as exc:
            raise StorageError(f"{self._where}: {words_for(exc)}") from exc

    def _commit(self, request: Any) -> None:
        """Make the last request, whose answer may be lost although it was carried out."""
        try:
            answer = self._process.tried(request, where=self._where)
            if answer.get("ETag"):
                self._id = None
                return
            reason = CUT_SHORT
        except ClientError as exc:
            if status_of(exc) not in _TAKEN and code_of(exc) not in _ENDED:
                raise StorageError(f"{self._where}: {words_for(exc)}") from exc
            reason = code_of(exc) or words_for(exc)
        if not self._stands(reason):
            raise StorageError(f"{self._where}: it was not stored ({reason}); run again")
        # Somebody else's bytes, the same ones: ours are not needed.
        self.abort()

    def _stands(self, reason: str) -> bool:
        """Return whether what stands there is what was sent.

        Raises:
            StorageError: It is another object.
        """
        found = head(self._process, self._target["Key"], where=self._where)
        if found is None:
            return False
        same = (
            found.size == self._size and found.crc32c == self._crc32c and found.about == self._about
        )
        if not same:
            raise StorageError(
                f"{self._where}: another job made this file in the meantime, with other bytes "
                f"({reason}); it is left as it is. If no other job is at work, run again"
            )
        return True


def checksum_text(crc: int) -> str:
    """Return a CRC32C as S3 writes it: base64 of four bytes, the highest first."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode("ascii")
