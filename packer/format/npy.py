"""Arrays as npy files, version 1.0 of NumPy's NEP 1, with one spelling of the header.

NumPy's own writer pads its header differently from release to release (room to grow the
first axis came with 1.25); shards must not change with it, so the header is written here.
"""

import math
import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import FormatError

_MAGIC = b"\x93NUMPY\x01\x00"
_DESCRS = ("|u1", "|i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "|b1")
_HEADER = re.compile(
    rb"\{'descr': '([|<][a-z][0-9])', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n"
)
_ALIGN = 64
_MAX_AXES = 32
"""As many as every release of NumPy holds."""


def encode_npy(array: npt.NDArray[np.generic]) -> bytes:
    """Return `array` as the bytes of an npy file, C order, little endian.

    Raises:
        ValueError: A dtype that the format does not store (objects above all), or more
            than 32 axes.
    """
    if array.ndim > _MAX_AXES:
        raise ValueError(f"cannot store {array.ndim} axes, at most {_MAX_AXES}")
    little = array
    if not array.flags.c_contiguous or array.dtype.str not in _DESCRS:
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        little = little.reshape(array.shape)  # ascontiguousarray makes 0-d arrays 1-d
    if little.dtype.str not in _DESCRS:
        raise ValueError(f"cannot store dtype {array.dtype}, only {', '.join(_DESCRS)}")
    # One copy: memoryview takes an array as it lies in memory.
    return b"".join((_header(little.dtype.str, little.shape), little.data))


def decode_npy(data: bytes, *, where: str) -> npt.NDArray[np.generic]:
    """Return the array in `data`, read-only and without a copy.

    Raises:
        FormatError: Not an npy file as `encode_npy` writes it, byte for byte.
    """
    start = len(_MAGIC) + 2
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    try:
        dtype, shape, size = _read_header(data[:end])
    except ValueError as exc:
        raise FormatError(f"{where}: {exc}") from None
    if len(data) - end != size:
        raise FormatError(
            f"{where}: shape {shape} of {dtype} needs {size} bytes, got {len(data) - end}"
        )
    if dtype == np.bool_ and np.frombuffer(data, np.uint8, offset=end).max(initial=0) > 1:
        raise FormatError(f"{where}: a truth value is neither 0 nor 1")
    try:
        return np.ndarray(shape, dtype, data, end)
    except ValueError as exc:  # an axis of 0 beside axes beyond any memory
        raise FormatError(f"{where}: shape {shape} of {dtype}: {exc}") from exc


@lru_cache(maxsize=1024)
def _read_header(header: bytes) -> tuple[np.dtype[np.generic], tuple[int, ...], int]:
    """Return dtype, shape and bytes; ValueError where it is not spelled as `_header` does."""
    match = _HEADER.fullmatch(header, len(_MAGIC) + 2)
    if not header.startswith(_MAGIC) or match is None:
        raise ValueError(f"expected an npy array, got {header[:16]!r}")
    descr = match[1].decode()
    sizes = [size for size in match[2].decode().replace(" ", "").split(",") if size]
    # A size of 19 digits and more can only be a lie; it must not become arithmetic.
    shape = tuple(int(size[:19]) for size in sizes)
    if len(shape) > _MAX_AXES:
        raise ValueError(f"{len(shape)} axes, expected at most {_MAX_AXES}")
    if descr not in _DESCRS or _header(descr, shape) != header:
        raise ValueError(f"expected an npy header of this format, got {match[0][:200]!r}")
    dtype = np.dtype(descr)
    return dtype, shape, math.prod(shape) * dtype.itemsize


def _header(descr: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = len(_MAGIC) + 2 + len(text) + 1
    text += b" " * (-length % _ALIGN) + b"\n"
    return _MAGIC + len(text).to_bytes(2, "little") + text
