"""What a storage is, whatever stands behind it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

Write = Callable[[bytes], None]
"""Appends bytes to the file being made."""


class Storage(Protocol):
    """A data set's location. Names are relative to it, with forward slashes.

    Every method raises StorageError with the location's name when the medium fails, and
    ValueError for a name that leaves the location. Objects can be pickled, used after a
    fork and from several threads.
    """

    @property
    def url(self) -> str:
        """The location as the user wrote it."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer only where the file ends.

        Files are kept open: one that somebody else replaced or removed since this object
        first read from it may be read as it was.
        """

    def read_all(self, name: str) -> bytes:
        """Return the whole file."""

    def size(self, name: str) -> int | None:
        """Return the file's size in bytes, None if there is no such file."""

    def names(self, folder: str) -> list[str]:
        """Return the names of all files directly in `folder`, sorted, without the folder."""

    def folders(self) -> list[str]:
        """Return the names of all folders directly in the location, sorted."""

    def writer(self, name: str, *, staging: str) -> AbstractContextManager[Write]:
        """Return a context that makes `name` appear whole at its normal end, or not at all.

        Args:
            name: The file; one that exists is replaced.
            staging: Folder for the unfinished file, where the medium needs one.
        """

    def put(self, name: str, data: bytes, *, staging: str) -> None:
        """Make `name` hold `data`, whole or not at all; replaces."""

    def put_new(self, name: str, data: bytes, *, staging: str) -> bool:
        """Make `name` hold `data` unless it exists; return whether it was made here."""

    def remove(self, name: str) -> None:
        """Remove a file; one that does not exist is no error."""

    def remove_folder(self, name: str) -> None:
        """Remove a folder and all in it; one that does not exist is no error."""
