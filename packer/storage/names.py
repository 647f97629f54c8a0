"""Names inside a location: relative, with forward slashes, never out of it."""


def checked_name(name: str, *, url: str) -> str:
    """Return `name` if it stays inside the location `url`.

    Raises:
        ValueError: It is absolute, empty, or leads out.
    """
    parts = name.split("/")
    if not all(parts) or any(part in (".", "..") or "\0" in part for part in parts):
        raise ValueError(f"{name!r} is not a name inside {url}")
    return name
