"""The names that a pickle may use, and the checked step that each stands for.

They are compared as text: nothing is imported or called by them. NumPy writes an array as a
call of one of them and a state, a dtype too; the state of what is still pending makes it. An
array is a read-only view of its own bytes.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from clipshards.packer.annotations.pickle_source import MAX_SHOWN, Source

_MAX_AXES = 32
"""As many as every release of NumPy holds."""
_NUMBERS = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
_TEXT = re.compile("[SU][0-9]{1,8}")
_INTS = frozenset({int, bool})


class Global:
    """A name that a pickle may use: no value, and in no container."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[[Source, Any], Any] | None = None) -> None:
        self.name = name
        self.call = call
        """Makes what a call of it with these arguments gives; None if it is not callable."""


class Pending:
    """An array or a dtype whose state is still to come: no value, and in no container."""

    __slots__ = ("dtype", "slots")

    def __init__(self, dtype: str = "") -> None:
        self.dtype = dtype
        """Name of the dtype; empty for an array."""
        self.slots: list[int] = []
        """Where the memo holds it."""


NDARRAY = Global("numpy.ndarray")
ARRAY_ARGS = Global("numpy.ndarray")
"""Stands for the one tuple that `_reconstruct` is called with: (ndarray, (0,), b"b")."""


def are_array_args(items: tuple[Any, ...]) -> bool:
    """Tell whether a tuple is the one that `ARRAY_ARGS` stands for."""
    if len(items) != 3 or items[0] is not NDARRAY:
        return False
    _, shape, kind = items
    if type(shape) is not tuple or len(shape) != 1 or not _is_int(shape[0], 0):
        return False
    return (type(kind) is bytes and kind == b"b") or (type(kind) is str and kind == "b")


def build(source: Source, pending: Pending, state: object) -> Any:
    """Return the array or the dtype that its state makes of what was pending."""
    return _dtype(source, pending.dtype, state) if pending.dtype else _ndarray(source, state)


def _is_int(value: object, number: int) -> bool:
    return type(value) in _INTS and value == number


# Arrays.


def _call_reconstruct(source: Source, args: object) -> Pending:
    if args is not ARRAY_ARGS:
        source.refuse("an array of a class of its own")
    return Pending()


def _ndarray(source: Source, state: object) -> np.ndarray:
    if type(state) is not tuple or len(state) != 5:
        source.refuse("an array of unknown layout")
    version, shape, dtype, fortran, data = state
    if not _is_int(version, 1) or type(fortran) not in _INTS or fortran not in (0, 1):
        source.refuse("an array of unknown layout")
    array = _array(source, shape, dtype, "F" if fortran else "C", data)
    if not dtype.isnative:  # NumPy turns these round, and only these
        source.spend(array.nbytes)
        array = array.astype(dtype.newbyteorder("="))
        array.flags.writeable = False
    return array


def _call_frombuffer(source: Source, args: object) -> np.ndarray:
    if type(args) is not tuple or len(args) not in (4, 5) or type(args[3]) is not str:
        source.refuse("an array of unknown layout")
    data, dtype, shape, order = args[:4]
    axes = args[4] if len(args) == 5 else None
    if order == "K" and axes is not None:
        array = _array(source, shape, dtype, "C", data)
        known = type(axes) is tuple and {int}.issuperset(map(type, axes))
        if not known or sorted(axes) != list(range(array.ndim)):
            source.refuse("an array of unknown layout")
        return array.transpose(axes)
    if order not in ("C", "F") or axes is not None:
        source.refuse("an array of unknown layout")
    return _array(source, shape, dtype, order, data)


def _array(
    source: Source, shape: object, dtype: object, order: Literal["C", "F"], data: object
) -> np.ndarray:
    if not isinstance(dtype, np.dtype) or dtype.kind in "SU":
        source.refuse(f"an array of {dtype}" if isinstance(dtype, np.dtype) else "no dtype")
    if type(shape) is not tuple or len(shape) > _MAX_AXES:
        source.refuse("an array without a shape")
    size = dtype.itemsize
    for length in shape:
        if type(length) is not int or length < 0:
            source.refuse("an array whose shape is no shape")
        size *= length
    # Axes take memory that the file need not have: their sizes may be fetched from the memo.
    source.spend(8 * len(shape))
    content = data if type(data) is bytes else _content(source, data)
    if size != len(content):
        source.refuse(f"{len(content)} bytes for an array of shape {shape} and {dtype}")
    try:
        # By keywords this takes twice as long.
        return np.ndarray(shape, dtype, content, 0, None, order)
    except (ValueError, OverflowError):  # an axis of 0 beside axes beyond any memory
        source.refuse(f"an array of shape {shape}")


def _content(source: Source, data: object) -> bytes:
    """Return the bytes of an array or scalar; Python 2 has them as text."""
    if type(data) is str:
        return _latin1(source, data)
    if type(data) is not bytes:
        source.refuse(f"array elements in a {type(data).__name__}")
    return data


def _latin1(source: Source, text: str) -> bytes:
    source.spend(len(text))
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        source.refuse("bytes with characters beyond latin1")


# Dtypes and scalars.


def _call_dtype(source: Source, args: object) -> Pending:
    if type(args) is not tuple or len(args) != 3 or type(args[0]) is not str:
        source.refuse("an unknown dtype")
    name, align, copy = args
    if name not in _NUMBERS and not _TEXT.fullmatch(name):
        source.refuse(f"dtype {name[:MAX_SHOWN]!r}")
    if not _is_int(align, 0) or not _is_int(copy, 1):
        source.refuse("an unknown dtype")
    return Pending(name)


def _dtype(source: Source, name: str, state: object) -> "np.dtype[Any]":
    if type(state) is not tuple or len(state) != 8 or not _is_int(state[0], 3):
        source.refuse("an unknown dtype")
    order = state[1]
    if type(order) is not str or order not in ("<", ">", "|", "="):
        source.refuse("an unknown dtype")
    if any(part is not None for part in state[2:5]):
        source.refuse("a dtype with fields")
    return np.dtype(order + name)


def _call_scalar(source: Source, args: object) -> Any:
    if type(args) is not tuple or len(args) != 2 or not isinstance(args[0], np.dtype):
        source.refuse("an unknown scalar")
    dtype, content = args[0], _content(source, args[1])
    if len(content) != dtype.itemsize:
        source.refuse(f"{len(content)} bytes for a scalar of {dtype}")
    if dtype.kind not in "SU":
        return np.frombuffer(content, dtype)[0]
    source.spend(len(content))
    if dtype.kind == "S":
        return content.rstrip(b"\0")
    codec = "utf-32-be" if dtype.str[0] == ">" else "utf-32-le"
    try:
        return str(content, codec, "surrogatepass").rstrip("\0")
    except UnicodeDecodeError:
        source.refuse("text that is not UTF-32")


# Bytes, as protocols 0 to 2 spell them: by their characters, and if there are none.


def _call_encode(source: Source, args: object) -> bytes:
    if type(args) is not tuple or len(args) != 2 or type(args[0]) is not str:
        source.refuse("an unknown call of '_codecs.encode'")
    if type(args[1]) is not str or args[1] != "latin1":
        shown = repr(args[1][:MAX_SHOWN]) if type(args[1]) is str else type(args[1]).__name__
        source.refuse(f"a call of '_codecs.encode' with {shown}")
    return _latin1(source, args[0])


def _call_bytes(source: Source, args: object) -> bytes:
    if type(args) is not tuple or args:
        source.refuse("a call of 'bytes' with arguments")
    return b""


def _numpy_names(module: str, name: str) -> list[tuple[str, str]]:
    """Return a name by the paths of NumPy 1, NumPy 2 and old ones."""
    return [(f"numpy{core}.{module}", name) for core in ("", ".core", "._core")]


def _globals(
    call: Callable[[Source, Any], Any], names: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Global]:
    return {path: Global(".".join(path), call) for path in names}


GLOBALS: dict[tuple[str, str], Global] = {
    ("numpy", "ndarray"): NDARRAY,
    **_globals(_call_dtype, [("numpy", "dtype")]),
    **_globals(_call_reconstruct, _numpy_names("multiarray", "_reconstruct")),
    **_globals(_call_scalar, _numpy_names("multiarray", "scalar")),
    **_globals(_call_frombuffer, _numpy_names("numeric", "_frombuffer")),
    **_globals(_call_encode, [("_codecs", "encode")]),
    **_globals(_call_bytes, [("__builtin__", "bytes"), ("builtins", "bytes")]),
}
"""All that a pickle may name, by module and name."""
