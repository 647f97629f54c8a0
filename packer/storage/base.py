"""What a storage is, whatever stands behind it."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import NamedTuple, Protocol

NOTHING: Mapping[str, str] = MappingProxyType({})

Write = Callable[[bytes], None]
"""Appends bytes to the file being made."""


class Stored(NamedTuple):
    """What is known of a file that was not read."""

    bytes: int
    crc32c: int | None
    """Of the whole file, as a store computed it when the file came; None where none is kept."""


class Storage(Protocol):
    """A data set's location. Names are relative to it, with forward slashes.

    Every method raises StorageError with the location's name when the medium fails, and
    ValueError for a name that leaves the location. Objects can be pickled, used after a
    fork and from several threads.
    """

    @property
    def url(self) -> str:
        """The location as the user wrote it."""

    @property
    def far(self) -> bool:
        """Whether a read waits so long that many should be under way at a time."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer only where the file ends.

        Of one file all bytes are of one version. One that somebody else replaced since this
        object first read from it is read as it was, or raises StorageError.
        """

    def begin_read(self, name: str, offset: int, size: int) -> Future[bytes]:
        """Begin `read`; return what will give or raise the same."""

    def read_all(self, name: str) -> bytes:
        """Return the whole file."""

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """Yield the whole file from front to back, `size` bytes at a time at most."""

    def size(self, name: str) -> int | None:
        """Return the file's size in bytes, None if there is no such file."""

    def stored(self, name: str) -> Stored | None:
        """Return what is known of the file without reading it, None if there is no such file."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of all files directly in `folder` by their sorted names, without it."""

    def folders(self) -> list[str]:
        """Return the names of all folders directly in the location, sorted."""

    def writer(
        self,
        name: str,
        *,
        staging: str,
        about: Mapping[str, str] = NOTHING,
        replaces: bool = False,
    ) -> AbstractContextManager[Write]:
        """Return a context that makes `name` appear whole at its normal end, or not at all.

        Args:
            name: The file. One that exists is replaced; in a store, where others write too,
                only one that stood there at the beginning.
            staging: Folder for the unfinished file, where the medium needs one.
            about: What a store keeps beside the bytes; a file that is about something else is
                not replaced,
            replaces: unless this says so.
        """

    def put(self, name: str, data: bytes, *, staging: str) -> None:
        """Make `name` hold `data`, whole or not at all; replaces."""

    def put_new(self, name: str, data: bytes, *, staging: str) -> bool:
        """Make `name` hold `data` unless it exists; return whether it was made here."""

    def remove(self, name: str) -> None:
        """Remove a file; one that does not exist is no error."""

    def remove_folder(self, name: str) -> None:
        """Remove a folder and all in it; one that does not exist is no error."""

    def remove_unfinished(self, folder: str) -> None:
        """Remove what was begun below `folder` and stands outside of any staging folder."""
