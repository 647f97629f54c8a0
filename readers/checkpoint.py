"""Where a training run stands in its data, as a small dict that any topology can go on from."""

from typing import Any, NamedTuple

from clipshards.packer.format.canonical import check_schema
from clipshards.packer.format.errors import FormatError, StateError, UnsupportedVersionError

STATE_FORMAT = "clipshards-position"
STATE_VERSION = 1
MAX_EPOCHS = 2**31
"""No run has as many epochs."""
# Nor an epoch as many batches, or samples where these are counted.
_MAX_BATCHES = 2**62

_SCHEMA = {
    "format": str,
    "version": int,
    "identity": dict,
    "epoch": int,
    "batch": int,
    "workers": int,
}


class Resume(NamedTuple):
    """Where to go on."""

    epoch: int
    batch: int
    """The next one, of its epoch."""
    workers: int
    """Loader processes among which the batches were dealt out, where it is the next one of a
    single process; 0 where it is the next one of all."""


def make_state(
    identity: dict[str, Any], epoch: int, batch: int, *, workers: int = 0
) -> dict[str, Any]:
    """Return the state of a run.

    Args:
        identity: Whatever the sequence of batches hangs on, by name.
        epoch: Of the next batch.
        batch: The next one, of its epoch.
        workers: Loader processes, where it is the next batch of one of them; 0 where it is that
            of all.
    """
    return {
        "format": STATE_FORMAT,
        "version": STATE_VERSION,
        "identity": identity,
        "epoch": epoch,
        "batch": batch,
        "workers": workers,
    }


def read_state(state: Any, identity: dict[str, Any]) -> Resume:
    """Return where a state goes on.

    Args:
        state: What `make_state` returned.
        identity: Of the run that is to go on.

    Raises:
        UnsupportedVersionError: A later release made it.
        StateError: It is no state, or of other data or another order.
    """
    try:
        if isinstance(state, dict) and not _differ(state.get("format"), STATE_FORMAT):
            version = state.get("version")
            if type(version) is int and version != STATE_VERSION:
                raise UnsupportedVersionError(
                    f"a position of version {_shown(version)}, expected {STATE_VERSION}"
                )
        check_schema(state, _SCHEMA, where="state")
        if state["format"] != STATE_FORMAT:
            raise FormatError(
                f"state.format: expected {STATE_FORMAT!r}, got {_shown(state['format'])}"
            )
    except UnsupportedVersionError:
        raise
    except FormatError as exc:
        raise StateError(f"not a position in a data set: {exc}") from exc
    before = state["identity"]
    words = [
        f"{name} was {_shown(before.get(name))}, is {_shown(identity.get(name))}"
        for name in sorted(before.keys() | identity.keys(), key=_shown)
        if _differ(before.get(name), identity.get(name))
    ]
    if words:
        raise StateError(
            f"the position belongs to another sequence of batches: {'; '.join(words)}. Go on with "
            "what the run had, or begin anew"
        )
    for name in ("epoch", "batch", "workers"):
        limit = _MAX_BATCHES if name == "batch" else MAX_EPOCHS
        if not 0 <= state[name] < limit:
            raise StateError(f"{name} {state[name]}: expected 0 to {limit - 1}")
    return Resume(state["epoch"], state["batch"], state["workers"])


def _differ(before: Any, now: Any) -> bool:
    try:
        return bool(before != now)
    except (ValueError, TypeError, RuntimeError):  # arrays, tensors, lists too deep to compare
        return True


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists too deep
        text = f"a {type(value).__name__} beyond what can be shown"
    # Digests are known by their first 12 characters.
    return repr(value[:12]) if isinstance(value, str) and len(value) == 64 else text[:60]
