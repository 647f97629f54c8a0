"""How long a store that fails is asked again."""

import os
import random
import time

from clipshards.packer.format.errors import StorageError

_VARIABLE = "CLIPSHARDS_S3_PATIENCE_S"
_DEFAULT_S = 120.0
# A store that never answered is more likely mistyped than away.
_FIRST_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0

SLOWEST = 16 * 2**10
"""Bytes a second; a body that comes more slowly is not worth waiting for."""


def patience_s() -> float:
    """Return the seconds for which a request is tried again: CLIPSHARDS_S3_PATIENCE_S, else 120.

    Raises:
        StorageError: The variable holds no such number.
    """
    text = os.environ.get(_VARIABLE, "")
    try:
        seconds = float(text) if text else _DEFAULT_S
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise StorageError(f"{_VARIABLE}: expected seconds of at least 0, got {text!r}")
    return seconds


class Patience:
    """The pauses between the tries of one request, and their end."""

    def __init__(self, *, reached: bool, most_s: float = float("inf")) -> None:
        """Begin now.

        Args:
            reached: Whether the store has ever answered.
            most_s: Seconds after which a request is no longer worth it.
        """
        self._started_s = self._since_s = time.monotonic()
        self._seconds = min(patience_s(), most_s if reached else _FIRST_S)
        self._pause_s = _FIRST_PAUSE_S
        self._got = 0
        self.tries = 1
        self.renewed = False
        """Whether the credentials were read anew."""

    @property
    def waited_s(self) -> float:
        """Seconds since the first try."""
        return time.monotonic() - self._started_s

    def leave_out(self, seconds: float) -> None:
        """Count so many seconds as none of the store's."""
        self._since_s += seconds

    def again(self, *, got: int = 0) -> bool:
        """Wait before the next try; return False where there is to be none.

        Args:
            got: Bytes that came so far: while they keep coming, none too slowly, all begins anew.
        """
        now_s = time.monotonic()
        if got - self._got > SLOWEST * (now_s - self._since_s):
            self._got, self._since_s, self._pause_s = got, now_s, _FIRST_PAUSE_S
        left_s = self._seconds - (now_s - self._since_s)
        if left_s <= 0:
            return False
        # Not all clients of a store that was away should come back at one moment.
        time.sleep(min(left_s, self._pause_s * random.uniform(0.5, 1.0)))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self.tries += 1
        return True
