"""A folder as storage: temporary name, fsync, rename; ranges by pread."""

import errno
import os
import resource
import secrets
import shutil
import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from clipshards.packer.format.errors import NotFoundError, StorageError
from clipshards.packer.storage.base import NOTHING, Stored, Write
from clipshards.packer.storage.names import checked_name

# Of the files that this process may have open, a storage keeps a part at most.
_KEPT_OPEN, _KEPT_SHARE = 1024, 4
# Linux moves at most 2**31 - 4096 bytes in one call.
_MOST_PER_CALL = 1 << 30
# What file systems without hard links answer (FAT, SMB, most FUSE mounts).
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
# Files open in this process, and in the system.
_TOO_MANY = (errno.EMFILE, errno.ENFILE)


class _Descriptor:
    """An open file that closes with its last reference."""

    __slots__ = ("number",)

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = _opened(path)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class LocalStorage:
    """A folder on disk; see `Storage` for the methods."""

    far = False

    def __init__(self, url: str) -> None:
        self.url = url
        self._root = Path(url).absolute()
        # Those read last at the end; only by methods that are one step to other threads. Another
        # object with each change made here: a file opened just before it is not found again.
        self._open: OrderedDict[str, _Descriptor] = OrderedDict()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        unlimited = most == resource.RLIM_INFINITY
        self._most_open = _KEPT_OPEN if unlimited else min(_KEPT_OPEN, most // _KEPT_SHARE)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalStorage, (str(self._root),)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer only where the file ends."""
        try:
            file = self._descriptor(name)
            data = os.pread(file.number, min(size, _MOST_PER_CALL), offset)
            while 0 < len(data) < size:
                more = os.pread(
                    file.number, min(size - len(data), _MOST_PER_CALL), offset + len(data)
                )
                if not more:
                    break
                data += more
        except OSError as exc:
            raise self._error(name, exc) from exc
        return data

    def begin_read(self, name: str, offset: int, size: int) -> Future[bytes]:
        """See `Storage`: a disk is near, and is read at once."""
        future: Future[bytes] = Future()
        try:
            future.set_result(self.read(name, offset, size))
        except Exception as exc:  # noqa: BLE001 (raised where the result is taken)
            future.set_exception(exc)
        return future

    def read_all(self, name: str) -> bytes:
        """Return the whole file."""
        try:
            with os.fdopen(_opened(self._path(name)), "rb", buffering=0) as file:
                return file.read()
        except OSError as exc:
            raise self._error(name, exc) from exc

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """Yield the whole file from front to back."""
        with ExitStack() as stack:
            with self._translating(name):
                file = stack.enter_context(os.fdopen(_opened(self._path(name)), "rb", 0))
            while True:
                with self._translating(name):
                    piece = file.read(size)
                if not piece:
                    return
                yield piece

    def size(self, name: str) -> int | None:
        """Return the file's size in bytes, None if there is no such file."""
        try:
            path = self._path(name)
            return path.stat().st_size if path.is_file() else None
        except OSError as exc:
            raise self._error(name, exc) from exc

    def stored(self, name: str) -> Stored | None:
        """See `Storage`."""
        size = self.size(name)
        return None if size is None else Stored(size, None)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of all files directly in `folder` by their sorted names."""
        with self._translating(folder), self._scanned(self._path(folder)) as entries:
            found = {}
            for entry in entries:
                # Another run's unfinished file can go between the look and this.
                with suppress(FileNotFoundError):
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_size
        return dict(sorted(found.items()))

    def folders(self) -> list[str]:
        """Return the names of all folders directly in the location, sorted."""
        with self._translating(""), self._scanned(self._root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    @contextmanager
    def _scanned(self, folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            yield iter(())
        else:
            with entries:
                yield entries

    @contextmanager
    def writer(
        self,
        name: str,
        *,
        staging: str,
        about: Mapping[str, str] = NOTHING,
        replaces: bool = False,
    ) -> Iterator[Write]:
        """See `Storage`: a file that exists is replaced."""
        path = self._path(name)
        with ExitStack() as stack:
            # Only our own calls are translated: an OSError of the caller's is the caller's.
            with self._translating(name):
                temporary, descriptor = stack.enter_context(self._staged(name, staging))

            def write(data: bytes) -> None:
                with self._translating(name):
                    _write_all(descriptor, data)

            yield write
            with self._translating(name):
                os.fsync(descriptor)
                temporary.replace(path)
                self._open = OrderedDict()
                _sync_folder(path.parent)

    def put(self, name: str, data: bytes, *, staging: str) -> None:
        """Make `name` hold `data`, whole or not at all; replaces."""
        with self.writer(name, staging=staging) as write:
            write(data)

    def put_new(self, name: str, data: bytes, *, staging: str) -> bool:
        """Make `name` hold `data` unless it exists; return whether it was made here."""
        path = self._path(name)
        try:
            with self._staged(name, staging) as (temporary, descriptor):
                _write_all(descriptor, data)
                os.fsync(descriptor)
                # A link, unlike a rename, does not replace what is there.
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return False
                except OSError as exc:
                    if exc.errno not in _NO_LINKS:
                        raise
                    # Only two processes that start within the same instant could both win.
                    if path.exists():
                        return False
                    temporary.replace(path)
                _sync_folder(path.parent)
        except OSError as exc:
            raise self._error(name, exc) from exc
        return True

    @contextmanager
    def _staged(self, name: str, staging: str) -> Iterator[tuple[Path, int]]:
        """Return a context with a new file in the staging folder, removed at its end.

        Entering it raises OSError, leaving it StorageError with `name`.
        """
        folder = self._path(staging)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{secrets.token_hex(8)}.partial"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = None
        # A signal may end the process as soon as the file is there.
        try:
            descriptor = os.open(temporary, flags, 0o666)
            yield temporary, descriptor
        finally:
            with self._translating(name):
                try:
                    if descriptor is not None:
                        os.close(descriptor)
                finally:
                    temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file; one that does not exist is no error."""
        try:
            self._path(name).unlink(missing_ok=True)
            self._open = OrderedDict()
        except OSError as exc:
            raise self._error(name, exc) from exc

    def remove_folder(self, name: str) -> None:
        """Remove a folder and all in it; one that does not exist is no error."""
        path = self._path(name)
        with self._translating(name):
            while path.exists():
                # Not found is what another job removed at the same time.
                with suppress(FileNotFoundError):
                    shutil.rmtree(path)
        self._open = OrderedDict()

    def remove_unfinished(self, folder: str) -> None:
        """See `Storage`: all that is unfinished stands in staging folders."""

    def _descriptor(self, name: str) -> _Descriptor:
        """Return an open file: whoever holds it may read, also when it is no longer kept."""
        kept = self._open
        found = kept.get(name)
        if found is None:
            path = self._path(name)
            try:
                found = _Descriptor(path)
            except OSError as exc:
                if exc.errno not in _TOO_MANY:
                    raise
                _shorten(kept, 0)
                found = _Descriptor(path)
            found = kept.setdefault(name, found)
            _shorten(kept, self._most_open)
            return found
        try:  # noqa: SIM105 (suppress takes a third of the time of a read)
            kept.move_to_end(name)
        except KeyError:  # another thread put it away
            pass
        return found

    def _path(self, name: str) -> Path:
        return self._root.joinpath(checked_name(name, url=self.url))

    @contextmanager
    def _translating(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise self._error(name, exc) from exc

    def _error(self, name: str, exc: OSError) -> StorageError:
        if isinstance(exc, NotADirectoryError) and self._root.is_file():
            return NotFoundError(f"{self.url}: this is a file, expected the folder of a data set")
        place = f"{self.url}/{name}" if name else self.url
        return StorageError(f"{place}: {exc.strerror or exc}")


def _opened(path: Path) -> int:
    """Return the descriptor of a file that is open for reading.

    Raises:
        OSError: It cannot be opened, or is no file: the end of a pipe may never come.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "expected a file, found a folder, pipe or device")
    return descriptor


def _shorten(kept: "OrderedDict[str, _Descriptor]", most: int) -> None:
    """Put away the files that were read longest ago."""
    while len(kept) > most:
        with suppress(KeyError):  # other threads were faster
            kept.popitem(last=False)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:_MOST_PER_CALL]) :]


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        # Some network file systems cannot do it for folders, and need not.
        if exc.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
