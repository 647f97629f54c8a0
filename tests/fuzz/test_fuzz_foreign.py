"""Tars that other tools made, or nobody: whole samples come out, or an error of ours."""

import io
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_inputs import JSON_TOKENS, LARGE, fuzzed, mutated, read
from fuzz_shards import golden_splits
from hypothesis import given
from hypothesis import strategies as st

from clipshards.packer.format.errors import DatasetError, FormatError
from clipshards.readers.clips import all_frames
from clipshards.readers.fetch import RawSample
from clipshards.readers.foreign_tars import decode_any_npy, decode_foreign
from clipshards.readers.strict_tar import ForeignTarsWarning, read_tar


@pytest.fixture(scope="module")
def file() -> Iterator[Path]:
    """Return the path of a tar that each example writes anew."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "hostile.tar"


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]], kind: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(name: str, data: bytes, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


MEMBERS = [
    member("a.cls", b"3"),
    member("a.txt", b"text"),
    member("folder/b.json", b'{"a": [1]}'),
    member("b" * 180 + ".txt", b"long name", pax_headers={"comment": "é" * 40}),
    member("c.d.npy", b"x" * 700),
]
TARS = [
    *(tar_of(MEMBERS, kind) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)),
    *(golden.files[golden.shards[0]] for golden in golden_splits()),
    tar_of([member("l", b"", type=tarfile.SYMTYPE, linkname="../../x")], tarfile.GNU_FORMAT),
    tar_of([member("a.txt", b"", pax_headers={"size": str(10**15)})], tarfile.PAX_FORMAT),
    tar_of([member("a.txt", b"", pax_headers={"GNU.sparse.map": "0,1" * 99})], tarfile.PAX_FORMAT),
]


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """Return a header with a right checksum, whatever it says."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136] = size.ljust(12, b"\0")[:12]
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


SIZES = [
    *(b"77777777777\0", b"00000000001\0", b"-0000000001\0", b"\x80" + bytes(10) + b"\x07"),
    *(b"\x80\0\0\0" + b"\xff" * 8, b"\xff" * 12, b"\xff" * 11 + b"\x01", b"", b" ", b"x"),
]
HEADERS = [
    header(name, size, kind)
    for name in ("a.txt", "././@LongLink")
    for size in SIZES
    for kind in (b"0", b"L", b"K", b"x", b"g", b"S", b"5", b"V")
]


def look(path: Path) -> int:
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForeignTarsWarning)
        for raw in read_tar(str(path)):
            count += len(raw.parts)
            parts = {name: data for name, data in raw.parts.items() if not name.endswith("mp4")}
            decode_foreign(raw._replace(parts=parts), all_frames)
    return count


@fuzzed(50)
@given(mutated(TARS, HEADERS) | st.lists(st.sampled_from(HEADERS), max_size=3).map(b"".join))
def test_a_tar_of_any_bytes_is_read_or_refused(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    read(lambda: look(file), len(data) + 20_000, errors=DatasetError)


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    shape = draw(
        st.sampled_from(["()", "(5)", "[1]", "(-1,)", "(True,)", "(1.5,)", "(None,)", "'ab'"])
        | st.lists(st.sampled_from([0, 1, 2, *LARGE]), max_size=40).map(
            lambda axes: str(tuple(axes))
        )
    )
    descr = draw(
        st.sampled_from(
            [
                *("'<f4'", "'|b1'", "'|u1'", "'|O'", "'|S0'", "'<U0'", "'|V0'", "'<m8[s]'", "'x'"),
                *("[('a', '<f8')]", "[('a', '<i4', (2, 3))]", "[('a', '|O')]", "[]", "None", "5"),
                *("[('a', '|u1', (1000000,))]", "{'names': ['a'], 'formats': ['<f8']}", "('<f8',)"),
                "[('a', " * 50 + "'<f8'" + ")]" * 50,
            ]
        )
    )
    fortran = draw(st.sampled_from(["False", "False", "True", "0", "'x'", "(" * 300]))
    extra = draw(st.sampled_from(["", "", "", "'x': 1, ", "'shape': (1,), ", "[]: 0, ", "\0"]))
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, {extra}}}"
    head = text.encode() + b" " * (-(11 + len(text)) % 64) + b"\n"
    version = draw(st.sampled_from([1, 1, 1, 2, 3, 0]))
    length = len(head).to_bytes(2 if version == 1 else 4, "little")
    content = draw(st.binary(max_size=40) | st.integers(0, 5).map(lambda count: bytes(4 * count)))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head + content


SOUND = []
for array in (np.zeros((2, 3)), np.array(["ab"]), np.asfortranarray(np.ones((2, 2), ">i4"))):
    stream = io.BytesIO()
    np.save(stream, array)
    SOUND.append(stream.getvalue())


@fuzzed(100)
@given(npy_files() | mutated(SOUND, [b"(" * 9000, b"[" * 60, b"1e9", b"9" * 5000, b"L, ", b"0777"]))
def test_an_array_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    found = read(lambda: decode_any_npy(data, where="x"), len(data), errors=FormatError)
    if found is not None:
        assert found.nbytes <= len(data)
        assert not found.dtype.hasobject


@fuzzed(40)
@given(mutated([b"3", b'{"a": [1, 2.5]}', b"text \xc3\xa9"], JSON_TOKENS))
def test_small_parts_of_any_bytes_are_read_or_refused(data: bytes) -> None:
    for part in ("cls", "json", "txt"):
        raw = RawSample("k", {part: data}, "x: k")
        read(partial(decode_foreign, raw, all_frames), len(data), errors=FormatError)
