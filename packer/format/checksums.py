"""The two checksums of the format: crc32c for what is read often, sha256 for identity."""

import hashlib

import google_crc32c


def crc32c(data: bytes, value: int = 0) -> int:
    """Return the CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `data`.

    Args:
        data: The bytes.
        value: CRC of the bytes before them, to continue it.

    Returns:
        An integer in [0, 2**32).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    return int(google_crc32c.extend(value, data))


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
