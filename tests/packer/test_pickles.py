"""The restricted unpickler: data comes out as `pickle.load` gives it, nothing ever runs."""

import gzip
import pickle
import pickletools
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.annotations.pickles import load_pickle, read_pickle
from clipshards.packer.format.errors import AnnotationError

PROTOCOLS = range(6)
DTYPES = ["b1", "i1", "i2", "<i4", ">i4", "i8", "u1", "u2", "u4", "u8", "f2", "<f4", ">f4", "f8"]


def load(data: bytes, encoding: Any = "ASCII") -> Any:
    return load_pickle(data, where="a.pkl", encoding=encoding)


def assert_same(found: Any, expected: Any) -> None:
    """Check types, values, dtypes and memory order, in depth."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
        assert found.flags.f_contiguous == expected.flags.f_contiguous
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert_same(ours, theirs)
    else:
        assert repr(found) == repr(expected)


VALUES: list[Any] = [
    None,
    True,
    False,
    [0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, 2**31, -(2**31), 2**63, 2**64 - 1, -(2**63)],
    [0.0, -0.0, 1.5, float("inf"), float("nan"), 1e-300],
    ["", "a", "\xe9", "\u4e2d\U0001f3ac", "\ud800", "line\nend \\ '\"", "x" * 300],
    [b"", b"a", b"\x00\xff\n", b"y" * 300],
    (),
    ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    [[], {}, [[[]]], {"a": {"b": []}}],
    {1: "int", "s": 2, 1.5: None, None: 0, b"b": 1, (1, "a"): 2},
    {"annotations": [{"frame_dir": f"v{n}", "label": n} for n in range(300)]},
    [[n] for n in range(3000)],
    ["x" * 70_000, b"y" * 70_000],
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", VALUES)
def test_plain_values_come_out_as_they_went_in(value: Any, protocol: int) -> None:
    assert_same(load(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_and_scalars_of_every_dtype_come_out(dtype: str, protocol: int) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    values = [
        array,
        np.asfortranarray(array),
        array.transpose(1, 0, 2),
        array[:, ::2],
        array[:0],
        array[0, 0, 0].reshape(()),
        np.empty((0, 17, 3), dtype),
        array[1, 1, 1],
        array,
    ]
    data = pickle.dumps(values, protocol)
    assert_same(load(data), pickle.loads(data))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_are_plain_read_only_and_share_what_was_shared(protocol: int) -> None:
    array = np.ones(3)
    first, second = load(pickle.dumps([array, array], protocol))
    assert first is second
    assert type(first) is np.ndarray
    assert not first.flags.writeable
    assert first.flags.aligned


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars_of_text_become_plain_text(protocol: int) -> None:
    values = [np.str_("a\u4e2d"), np.bytes_(b"ab\xff"), np.str_(""), np.array(["abc", "d"])[1]]
    found = load(pickle.dumps(values, protocol))
    assert_same(found, ["a\u4e2d", b"ab\xff", "", "d"])
    swapped = np.array(["abc"], dtype=">U5")[0]
    assert_same(load(pickle.dumps(swapped, protocol)), "abc")


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("core", ["core", "_core"])
def test_files_of_numpy_1_and_2_load_whatever_is_installed(core: str, protocol: int) -> None:
    values = [np.arange(3.0), np.float32(1.5), np.asfortranarray(np.ones((2, 3)))]
    data = pickle.dumps(values, protocol)
    # The frame's length and the strings' change with the name.
    renamed = b"".join(
        rename(opcode, arg, data[start:end], core) for opcode, arg, start, end in split_up(data)
    )
    assert f"numpy.{core}.".encode() in renamed
    assert_same(load(renamed), values)


def split_up(data: bytes) -> list[tuple[str, Any, int, int]]:
    ops = [(op.name, arg, place or 0) for op, arg, place in pickletools.genops(data)]
    ends = [place for _, _, place in ops[1:]] + [len(data)]
    return [(name, arg, place, end) for (name, arg, place), end in zip(ops, ends, strict=True)]


def rename(opcode: str, arg: Any, code: bytes, core: str) -> bytes:
    if opcode == "FRAME":
        return b""
    text = str(arg).replace("numpy._core.", "numpy.core.").replace("numpy.core.", f"numpy.{core}.")
    if opcode == "GLOBAL":
        return b"c" + text.replace(" ", "\n").encode() + b"\n"
    if opcode == "SHORT_BINUNICODE":
        return b"\x8c" + bytes([len(text)]) + text.encode()
    return code


def test_shared_files_load_as_plain_pickle_does(shared_data: Path) -> None:
    files = sorted(shared_data.rglob("*.pkl"))
    assert len(files) >= 9
    for file in files:
        expected = pickle.loads(file.read_bytes())
        assert_same(read_pickle(file), expected)
        for protocol in PROTOCOLS:
            assert_same(load(pickle.dumps(expected, protocol)), expected)


def test_recursive_values_come_out_recursive() -> None:
    value: list[Any] = []
    value.append(value)
    found = load(pickle.dumps(value))
    assert found[0] is found


# Files of Python 2, by the opcodes that its picklers write.

PYTHON2_DTYPE = (
    b"cnumpy\ndtype\np4\n(S'f4'\np5\nI0\nI1\ntp6\nRp7\n(I3\nS'<'\np8\nNNNI-1\nI-1\nI0\ntb"
)
PYTHON2_TEXT = (
    b"(dp0\nS'keypoint'\np1\n"
    b"cnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntS'b'\ntRp9\n"
    b"(I1\n(I2\ntp10\n" + PYTHON2_DTYPE + b"I00\nS'\\x00\\x00\\xc0?\\x00\\x00 \\xc0'\np11\ntbs."
)


def test_python_2_file_loads_with_latin1() -> None:
    found = load(PYTHON2_TEXT, encoding="latin1")
    assert_same(found, {"keypoint": np.array([1.5, -2.5], np.float32)})


def test_python_2_file_names_the_remedy() -> None:
    with pytest.raises(AnnotationError, match=r"^a\.pkl: .*byte 0xc0.*encoding 'latin1'$"):
        load(PYTHON2_TEXT)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x80\x02}q\x01U\x05labelq\x02L3L\ns.", {"label": 3}),
        (b"]q\x01(U\x03a\xe9bT\x02\x00\x00\x00ab\x8a\x01\x05I01\nI00\nF1.5\ne.", None),
        (b"S'a\\x41\\\\n\\'\\t'\n.", "aA\\n'\t"),
        (b'S"it\'s"\n.', "it's"),
        (b"Vcaf\\u00e9\n.", "caf\xe9"),
    ],
)
def test_opcodes_of_python_2_are_read(data: bytes, value: Any) -> None:
    expected = pickle.loads(data, encoding="latin1")
    assert_same(load(data, encoding="latin1"), expected)
    assert value is None or expected == value


@pytest.mark.parametrize("encoding", ["utf-8", "bytes", "rot13", ""])
def test_other_encodings_are_wrong_arguments(encoding: str) -> None:
    with pytest.raises(ValueError, match="encoding"):
        load(pickle.dumps(1), encoding=encoding)


# What may not come in. A marker file shows that nothing of it ran.


def short(text: str) -> bytes:
    data = text.encode()
    return b"\x8c" + bytes([len(data)]) + data


def named(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


DTYPE = named("numpy", "dtype")
NDARRAY = named("numpy", "ndarray")
RECONSTRUCT = named("numpy.core.multiarray", "_reconstruct")
FROMBUFFER = named("numpy.core.numeric", "_frombuffer")
SCALAR = named("numpy.core.multiarray", "scalar")
ENCODE = named("_codecs", "encode")
ARGS = b"K\x00\x85C\x01b\x87"


def dtype(
    name: str, state: bytes = b"(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
) -> bytes:
    return DTYPE + short(name) + b"\x89\x88\x87R" + state + b"b"


def array(shape: bytes = b"K\x02\x85", of: bytes = b"", data: bytes = b"C\x08abcdefgh") -> bytes:
    head = RECONSTRUCT + NDARRAY + ARGS + b"R"
    return head + b"(K\x01" + shape + (of or dtype("f4")) + b"\x89" + data + b"tb"


def buffer(shape: bytes = b"K\x02\x85", order: bytes = short("C"), data: bytes = b"") -> bytes:
    return FROMBUFFER + b"(" + (data or b"C\x08abcdefgh") + dtype("f4") + shape + order + b"tR"


def size8(length: int) -> bytes:
    return struct.pack("<Q", length)


def test_hand_made_array_is_sound() -> None:
    for made in (array(), buffer(), buffer(order=short("K") + b"K\x00\x85")):
        assert_same(load(b"\x80\x04" + made + b"."), np.frombuffer(b"abcdefgh", "<f4"))


class Payload:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


class Plain:
    """Found by name, as a class of a user's module would be."""


CALLS: list[tuple[str, Any]] = [
    ("posix.system", lambda marker: Payload(__import__("os").system, (f"touch {marker}",))),
    ("builtins.eval", lambda marker: Payload(eval, (f"open({marker!r}, 'w')",))),
    ("builtins.exec", lambda marker: Payload(exec, (f"open({marker!r}, 'w')",))),
    ("builtins.open", lambda marker: Payload(open, (marker, "w"))),
    ("builtins.getattr", lambda marker: Payload(getattr, (marker, "upper"))),
    ("builtins.bytearray", lambda _: Payload(bytearray, (10**12,))),
    ("builtins.range", lambda _: range(10**12)),
    ("builtins.complex", lambda _: 1j),
    ("collections.OrderedDict", lambda _: __import__("collections").OrderedDict(a=1)),
    ("pathlib.PosixPath", lambda _: Path("a")),
    ("subprocess.run", lambda marker: Payload(subprocess.run, (["touch", marker],))),
    ("numpy.load", lambda marker: Payload(np.load, (marker,))),
    ("numpy.fromfile", lambda marker: Payload(np.fromfile, (marker,))),
    ("numpy.zeros", lambda _: Payload(np.zeros, (10**12,))),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("name", "make"), CALLS)
def test_call_is_refused_by_name_and_nothing_runs(
    tmp_path: Path, name: str, make: Any, protocol: int
) -> None:
    marker = tmp_path / "ran"
    data = pickle.dumps({"annotations": [make(str(marker))]}, protocol)
    last = name.rpartition(".")[2]
    with pytest.raises(AnnotationError, match=rf"^a\.pkl: expected .*got global '\S+{last}'$"):
        load(data)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_of_classes_are_refused(protocol: int) -> None:
    masked = np.ma.masked_array([1, 2])
    for value in (Plain(), masked, np.array([1, None]), np.array(["a"]), {1, 2}, frozenset([1])):
        with pytest.raises(AnnotationError, match=r"^a\.pkl: expected plain values and NumPy arr"):
            load(pickle.dumps(value, protocol))
    others = [
        np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, "V3"),
        np.zeros(2, "c8"),
    ]
    for value in others:
        with pytest.raises(AnnotationError, match=r"got (dtype|an unknown dtype|a dtype)"):
            load(pickle.dumps(value, protocol))


MANY = 60_000
HUGE = b"\x8a\x08" + b"\xff" * 7 + b"\x7f"
HOSTILE: list[tuple[str, bytes, str]] = [
    ("a global alone", NDARRAY, "got global 'numpy.ndarray'"),
    ("a global in a list", b"](" + DTYPE + b"K\x01e", "got global 'numpy.dtype'"),
    ("a global in a tuple", b"K\x01" + DTYPE + b"\x86", "got global 'numpy.dtype'"),
    ("a global as a key", b"}" + DTYPE + b"K\x01s", "got global 'numpy.dtype'"),
    ("a global in a key", b"}" + DTYPE + b"\x85K\x01s", "got global 'numpy.dtype'"),
    ("a global with a state", DTYPE + b"}b", "got global 'numpy.dtype'"),
    ("a global with attributes", ENCODE + b"N}" + short("__doc__") + b"Ns\x86b", "_codecs.encode"),
    ("a dotted global", named("numpy", "dtype.__new__"), "got global 'numpy.dtype.__new__'"),
    ("a global by numbers", b"K\x01K\x02\x93", "a global without a name"),
    ("a long name", named("os", "x" * 250), "got global 'os.xxx"),
    ("INST", b"(S'touch ran'\nios\nsystem\n", "got global 'os.system'"),
    ("INST of a known name", b"(inumpy\nndarray\n", "got opcode INST"),
    ("OBJ", b"(" + NDARRAY + b"o", "got opcode OBJ"),
    ("NEWOBJ", NDARRAY + b")\x81", "got opcode NEWOBJ"),
    ("NEWOBJ_EX", NDARRAY + b")}\x92", "got opcode NEWOBJ_EX"),
    ("copyreg", named("copyreg", "_reconstructor"), "got global 'copyreg._reconstructor'"),
    ("PERSID", b"Pid\n", "a persistent id"),
    ("BINPERSID", b"K\x01Q", "a persistent id"),
    ("EXT1", b"\x82\x01", "an extension code"),
    ("EXT2", b"\x83\x01\x00", "an extension code"),
    ("EXT4", b"\x84\x01\x00\x00\x00", "an extension code"),
    ("NEXT_BUFFER", b"\x97", "a buffer that is not in the file"),
    ("READONLY_BUFFER", b"C\x01a\x98", "got opcode READONLY_BUFFER"),
    ("DUP", b"K\x012\x86", "got opcode DUP"),
    ("POP", b"K\x010", "got opcode POP"),
    ("EMPTY_SET", b"\x8f", "got a set"),
    ("a call of ndarray", NDARRAY + b"K\x01\x85\x85R", "global 'numpy.ndarray'"),
    ("a call of text", short("a") + b")R", "a call of a str"),
    ("a state for a list", b"]}b", "a state for a list"),
    ("a state for an array", array() + b"}b", "a state for a ndarray"),
    ("an append to a dict", b"}K\x01a", "an append to a dict"),
    ("an append to an array", array() + b"K\x01a", "an append to a ndarray"),
    ("a key set in a list", b"]K\x01K\x02s", "a key set in a list"),
    ("a key set in an array", array() + b"K\x00K\x01s", "a key set in a ndarray"),
    ("a key without value", b"}(K\x01u", "a key without value"),
    ("a list as a key", b"}]K\x01s", "a list in a dict key"),
    ("an array as a key", b"}" + array() + b"K\x01s", "a ndarray in a dict key"),
    ("a deep tuple as a key", b"}N" + b"\x85" * 2 + b"K\x01s", "a tuple in a dict key"),
    ("a long tuple as a key", b"}(" + b"N" * 17 + b"tK\x01s", "a tuple in a dict key"),
    ("a very deep tuple as a key", b"}N" + b"\x85" * 9 + b"K\x01s", "a tuple in"),
    # Arrays.
    ("an array without state", RECONSTRUCT + NDARRAY + ARGS + b"R", "without its state"),
    ("an array in a list first", b"]" + RECONSTRUCT + NDARRAY + ARGS + b"Ra", "without its state"),
    ("an array that holds itself", RECONSTRUCT + NDARRAY + ARGS + b"R\x94h\x00", "not there yet"),
    ("a class of its own", RECONSTRUCT + DTYPE + ARGS + b"R", "got global 'numpy.dtype'"),
    ("no class", RECONSTRUCT + b"N" + ARGS + b"R", "a class of its own"),
    ("odd shape to begin with", RECONSTRUCT + NDARRAY + b"K\x09\x85C\x01b\x87R", "'numpy.ndarray'"),
    ("odd type to begin with", RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01O\x87R", "'numpy.ndarray'"),
    ("huge shape", array(HUGE + b"\x85"), "8 bytes for an array of shape"),
    ("shape that overflows", array(b"(" + b"M\x00\x80" * 5 + b"t"), "8 bytes for an array of"),
    ("shape of 0 and much", array(b"K\x00" + HUGE + b"\x86", data=b"C\x00"), "an array of shape"),
    ("too few bytes", array(b"K\x03\x85"), "8 bytes for an array of shape (3,)"),
    ("too many bytes", array(b"K\x01\x85"), "8 bytes for an array of shape (1,)"),
    ("negative shape", array(b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86"), "no shape"),
    ("shape of floats", array(b"G" + struct.pack(">d", 2.0) + b"\x85"), "no shape"),
    ("shape of truth values", array(b"\x88\x88\x86", data=b"C\x04abcd"), "no shape"),
    ("shape that is a number", array(b"K\x02"), "without a shape"),
    ("33 axes", array(b"(" + b"K\x01" * 33 + b"t", data=b"C\x04abcd"), "without a shape"),
    ("elements in a list", array(data=b"]"), "array elements in a list"),
    ("characters beyond latin1", array(data=short("\u4e2dabcdefg")), "beyond latin1"),
    ("dtype of objects", array(of=dtype("O8")), "got dtype 'O8'"),
    ("dtype of text", array(of=dtype("U1")), "got an array of <U1"),
    ("dtype of long doubles", array(of=dtype("f16")), "got dtype 'f16'"),
    ("dtype by a comma list", array(of=dtype("f4,O")), "got dtype 'f4,O'"),
    ("dtype of huge text", array(of=dtype("U" + "9" * 9)), "got dtype 'U9"),
    ("dtype that is no dtype", array(of=b"N"), "no dtype"),
    ("dtype without state", array(of=DTYPE + short("f4") + b"\x89\x88\x87R"), "without its state"),
    ("dtype aligned", DTYPE + short("f4") + b"\x88\x88\x87R", "an unknown dtype"),
    ("dtype with fields", array(of=dtype("f4", b"(K\x03\x8c\x01<N)}KAK\x01K\x00t")), "with fields"),
    ("dtype of odd order", array(of=dtype("f4", b"(K\x03\x8c\x01ONNNKAK\x01K\x00t")), "unknown dt"),
    ("dtype state that is none", array(of=dtype("f4", b"N")), "an unknown dtype"),
    ("buffer of odd order", buffer(order=short("A")), "unknown layout"),
    ("buffer with odd axes", buffer(order=short("K") + b"K\x05\x85"), "unknown layout"),
    ("buffer too small", buffer(b"K\x09\x85"), "8 bytes for an array"),
    ("buffer that is an array", buffer(data=array()), "array elements in a ndarray"),
    ("scalar of an object", SCALAR + dtype("O8") + b"N\x86R", "got dtype 'O8'"),
    ("scalar too short", SCALAR + dtype("f8") + b"C\x01a\x86R", "1 bytes for a scalar of float64"),
    ("scalar of no dtype", SCALAR + b"NC\x01a\x86R", "an unknown scalar"),
    ("codec rot13", ENCODE + short("a") + short("rot13") + b"\x86R", "with 'rot13'"),
    ("codec zlib", ENCODE + b"C\x01a" + short("zlib") + b"\x86R", "unknown call of '_codecs.enc"),
    ("codec utf-16", ENCODE + short("a") + short("utf-16") + b"\x86R", "with 'utf-16'"),
    ("codec with errors", ENCODE + b"(" + short("a") + short("latin1") + b"NtR", "unknown call"),
    ("bytes of a size", named("builtins", "bytes") + b"J\xff\xff\xff\x7f\x85R", "with arguments"),
    # Sizes, numbers and the memo.
    ("a huge LONG1", b"\x8a\x0a" + b"\x01" * 10, "an integer of 10 bytes"),
    ("a huge LONG4", b"\x8b\x00\x00\x00\x7f", "an integer of"),
    ("a negative LONG4", b"\x8b\xff\xff\xff\xff", "an integer of"),
    ("a huge LONG", b"L" + b"9" * MANY + b"L\n", "for an integer"),
    ("65 bits", b"\x8a\x09" + b"\xff" * 8 + b"\x01", "more than 64 bits"),
    ("a float by a word", b"Fone\n", "b'one' for a float"),
    ("a broken escape", b"S'a\\q'\n", "a broken escape"),
    ("a string without quotes", b"Sabc\n", "without quotes"),
    ("text that is no UTF-8", b"\x8c\x01\xff", "not UTF-8"),
    ("a missing memo", b"h\x05K\x01", "at byte"),
    ("a gap of the memo", b"K\x01q\x02h\x01", "not there yet"),
    ("a negative memo", b"K\x01g-1\n", "not there yet"),
    ("a place of the memo twice", b"K\x01q\x00K\x02q\x00", "a second time"),
    ("a far place of the memo", b"K\x01r\xff\xff\xff\xff", "place 4294967295 of the memo"),
    ("a far place in text", b"K\x01p99999999999\n", "place 99999999999 of the memo"),
    ("too many marks", b"(" * 10_001, "nested too deep"),
    ("empty dicts alone", b"(" + b"}" * MANY + b"t", "more containers"),
    ("tuples alone", b"N" + b"\x85" * MANY, "more containers"),
    ("no value", b"", "an end with no value"),
    ("two values", b"K\x01K\x02", "an end with no value, or with several"),
    ("an open mark", b"(K\x01", "an end with no value, or with several"),
    ("a tuple of nothing", b"\x85K\x01", "without its operand"),
    ("a tuple of too little", b"K\x01\x87K\x01", "without its operand"),
    ("no mark", b"K\x01tK\x01", "without its operand"),
    ("a second protocol number", b"\x80\x04K\x01", "a second protocol number"),
    ("a frame in a frame", b"\x95" + size8(10) + b"\x95" + size8(1) + b"N", "a frame inside"),
    ("an unknown opcode", b"\xff", "b'\\xff' for an opcode"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "says"), [row[1:] for row in HOSTILE], ids=[r[0] for r in HOSTILE]
)
def test_hostile_pickle_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(AnnotationError, match=r"^a\.pkl: ") as caught:
        load(b"\x80\x04" + data + b".")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


CUT: list[bytes] = [
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x96\x00\x00\x00\x00\x00\x01\x00\x00",
    b"\x8d\x00\x00\x00\x00\x00\x01\x00\x00",
    b"B\xff\xff\xff\xff",
    b"X\xff\xff\xff\x7f",
    b"T\xff\xff\xff\xff",
    b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
    b"\x95\x03\x00\x00\x00\x00\x00\x00\x00N.",
    b"I1",
    b"cos\nsystem",
    b"J\x00\x00",
    b"G\x00",
    b"K",
    b"h",
    b"j\x00",
    b"q",
    b"N",
]


@pytest.mark.parametrize("data", CUT)
def test_false_length_and_missing_end_are_named(data: bytes) -> None:
    with pytest.raises(AnnotationError, match=r"^a\.pkl: expected a whole pickle, the file ends"):
        load(b"\x80\x04" + data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_file_cut_anywhere_is_refused(protocol: int) -> None:
    value = {"split": {"a": ["x"]}, "annotations": [{"k": np.ones(2), "s": np.int64(3), "b": b""}]}
    data = pickle.dumps(value, protocol)
    for length in range(len(data)):
        with pytest.raises(AnnotationError, match=r"^a\.pkl: expected "):
            load(data[:length])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_changed_byte_gives_data_or_our_error(protocol: int) -> None:
    value = [{"k": np.ones(2, "f2"), "s": np.int64(3), "t": (1, "a"), 2.5: b"x"}]
    data = pickle.dumps(value, protocol)
    for place in range(len(data)):
        for changed in {0, 1, 0x28, 0x2E, 0x52, 0x62, 0x7F, 0x80, 0xFF, data[place] ^ 4}:
            broken = data[:place] + bytes([changed]) + data[place + 1 :]
            assert_data_or_our_error(broken)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *(bytes([code]) for code in b"().]}astelduRbN\x85\x86\x87\x88\x94\x93"),
                *(b"K\x00", b"K\x01", b"h\x00", b"h\x01", b"q\x00", b"C\x01b", b"\x8c\x02f4"),
                *(DTYPE, NDARRAY, RECONSTRUCT, FROMBUFFER, SCALAR, ENCODE, dtype("f4"), array()),
                *(NDARRAY + ARGS, RECONSTRUCT + NDARRAY + ARGS + b"R"),
            ]
        ),
        max_size=25,
    )
)
def test_any_program_gives_data_or_our_error(pieces: list[bytes]) -> None:
    assert_data_or_our_error(b"".join(pieces) + b".")


def assert_data_or_our_error(program: bytes) -> None:
    """Check that nothing but data comes out, whatever its depth."""
    try:
        value = load(program, encoding="latin1")
    except AnnotationError as exc:
        message = str(exc)
        assert message.startswith("a.pkl: expected ")
        return
    queue, seen = [value], set()
    while queue:
        found = queue.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if type(found) is dict:
            queue += [*found, *found.values()]
        elif type(found) in (list, tuple):
            queue += found
        elif type(found) is np.ndarray:
            assert found.dtype.kind in "biuf"
        else:
            assert found is None or isinstance(
                found, str | bytes | int | float | np.generic | np.dtype
            )


def test_deep_nesting_comes_out_without_a_crash() -> None:
    depth = 100_000
    lists = load(b"\x80\x04" + b"]\x94" * depth + b"a" * (depth - 1) + b".")
    assert isinstance(lists[0][0], list)
    tuples = load(b"\x80\x04N" + b"\x85\x94\x94" * depth + b".")
    assert isinstance(tuples[0], tuple)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "expected a pickle, got an empty file"),
        (gzip.compress(pickle.dumps(1), mtime=0), "got a gzip file; unpack it first"),
        (b"PK\x03\x04" + b"\0" * 30, "got a zip file, as torch.save"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2), "torch.save wrote"),
        (b"\x93NUMPY\x01\x00", "got an npy file"),
        (b'{"split": {}}', "is this a text file?"),
        (b"video.mp4 0\n", "is this a text file?"),
        (b"a.mp4 0\n", "is this a text file?"),
        (b"\x80\x06N.", "protocol 6, expected at most 5"),
        (pickle.dumps(1) + b"\n", "expected one pickle, got 1 more bytes after its end"),
        (pickle.dumps(1) * 2, "expected one pickle, got 5 more bytes after its end"),
    ],
)
def test_other_files_are_named(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "a.pkl"
    file.write_bytes(data)
    with pytest.raises(AnnotationError) as caught:
        read_pickle(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert says in str(caught.value)


def test_unreadable_and_large_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"none\.pkl: cannot be read: No such file"):
        read_pickle(tmp_path / "none.pkl")
    with pytest.raises(AnnotationError, match="cannot be read: Is a directory"):
        read_pickle(tmp_path)
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps("x" * 100))
    size = file.stat().st_size
    assert read_pickle(file, max_bytes=size) == "x" * 100
    with pytest.raises(AnnotationError, match=f"expected at most {size - 1} bytes"):
        read_pickle(file, max_bytes=size - 1)
    with pytest.raises(AnnotationError, match="expected at most 1000 bytes"):
        read_pickle(Path("/dev/zero"), max_bytes=1000)


def test_memory_stays_within_a_small_multiple_of_the_file() -> None:
    """Each program wants many times its size; 300 MB of address space are enough to refuse."""
    code = textwrap.dedent(
        """
        import resource, struct
        import numpy as np
        from clipshards.packer.annotations.pickles import load_pickle
        from clipshards.packer.format.errors import AnnotationError

        def short(text):
            return b"\\x8c" + bytes([len(text)]) + text.encode()

        def named(module, name):
            return short(module) + short(name) + b"\\x93\\x94"

        big = 1_000_000
        text = b"X" + struct.pack("<I", big) + b"x" * big + b"\\x94"
        content = b"B" + struct.pack("<I", big) + b"x" * big + b"\\x94"
        numbers = b"(K\\x03\\x8c\\x01<NNNK\\x01K\\x01K\\x00tb\\x94"
        u1 = b"\\x8c\\x02u1\\x89\\x88\\x87R" + numbers
        wide = short("S" + str(big)) + b"\\x89\\x88\\x87R" + numbers
        # Each repeats a step on what the memo holds 10,000 times: 10 GB in the end.
        encode = b"](" + text + short("latin1") + b"\\x94" + named("_codecs", "encode")
        encode += b"h\\x02h\\x00h\\x01\\x86R" * 10_000 + b"e."
        scalars = b"](" + content + named("numpy", "dtype") + wide
        scalars += named("numpy.core.multiarray", "scalar")
        scalars += b"h\\x03h\\x02h\\x00\\x86R" * 10_000 + b"e."
        programs = [
            encode,
            scalars,
            b"(" + b"}" * 5_000_000 + b"t.",
            b"(" + b"]" * 5_000_000 + b"t.",
            b"N" + b"\\x85" * 5_000_000 + b".",
            b"(" * 5_000_000,
            b"N" + b"r\\xff\\xff\\xff\\xff" + b".",
            b"\\x96" + struct.pack("<Q", 2**40),
            b"\\x8b" + struct.pack("<I", 2**31 - 1),
            b"\\x95" + struct.pack("<Q", 2**40) + b"N.",
        ]
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + 300_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for program in programs:
            try:
                load_pickle(program, where="a.pkl")
            except AnnotationError as exc:
                assert "fit into memory" not in str(exc), exc
                continue
            raise SystemExit(f"not refused: {program[:30]!r}")
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_arrays_over_the_same_bytes_share_them() -> None:
    content = b"B" + struct.pack("<I", 8_000_000) + b"x" * 8_000_000 + b"\x94"
    one = (
        FROMBUFFER
        + b"(h\x00"
        + dtype("f4")
        + b"J"
        + struct.pack("<i", 2_000_000)
        + b"\x85\x8c\x01CtR"
    )
    data = b"\x80\x04](" + content + one * 200 + b"e."
    peaks = []
    for _ in range(3):
        # What a thread that other tests left takes in the meantime counts too.
        tracemalloc.start()
        found = load(data)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found[200].shape == (2_000_000,)
    assert min(peaks) < 3 * len(data)


U1 = dtype("u1")
AXES = b"(" + b"K\x01" * 32 + b"t"
ORDER = b"(" + b"".join(b"K" + bytes([axis]) for axis in range(32)) + b"t"
VIEW = FROMBUFFER + b"\x94(C\x01a" + U1 + AXES + short("K") + ORDER + b"t\x94"
STATE = RECONSTRUCT + b"\x94" + NDARRAY + ARGS + b"\x94(K\x01" + AXES + U1 + b"\x89C\x01at\x94"
# What is repeated takes a few bytes of the file, and far more of the memory.
REPEATED = {
    "dicts of one key": (b"", b"}NNs"),
    "tuples of one": (b"", b"N\x85"),
    "views of 32 axes": (VIEW, b"h\x00h\x01R"),
    "arrays of 32 axes": (STATE, b"h\x00h\x01Rh\x02b"),
    "an array in the memo": (RECONSTRUCT + NDARRAY + ARGS + b"R", b"\x94"),
}


@pytest.mark.parametrize("name", REPEATED)
def test_what_is_repeated_does_not_fill_the_memory(name: str) -> None:
    head, again = REPEATED[name]
    data = b"\x80\x04" + head + b"(" + again * (400_000 // len(again)) + b"t."
    tracemalloc.start()
    with suppress(AnnotationError):
        load(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 45 * len(data)


def test_an_array_is_put_into_the_memo_once() -> None:
    for again in (b"\x94", b"q\x05", b"r\x05\0\0\0"):
        made = RECONSTRUCT + NDARRAY + ARGS + b"R\x94" + again
        made += b"(K\x01K\x02\x85" + dtype("f4") + b"\x89C\x08abcdefghtb"
        with pytest.raises(AnnotationError, match="an array or a dtype in the memo twice"):
            load(b"\x80\x04" + made + b".")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_small_arrays_of_many_axes_are_no_attack(protocol: int) -> None:
    data = [np.zeros((1, 1, 1, 1), "f2") for _ in range(5000)]
    assert len(load(pickle.dumps(data, protocol=protocol))) == 5000
