"""ustar headers, written and read by hand: one member, one possible header.

Every field but name, size and checksum is constant in our shards, so a header is checked
by building it again and comparing 512 bytes: any flipped bit shows. POSIX.1-1988 ustar,
as in https://www.gnu.org/software/tar/manual/html_node/Standard.html.
"""

from clipshards.packer.format.errors import CorruptShardError

BLOCK = 512
END = bytes(2 * BLOCK)
"""What follows the last member."""
MAX_NAME = 100
MAX_SIZE = 8**11 - 1
"""Largest member in bytes: eleven octal digits, one byte below 8 GiB."""

# Fields behind the name: mode, uid, gid | size, filled in | mtime | checksum, filled in |
# type '0' | 100 bytes link name | magic and version | 247 bytes user, group, device, prefix, pad.
_OWNER = b"0000644\0" + b"0000000\0" * 2
_MTIME = b"00000000000\0"
_REST = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
# The checksum counts its own field as eight spaces.
_CONSTANT_SUM = sum(_OWNER) + sum(_MTIME) + 8 * ord(" ") + sum(_REST)


def padding(size: int) -> int:
    """Return how many zero bytes follow a payload of `size` bytes.

    >>> padding(1), padding(512)
    (511, 0)
    """
    return -size % BLOCK


def member_bytes(size: int) -> int:
    """Return what a member with a payload of `size` bytes takes in the file, all told.

    >>> member_bytes(1)
    1024
    """
    return BLOCK + size + padding(size)


def encode_header(name: str, size: int) -> bytes:
    """Return the 512 bytes before a member's payload.

    Raises:
        ValueError: The name is empty, longer than 100 bytes or not printable ASCII, or
            the size does not fit.
    """
    if not (0 < len(name) <= MAX_NAME and name.isascii() and name.isprintable()):
        raise ValueError(f"tar member name {name!r}: expected 1 to 100 printable ASCII characters")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"tar member {name}: {size} bytes do not fit, at most {MAX_SIZE} do")
    raw = name.encode("ascii")
    digits = b"%011o\0" % size
    checksum = b"%06o\0 " % (_CONSTANT_SUM + sum(raw) + sum(digits))
    return b"".join((raw.ljust(MAX_NAME, b"\0"), _OWNER, digits, _MTIME, checksum, _REST))


def decode_header(block: bytes, *, where: str) -> tuple[str, int] | None:
    """Return name and payload size of a member, or None for a block of zeros.

    Args:
        block: The 512 bytes.
        where: Shard and offset, for the error.

    Raises:
        CorruptShardError: Not byte for byte the header that `encode_header` writes.
    """
    if len(block) != BLOCK:
        raise CorruptShardError(f"{where}: expected a header of 512 bytes, got {len(block)}")
    if block == END[:BLOCK]:
        return None
    try:
        name = block[:MAX_NAME].rstrip(b"\0").decode("ascii")
        size = int(block[124:135], 8)
        rebuilt = encode_header(name, size)
    except ValueError as exc:
        raise CorruptShardError(f"{where}: not a header of this format: {exc}") from exc
    if rebuilt != block:
        wrong = next(i for i in range(BLOCK) if rebuilt[i] != block[i])
        raise CorruptShardError(
            f"{where}: header of {name!r}: byte {wrong} is {block[wrong]:#04x}, "
            f"expected {rebuilt[wrong]:#04x}"
        )
    return name, size
