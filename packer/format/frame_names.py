"""Folders of frames: templates of their file names, and their rate."""

import posixpath
import re
import string

_NUMBER_SPEC = re.compile("(0>)?[0-9]{0,2}d?")
_AXIS_SPEC = re.compile("s?")


def is_flow(template: str) -> bool:
    """Return whether a template of file names is one of flow, with a slot for x or y.

    Raises:
        ValueError: Not a template that gives one name inside the folder for each number.

    >>> is_flow("flow_{}_{:05d}.jpg"), is_flow("img_{:05}.jpg")
    (True, False)
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise ValueError(f"file name template {template!r}: {exc}") from None
    slots = [(name, spec, conversion) for _, name, spec, conversion in pieces if name is not None]
    names = [name for name, _, _ in slots]
    if names not in (["0"], [""], ["", ""], ["0", "1"], ["1", "0"]):
        raise ValueError(
            f"file name template {template!r}: expected one slot for the number, as {{:05}}, or "
            "two of flow, for x or y and the number"
        )
    number_slot = names.index("1") if "1" in names else len(names) - 1
    for place, (_, spec, conversion) in enumerate(slots):
        allowed = _NUMBER_SPEC if place == number_slot else _AXIS_SPEC
        # A width without a bound would make names that fill the memory.
        if conversion or not allowed.fullmatch(spec or ""):
            raise ValueError(
                f"file name template {template!r}: expected slots as {{}} and {{:05}}, "
                f"got format {spec!r}"
            )
    flow = len(slots) == 2
    first, second = (template.format("x", n) if flow else template.format(n) for n in (1, 2))
    if not template.isprintable() or any(p in ("", ".", "..") for p in first.split("/")):
        raise ValueError(f"file name template {template!r}: expected a name inside the folder")
    if posixpath.dirname(first) != posixpath.dirname(second):
        raise ValueError(f"file name template {template!r}: the number must be in the file's name")
    return flow


def frame_name(template: str, number: int, axis: str | None = None) -> str:
    """Return the name of a frame's file, inside its folder.

    Args:
        template: One that `is_flow` accepts.
        number: Number in the name: of frame n it is `start_index` + n. One that is wider
            than the slot takes the room it needs, as in Python and MMAction2.
        axis: `x` or `y` of flow, None of other frames.

    >>> frame_name("img_{:05}.jpg", 100_000), frame_name("flow_{}_{:05d}.jpg", 7, "x")
    ('img_100000.jpg', 'flow_x_00007.jpg')
    """
    return template.format(number) if axis is None else template.format(axis, number)


def check_rate(rate: float) -> None:
    """Check the rate of raw frames.

    Raises:
        ValueError: Neither 0 nor 0.001 to 1000 frames per second.
    """
    if rate and not 0.001 <= rate <= 1000:  # NaN is neither
        raise ValueError(f"rate {rate}: expected 0.001 to 1000, or 0 where not known")
