"""The version gate in front of every document of ours."""

from typing import Any

from clipshards.packer.format.errors import FormatError, UnsupportedVersionError
from clipshards.packer.format.names import VERSION


def check_version(value: Any, document: str, *, where: str) -> None:
    """Check that a decoded JSON document is a `document` of the version read here.

    Raises:
        FormatError: Another kind of document.
        UnsupportedVersionError: A version that this release does not read.
    """
    if type(value) is not dict or value.get("format") != document:
        raise FormatError(f"{where}: expected a document of format {document!r}")
    if value.get("version") != VERSION:
        raise UnsupportedVersionError(
            f"{where}: format version {value.get('version')!r}, this release reads {VERSION}; "
            "install the release that wrote it, or pack again"
        )
