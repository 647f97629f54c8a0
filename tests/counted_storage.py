"""Folders that count what is read of them, near or as if they were far."""

from clipshards.packer.storage.local import LocalStorage


class Near(LocalStorage):
    """A folder that counts the bytes read of it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.bytes = 0

    def read(self, name: str, offset: int, size: int) -> bytes:
        self.bytes += size
        return super().read(name, offset, size)


class Far(Near):
    """The same, read as a far storage is."""

    far = True
