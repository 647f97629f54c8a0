"""Pickles of plain values and NumPy arrays, read without running anything of them.

A pickle is a program for a stack machine, and Python's own machine calls whatever the program
names. This one is a machine of our own, for the part of the language that data needs. It
imports nothing and calls nothing: the few names that NumPy writes (`_GLOBALS`) are compared
as text, and each stands for one checked step here; any other name ends the reading. What is
half made, and those names, never enter a container, so neither can come out.

Memory stays within about 35 times the file, for real files within twice: sizes are believed
only as far as bytes stand behind them, an array is a read-only view of its own bytes,
copies of bytes that were read once already have a budget of the file's size, integers have
64 bits, the memo grows by neighbours, containers are counted. Nothing here is recursive;
dict keys are scalars or short tuples of such, since the hash of a deep tuple is.

The price is time, three to six times that of `pickle.load`: about 2 s for 20,000 entries like
those of Kinetics (375 MB, protocol 4). Bytes of arrays are copied once, out of the file's.
"""

import codecs
import math
import os
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from pickletools import opcodes as known_opcodes
from typing import Any, Literal, NoReturn, cast

import numpy as np

from clipshards.packer.format.errors import AnnotationError

PickleEncoding = Literal["ASCII", "latin1"]
"""How the byte strings of Python 2 are read; files of Python 3 have none."""

MAX_PICKLE_BYTES = 16 * 1024**3
"""Size up to which a file is read; it must be held in memory whole."""

_ENCODINGS = ("ASCII", "latin1")
_CHUNK = 64 * 1024 * 1024
_EXPECTED = "plain values and NumPy arrays"
_HIGHEST_PROTOCOL = 5
_MAX_AXES = 32
"""As many as every release of NumPy holds."""
_MAX_MARKS = 10_000
_MAX_KEY_LENGTH = 16
_MAX_SHOWN = 100
_CONTAINER_BYTES = 3
"""Bytes that a list, dict or tuple takes in a file at least; an empty one takes 1, and 90 in
memory, but nobody writes files of these alone."""
_MIN_CONTAINERS = 1000
_NUMBERS = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
_TEXT = re.compile("[SU][0-9]{1,8}")
_INTEGER = re.compile(rb"[-+]?[0-9]{1,20}")
_BAD_ESCAPE = re.compile(rb"\\(?!['\"nrtabfv]|x[0-9a-fA-F]{2}|[0-7])")

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
_REFUSED = {
    "PERSID": "a persistent id",
    "BINPERSID": "a persistent id",
    "EXT1": "an extension code",
    "EXT2": "an extension code",
    "EXT4": "an extension code",
    "EMPTY_SET": "a set",
    "FROZENSET": "a set",
    "NEXT_BUFFER": "a buffer that is not in the file",
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
    return _Machine(data, where, encoding).run()


class _Global:
    """A name that a pickle may use: no value, and in no container."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: "Callable[[_Machine, Any], Any] | None" = None) -> None:
        self.name = name
        self.call = call
        """Makes what a call of it with these arguments gives; None if it is not callable."""


class _Pending:
    """An array or a dtype whose state is still to come: no value, and in no container."""

    __slots__ = ("dtype", "slots")

    def __init__(self, dtype: str = "") -> None:
        self.dtype = dtype
        """Name of the dtype; empty for an array."""
        self.slots: list[int] = []
        """Where the memo holds it."""


_NDARRAY = _Global("numpy.ndarray")
_ARRAY_ARGS = _Global("numpy.ndarray")
"""Stands for the one tuple that `_reconstruct` is called with: (ndarray, (0,), b"b")."""
_UNSET = _Pending()
"""Fills the gaps of the memo."""
_Unpack = Callable[[bytes, int], tuple[Any, ...]]
_UINTS: dict[int, _Unpack] = {
    width: struct.Struct(code).unpack_from for width, code in ((1, "<B"), (4, "<I"), (8, "<Q"))
}
_UINT4 = _UINTS[4]
_STOP = ord(".")
_BININT1 = ord("K")
_BINGET = ord("h")
_LONG_BINGET = ord("j")
_MEMOIZE = 0x94
_INTERNAL = frozenset({_Global, _Pending})
_SCALARS = frozenset({str, bytes, int, float, bool, type(None)})


class _Machine:
    """One pickle being read. A method a kind of opcode, picked from `_OPCODES`."""

    __slots__ = (
        "_budget",
        "_data",
        "_encoding",
        "_frame_end",
        "_gaps",
        "_marks",
        "_memo",
        "_pos",
        "_room",
        "_size",
        "_stack",
        "_where",
    )

    def __init__(self, data: bytes, where: str, encoding: str) -> None:
        self._data = data
        self._size = len(data)
        self._where = where
        self._encoding = encoding
        self._pos = 0
        self._frame_end = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        """How high the stack was at each mark."""
        self._memo: list[Any] = []
        self._gaps = False
        self._budget = len(data) + 1024
        """Bytes that may still be made of bytes that were read before."""
        self._room = len(data) // _CONTAINER_BYTES + _MIN_CONTAINERS
        """Containers that may still be made."""

    def run(self) -> Any:
        data, stack, memo, opcodes = self._data, self._stack, self._memo, _OPCODES
        pos = 0
        try:
            while True:
                opcode = data[pos]
                # Four kinds of opcodes are more than half of a file: done without a call each.
                if opcode == _BINGET:
                    value = memo[data[pos + 1]]
                    pos += 2
                    if type(value) is _Pending:
                        self._fail_pending()
                    stack.append(value)
                elif opcode == _LONG_BINGET:
                    value = memo[_UINT4(data, pos + 1)[0]]
                    pos += 5
                    if type(value) is _Pending:
                        self._fail_pending()
                    stack.append(value)
                elif opcode == _MEMOIZE and not self._gaps:
                    value = stack[-1]
                    if type(value) is _Pending:
                        value.slots.append(len(memo))
                    memo.append(value)
                    pos += 1
                elif opcode == _BININT1:
                    stack.append(data[pos + 1])
                    pos += 2
                elif opcode == _STOP:
                    self._pos = pos + 1
                    return self._result()
                else:
                    self._pos = pos + 1
                    opcodes[opcode](self)
                    pos = self._pos
        except IndexError:
            self._pos = max(self._pos, pos)
            if self._pos + 1 < self._size:
                self._fail_broken("an opcode without its operand")
            self._fail_cut()
        except struct.error:
            self._fail_cut()
        except UnicodeDecodeError:
            self._fail("text that is not UTF-8")
        except MemoryError:
            raise AnnotationError(f"{self._where}: the file does not fit into memory") from None

    def _result(self) -> Any:
        if len(self._stack) != 1 or self._marks:
            self._fail_broken("an end with no value, or with several")
        (value,) = self._stack
        self._check_value(value)
        if self._pos < self._frame_end:
            self._fail_broken("the end before the end of the frame")
        if self._pos < self._size:
            raise AnnotationError(
                f"{self._where}: expected one pickle, got {self._size - self._pos} more bytes "
                "after its end"
            )
        return value

    # Errors.

    def _fail(self, got: str) -> NoReturn:
        raise AnnotationError(f"{self._where}: expected {_EXPECTED}, got {got}") from None

    def _fail_broken(self, what: str) -> NoReturn:
        start = self._data[:64]
        hint = "; is this a text file?" if start[:1] != b"\x80" and _is_text(start) else ""
        raise AnnotationError(
            f"{self._where}: expected a pickle, got {what} at byte {self._pos - 1}{hint}"
        ) from None

    def _fail_cut(self) -> NoReturn:
        raise AnnotationError(
            f"{self._where}: expected a whole pickle, the file ends too early, after "
            f"{self._size} bytes"
        ) from None

    def _fail_global(self, name: str) -> NoReturn:
        self._fail(f"global {name[:_MAX_SHOWN]!r}")

    def _fail_pending(self) -> NoReturn:
        self._fail_broken("a value that is not there yet")

    def _check_value(self, value: object) -> None:
        if isinstance(value, _Global):
            self._fail_global(value.name)
        if isinstance(value, _Pending):
            self._fail_broken("an array or a dtype without its state")

    def _check_values(self, values: Iterable[Any]) -> None:
        if not _INTERNAL.isdisjoint(map(type, values)):
            for value in values:
                self._check_value(value)

    def _check_keys(self, keys: list[Any]) -> None:
        if _SCALARS.issuperset(map(type, keys)):
            return
        for key in keys:
            parts = key if type(key) is tuple and len(key) <= _MAX_KEY_LENGTH else (key,)
            for part in parts:
                if type(part) not in _SCALARS and not isinstance(part, np.generic):
                    self._check_value(part)
                    self._fail(f"a {type(part).__name__} in a dict key")

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            self._fail("bytes that are copied again and again")

    # Bytes of the file.

    def _take(self, count: int) -> bytes:
        start = self._pos
        self._pos = end = start + count
        if end > self._size:
            self._fail_cut()
        return self._data[start:end]

    def _uint(self, width: int) -> int:
        start = self._pos
        self._pos = start + width
        return cast(int, _UINTS[width](self._data, start)[0])

    def _line(self) -> bytes:
        start = self._pos
        end = self._data.find(b"\n", start)
        if end < 0:
            self._fail_cut()
        self._pos = end + 1
        return self._data[start:end]

    # Numbers and text.

    def _bin_long(self, width: int) -> None:
        count = self._uint(width)
        if count > 9:  # unsigned 64-bit integers have a ninth byte
            self._fail(f"an integer of {count} bytes")
        self._push_integer(int.from_bytes(self._take(count), "little", signed=True))

    def _text_int(self) -> None:
        line = self._line()
        if line in (b"00", b"01"):
            self._stack.append(line == b"01")
        else:
            self._push_integer(self._as_integer(line))

    def _text_long(self) -> None:
        self._push_integer(self._as_integer(self._line().removesuffix(b"L")))

    def _as_integer(self, line: bytes) -> int:
        if not _INTEGER.fullmatch(line):
            self._fail(f"{line[:_MAX_SHOWN]!r} for an integer")
        return int(line)

    def _push_integer(self, value: int) -> None:
        if not -(2**63) <= value < 2**64:
            self._fail("an integer of more than 64 bits")
        self._stack.append(value)

    def _text_float(self) -> None:
        line = self._line()
        try:
            self._stack.append(float(line[:_MAX_SHOWN]))
        except ValueError:
            self._fail(f"{line[:_MAX_SHOWN]!r} for a float")

    def _short_unicode(self) -> None:
        start = self._pos + 1
        self._pos = end = start + self._data[start - 1]
        if end > self._size:
            self._fail_cut()
        self._stack.append(str(self._data[start:end], "utf-8", "surrogatepass"))

    def _bin_unicode(self, width: int) -> None:
        self._stack.append(str(self._take(self._uint(width)), "utf-8", "surrogatepass"))

    def _text_unicode(self) -> None:
        try:
            self._stack.append(str(self._line(), "raw-unicode-escape"))
        except UnicodeDecodeError:
            self._fail("text with a broken escape")

    def _bin_bytes(self, width: int) -> None:
        self._stack.append(self._take(self._uint(width)))

    def _bin_string(self, width: int) -> None:
        self._stack.append(self._decoded(self._take(self._uint(width))))

    def _text_string(self) -> None:
        line = self._line()
        if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
            self._fail_broken("a string without quotes")
        if b"\\" in line:
            # Python's decoder would let a bad escape pass with a warning.
            if _BAD_ESCAPE.search(line[1:-1].replace(rb"\\", b"")):
                self._fail("text with a broken escape")
            self._stack.append(self._decoded(codecs.escape_decode(line[1:-1])[0]))
        else:
            self._stack.append(self._decoded(line[1:-1]))

    def _decoded(self, data: bytes) -> str:
        try:
            return str(data, self._encoding)
        except UnicodeDecodeError as exc:
            raise AnnotationError(
                f"{self._where}: expected ASCII in a byte string of Python 2, got byte "
                f"{data[exc.start]:#04x}; read the file with encoding 'latin1'"
            ) from None

    # Containers.

    def _mark(self) -> None:
        if len(self._marks) >= _MAX_MARKS:
            self._fail("values nested too deep")
        self._marks.append(len(self._stack))

    def _above_mark(self) -> list[Any]:
        return self._pop_from(self._marks.pop())

    def _pop_from(self, height: int) -> list[Any]:
        stack = self._stack
        if not 0 <= height <= len(stack):
            raise IndexError
        items = stack[height:]
        del stack[height:]
        return items

    def _push_container(self, value: object) -> None:
        self._room -= 1
        if self._room < 0:
            self._fail("more containers than its size has room for")
        self._stack.append(value)

    def _empty_list(self) -> None:
        self._push_container([])

    def _empty_dict(self) -> None:
        self._push_container({})

    def _tuple(self) -> None:
        self._push_tuple(self._above_mark())

    def _tuple1(self) -> None:
        value = self._stack.pop()
        self._check_values((value,))
        self._push_container((value,))

    def _short_tuple(self, count: int) -> None:
        self._push_tuple(self._pop_from(len(self._stack) - count))

    def _push_tuple(self, items: list[Any]) -> None:
        if _INTERNAL.isdisjoint(map(type, items)):
            self._push_container(tuple(items))
        elif items[0] is _NDARRAY and _are_array_args(items):
            self._stack.append(_ARRAY_ARGS)
        else:
            self._check_values(items)

    def _list(self) -> None:
        items = self._above_mark()
        self._check_values(items)
        self._push_container(items)

    def _dict(self) -> None:
        items = self._above_mark()
        self._push_container({})
        self._set(items)

    def _append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._above_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            self._fail_broken(f"an append to a {type(target).__name__}")
        self._check_values(items)
        target.extend(items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self._above_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            self._fail_broken(f"a key set in a {type(target).__name__}, or a key without value")
        keys, values = items[::2], items[1::2]
        self._check_keys(keys)
        self._check_values(values)
        target.update(zip(keys, values, strict=True))

    # The memo.

    def _memoize_with_gaps(self) -> None:
        self._fail_broken("two ways of counting the memo")

    def _put(self, width: int) -> None:
        index = self._uint(width)
        value = self._stack[-1]
        if index == len(self._memo) and type(value) is not _Pending:
            self._memo.append(value)
        else:
            self._put_at(index)

    def _text_put(self) -> None:
        self._put_at(self._as_integer(self._line()))

    def _put_at(self, index: int) -> None:
        memo, value = self._memo, self._stack[-1]
        if index >= len(memo):
            # Nobody puts more values than the file has bytes so far.
            if index > self._pos:
                self._fail_broken(f"place {index} of the memo")
            self._gaps = self._gaps or index > len(memo)
            memo.extend([_UNSET] * (index + 1 - len(memo)))
        elif index < 0 or memo[index] is not _UNSET:
            self._fail_broken(f"place {index} of the memo a second time")
        memo[index] = value
        if type(value) is _Pending:
            value.slots.append(index)

    def _text_get(self) -> None:
        index = self._as_integer(self._line())
        value = self._memo[index] if 0 <= index < len(self._memo) else _UNSET
        if type(value) is _Pending:
            self._fail_pending()
        self._stack.append(value)

    # Framing.

    def _protocol(self) -> None:
        version = self._uint(1)
        if self._pos != 2:
            self._fail_broken("a second protocol number")
        if version > _HIGHEST_PROTOCOL:
            self._fail_broken(f"protocol {version}, expected at most {_HIGHEST_PROTOCOL}")

    def _frame(self) -> None:
        opened = self._pos - 1
        length = self._uint(8)
        if opened < self._frame_end:
            self._fail_broken("a frame inside a frame")
        self._frame_end = self._pos + length
        if self._frame_end > self._size:
            self._fail_cut()

    def _refused(self) -> None:
        opcode = self._data[self._pos - 1]
        names = [known.name for known in known_opcodes if known.code == chr(opcode)]
        if not names:
            self._fail_broken(f"{bytes([opcode])!r} for an opcode")
        if names == ["INST"]:
            self._global()
        self._fail(_REFUSED.get(names[0], f"opcode {names[0]}"))

    # Names, and the steps they stand for.

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push_global(str(module, "utf-8", "replace"), str(name, "utf-8", "replace"))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            self._fail_broken("a global without a name")
        self._push_global(module, name)

    def _push_global(self, module: str, name: str) -> None:
        found = _GLOBALS.get((module, name))
        if found is None:
            self._fail_global(f"{module}.{name}")
        self._stack.append(found)

    def _reduce(self) -> None:
        args, called = self._stack.pop(), self._stack.pop()
        if type(called) is not _Global or called.call is None:
            self._check_value(called)
            self._fail(f"a call of a {type(called).__name__}")
        self._stack.append(called.call(self, args))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is not _Pending:
            self._check_value(target)
            self._fail(f"a state for a {type(target).__name__}")
        made = self._built_dtype(target.dtype, state) if target.dtype else self._built_array(state)
        self._stack[-1] = made
        for slot in target.slots:
            self._memo[slot] = made

    def _call_reconstruct(self, args: object) -> _Pending:
        if args is not _ARRAY_ARGS:
            self._fail("an array of a class of its own")
        return _Pending()

    def _built_array(self, state: object) -> np.ndarray:
        if type(state) is not tuple or len(state) != 5 or not _is_int(state[0], 1):
            self._fail("an array of unknown layout")
        _, shape, dtype, fortran, data = state
        if not (_is_int(fortran, 0) or _is_int(fortran, 1)):
            self._fail("an array of unknown layout")
        array = self._array(shape, dtype, "F" if fortran else "C", data)
        if not array.dtype.isnative:  # NumPy turns these round, and only these
            self._spend(array.nbytes)
            array = array.astype(array.dtype.newbyteorder("="))
            array.flags.writeable = False
        return array

    def _call_frombuffer(self, args: object) -> np.ndarray:
        if type(args) is not tuple or len(args) not in (4, 5) or type(args[3]) is not str:
            self._fail("an array of unknown layout")
        data, dtype, shape, order = args[:4]
        axes = args[4] if len(args) == 5 else None
        if order == "K" and axes is not None:
            array = self._array(shape, dtype, "C", data)
            known = type(axes) is tuple and {int}.issuperset(map(type, axes))
            if not known or sorted(axes) != list(range(array.ndim)):
                self._fail("an array of unknown layout")
            return array.transpose(axes)
        if order not in ("C", "F") or axes is not None:
            self._fail("an array of unknown layout")
        return self._array(shape, dtype, order, data)

    def _array(
        self, shape: object, dtype: object, order: Literal["C", "F"], data: object
    ) -> np.ndarray:
        if not isinstance(dtype, np.dtype) or dtype.kind in "SU":
            self._fail(f"an array of {dtype}" if isinstance(dtype, np.dtype) else "no dtype")
        if type(shape) is not tuple or len(shape) > _MAX_AXES:
            self._fail("an array without a shape")
        if not {int}.issuperset(map(type, shape)) or min(shape, default=0) < 0:
            self._fail("an array whose shape is no shape")
        content = self._content(data)
        if math.prod(shape) * dtype.itemsize != len(content):
            self._fail(f"{len(content)} bytes for an array of shape {shape} and {dtype}")
        try:
            return np.ndarray(shape, dtype, buffer=content, order=order)
        except (ValueError, OverflowError):  # an axis of 0 beside axes beyond any memory
            self._fail(f"an array of shape {shape}")

    def _content(self, data: object) -> bytes:
        """Return the bytes of an array or scalar; Python 2 has them as text."""
        if type(data) is str:
            return self._latin1(data)
        if type(data) is not bytes:
            self._fail(f"array elements in a {type(data).__name__}")
        return data

    def _latin1(self, text: str) -> bytes:
        self._spend(len(text))
        try:
            return text.encode("latin1")
        except UnicodeEncodeError:
            self._fail("bytes with characters beyond latin1")

    def _call_dtype(self, args: object) -> _Pending:
        if type(args) is not tuple or len(args) != 3 or type(args[0]) is not str:
            self._fail("an unknown dtype")
        name, align, copy = args
        if name not in _NUMBERS and not _TEXT.fullmatch(name):
            self._fail(f"dtype {name[:_MAX_SHOWN]!r}")
        if not _is_int(align, 0) or not _is_int(copy, 1):
            self._fail("an unknown dtype")
        return _Pending(name)

    def _built_dtype(self, name: str, state: object) -> "np.dtype[Any]":
        if type(state) is not tuple or len(state) != 8 or not _is_int(state[0], 3):
            self._fail("an unknown dtype")
        order = state[1]
        if type(order) is not str or order not in ("<", ">", "|", "="):
            self._fail("an unknown dtype")
        if any(part is not None for part in state[2:5]):
            self._fail("a dtype with fields")
        return np.dtype(order + name)

    def _call_scalar(self, args: object) -> Any:
        if type(args) is not tuple or len(args) != 2 or not isinstance(args[0], np.dtype):
            self._fail("an unknown scalar")
        dtype, content = args[0], self._content(args[1])
        if len(content) != dtype.itemsize:
            self._fail(f"{len(content)} bytes for a scalar of {dtype}")
        if dtype.kind not in "SU":
            return np.frombuffer(content, dtype)[0]
        self._spend(len(content))
        if dtype.kind == "S":
            return content.rstrip(b"\0")
        codec = "utf-32-be" if dtype.str[0] == ">" else "utf-32-le"
        return str(content, codec, "surrogatepass").rstrip("\0")

    def _call_encode(self, args: object) -> bytes:
        if type(args) is not tuple or len(args) != 2 or type(args[0]) is not str:
            self._fail("an unknown call of '_codecs.encode'")
        if type(args[1]) is not str or args[1] != "latin1":
            shown = repr(args[1][:_MAX_SHOWN]) if type(args[1]) is str else type(args[1]).__name__
            self._fail(f"a call of '_codecs.encode' with {shown}")
        return self._latin1(args[0])

    def _call_bytes(self, args: object) -> bytes:
        if type(args) is not tuple or args:
            self._fail("a call of 'bytes' with arguments")
        return b""


def _are_array_args(items: list[Any]) -> bool:
    if len(items) != 3 or type(items[1]) is not tuple or len(items[1]) != 1:
        return False
    kind = items[2]
    is_b = (type(kind) is bytes and kind == b"b") or (type(kind) is str and kind == "b")
    return is_b and _is_int(items[1][0], 0)


def _is_int(value: object, number: int) -> bool:
    return type(value) in (int, bool) and value == number


def _is_text(data: bytes) -> bool:
    try:
        return str(data, "utf-8", "ignore").translate({9: 32, 10: 32, 13: 32}).isprintable()
    except UnicodeDecodeError:
        return False


def _numpy_names(module: str, name: str) -> list[tuple[str, str]]:
    """Return a name by the paths of NumPy 1, NumPy 2 and old ones."""
    return [(f"numpy{core}.{module}", name) for core in ("", ".core", "._core")]


def _globals(call: Callable[[_Machine, Any], Any], names: Iterable[tuple[str, str]]) -> Any:
    return {path: _Global(".".join(path), call) for path in names}


# All that a pickle may name.
_GLOBALS: dict[tuple[str, str], _Global] = {
    ("numpy", "ndarray"): _NDARRAY,
    **_globals(_Machine._call_dtype, [("numpy", "dtype")]),
    **_globals(_Machine._call_reconstruct, _numpy_names("multiarray", "_reconstruct")),
    **_globals(_Machine._call_scalar, _numpy_names("multiarray", "scalar")),
    **_globals(_Machine._call_frombuffer, _numpy_names("numeric", "_frombuffer")),
    # How protocols 0 to 2 spell bytes: by their characters, and if there are none.
    **_globals(_Machine._call_encode, [("_codecs", "encode")]),
    **_globals(_Machine._call_bytes, [("__builtin__", "bytes"), ("builtins", "bytes")]),
}


def _constant(value: object) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        machine._stack.append(value)

    return push


def _number(unpack: _Unpack, width: int) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        start = machine._pos
        machine._pos = start + width
        machine._stack.append(unpack(machine._data, start)[0])

    return push


def _with_width(step: Callable[[_Machine, int], None], width: int) -> Callable[[_Machine], None]:
    return lambda machine: step(machine, width)


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine._protocol,
    b"\x95": _Machine._frame,
    # Constants and numbers.
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"M": _number(struct.Struct("<H").unpack_from, 2),
    b"J": _number(struct.Struct("<i").unpack_from, 4),
    b"G": _number(struct.Struct(">d").unpack_from, 8),
    b"\x8a": _with_width(_Machine._bin_long, 1),
    b"\x8b": _with_width(_Machine._bin_long, 4),
    b"I": _Machine._text_int,
    b"L": _Machine._text_long,
    b"F": _Machine._text_float,
    # Text and bytes.
    b"\x8c": _Machine._short_unicode,
    b"X": _with_width(_Machine._bin_unicode, 4),
    b"\x8d": _with_width(_Machine._bin_unicode, 8),
    b"V": _Machine._text_unicode,
    b"C": _with_width(_Machine._bin_bytes, 1),
    b"B": _with_width(_Machine._bin_bytes, 4),
    b"\x8e": _with_width(_Machine._bin_bytes, 8),
    b"\x96": _with_width(_Machine._bin_bytes, 8),
    b"U": _with_width(_Machine._bin_string, 1),
    b"T": _with_width(_Machine._bin_string, 4),
    b"S": _Machine._text_string,
    # Containers.
    b"(": _Machine._mark,
    b")": _constant(()),
    b"\x85": _Machine._tuple1,
    b"\x86": _with_width(_Machine._short_tuple, 2),
    b"\x87": _with_width(_Machine._short_tuple, 3),
    b"t": _Machine._tuple,
    b"]": _Machine._empty_list,
    b"l": _Machine._list,
    b"a": _Machine._append,
    b"e": _Machine._appends,
    b"}": _Machine._empty_dict,
    b"d": _Machine._dict,
    b"s": _Machine._set_item,
    b"u": _Machine._set_items,
    # The memo.
    b"\x94": _Machine._memoize_with_gaps,
    b"q": _with_width(_Machine._put, 1),
    b"r": _with_width(_Machine._put, 4),
    b"p": _Machine._text_put,
    b"g": _Machine._text_get,
    # Names, calls of them, and the states of what they made.
    b"c": _Machine._global,
    b"\x93": _Machine._stack_global,
    b"R": _Machine._reduce,
    b"b": _Machine._build,
}
_OPCODES = [_STEPS.get(bytes([code]), _Machine._refused) for code in range(256)]
