import io
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from clipshards.packer import MediaError
from clipshards.packer.media.features import read_features, read_npy


def loadtxt(data: bytes, *, header: bool) -> npt.NDArray[np.float32]:
    """Return what NumPy's reader makes of a csv, as MMAction2 calls it, but always 2-D."""
    return np.loadtxt(
        io.StringIO(data.decode()), dtype=np.float32, delimiter=",", skiprows=int(header), ndmin=2
    )


def assert_bits_equal(found: npt.NDArray[np.generic], wanted: npt.NDArray[np.generic]) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


# File and whether its first line is a header.
CSV: list[tuple[bytes, bool]] = [
    (b"f0,f1\n1.5,2\n3,4\n", True),
    (b"1.5,2\n3,4\n", False),
    (b"1.5,2\n3,4", False),
    (b"1.5,2\r\n3,4\r\n", False),
    (b"f0,f1\r\n1.5,2\r\n", True),
    (b"1.5,2\n\n\n", False),
    (b"f0\n1\n2\n", True),
    (b"1\n2\n", False),
    (b"7", False),
    (b"f0,f1,f2\n-1,2e5,.5\n", True),
    (b"1., -2 ,+3e-2\n 4,5,6 \n", False),
    (b"# by some tool, 3 columns, 2020\n1,2\n3,4\n", True),
    (b'"f0","f1"\n1,2\n', True),
    ("m\xe9l,\xb5\n1,2\n".encode(), True),
    (b"0,1,2\n0.5,0.5,0.5\n", True),  # the numbers of the columns
    (b"0,1,2\n0,1,2\n", True),
    (b"0\n1\n", False),
    (b"0.0,1.0\n2,3\n", False),
    (b"1,0\n2,3\n", False),
    (b"0,1,3\n2,3,4\n", False),
    (b"1e-60,-1e-60,3.4028235e38,1.17549435e-38,1e-45,-0.0\n", False),
    (b"0.1,16777217,1.00000017881393432617187499,1.000000178813934326171875001\n", False),
]

# File, the line that the message names (0 for none), and what it says.
REFUSED_CSV: list[tuple[bytes, int, str]] = [
    (b"", 0, "the file is empty"),
    (b"\n\n", 1, "got a blank line"),
    (b"\n1,2\n", 1, "got a blank line"),
    (b"f0,f1\n", 2, "expected at least one row below the header"),
    (b"0,1,2\n", 2, "expected at least one row below the header"),
    (b"#\n", 2, "expected at least one row"),
    (b"f0,f1\n1,2\n3\n", 3, "expected 2 numbers separated by commas, got 1"),
    (b"1,2\n3,4,5\n", 2, "expected 2 numbers separated by commas, got 3"),
    (b"f0,f1\n1,2,3\n", 2, "expected 2 numbers separated by commas, got 3"),
    (b"1,2\n\n3,4\n", 2, "expected 2 numbers, got a blank line"),
    (b"1\n \n3\n", 2, "expected 1 numbers, got a blank line"),
    (b"1,2,\n3,4,\n", 1, "expected 3 numbers, or 3 names of columns, got '' among them"),
    (b"f0,f1,\n1,2,\n", 1, "got '' among them"),
    (b",f0,f1\n0,1,2\n", 1, "got '' among them"),
    (b",0,1\n0,1,2\n", 1, "got '' among them"),
    (b"1,2\n3,\n", 2, "expected a finite number, got ''"),
    (b"1,2\n,4\n", 2, "expected a finite number, got ''"),
    (b"1,x\n3,4\n", 1, "expected 2 numbers, or 2 names of columns, got 'x' among them"),
    (b"0.5,0.5.1\n3,4\n", 1, "got '0.5.1' among them"),
    (b"f0,f1\n1,x\n", 2, "expected a finite number, got 'x'"),
    (b"f0,f1\ng0,g1\n1,2\n", 2, "expected a finite number, got 'g0'"),
    (b'1,2\n"3","4"\n', 2, "expected a finite number, got '\"3\"'"),
    (b"1,2\n3,nan\n", 2, "expected a finite number, got 'nan'"),
    (b"nan,2\n", 1, "expected a finite number, got 'nan'"),
    (b"1,2\n-inf,4\n", 2, "got '-inf'"),
    (b"1,2\nInfinity,4\n", 2, "got 'Infinity'"),
    (b"f,g\n1,2\n3,1e39\n", 3, "expected finite numbers, got one beyond float32"),
    (b"1,2\n3,-1e999\n", 2, "expected finite numbers, got one beyond float32"),
    (b"1,2\n3,1_000\n", 2, "got '1_000'"),
    (b"1,2\n3,1 000\n", 2, "got '1 000'"),
    (b"1,2\n3,0x10\n", 2, "got '0x10'"),
    (b"1,2\n3,1e\n", 2, "got '1e'"),
    (b"1,2\n3,1-2\n", 2, "got '1-2'"),
    ("1,2\n3,\u0664\n".encode(), 2, "got '\u0664'"),
    ("1,2\n3,\xa04\n".encode(), 2, "got '\\xa04'"),
    (b"1,2\n# note\n3,4\n", 2, "expected 2 numbers"),
    (b"1,2\n3,4 # note\n", 2, "got '4 # note'"),
    (b"1;2\n3;4\n", 2, "expected a finite number, got '3;4'"),
    (b"f0;f1\n1;2\n", 2, "expected a finite number, got '1;2'"),
    (b"f0\tf1\n1\t2\n", 2, "expected a finite number, got '1\\t2'"),
    (b"1,2\n3,\t4\n", 2, "got '\\t4'"),
    (b"1 2\n3 4\n", 2, "got '3 4'"),
    (b"1,2\r3,4\r", 1, "among them"),
    (b"1,2\n3,4\r5,6\n", 2, "expected 2 numbers separated by commas, got 3"),
    (b"\xef\xbb\xbff0,f1\n1,2\n", 1, "without a byte order mark"),
    (b"\xff\xfe1\0,\0", 1, "without a byte order mark"),
    (b"f\xe9,g\n1,2\n", 1, "expected UTF-8, got byte 0xe9"),
    (b"1,2\n\xe9,2\n", 2, "got '\\\\xe9'"),
    (b"a\0,b\n1,2\n", 1, "columns of text"),
    (b"PK\x03\x04\x14\0\0", 1, "columns of text"),
    (b"f0\n" + b"1," * 1_500_000, 2, "expected 1 numbers separated by commas, got 1500001"),
    (b"1," * 1_500_000, 1, "expected up to 1000000 columns"),
    (b"#\n" + b"1," * 1_500_000, 2, "expected at most 1000000 columns"),
    (b"f0\n" + b"9" * 100_000, 2, "beyond float32"),
]


@pytest.mark.parametrize(("data", "header"), CSV, ids=range(len(CSV)))
def test_csv_is_read_as_numpy_reads_it(data: bytes, header: bool) -> None:
    found, has_header = read_features(data, "v.csv")
    assert has_header is header
    assert_bits_equal(found, loadtxt(data, header=header))


@pytest.mark.parametrize(("data", "line", "says"), REFUSED_CSV, ids=range(len(REFUSED_CSV)))
def test_csv_is_refused_with_its_line(data: bytes, line: int, says: str) -> None:
    with pytest.raises(MediaError) as caught:
        read_features(data, "v.csv")
    message = str(caught.value)
    assert message.startswith(f"v.csv:{line}: " if line else "v.csv: ")
    assert says in message
    assert len(message) < 300


@settings(max_examples=200, deadline=None)
@given(
    npst.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements={
            "allow_nan": False,
            "allow_infinity": False,
            "max_value": 2.0**127,
            "min_value": -(2.0**127),
        },
    ),
    st.booleans(),
    st.sampled_from(["%.18e", "%.17g", "%.9g", "%.4f", "%+.3E", " %g "]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_csv_that_numpy_wrote_comes_back(
    array: npt.NDArray[np.floating], header: bool, spelling: str, end: str
) -> None:
    text = io.StringIO()
    names = ",".join(f"f{column}" for column in range(array.shape[1]))
    np.savetxt(
        text,
        array,
        spelling,
        delimiter=",",
        newline=end,
        header=names if header else "",
        comments="",
    )
    data = text.getvalue().encode()
    # Printed as 0,1,2 a row of numbers is taken for the numbers of the columns.
    counted = (
        not header
        and data.split(b"\n")[0].strip() == ",".join(map(str, range(array.shape[1]))).encode()
    )
    if counted and array.shape[1] > 1:
        return
    found, has_header = read_features(data, "v.csv")
    assert has_header is header
    assert_bits_equal(found, loadtxt(data, header=header))
    if array.dtype == np.float32 and spelling in ("%.18e", "%.17g", "%.9g"):
        assert_bits_equal(found, array)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"1", b"-2.5", b"1e5", b",", b"\n", b"\r\n", b" ", b"\t", b"f", b"nan"])
        | st.binary(max_size=3),
        max_size=20,
    ).map(b"".join)
)
@example(b"1\r2")
def test_arbitrary_bytes_are_read_as_numpy_reads_them_or_refused(data: bytes) -> None:
    try:
        found, header = read_features(data, "v.csv")
    except MediaError as exc:
        assert str(exc).startswith("v.csv:")  # noqa: PT017 - most are refused, some are not
        return
    assert_bits_equal(found, loadtxt(data, header=header))


def test_csv_takes_about_as_long_as_numpys_reader() -> None:
    array = np.random.default_rng(0).normal(size=(1000, 400))
    text = io.StringIO()
    np.savetxt(text, array, "%.11g", delimiter=",")
    data = text.getvalue().encode()

    def seconds(ours: bool) -> float:
        started = time.perf_counter()
        read_features(data, "v.csv") if ours else loadtxt(data, header=False)
        return time.perf_counter() - started

    # Generous, for machines that do other things meanwhile.
    assert min(seconds(True) for _ in range(3)) < 4 * min(seconds(False) for _ in range(3))


def test_reading_a_csv_takes_memory_near_its_size() -> None:
    data = b"1,1\n" * 50_000
    tracemalloc.start()
    read_features(data, "v.csv")
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 12 * len(data)


def npy_of(array: npt.NDArray[np.generic], version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=False)
    return file.getvalue()


def npy_with(header: str, body: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    text = header.encode("latin-1")
    size = (len(text) if length is None else length).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + body


def header_of(descr: str = "'<f4'", shape: str = "(1, 2)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_version_and_order_is_read(
    version: tuple[int, int], dtype: str, order: str
) -> None:
    array = np.linspace(-3, 3, 15).reshape(3, 5).astype(dtype)
    data = npy_of(np.asarray(array, order="F" if order == "F" else "C"), version)
    found = read_npy(data, "v.npy")
    wanted = array.astype(array.dtype.newbyteorder("<"))
    assert found.flags.c_contiguous
    assert_bits_equal(found, wanted)
    features, header = read_features(data, "v.npy")
    assert header is False
    assert_bits_equal(features, wanted.astype(np.float32))


@settings(max_examples=100, deadline=None)
@given(
    npst.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
    )
)
def test_npy_comes_back_bit_for_bit(array: npt.NDArray[np.floating]) -> None:
    assert_bits_equal(read_npy(npy_of(array), "v.npy"), array)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 2L), }",  # of Python 2
        "{'shape':(1,2),'descr':'<f4','fortran_order':False}",
        " ".join(header_of()[:-1].split(" ")) + " " * 500 + "\n",
    ],
)
def test_other_spellings_of_the_header_are_read(header: str) -> None:
    body = np.array([[1, 2]], "<f4").tobytes()
    data = npy_with(header.strip(" "), body)
    assert read_npy(data, "v.npy").tolist() == [[1, 2]]


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("a pickle was run",)


def pickled_npy() -> bytes:
    file = io.BytesIO()
    array = np.empty((1, 1), dtype=object)
    array[0, 0] = Trap()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


BODY = bytes(8)
REFUSED_NPY: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "expected an npy file of version 1 to 3"),
    "magic alone": (b"\x93NUMPY", "expected an npy file of version 1 to 3"),
    "no length": (b"\x93NUMPY\1\0", "expected an npy header of at most 10000 bytes"),
    "half a length": (b"\x93NUMPY\2\0\1\0", "expected an npy header"),
    "version 0": (npy_with(header_of(), BODY, version=0), "version 1 to 3"),
    "version 4": (npy_with(header_of(), BODY, version=4), "version 1 to 3"),
    "text": (b"1,2\n3,4\n", "version 1 to 3"),
    "zip": (b"PK\3\4" + bytes(40), "version 1 to 3"),
    "pickle": (pickle.dumps([[1.0]]), "version 1 to 3"),
    "header beyond the file": (npy_with(header_of(), BODY, length=9999), "within the file"),
    "header of 4 GB": (npy_with(header_of(), BODY, 2, 2**32 - 1), "at most 10000 bytes"),
    "long header": (npy_with(header_of()[:-1] + " " * 20_000, BODY), "at most 10000 bytes"),
    "header of spaces": (npy_with("{'shape': (1, 2)" + " " * 9000 + "!", BODY), "npy header"),
    "shape of spaces": (npy_with(header_of(shape=f"(1, 2{' ' * 9000}, 3 L)"), BODY), "2 axes"),
    "objects": (pickled_npy(), "expected float16, float32 or float64, got '|O'"),
    "objects in disguise": (npy_with(header_of("'O'"), pickle.dumps(1)), "got 'O'"),
    "records": (npy_with(header_of("[('a', '<f4')]"), BODY), "header of a plain array"),
    "code": (npy_with("__import__('os').getcwd()", BODY), "header of a plain array"),
    "nested": (npy_with("(" * 5000, BODY), "header of a plain array"),
    "double precision and more": (npy_of(np.zeros((1, 1), np.longdouble)), "expected float16"),
    "integers": (npy_of(np.zeros((2, 2), np.int64)), "got '<i8'"),
    "truth values": (npy_of(np.zeros((2, 2), bool)), "got '|b1'"),
    "complex": (npy_of(np.zeros((2, 2), np.complex64)), "got '<c8'"),
    "strings": (npy_of(np.array([["1.0"]])), "got '<U3'"),
    "times": (npy_of(np.zeros((1, 1), "M8[s]")), "got '<M8[s]'"),
    "native order": (npy_with(header_of("'=f4'"), BODY), "got '=f4'"),
    "0 axes": (npy_of(np.zeros(())), "expected 2 axes, got the shape ()"),
    "1 axis": (npy_of(np.zeros(3)), "expected 2 axes, got the shape (3,)"),
    "3 axes": (npy_of(np.zeros((1, 2, 3))), "expected 2 axes"),
    "no rows": (npy_of(np.zeros((0, 3))), "each axis at least 1"),
    "no columns": (npy_of(np.zeros((3, 0))), "each axis at least 1"),
    "negative": (npy_with(header_of(shape="(-1, -2)"), BODY), "header of a plain array"),
    "huge": (npy_with(header_of(shape="(4000000000, 4000000000)"), BODY), "got 8"),
    "beyond 64 bits": (npy_with(header_of(shape=f"({'9' * 3000}, 1)"), BODY), "got 8"),
    "wraps to the size": (npy_with(header_of(shape="(4611686018427387904, 4)")), "got 0"),
    "empty and huge": (npy_with(header_of(shape="(0, 9223372036854775808)")), "got 0"),
    "one byte short": (npy_with(header_of(), BODY[1:]), "expected 8 bytes"),
    "one byte more": (npy_with(header_of(), BODY + b"\0"), "expected 8 bytes"),
    "two arrays": (npy_of(np.zeros((1, 2))) * 2, "expected 16 bytes"),
    "a key twice": (
        npy_with("{'descr': '<f4', 'descr': '<f4', 'shape': (1, 2), }", BODY),
        "expected an npy header",
    ),
    "no order": (npy_with("{'descr': '<f4', 'shape': (1, 2), }", BODY), "expected an npy header"),
    "a key more": (
        npy_with("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), 'x': 1, }", BODY),
        "expected an npy header",
    ),
}


@pytest.mark.parametrize("what", REFUSED_NPY)
def test_npy_is_refused(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, says = REFUSED_NPY[what]
    with pytest.raises(MediaError):  # what is loaded or compiled once does not count below
        read_npy(data, "v.npy")
    tracemalloc.start()
    for read in (read_npy, read_features):
        with pytest.raises(MediaError) as caught:
            read(data, "v.npy")
        assert str(caught.value).startswith("v.npy: ")
        assert says in str(caught.value)
        assert len(str(caught.value)) < 1000
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 500_000
    assert capsys.readouterr().out == ""


def test_every_truncation_of_an_npy_is_refused() -> None:
    data = npy_of(np.arange(6.0).reshape(2, 3))
    for length in range(len(data)):
        with pytest.raises(MediaError):
            read_npy(data[:length], "v.npy")


def test_every_changed_byte_of_a_header_is_refused_or_harmless() -> None:
    data = npy_of(np.arange(6, dtype=np.float32).reshape(2, 3))
    for place in range(128):
        for value in (0, 10, 32, 39, 40, 48, 49, 53, 57, 62, 79, 123, 255):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            try:
                found = read_npy(changed, "v.npy")
            except MediaError:
                continue
            assert found.size * found.itemsize == 24


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_npy_bytes_are_refused_with_our_error(data: bytes) -> None:
    for hostile in (data, b"\x93NUMPY\1\0" + data):
        with pytest.raises(MediaError):
            read_npy(hostile, "v.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_features_that_are_not_finite_are_refused_with_their_place(value: float) -> None:
    array = np.zeros((3, 4))
    array[2, 1] = value
    with pytest.raises(MediaError, match=r"v\.npy: expected numbers .* in row 2, column 1"):
        read_features(npy_of(array), "v.npy")


def test_npy_is_known_by_its_bytes_whatever_its_name() -> None:
    data = npy_of(np.ones((2, 2)))
    assert read_features(data, "v.csv")[0].tolist() == [[1, 1], [1, 1]]
    with pytest.raises(MediaError, match=r"^V\.NPY: expected an npy file"):
        read_features(b"1,2\n", "V.NPY")


def test_features_of_real_files_are_what_mmaction2_loads(shared_data: Path) -> None:
    folder = shared_data / "activitynet" / "features"
    for name, rows in (("v_test2.csv", 5), ("v_demo.csv", 20)):
        data = (folder / name).read_bytes()
        found, header = read_features(data, name)
        assert header
        assert found.shape == (rows, 400)
        assert_bits_equal(
            found, np.loadtxt(folder / name, dtype=np.float32, delimiter=",", skiprows=1)
        )


def test_mel_features_of_real_files_are_read(shared_data: Path) -> None:
    for file in sorted((shared_data / "audio_features").glob("*.npy")):
        assert_bits_equal(read_npy(file.read_bytes(), file.name), np.load(file))
