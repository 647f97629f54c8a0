"""What stands at a location on the S3 server of the tests, seen without any code of ours."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3_server import S3Server


@dataclass(frozen=True)
class Bucket:
    """A location as the server itself has it."""

    client: Any
    url: str

    @classmethod
    def of(cls, server: S3Server, url: str) -> "Bucket":
        return cls(server.client(), url)

    @property
    def name(self) -> str:
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        return self.url.removeprefix("s3://").partition("/")[2] + "/"

    def target(self, name: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": self.prefix + name}

    def heads(self) -> dict[str, tuple[str, str]]:
        """Return when each object was written and its ETag, by its name in the location."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix
        )
        return {
            entry["Key"].removeprefix(self.prefix): (str(entry["LastModified"]), entry["ETag"])
            for page in pages
            for entry in page.get("Contents", ())
        }

    def names(self) -> list[str]:
        return sorted(self.heads())

    def read(self, name: str) -> bytes:
        with self.client.get_object(**self.target(name))["Body"] as body:
            return bytes(body.read())

    def objects(self) -> dict[str, bytes]:
        """Return the bytes of all objects, by their names in the location."""
        return {name: self.read(name) for name in self.names()}

    def about(self, name: str) -> dict[str, str]:
        return dict(self.client.head_object(**self.target(name))["Metadata"])

    def crc32c(self, name: str) -> int:
        """Return the checksum that the store itself keeps of the whole object."""
        found = self.client.head_object(**self.target(name), ChecksumMode="ENABLED")
        # This server says so only of what was uploaded in parts.
        assert found.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        return int.from_bytes(base64.b64decode(found["ChecksumCRC32C"]), "big")

    def put(self, name: str, data: bytes) -> None:
        """Replace an object, its metadata as they were where there was one."""
        about = self.about(name) if name in self.heads() else {}
        self.client.put_object(**self.target(name), Body=data, Metadata=about)

    def flip(self, name: str, place: int) -> None:
        data = bytearray(self.read(name))
        data[place] ^= 1
        self.put(name, bytes(data))

    def remove(self, name: str) -> None:
        self.client.delete_object(**self.target(name))

    def upload(self, folder: Path) -> None:
        """Copy a data set's folder."""
        for name, data in files(folder).items():
            self.client.put_object(**self.target(name), Body=data)

    def uploads(self) -> list[str]:
        """Return the names of multipart uploads that were begun and not ended."""
        found = self.client.list_multipart_uploads(Bucket=self.name, Prefix=self.prefix)
        assert not found["IsTruncated"]
        return [entry["Key"].removeprefix(self.prefix) for entry in found.get("Uploads", ())]


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files under a folder, by their names in it."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
