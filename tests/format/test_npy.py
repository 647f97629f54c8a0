import io
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.npy import decode_npy, encode_npy

Array = npt.NDArray[np.generic]

DTYPES = ("|u1", "|i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "|b1")

# The bytes of version 1, which no release of NumPy may change.
LITERALS: list[tuple[Array, bytes]] = [
    (
        np.empty((0, 5), dtype=np.int64),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (0, 5), }"
        + b" " * 58
        + b"\n",
    ),
    (
        np.array([1, -2], dtype=np.int16),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }"
        + b" " * 60
        + b"\n\x01\x00\xfe\xff",
    ),
    (
        np.array(1.5, dtype=np.float32),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (), }"
        + b" " * 62
        + b"\n\x00\x00\xc0\x3f",
    ),
    (
        np.array([[True], [False]]),
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '|b1', 'fortran_order': False, 'shape': (2, 1), }"
        + b" " * 58
        + b"\n\x01\x00",
    ),
]


def file_of(text: str, data: bytes = b"", *, magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    """Return an npy file with a header of this text, padded as the format says."""
    raw = text.encode()
    raw += b" " * (-(len(raw) + 11) % 64) + b"\n"
    return magic + len(raw).to_bytes(2, "little") + raw + data


def header(descr: str, shape: str) -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


arrays = st.sampled_from(DTYPES).flatmap(
    lambda descr: npst.arrays(descr, npst.array_shapes(min_dims=0, max_dims=4, min_side=0))
)


@pytest.mark.parametrize(("array", "data"), LITERALS, ids=lambda value: str(value)[:20])
def test_the_bytes_are_fixed(array: Array, data: bytes) -> None:
    assert encode_npy(array) == data
    back = decode_npy(data, where="x")
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


@settings(max_examples=300, deadline=None)
@given(arrays)
def test_every_array_comes_back_and_numpy_reads_it(array: Array) -> None:
    data = encode_npy(array)
    for back in (decode_npy(data, where="x"), np.load(io.BytesIO(data), allow_pickle=False)):
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()


@settings(max_examples=200, deadline=None)
@given(arrays)
def test_order_and_endianness_of_the_input_do_not_show(array: Array) -> None:
    data = encode_npy(array)
    big = array.astype(array.dtype.newbyteorder(">"))
    assert encode_npy(big) == data
    assert encode_npy(np.asfortranarray(array).reshape(array.shape)) == data
    if array.ndim:
        assert encode_npy(np.repeat(array, 2, axis=0)[::2]) == data
        assert encode_npy(array[::-1][::-1]) == data


@pytest.mark.parametrize("descr", DTYPES)
def test_zero_dimensional_and_empty_arrays_keep_their_shape(descr: str) -> None:
    for shape in ((), (0,), (0, 5), (3, 0, 2), (1, 1)):
        array = np.zeros(shape, dtype=descr)
        assert decode_npy(encode_npy(array), where="x").shape == shape


def test_the_elements_begin_at_a_multiple_of_64() -> None:
    for axes in range(20):
        array = np.ones((1,) * axes, dtype=np.uint8)
        data = encode_npy(array)
        assert (len(data) - 1) % 64 == 0
        assert data[-2:] == b"\n\x01"


def test_what_is_read_shares_the_bytes_and_is_read_only() -> None:
    data = encode_npy(np.arange(1_000_000, dtype=np.float64))
    tracemalloc.start()
    array = decode_npy(data, where="x")
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not array.flags.writeable
    assert used < 100_000


@pytest.mark.parametrize("dtype", ["O", "U3", "S3", "V8", "c8", "M8[s]", "u2", "u4", "u8", "i4,i4"])
def test_dtypes_that_the_format_does_not_store_are_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match="cannot store dtype"):
        encode_npy(np.zeros(2, dtype=dtype))


HOSTILE = {
    "nothing": b"",
    "magic alone": b"\x93NUMPY",
    "magic and version": b"\x93NUMPY\x01\x00",
    "header longer than the file": b"\x93NUMPY\x01\x00\xff\xff{'descr'",
    "no header": b"\x93NUMPY\x01\x00\x00\x00",
    "wrong magic": file_of(header("|u1", "(1,)"), b"\0", magic=b"\x93NUMPX\x01\x00"),
    "version 2.0": b"\x93NUMPY\x02\x00"
    + (118).to_bytes(4, "little")
    + header("|u1", "(1,)").ljust(117).encode()
    + b"\n\0",
    "version 2.0 in our layout": file_of(header("|u1", "(1,)"), b"\0", magic=b"\x93NUMPY\x02\x00"),
    "version 3.0": file_of(header("|u1", "(1,)"), b"\0", magic=b"\x93NUMPY\x03\x00"),
    "objects": file_of(header("|O", "(1,)"), b"\x80\x04N."),
    "text": file_of(header("<U1", "(1,)"), b"a\0\0\0"),
    "unsigned 16 bit": file_of(header("<u2", "(1,)"), b"\0\0"),
    "big endian": file_of(header(">i2", "(1,)"), b"\0\0"),
    "byte order of a byte": file_of(header("<u1", "(1,)"), b"\0"),
    "native byte order": file_of(header("=i2", "(1,)"), b"\0\0"),
    "record": file_of("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,), }"),
    "Fortran order": file_of("{'descr': '|u1', 'fortran_order': True, 'shape': (1,), }", b"\0"),
    "one byte short": file_of(header("<i8", "(2,)"), bytes(15)),
    "one byte more": file_of(header("<i8", "(2,)"), bytes(17)),
    "elements of an empty array": file_of(header("<i8", "(0, 5)"), bytes(8)),
    "negative size": file_of(header("|u1", "(-1,)")),
    "huge shape": file_of(header("|u1", "(9223372036854775807,)"), b"\0"),
    "shape beyond 64 bits": file_of(header("|u1", "(9223372036854775808, 2)"), b"\0"),
    "size of a thousand digits": file_of(header("|u1", f"({'9' * 1000},)"), b"\0"),
    "shape that wraps to the right size": file_of(header("|u1", "(4294967296, 4294967296)")),
    "shape without comma": file_of(header("|u1", "(1)"), b"\0"),
    "shape with a leading zero": file_of(header("|u1", "(01,)"), b"\0"),
    "shape with spaces": file_of(header("|u1", "(1, )"), b"\0"),
    "shape of two without a space": file_of(header("|u1", "(1,1)"), b"\0"),
    "shape as a list": file_of(header("|u1", "[1]"), b"\0"),
    "shape that counts": file_of(header("|u1", "(1, 1+0)"), b"\0"),
    "other quotes": file_of('{"descr": "|u1", "fortran_order": False, "shape": (1,), }', b"\0"),
    "other order of keys": file_of(
        "{'fortran_order': False, 'descr': '|u1', 'shape': (1,), }", b"\0"
    ),
    "another key": file_of(
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'x': 1, }", b"\0"
    ),
    "code": file_of("__import__('os').getcwd()"),
    "tab for padding": file_of(header("|u1", "(1,)") + "\t", b"\0"),
    "64 more bytes of padding": file_of(header("|u1", "(1,)") + " " * 64, b"\0"),
    "no line feed": encode_npy(np.zeros(1, np.uint8)).replace(b" \n", b"  "),
    "two headers": file_of(header("|u1", "(1,)") + "\n" + header("|u1", "(1,)"), b"\0"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_another_header_is_refused(what: str) -> None:
    with pytest.raises(FormatError, match=r"^val-000000\.tar"):
        decode_npy(HOSTILE[what], where="val-000000.tar")


@pytest.mark.parametrize(
    "data",
    [
        file_of(header("|u1", f"({', '.join('1' * 33)})"), b"\0"),
        file_of(header("|u1", f"({', '.join('1' * 65)})"), b"\0"),
        file_of(header("|u1", "(0, 9999999999999999999)")),
        file_of(header("<i8", "(0, 4611686018427387904, 8)")),
        file_of(header("|u1", f"({', '.join(['9999999999999999999'] * 2900)})"), b"\0"),
    ],
    ids=["33 axes", "65 axes", "empty and too long", "empty and too large", "2900 long axes"],
)
def test_a_shape_that_numpy_cannot_hold_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_npy(data, where="x")
    assert len(str(caught.value)) < 2000


def test_more_axes_than_any_numpy_holds_are_not_written() -> None:
    with pytest.raises(ValueError, match=r"axes|dimension"):
        encode_npy(np.zeros((1,) * 33, dtype=np.uint8))


def test_a_truth_value_is_0_or_1() -> None:
    with pytest.raises(FormatError):
        decode_npy(file_of(header("|b1", "(2,)"), b"\x01\x02"), where="x")


def test_every_truncation_and_extension_is_refused() -> None:
    data = encode_npy(np.arange(3, dtype=np.int32))
    for length in range(len(data)):
        with pytest.raises(FormatError):
            decode_npy(data[:length], where="x")
    with pytest.raises(FormatError):
        decode_npy(data + b"\0", where="x")


def test_every_changed_byte_of_a_header_is_refused_or_read_back_as_such() -> None:
    data = encode_npy(np.zeros((2, 3), dtype=np.int16))
    for place in range(128):
        for value in range(256):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            try:
                array = decode_npy(changed, where="x")
            except FormatError:
                continue
            assert encode_npy(array) == changed


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
@example(b"\x93NUMPY\x01\x00\x00\x00")
def test_arbitrary_bytes_are_refused_with_our_error(data: bytes) -> None:
    for hostile in (data, b"\x93NUMPY\x01\x00" + data):
        with pytest.raises(FormatError):
            decode_npy(hostile, where="x")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 2**80) | st.integers(0, 3), max_size=70),
    st.binary(max_size=64),
)
@example("|u1", [0, 10**19 - 1], b"")
def test_arbitrary_shapes_are_refused_with_our_error(
    descr: str, shape: list[int], data: bytes
) -> None:
    file = file_of(header(descr, str(tuple(shape))), data)
    try:
        array = decode_npy(file, where="x")
    except FormatError:
        return
    assert encode_npy(array) == file
