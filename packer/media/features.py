"""Features of videos and sounds in files of the user's: csv and npy, read strictly."""

import io
import math
import re
from array import array

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import MediaError

_MAX_COLUMNS = 1_000_000
_NUMBER_BYTES = b"0123456789+-.eE, "
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

NPY_MAGIC = b"\x93NUMPY"
"""What an npy file begins with."""
_MAX_HEADER = 10_000
"""As much as NumPy reads of a file that is not trusted."""
_FLOATS = ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")
_ITEM = (
    rb"\s*(?:'descr'\s*:\s*'(?P<descr{n}>[^']*)'"
    rb"|'fortran_order'\s*:\s*(?P<order{n}>True|False)"
    rb"|'shape'\s*:\s*\((?P<shape{n}>[0-9L,\s]*)\))\s*+"
)
_HEADER = re.compile(
    rb"\{" + b",".join(_ITEM.replace(b"{n}", b"%d" % n) for n in range(3)) + rb",?\s*\}\s*"
)


def read_features(data: bytes, name: str) -> tuple[npt.NDArray[np.float32], bool]:
    """Return the features in a csv or npy file, and whether it has a header line.

    The values of a csv are those of `np.loadtxt(dtype=np.float32, delimiter=",")`, bit for
    bit. Its first line is a header if no field of it is a number, if it starts with `#`, or
    if it counts the columns: 0,1,2 and so on. (MMAction2 drops the first line unseen.)
    An npy file has no header line; its numbers are rounded to float32.

    Args:
        data: The file.
        name: The name for messages; a file named `.npy` must be one.

    Returns:
        float32 array of shape (T, C), all finite, T and C at least 1; True for a header.

    Raises:
        MediaError: Anything else than a table of finite numbers; names the line of a csv.
    """
    if not data.startswith(NPY_MAGIC) and not name.lower().endswith(".npy"):
        return _read_csv(data, name)
    found = _as_float32(read_npy(data, name))
    if not np.isfinite(found).all():
        row, column = np.argwhere(~np.isfinite(found))[0].tolist()
        raise MediaError(
            f"{name}: expected numbers that are finite as float32, got {found[row, column]} in "
            f"row {row}, column {column} (from 0)"
        )
    return found, False


def read_npy(data: bytes, name: str) -> npt.NDArray[np.floating]:
    """Return the array in an npy file, in C order and little endian, perhaps read-only.

    Versions 1 to 3 of the format, either order of the axes and of the bytes. Objects are
    refused, so nothing is ever unpickled, and nothing is allocated that the file only claims.

    Args:
        data: The file.
        name: The name for messages.

    Returns:
        float16, float32 or float64 array, 2-D, no axis empty.

    Raises:
        MediaError: Not such an array, or the file is shorter or longer than it says.
    """
    match, start = _npy_header(data, name)
    fields = {key[:-1]: text for key, text in match.groupdict().items() if text is not None}
    if len(fields) != 3:
        raise MediaError(f"{name}: expected an npy header, got {match[0][:200]!r}")
    descr = fields["descr"].decode("latin-1")
    if descr not in _FLOATS:
        raise MediaError(f"{name}: expected float16, float32 or float64, got {descr[:60]!r}")
    sizes = re.fullmatch(rb"\s*([0-9]+)L?\s*,\s*([0-9]+)L?\s*+,?\s*", fields["shape"])
    if sizes is None:
        text = fields["shape"][:60].decode()
        raise MediaError(f"{name}: expected 2 axes, got the shape ({text})")
    # A size of 19 digits and more can only be a lie; it must not become arithmetic.
    shape = (int(sizes[1][:19]), int(sizes[2][:19]))
    dtype = np.dtype(descr)
    if min(shape) < 1:
        raise MediaError(f"{name}: expected each axis at least 1, got 0 in the shape {shape}")
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise MediaError(
            f"{name}: expected {math.prod(shape) * dtype.itemsize} bytes for the shape {shape} of "
            f"{dtype.name}, got {len(data) - start}"
        )
    flat = np.frombuffer(data, dtype=dtype, offset=start)
    table = flat.reshape(shape[::-1]).T if fields["order"] == b"True" else flat.reshape(shape)
    return np.ascontiguousarray(table, dtype=dtype.newbyteorder("<"))


def _npy_header(data: bytes, name: str) -> tuple[re.Match[bytes], int]:
    """Return the parsed header, and where the elements begin."""
    version = data[6:8]
    if not data.startswith(NPY_MAGIC) or version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise MediaError(f"{name}: expected an npy file of version 1 to 3, got {data[:16]!r}")
    begin = 10 if version == b"\1\0" else 12
    length = int.from_bytes(data[8:begin], "little")
    if length > _MAX_HEADER or begin + length > len(data):
        raise MediaError(
            f"{name}: expected an npy header of at most {_MAX_HEADER} bytes within the file, "
            f"got {length}"
        )
    header = data[begin : begin + length]
    match = _HEADER.fullmatch(header)
    if match is None:
        raise MediaError(f"{name}: expected an npy header of a plain array, got {header[:200]!r}")
    return match, begin + length


def _read_csv(data: bytes, name: str) -> tuple[npt.NDArray[np.float32], bool]:
    if data.startswith(_BYTE_ORDER_MARKS):
        raise MediaError(
            f"{name}:1: expected numbers without a byte order mark, got {data[:3]!r}; "
            "save the file as plain UTF-8"
        )
    if not data:
        raise MediaError(f"{name}: expected numbers separated by commas, the file is empty")
    # Blank lines at the end say nothing; elsewhere a row may be missing.
    lines = io.BytesIO(data.rstrip(b"\r\n"))
    first = lines.readline().rstrip(b"\r\n")
    if not first:
        raise MediaError(f"{name}:1: expected numbers separated by commas, got a blank line")
    header = _is_header(first, f"{name}:1")
    if not header:
        lines.seek(0)
    columns = 0 if first.startswith(b"#") else first.count(b",") + 1
    values = array("d")
    # Line by line, so that memory stays near the size of the file.
    for number, line in enumerate(lines, start=1 + header):
        line = line.rstrip(b"\r\n")
        columns = columns or line.count(b",") + 1
        try:
            if line.count(b",") + 1 != columns or columns > _MAX_COLUMNS:
                raise ValueError
            # float takes more than we do: nan, 1_000, tabs.
            if line.translate(None, _NUMBER_BYTES):
                raise ValueError
            values.extend(map(float, line.split(b",")))
        except ValueError:
            fault = _row_fault(line, columns)
            raise MediaError(f"{name}:{number}: {fault}") from None
    if not values:
        raise MediaError(f"{name}:2: expected at least one row below the header, got none")
    # By way of float64, as NumPy's reader goes: rounded twice.
    table = _as_float32(np.frombuffer(values, dtype=np.float64).reshape(-1, columns))
    finite = np.isfinite(table).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise MediaError(
            f"{name}:{row + 1 + header}: expected finite numbers, got one beyond float32"
        )
    return table, header


def _is_header(line: bytes, where: str) -> bool:
    """Return whether the first line names the columns.

    Raises:
        MediaError: Part of it is names and part is numbers, or it is no text.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise MediaError(f"{where}: expected UTF-8, got byte {line[exc.start]:#04x}") from None
    if "\0" in text or text.count(",") >= _MAX_COLUMNS:
        raise MediaError(
            f"{where}: expected up to {_MAX_COLUMNS} columns of text, got {text[:60]!r}"
        )
    if text.startswith("#"):
        return True
    fields = text.split(",")
    numbers = sum(map(_is_number, fields))
    if not numbers and all(field.strip() for field in fields):
        return True
    # A table library that was not told of names writes 0,1,2 above the columns.
    if len(fields) > 1 and fields == [str(column) for column in range(len(fields))]:
        return True
    if numbers == len(fields):
        return False
    odd = next(f for f in fields if not _is_number(f) and (numbers or not f.strip()))
    raise MediaError(
        f"{where}: expected {len(fields)} numbers, or {len(fields)} names of columns, "
        f"got {odd[:60]!r} among them"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _row_fault(line: bytes, columns: int) -> str:
    """Return what was expected of a row, and what stood there."""
    if not line.strip():
        return f"expected {columns} numbers, got a blank line"
    if columns > _MAX_COLUMNS:
        return f"expected at most {_MAX_COLUMNS} columns, got {columns}"
    if line.count(b",") + 1 != columns:
        return f"expected {columns} numbers separated by commas, got {line.count(b',') + 1}"
    for field in line.split(b","):
        text = field.decode("utf-8", "backslashreplace")
        if field.translate(None, _NUMBER_BYTES) or not _is_number(text):
            return f"expected a finite number, got {text[:60]!r}"
    raise AssertionError("a row without a fault was refused")


def _as_float32(table: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found by the caller
        return table.astype(np.float32)
