"""Pickles of plain values and NumPy arrays, read without running anything of them.

A pickle is a program for a stack machine, and Python's own machine calls whatever the program
names. `pickle_machine` is a machine of our own, for the part of the language that data needs.
It imports nothing and calls nothing: the few names that NumPy writes are compared as text, and
each stands for one checked step in `pickle_globals`; any other name ends the reading.

Memory stays within about 45 times the file, for real files within twice: sizes are believed
only as far as bytes stand behind them, an array is a read-only view of its own bytes,
copies of bytes that were read once already have a budget of the file's size, integers have
64 bits, the memo grows by neighbours, containers are counted.

The price is time, six to eight times that of `pickle.load`: 1 to 2 s for 20,000 entries like
those of Kinetics (375 MB, protocol 4). Bytes of arrays are copied once, out of the file's.
"""

import os
from pathlib import Path
from typing import Any, Literal

from clipshards.packer.annotations.pickle_machine import Machine
from clipshards.packer.annotations.pickle_source import Source
from clipshards.packer.format.errors import AnnotationError

PickleEncoding = Literal["ASCII", "latin1"]
"""How the byte strings of Python 2 are read; files of Python 3 have none."""

MAX_PICKLE_BYTES = 16 * 1024**3
"""Size up to which a file is read; it must be held in memory whole."""

_ENCODINGS = ("ASCII", "latin1")
# Taken from the system at once, however short the file.
_CHUNK = 1024 * 1024
_FOREIGN = {
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"BZh": "a bzip2 file; unpack it first",
    b"\xfd7zXZ": "an xz file; unpack it first",
    b"\x28\xb5\x2f\xfd": "a Zstandard file; unpack it first",
    b"PK\x03\x04": "a zip file, as torch.save and numpy.savez write it",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": "a file that torch.save wrote",
    b"\x93NUMPY": "an npy file",
    b"\x89HDF": "an HDF5 file",
}


def read_pickle(
    path: Path, *, encoding: PickleEncoding = "ASCII", max_bytes: int = MAX_PICKLE_BYTES
) -> Any:
    """Return what a pickle file holds, see `load_pickle`.

    Raises:
        AnnotationError: The file cannot be read, is larger than `max_bytes`, or is refused
            by `load_pickle`.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # Asked for in chunks, as a pipe or a device has no size.
            chunks = [file.read(size)] if 0 < size <= max_bytes else []
            held = sum(map(len, chunks))
            while size <= max_bytes and held <= max_bytes and (chunk := file.read(_CHUNK)):
                chunks.append(chunk)
                held += len(chunk)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except OSError as exc:
        raise AnnotationError(f"{path}: cannot be read: {exc.strerror}") from exc
    except MemoryError:
        raise AnnotationError(f"{path}: the file does not fit into memory") from None
    if max(size, held) > max_bytes:
        raise AnnotationError(f"{path}: expected at most {max_bytes} bytes, the file is larger")
    del chunks
    return load_pickle(data, where=str(path), encoding=encoding)


def load_pickle(data: bytes, *, where: str, encoding: PickleEncoding = "ASCII") -> Any:
    """Return what a pickle of protocol 0 to 5 holds.

    That is dicts, lists, tuples, text, bytes (a bytearray too becomes bytes), integers of up
    to 64 bits, floats, truth values and None; NumPy's arrays and scalars of truth values,
    integers and floats; scalars of text as plain str or bytes. Arrays are read-only; dtype
    and memory order are as pickled. Lists and dicts may contain themselves.

    Args:
        data: The whole file.
        where: Name of the file, for errors.
        encoding: `latin1` for files that Python 2 wrote.

    Raises:
        AnnotationError: Anything else than that, above all a name that would be called; a
            broken or cut file, or bytes after its end.

    >>> import pickle
    >>> load_pickle(pickle.dumps({"label": (3, 4.5)}), where="a.pkl")
    {'label': (3, 4.5)}
    >>> load_pickle(pickle.dumps(print), where="a.pkl")
    Traceback (most recent call last):
    clipshards.packer.format.errors.AnnotationError: a.pkl: expected plain values and NumPy \
arrays, got global 'builtins.print'
    """
    if encoding not in _ENCODINGS:
        raise ValueError(f"encoding {encoding!r}: expected one of {list(_ENCODINGS)}")
    if not data:
        raise AnnotationError(f"{where}: expected a pickle, got an empty file")
    for magic, name in _FOREIGN.items():
        if data.startswith(magic):
            raise AnnotationError(f"{where}: expected a pickle, got {name}")
    return Machine(Source(data, where, encoding)).run()
