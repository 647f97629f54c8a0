"""Where a data set lives: the one place that reads and writes it."""

import os

from clipshards.packer.storage.base import Storage, Stored
from clipshards.packer.storage.local import LocalStorage

__all__ = ["Storage", "Stored", "open_storage"]


def open_storage(location: str | os.PathLike[str]) -> Storage:
    """Return the storage at `location`: a folder that need not exist yet, or s3://bucket/prefix.

    No request is made.

    Raises:
        ValueError: It is empty, or an address of another kind.
    """
    text = os.fspath(location)
    if not text:
        raise ValueError("expected a location, got an empty one")
    if text.startswith("s3://"):
        # boto3 takes a sixth of a second to load.
        from clipshards.packer.storage.s3 import S3Storage

        return S3Storage(text)
    if text.startswith("s3:/"):
        raise ValueError(f"{text}: expected s3://bucket/prefix; a Path cannot hold an address")
    if "://" in text:
        raise ValueError(f"{text}: expected a folder or s3://bucket/prefix")
    return LocalStorage(text)
