"""Splitting and reading NAL units by hand-made bytes, hostile ones too."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshards.packer.frames.nal import (
    AccessUnit,
    head_parameter_sets,
    nal_length_size,
    read_access_unit,
    split_nal_units,
)


def prefixed(*units: bytes, size: int = 4) -> bytes:
    return b"".join(len(unit).to_bytes(size, "big") + unit for unit in units)


def h264(kind: int, ref: int = 0, payload: bytes = b"\x88") -> bytes:
    return bytes([ref << 5 | kind]) + payload


def hevc(kind: int, layer: int = 0, payload: bytes = b"\x88") -> bytes:
    return bytes([kind << 1, layer + 1]) + payload


@pytest.mark.parametrize(
    ("codec", "extradata", "size"),
    [
        ("h264", bytes([1, 100, 0, 13, 0xFF]), 4),
        ("h264", bytes([1, 100, 0, 13, 0xFC]), 1),
        ("h264", bytes([1, 100, 0, 13, 0xFD]), 2),
        ("h264", bytes([1, 100, 0, 13]), 0),
        ("h264", b"\0\0\0\1\x67\x64", 0),
        ("h264", b"", 0),
        ("hevc", bytes([1]) + bytes(20) + b"\x03", 4),
        ("hevc", bytes([1]) + bytes(20) + b"\x00", 1),
        ("hevc", bytes([1]) + bytes(20), 0),
        ("hevc", b"\0\0\0\1\x40\x01", 0),
        ("vp9", bytes([1]) + bytes(40), 0),
    ],
)
def test_length_size_is_read_from_the_configuration(
    codec: str, extradata: bytes, size: int
) -> None:
    assert nal_length_size(codec, extradata) == size


def hvcc(*arrays: tuple[int, list[bytes]]) -> bytes:
    body = b"".join(
        bytes([kind]) + len(units).to_bytes(2, "big") + prefixed(*units, size=2)
        for kind, units in arrays
    )
    return b"\1" + bytes(20) + b"\3" + bytes([len(arrays)]) + body


AVCC = b"\1\x64\0\x0a\xff"


@pytest.mark.parametrize(
    ("codec", "extradata", "sets"),
    [
        ("h264", AVCC + b"\xe1\0\2\x67a\2\0\2\x68b\0\3\x68c\0", (b"\x67a", b"\x68b", b"\x68c")),
        ("h264", AVCC + b"\xe2\0\2\x67a\0\2\x67a\0", (b"\x67a",)),
        ("h264", AVCC + b"\xe1\0\2\x67a\1\0\2\x68b\xfd\xf8\xf8\0", (b"\x67a", b"\x68b")),
        ("h264", b"\0\0\0\1\x67a\0\0\1\x68b\0\0\0\1\x06c", (b"\x67a", b"\x68b")),
        (
            "hevc",
            hvcc((32, [b"\x40\1a"]), (34, [b"\x44\1b", b"\x44\1c\0"]), (39, [b"\x4e\1d"])),
            (b"\x40\1a", b"\x44\1b", b"\x44\1c"),
        ),
        ("hevc", hvcc(), ()),
        ("hevc", b"\0\0\1\x40\1a\0\0\1\x4e\1d", (b"\x40\1a",)),
    ],
)
def test_parameter_sets_of_the_configuration(
    codec: str, extradata: bytes, sets: tuple[bytes, ...]
) -> None:
    assert head_parameter_sets(codec, extradata) == sets


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@given(extradata=st.binary(max_size=60))
def test_any_configuration_gives_sets_or_a_value_error(codec: str, extradata: bytes) -> None:
    for data in (extradata, b"\1" + extradata):
        with suppress(ValueError):
            assert all(head_parameter_sets(codec, data))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_length_prefixed_units_are_split(size: int) -> None:
    units = [b"\x67a", b"\x68", b"\x65" + bytes(200)]
    assert list(split_nal_units(prefixed(*units, size=size), size)) == units


@pytest.mark.parametrize(
    ("packet", "units"),
    [
        (b"\0\0\1\x65ab", [b"\x65ab"]),
        (b"\0\0\0\1\x65ab", [b"\x65ab"]),
        (b"\0\0\0\1\x67a\0\0\1\x68b\0\0\0\1\x65c", [b"\x67a", b"\x68b", b"\x65c"]),
        (b"\0\0\1\x67a\0\0\0\0\0\1\x65c\0\0", [b"\x67a", b"\x65c"]),
        (b"\0\0\1\0\0\1\x65c", [b"\x65c"]),
        (b"\0\0\1", []),
        # An emulation prevention byte is no start code.
        (b"\0\0\1\x65a\0\0\3\1b", [b"\x65a\0\0\3\1b"]),
    ],
)
def test_units_between_start_codes_are_split(packet: bytes, units: list[bytes]) -> None:
    assert list(split_nal_units(packet, 0)) == units


@pytest.mark.parametrize(
    ("packet", "size"),
    [
        (b"\0\0\0\5\x65ab", 4),  # longer than the packet
        (b"\xff\xff\xff\xff\x65", 4),
        (b"\0\0\0\0\x65", 4),  # no unit of no bytes
        (b"\0\0\0\2\x65a\0", 4),  # a length cut short
        (b"\0\0\0\2\x65a\0\0\0", 4),
        (b"\1", 1),
        (b"\x65abc", 0),
        (b"", 0),
    ],
)
def test_lengths_and_start_codes_that_do_not_fit_are_refused(packet: bytes, size: int) -> None:
    with pytest.raises(ValueError, match=r"NAL unit lengths|start code"):
        list(split_nal_units(packet, size))


@given(units=st.lists(st.binary(min_size=1, max_size=40), max_size=6))
def test_any_units_come_back_from_lengths(units: list[bytes]) -> None:
    assert list(split_nal_units(prefixed(*units), 4)) == units


@given(packet=st.binary(max_size=60), size=st.sampled_from([0, 1, 2, 4]))
def test_any_bytes_are_split_or_refused(packet: bytes, size: int) -> None:
    try:
        units = list(split_nal_units(packet, size))
    except ValueError:
        return
    assert all(units)
    assert sum(len(unit) + size for unit in units) <= len(packet)
    for codec in ("h264", "hevc"):
        try:
            read_access_unit(codec, packet, size)
        except ValueError:
            continue


def read(codec: str, *units: bytes) -> AccessUnit:
    return read_access_unit(codec, prefixed(*units), 4)


@pytest.mark.parametrize(
    ("units", "random_access", "disposable"),
    [
        ([h264(5, 3)], True, False),
        ([h264(1, 2)], False, False),
        ([h264(1, 0)], False, True),
        # A recovery point is a key frame for players, and no place to begin exactly.
        ([h264(6), h264(1, 3)], False, False),
        ([h264(9), h264(7, 3), h264(8, 3), h264(6), h264(5, 3), h264(5, 3)], True, False),
        # Slices of which one may be referred to; fields of an IDR picture.
        ([h264(1, 0), h264(1, 1)], False, False),
        ([h264(5, 3), h264(1, 2)], True, False),
        ([h264(1, 2), h264(5, 3)], False, False),
        # The standard forbids it; decoding begins there all the same.
        ([h264(5, 0)], True, False),
        ([h264(2, 0), h264(3, 0), h264(4, 0)], False, True),
    ],
)
def test_h264_packet_is_classified(
    units: list[bytes], random_access: bool, disposable: bool
) -> None:
    unit = read("h264", *units)
    assert (unit.random_access, unit.disposable) == (random_access, disposable)
    assert unit.layers == {0}


@pytest.mark.parametrize(
    ("kind", "random_access", "disposable"),
    [
        (0, False, True),  # TRAIL_N
        (1, False, False),  # TRAIL_R
        (2, False, True),  # TSA_N
        (5, False, False),  # STSA_R
        (6, False, True),  # RADL_N
        (7, False, False),
        (8, False, True),  # RASL_N
        (9, False, False),  # RASL_R
        (14, False, True),
        (16, True, False),  # BLA_W_LP
        (18, True, False),
        (19, True, False),  # IDR_W_RADL
        (20, True, False),  # IDR_N_LP
        (21, True, False),  # CRA
        (23, True, False),
        (24, False, False),  # reserved, not IRAP
    ],
)
def test_hevc_packet_is_classified(kind: int, random_access: bool, disposable: bool) -> None:
    unit = read("hevc", hevc(35), hevc(39), hevc(kind))
    assert (unit.random_access, unit.disposable) == (random_access, disposable)


def test_hevc_layers_are_those_of_the_slices() -> None:
    assert read("hevc", hevc(32), hevc(1, 0)).layers == {0}
    assert read("hevc", hevc(0, 2), hevc(0, 2)).layers == {2}


def test_parameter_sets_inside_the_packet_are_found() -> None:
    sps, pps = h264(7, 3, b"sps"), h264(8, 3, b"pps")
    assert read("h264", h264(9), sps, pps, h264(6), h264(5, 3)).parameter_sets == (sps, pps)
    sets = tuple(hevc(kind, payload=b"set") for kind in (32, 33, 34))
    assert read("hevc", hevc(35), *sets, hevc(39), hevc(19)).parameter_sets == sets


@pytest.mark.parametrize(
    ("codec", "units"),
    [
        ("h264", [h264(9), h264(6)]),
        ("h264", [h264(7, 3), h264(8, 3)]),
        ("h264", [h264(20, 3)]),  # a slice of another view or layer
        ("h264", []),
        ("hevc", [hevc(32), hevc(33), hevc(34)]),
        ("hevc", [b"\x02"]),  # shorter than its header
        ("hevc", []),
    ],
)
def test_packet_without_a_picture_is_refused(codec: str, units: list[bytes]) -> None:
    with pytest.raises(ValueError, match="no slice in the packet"):
        read(codec, *units)
