"""The two checksums of the format: crc32c for what is read often, sha256 for identity."""

import hashlib
import re

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
    crc: int = google_crc32c.extend(value, data)
    return crc


_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


def is_sha256_hex(text: str) -> bool:
    """Return whether `text` is a SHA-256 as `sha256_hex` writes it."""
    return _SHA256_HEX.fullmatch(text) is not None


def sha256_hex(data: bytes | memoryview) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
