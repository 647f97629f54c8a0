"""The folder that record paths start from, and the guard that keeps them inside it."""

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from clipshards.packer.format.errors import MediaError, StorageError
from clipshards.packer.format.tar import MAX_SIZE

# Errors of a disk, or of a network that it is reached by, and not of a file.
_OF_THE_MEDIUM = (errno.EIO, errno.ESTALE, errno.ENOTCONN)


@dataclass(frozen=True, slots=True)
class MediaRoot:
    """Media files by the paths of records.

    The guard is one of names: `..` and absolute paths may not lead out of the root.
    Symbolic links inside the root are followed, as data sets are often laid out by them.
    """

    folder: Path
    allow_outside: bool = False
    """Let paths lead out of the root."""
    _root: bytes = field(init=False, repr=False)
    _inside: bytes = field(init=False, repr=False)
    """What paths inside the root begin with."""

    def __post_init__(self) -> None:
        # Names are UTF-8 on disk whatever the locale says, so paths are joined in bytes.
        root = os.fsencode(os.path.abspath(self.folder))  # noqa: PTH100 - links stay links
        # Two slashes in front stay two there, and are one in what `locate` compares with.
        object.__setattr__(self, "_root", b"/" + root.lstrip(b"/"))
        object.__setattr__(self, "_inside", self._root.rstrip(b"/") + b"/")

    def locate(self, path: str) -> Path:
        """Return where the media of a record is.

        Raises:
            MediaError: The path leaves the root, or is none.
        """
        return Path(os.fsdecode(self._locate(path)))

    def _locate(self, path: str) -> bytes:
        # Path objects would cost more than opening and reading a small file.
        try:
            inside = path.encode()
        except UnicodeEncodeError:
            raise MediaError(f"{path!a}: not the name of a file") from None
        if b"\0" in inside:
            raise MediaError(f"{path!a}: not the name of a file")
        full = os.path.normpath(os.path.join(self._root, inside))  # noqa: PTH118
        full = b"/" + full.lstrip(b"/")  # two slashes in front stay two there as well
        if not (self.allow_outside or full == self._root or full.startswith(self._inside)):
            raise MediaError(f"{path!r} leads out of the media root; allow that or correct it")
        return full

    def size(self, path: str) -> int | None:
        """Return the bytes of a file, or of all files in a folder; None if not to be had."""
        try:
            place = self._locate(path)
            found = os.stat(place)  # noqa: PTH116
            if not stat.S_ISDIR(found.st_mode):
                return found.st_size
            with os.scandir(place) as entries:
                return sum(entry.stat().st_size for entry in entries if entry.is_file())
        except (MediaError, OSError):
            return None

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; those that are not UTF-8 are left out.

        Raises:
            MediaError: Outside the root, missing, not a folder, or unreadable.
        """
        try:
            found = os.listdir(os.fsencode(self.locate(folder)))  # noqa: PTH208 - bytes, any locale
        except (FileNotFoundError, NotADirectoryError):
            self._check_root()
            raise MediaError(f"{folder!r}: no such folder under the media root") from None
        except OSError as exc:
            raise MediaError(f"{folder!r}: cannot be read: {exc.strerror}") from exc
        names = []
        for name in found:
            with suppress(UnicodeDecodeError):
                names.append(name.decode())
        return sorted(names)

    def _check_root(self) -> None:
        """Raise StorageError where not a file is missing but all of them."""
        if not os.path.isdir(self._root):  # noqa: PTH112 - bytes
            raise StorageError(f"the media root {os.fsdecode(self._root)} is gone")

    def read(self, path: str) -> bytes:
        """Return the bytes of a record's media.

        Raises:
            MediaError: Outside the root, missing, unreadable, empty, changed while it was
                read, or larger than a tar member can be.
            StorageError: The root itself is gone, or what it lies on fails.
        """
        try:
            file = self._locate(path)
            # A pipe or a device would block, or never end.
            found = os.stat(file)  # noqa: PTH116
            if not stat.S_ISREG(found.st_mode):
                raise MediaError(f"{path!r}: not a regular file")
            if found.st_size > MAX_SIZE:
                raise MediaError(
                    f"{path!r}: {found.st_size} bytes, a tar member holds at most {MAX_SIZE}"
                )
            with open(file, "rb", buffering=0) as opened:  # noqa: PTH123
                data = opened.read()
                after = os.fstat(opened.fileno())
        except FileNotFoundError:
            self._check_root()
            raise MediaError(f"{path!r}: no such file under the media root") from None
        except OSError as exc:
            if exc.errno in _OF_THE_MEDIUM:
                raise StorageError(f"the media root: {path!r}: {exc.strerror}") from exc
            raise MediaError(f"{path!r}: cannot be read: {exc.strerror}") from exc
        if not data:
            raise MediaError(f"{path!r}: the file is empty (0 bytes)")
        if (after.st_size, after.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            raise MediaError(f"{path!r}: changed while it was read; leave it alone and pack again")
        return data
