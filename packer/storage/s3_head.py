"""What S3 tells of an object without giving a byte of it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from urllib3.exceptions import ProtocolError

from clipshards.packer.format.errors import StorageError
from clipshards.packer.storage.s3_client import S3Process, check_head
from clipshards.packer.storage.s3_connection import S3Connection
from clipshards.packer.storage.s3_errors import CUT_SHORT, Answer, words_for

_ABOUT = "x-amz-meta-"


@dataclass(frozen=True)
class Head:
    """An object as the answer to a HEAD has it.

    Attributes:
        size: In bytes.
        etag: Its ETag, which changes with its bytes.
        crc32c: Of the whole object; None where the store does not tell it.
        about: Its metadata.
    """

    size: int
    etag: str
    crc32c: int | None
    about: dict[str, str]


def head(process: S3Process, key: str, *, where: str) -> Head | None:
    """Return what the store tells of an object; None if there is none, or no such bucket.

    Args:
        process: Of this process.
        key: Of the object.
        where: The same, for errors.

    Raises:
        StorageError: It cannot be had.
    """

    def request(connection: S3Connection) -> Head:
        asked = {"x-amz-checksum-mode": "ENABLED"}
        answer = connection.answer("HEAD", key, asked, where=where)
        check_head(answer.headers, "content-length")
        return _head_of(answer.headers)

    try:
        found: Head = process.tried(request, where=where)
    except Answer as exc:
        if exc.status == 404:
            return None
        raise StorageError(f"{where}: {words_for(exc)}") from None
    return found


def _head_of(headers: Mapping[str, str]) -> Head:
    etag, size = headers.get("ETag", ""), headers["Content-Length"]
    if not etag or not size.isdecimal():
        raise ProtocolError(CUT_SHORT)
    about = {
        name.lower().removeprefix(_ABOUT): value
        for name, value in headers.items()
        if name.lower().startswith(_ABOUT)
    }
    return Head(int(size), etag, crc32c_of(headers), about)


def crc32c_of(headers: Mapping[str, str]) -> int | None:
    """Return the CRC32C of a whole object by the head of an answer, None where it has none.

    That of an upload in parts may be one over the checksums of the parts (type COMPOSITE).
    """
    text = headers.get("x-amz-checksum-crc32c", "")
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:  # old composite ones end with a dash and the number of parts
        return None
    return int.from_bytes(data, "big") if len(data) == 4 else None
