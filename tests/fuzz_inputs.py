"""Hostile inputs for the readers of bytes, and the promise that every one of them must keep.

The tests of tests/fuzz try the same few inputs each time. To look for new ones, say how many:

    CLIPSHARDS_FUZZ_EXAMPLES=100000 .venv/bin/pytest tests/fuzz -x

Each test then tries as many, others in every run; pytest prints what failed, and the line that
tries it again.
"""

import os
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from clipshards.packer.format.errors import DatasetError
from clipshards.packer.format.npy import decode_npy, encode_npy

MANY = int(os.environ.get("CLIPSHARDS_FUZZ_EXAMPLES", "0"))
"""Examples of each test, of any seed; 0 for the few that are the same each time."""

# Lists of empty lists take 30 times their text, and pickles may take 45 times.
_TIMES_INPUT = 60
_FREE_BYTES = 2 << 20
_SECONDS_A_BYTE = 20e-6
_FREE_SECONDS = 2.0
_MOST_BYTES = 20_000

LARGE = [2**31, 2**32, 8**11 - 1, 8**11, 10**12, 2**62, 2**63 - 1, 2**63, 2**64, 10**40]
"""Numbers that no count, size or offset of a small file can be."""

numbers = st.sampled_from([*LARGE, *(-number for number in LARGE)]) | st.integers(-3, 600)


def fuzzed(examples: int) -> settings:
    """Return the settings of a test: so many examples, or as many as the user asks for."""
    return settings(
        max_examples=MANY or examples,
        derandomize=not MANY,
        database=None,
        deadline=None,
        # What fails is shown small only where somebody waits for it.
        phases=[phase for phase in Phase if MANY or phase != Phase.explain],
        suppress_health_check=list(HealthCheck),
    )


def read(
    reader: Callable[[], Any],
    size: int,
    *,
    errors: type[DatasetError] | tuple[type[DatasetError], ...] = DatasetError,
) -> Any:
    """Return what a reader makes of hostile bytes, None where it raises one of our errors.

    Args:
        reader: The call.
        size: Of the bytes that it gets.
        errors: The class that its docstring names.

    Raises:
        Exception: Any other error is the reader's fault.
        AssertionError: It took memory or time out of proportion to the bytes.
    """
    most_bytes = _FREE_BYTES + _TIMES_INPUT * size
    most_seconds = _FREE_SECONDS + _SECONDS_A_BYTE * size
    value, peak, seconds = _measured(reader, errors)
    if peak > most_bytes or seconds > most_seconds:
        # Modules that are loaded, and tables that are filled, at the first call.
        value, peak, seconds = _measured(reader, errors)
    assert peak <= most_bytes, f"{peak} bytes of memory for {size} bytes"
    assert seconds <= most_seconds, f"{seconds:.1f} s for {size} bytes"
    return value


def _measured(
    reader: Callable[[], Any], errors: type[DatasetError] | tuple[type[DatasetError], ...]
) -> tuple[Any, int, float]:
    """Return what `reader` returns, and the memory and the processor time that it took."""
    tracemalloc.start()
    began = time.process_time()
    try:
        value = reader()
    except errors as exc:
        value, told = None, str(exc)
    else:
        told = "a value"
    finally:
        seconds = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert told, "an error without words"
    return value, peak, seconds


class _Pieces(tuple[bytes, ...]):
    """Pieces of bytes that reports of hypothesis need not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} pieces>"


def mutated(sound: Sequence[bytes], tokens: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Return sound bytes with one to four changes.

    Args:
        sound: What to begin with.
        tokens: Pieces that mean something to the reader, to be put in.
    """
    return _mutated(_Pieces(sound), _Pieces(tokens))


@st.composite
def _mutated(draw: st.DrawFn, sound: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    data = draw(st.sampled_from(sound))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(begin + draw(st.integers(0, 20) | st.integers(0, len(data))), len(data))
        before, piece, after = data[:begin], data[begin:end], data[end:]
        match draw(st.sampled_from(_CHANGES)):
            case "flip" if after:
                data = before + piece + bytes([after[0] ^ 1 << draw(st.integers(0, 7))]) + after[1:]
            case "cut":
                data = before
            case "leave out":
                data = before + after
            case "repeat" if piece:
                times = draw(st.integers(2, 5) | st.integers(2, 50_000))
                data = before + piece * min(times, 1 + _MOST_BYTES // len(piece)) + after
            case "move":
                data = before + after + piece
            case "insert":
                data = before + draw(st.binary(max_size=12)) + piece + after
            case "splice":
                other = draw(st.sampled_from(sound))
                data = before + other[draw(st.integers(0, len(other))) :]
            case "number":
                data = _with_number(draw, data, begin)
            case "token" if tokens:
                data = before + draw(st.sampled_from(tokens)) + after
            case _:
                data = before + bytes(draw(st.integers(1, 600))) + after
    return data[: 10 * _MOST_BYTES]


_CHANGES = ("flip", "cut", "leave out", "repeat", "move", "insert", "splice", "number", "token", "")


def _with_number(draw: st.DrawFn, data: bytes, begin: int) -> bytes:
    """Return `data` with the digits behind a place, if there are any, spelling another number."""
    start = next((at for at in range(begin, len(data)) if data[at : at + 1].isdigit()), None)
    if start is None:
        return data
    end = next((at for at in range(start, len(data)) if not data[at : at + 1].isdigit()), len(data))
    return data[:start] + str(draw(numbers)).encode() + data[end:]


_FINITE = st.floats(allow_nan=False, allow_infinity=False)

scalars = (
    numbers
    | st.none()
    | st.booleans()
    | _FINITE
    | st.sampled_from(["", "a", "\0", "../x", "é\U0001f3ac", "x" * 300, "mp4", "0", "none"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["", "a", "id", "video", "\x7f"]), inner, max_size=3)
    ),
    max_leaves=6,
) | st.sampled_from([1, 30, 33, 150]).map(lambda depth: nested(depth))
"""JSON values, some nested deeper than anybody writes."""


def nested(depth: int, inner: Any = 0) -> Any:
    """Return a value inside so many lists."""
    for _ in range(depth):
        inner = [inner]
    return inner


JSON_TOKENS = [
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"0.0", b"1" * 5000, b'"\\ud800"', b'"\\u0000"'),
    *(b"[" * 2000, b'{"a":' * 2000, b"[" * 100_000, b'{"a":1,"a":2}', b'"' + b'\\"' * 20_000),
    *(b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"null", b"true", b"\n", b" ", b"{}", b"[]"),
]
"""Pieces of text that parsers of JSON trip over."""


@st.composite
def altered(draw: st.DrawFn, sound: Sequence[Any]) -> Any:
    """Return a sound JSON value with one to three values in it replaced, doubled or taken out."""
    value = draw(st.sampled_from(sound))
    for _ in range(draw(st.integers(1, 3))):
        value = _altered_once(draw, value)
    return value


def _altered_once(draw: st.DrawFn, value: Any, levels: int = 12) -> Any:
    if not levels:
        return draw(scalars)
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        match draw(st.integers(0, 9)):
            case 0:
                return {other: value[other] for other in value if other != key}
            case 1:
                return value | {draw(st.sampled_from(["", "x", "__class__"])): value[key]}
            case 2:
                return value | {key: value[draw(st.sampled_from(sorted(value)))]}
            case _:
                return value | {key: _altered_once(draw, value[key], levels - 1)}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        place = draw(st.integers(0, len(value) - 1))
        match draw(st.integers(0, 9)):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                short = len(value) < 9 and not any(isinstance(one, list | dict) for one in value)
                return value * draw(st.sampled_from([2, 3, 1000 if short else 4]))
            case 2:
                return value[::-1]
            case _:
                new = _altered_once(draw, value[place], levels - 1)
                return [*value[:place], new, *value[place + 1 :]]
    if isinstance(value, int | float) and draw(st.booleans()):
        return draw(numbers) if isinstance(value, int) else draw(_FINITE)
    return draw(values)


def arrays(sound: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return the npy file of a sound array with other numbers, or another shape or dtype."""
    return _arrays(_Pieces(sound))


@st.composite
def _arrays(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    array = decode_npy(draw(st.sampled_from(sound)), where="golden").copy()
    for _ in range(draw(st.integers(0, 3)) if array.size else 0):
        place = draw(st.integers(0, array.size - 1))
        if array.dtype.kind == "f":
            # Not of 16 bits: some releases of hypothesis draw what those cannot hold.
            with np.errstate(over="ignore"):
                array.flat[place] = draw(st.floats())
        else:
            # Golden arrays of integers are signed; what is larger wraps round.
            half = 1 << 8 * array.dtype.itemsize - 1
            array.flat[place] = (draw(numbers) + half) % (2 * half) - half
    match draw(st.integers(0, 9)):
        case 0:
            array = array[:-1] if array.ndim else array
        case 1:
            array = array.reshape(1, *array.shape)
        case 2:
            array = np.repeat(array, 2, axis=-1) if array.ndim else array
        case 3:
            with np.errstate(all="ignore"):
                array = array.astype(draw(st.sampled_from(["f2", "f8", "i1", "i8", "b1", "u1"])))
        case 4:
            array = np.zeros(draw(st.lists(st.integers(0, 3), max_size=6)), array.dtype)
    return encode_npy(array)
