import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshards.packer.format.errors import CorruptShardError
from clipshards.packer.format.tar import (
    BLOCK,
    END,
    MAX_NAME,
    MAX_SIZE,
    decode_header,
    encode_header,
    member_bytes,
    padding,
)

names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=100)
sizes = st.integers(0, MAX_SIZE)


def python_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def with_checksum(block: bytes) -> bytes:
    """Return a header whose checksum fits, whatever else stands in it."""
    total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


def archive(members: dict[str, bytes]) -> bytes:
    return (
        b"".join(
            encode_header(name, len(data)) + data + bytes(padding(len(data)))
            for name, data in members.items()
        )
        + END
    )


MEMBERS = {
    "val-00000000.json": b"{}",
    "val-00000000.mp4": bytes(range(256)) * 2,
    "x" * MAX_NAME: b"",
    "with space.and.dots": b"a" * 513,
    "__index__": b"[]",
}


@pytest.mark.parametrize("name", ["a", "__index__", "val-00000007.frames.npy", "~ !", "n" * 100])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 8**10, 2**32, MAX_SIZE])
def test_header_is_the_one_that_tarfile_writes(name: str, size: int) -> None:
    assert encode_header(name, size) == python_header(name, size)


@settings(max_examples=500, deadline=None)
@given(names, sizes)
def test_any_header_is_the_one_that_tarfile_writes_and_reads_back(name: str, size: int) -> None:
    header = encode_header(name, size)
    assert header == python_header(name, size)
    assert decode_header(header, where="x") == (name, size)


def test_the_limits_are_those_of_ustar() -> None:
    assert MAX_NAME == 100
    assert MAX_SIZE == 8 * 2**30 - 1
    assert bytes(1024) == END


@pytest.mark.parametrize("name", ["", "n" * 101, "é", "a\0b", "a\n", "\x7f", "\ud800"])
def test_names_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tar member name"):
        encode_header(name, 1)


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1, 2**70])
def test_sizes_that_do_not_fit_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        encode_header("a", size)


@pytest.mark.parametrize("name", ["val-00000007.frames.npy", "n" * MAX_NAME])
@pytest.mark.parametrize("size", [0, 700, MAX_SIZE])
def test_every_flipped_bit_of_a_header_is_refused(name: str, size: int) -> None:
    header = encode_header(name, size)
    for place in range(BLOCK):
        for bit in range(8):
            broken = bytearray(header)
            broken[place] ^= 1 << bit
            with pytest.raises(CorruptShardError, match="shard 3"):
                decode_header(bytes(broken), where="shard 3")


def test_every_flipped_bit_of_the_end_is_refused() -> None:
    assert decode_header(bytes(BLOCK), where="x") is None
    for place in range(BLOCK):
        for bit in range(8):
            broken = bytearray(BLOCK)
            broken[place] = 1 << bit
            with pytest.raises(CorruptShardError):
                decode_header(bytes(broken), where="x")


@pytest.mark.parametrize("length", [0, 1, 511, 513, 1024])
def test_a_block_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(CorruptShardError, match=f"512 bytes, got {length}"):
        decode_header(bytes(length), where="x")


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=BLOCK, max_size=BLOCK).filter(any))
def test_arbitrary_blocks_are_refused_with_our_error(block: bytes) -> None:
    with pytest.raises(CorruptShardError):
        decode_header(block, where="x")


def other_headers() -> dict[str, bytes]:
    """Return headers that are good tar and not of this format, checksums right."""
    header = encode_header("a.json", 8)
    changes: dict[str, tuple[int, bytes]] = {
        "mode": (100, b"0000755\0"),
        "uid": (108, b"0001750\0"),
        "gid": (116, b"0001750\0"),
        "size in spaces": (124, b"         10 \0"),
        "size in base 256": (124, b"\x80" + bytes(10) + b"\x08"),
        "size with a sign": (124, b"+0000000010\0"),
        "size with an underscore": (124, b"0000000_010\0"),
        "size ended by a space": (124, b"00000000010 "),
        "mtime": (136, b"00000000001\0"),
        "old regular file": (156, b"\0"),
        "folder": (156, b"5"),
        "symbolic link": (156, b"2"),
        "pax header": (156, b"x"),
        "GNU long name": (156, b"L"),
        "link name": (157, b"b"),
        "GNU magic": (257, b"ustar  \0"),
        "no magic": (257, bytes(8)),
        "user name": (265, b"root"),
        "group name": (297, b"root"),
        "device": (329, b"0000000\0"),
        "prefix": (345, b"folder"),
        "pad": (500, b"\x01"),
        "name behind its end": (8, b"b"),
        "bytes outside ASCII": (0, b"\xc3\xa9"),
    }
    return {
        what: with_checksum(header[:place] + new + header[place + len(new) :])
        for what, (place, new) in changes.items()
    }


@pytest.mark.parametrize("what", other_headers())
def test_headers_of_other_writers_are_refused(what: str) -> None:
    block = other_headers()[what]
    assert len(block) == BLOCK
    with pytest.raises(CorruptShardError):
        decode_header(block, where="x")


def test_the_message_names_the_byte_that_differs() -> None:
    block = other_headers()["mtime"]
    with pytest.raises(CorruptShardError, match=r"'a\.json': byte 146 is 0x31, expected 0x30"):
        decode_header(block, where="x")


@pytest.mark.parametrize("spelling", [b"%07o\0", b"%06o \0", b"%6o\0 "])
def test_another_spelling_of_the_checksum_is_refused(spelling: bytes) -> None:
    header = encode_header("a.json", 8)
    respelt = header[:148] + spelling % int(header[148:154], 8) + header[156:]
    assert respelt != header
    with pytest.raises(CorruptShardError):
        decode_header(respelt, where="x")


def test_padding_fills_the_block() -> None:
    for size in range(3 * BLOCK):
        assert 0 <= padding(size) < BLOCK
        assert (size + padding(size)) % BLOCK == 0
        assert member_bytes(size) == BLOCK + size + padding(size)


def test_tarfile_reads_what_we_write() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(MEMBERS)), mode="r:") as tar:
        infos = tar.getmembers()
        assert [info.name for info in infos] == list(MEMBERS)
        assert all(info.isreg() and info.mode == 0o644 and info.mtime == 0 for info in infos)
        for info in infos:
            stream = tar.extractfile(info)
            assert stream is not None
            assert stream.read() == MEMBERS[info.name]


def test_gnu_tar_reads_what_we_write(tmp_path: Path) -> None:
    program = shutil.which("tar")
    env = os.environ | {"LC_ALL": "C", "TZ": "UTC"}

    def tar(*arguments: str) -> bytes:
        done = subprocess.run([str(program), *arguments], env=env, capture_output=True, check=False)
        # Also no word about lone zero blocks or a file cut short.
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    if program is None or b"GNU tar" not in tar("--version"):
        pytest.skip("no GNU tar on this machine")
    path = tmp_path / "small.tar"
    path.write_bytes(archive(MEMBERS))
    listing = tar("-tvf", str(path)).decode().splitlines()
    assert [line.split(maxsplit=5) for line in listing] == [
        ["-rw-r--r--", "0/0", str(len(data)), "1970-01-01", "00:00", name]
        for name, data in MEMBERS.items()
    ]
    for name, data in MEMBERS.items():
        assert tar("-xOf", str(path), name) == data
