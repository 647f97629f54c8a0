"""WebDataset tars read sample by sample, where damage is an error and never an early end.

tarfile, and webdataset with it, ends without a word where a tar is cut off between two members or
a header is damaged.
"""

import contextlib
import re
import tarfile
import warnings
from collections.abc import Iterator
from typing import Self

from clipshards.packer.format.errors import FormatError, StorageError
from clipshards.readers.fetch import RawSample

# What webdataset skips as a description of the tar, `__index__` of ours among it.
_META = re.compile(r"__[^/]*__($|/)")
# Key and part name of a member, as webdataset parts them: at the first dot of the last name.
_MEMBER = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
# The zeros that end an archive; types do not know this name.
_EndHeaderError: type[tarfile.HeaderError] = tarfile.EOFHeaderError  # type: ignore[attr-defined]


class ForeignTarsWarning(UserWarning):
    """What foreign tars cannot promise, and what was left out of them."""


class _StrictHeader(tarfile.TarInfo):
    """A tar header that is either whole or an error: tarfile takes a damaged one for the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            found = super().fromtarfile(tar)
        except _EndHeaderError:
            raise
        except tarfile.HeaderError as exc:
            raise tarfile.ReadError(f"cut off before its end, or damaged: {exc}") from exc
        if found.size < 0:
            raise tarfile.ReadError(f"{found.name!r} has {found.size} bytes")
        return found


def read_tar(url: str) -> Iterator[RawSample]:
    """Yield the samples of a tar, undecoded: members that share a key, as webdataset has it.

    Raises:
        FormatError: The tar is damaged or cut off, or a member cannot be read; the message
            names url and member.
        StorageError: It cannot be opened or read.
    """
    import webdataset as wds

    where = url
    try:
        stream = wds.gopen(url)
        try:
            with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_StrictHeader) as tar:
                yield from _samples(tar, url)
                where = f"{url}: behind the last member"
                _check_end(tar, url)
        except BaseException:
            with contextlib.suppress(OSError):  # of a command that was not heard out
                stream.close()
            raise
        # Of a command, this tells whether it failed.
        stream.close()
    except (tarfile.TarError, EOFError) as exc:
        raise FormatError(f"{where}: {exc}") from exc
    except OSError as exc:
        raise StorageError(f"{where}: {exc}") from exc


def _samples(tar: tarfile.TarFile, url: str) -> Iterator[RawSample]:
    key, parts, members = "", dict[str, bytes](), 0
    done: set[str] = set()
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
        members += 1
        name = member.name
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise FormatError(f"{url}: {name}: no plain file, its bytes are not here")
        data = _read_member(tar, member, url)
        if _META.match(name):
            continue
        match = _MEMBER.fullmatch(name)
        if match is None:
            warnings.warn(
                f"{url}: {name}: no key and part name, left out", ForeignTarsWarning, stacklevel=2
            )
            continue
        if match[1] != key or not parts:
            if parts:
                yield RawSample(key, parts, f"{url}: {key}")
            key, parts = match[1], {}
            if key in done:
                raise FormatError(
                    f"{url}: {name}: other samples stand between the parts of {key}; make the tar "
                    "anew with its members sorted by name"
                )
            done.add(key)
        part = match[2].lower()
        if part in parts:
            raise FormatError(f"{url}: {name}: part {part!r} comes twice")
        parts[part] = data
    if parts:
        yield RawSample(key, parts, f"{url}: {key}")
    if not members:
        raise FormatError(f"{url}: an empty tar")


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, url: str) -> bytes:
    # Read even if it is not needed: over what is not, tarfile goes in small steps as far as the
    # header claims, however short the file.
    file = tar.extractfile(member)
    assert file is not None
    try:
        data = file.read()
    except (tarfile.TarError, EOFError) as exc:
        raise FormatError(f"{url}: {member.name}: cut off: {exc}") from exc
    if len(data) != member.size:
        raise FormatError(f"{url}: {member.name}: {len(data)} of {member.size} bytes are there")
    return data


def _check_end(tar: tarfile.TarFile, url: str) -> None:
    """Check that nothing follows the end of the archive."""
    rest = tar.fileobj
    assert rest is not None
    while data := rest.read(1 << 20):
        if any(data):
            raise FormatError(
                f"{url}: data behind the end of the archive, as in tars joined by cat"
            )
