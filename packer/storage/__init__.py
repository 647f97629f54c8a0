"""Where a data set lives: the one place that reads and writes it."""

import os

from clipshards.packer.storage.base import Storage
from clipshards.packer.storage.local import LocalStorage

__all__ = ["Storage", "open_storage"]


def open_storage(location: str | os.PathLike[str]) -> Storage:
    """Return the storage at `location`, a folder that need not exist yet.

    Raises:
        ValueError: It is empty, or an address of a kind that this release does not serve.
    """
    text = os.fspath(location)
    if not text:
        raise ValueError("expected a location, got an empty one")
    if "://" in text:
        raise ValueError(f"{text}: expected a local folder; object storage is not served yet")
    return LocalStorage(text)
