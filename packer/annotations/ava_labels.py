"""Files beside an AVA annotation: names of its actions, and key frames to leave out."""

import re
from pathlib import Path

from clipshards.packer.annotations.text import read_lines
from clipshards.packer.format.errors import AnnotationError

# One entry of `item { name: "sit" id: 11 }`, as protobuf prints it; a name may hold braces.
_BLOCK = re.compile(r"""(?:item|label)\s*\{((?:"[^"\n]*"|'[^'\n]*'|[^{}"']+)*+)\}""")
_NAME = re.compile(r"""\bname\s*:\s*(?:"([^"\n]*)"|'([^'\n]*)')""")
_ID = re.compile(r"""\b(?:id|label_id)\s*:\s*([0-9]+)(?![0-9A-Za-z_.])""")
_STRING = re.compile(r"""\"[^"\n]*"|'[^'\n]*'""")
_NAMED_LINE = re.compile(r"\s*([0-9]+)\s*:\s*(\S.*)")
# Class names are stored as a list, so one id decides how long it is.
_MOST_CLASSES = 100_000


def read_label_map(path: Path) -> dict[int, str]:
    """Return the name of each action id, in the order of the file.

    The file holds entries of `name:` and `id:` (or `label_id:`) in braces, as AVA's own
    pbtxt files, or a line `id: name` each.

    Raises:
        AnnotationError: The file is unreadable, in neither layout, or names an id twice.
    """
    lines = list(read_lines(path))
    names: dict[int, str] = {}
    braces = any(re.match(r"\s*(item|label)\s*\{", line) for _, line in lines)
    found = _blocks(path, lines) if braces else _named_lines(path, lines)
    for where, label, name in found:
        if label >= _MOST_CLASSES:
            raise AnnotationError(f"{where}: expected an id below {_MOST_CLASSES}, got {label}")
        if label in names:
            raise AnnotationError(
                f"{where}: id {label} is named twice, {names[label]!r} and {name!r}"
            )
        names[label] = name
    return names


def read_exclusions(path: Path) -> set[tuple[str, int]]:
    """Return the (video id, timestamp) pairs of an exclude file, `video_id,timestamp` a line.

    Raises:
        AnnotationError: The file is unreadable, or a line is not of that layout.
    """
    pairs = set()
    for number, line in read_lines(path):
        video_id, _, timestamp = line.strip().partition(",")
        try:
            pairs.add((video_id, int(timestamp)))
        except ValueError:
            raise AnnotationError(
                f"{path}:{number}: expected 'video_id,timestamp', got {line[:200]!r}"
            ) from None
    return pairs


def _blocks(path: Path, lines: list[tuple[int, str]]) -> list[tuple[str, int, str]]:
    text = "\n".join(line for _, line in lines)
    found = []
    end, line, counted = 0, 1, 0
    for block in _BLOCK.finditer(text):
        line += text.count("\n", counted, block.start())
        counted = block.start()
        where = f"{path}:{line}"
        between = text[end : block.start()].strip()
        name = _NAME.search(block[1])
        label = _ID.search(_STRING.sub('""', block[1]))
        if between or name is None or label is None or len(label[1]) > 18:
            raise AnnotationError(
                f'{where}: expected an entry with name: "..." and id: number, '
                f"got {(between or block[0])[:200]!r}"
            )
        found.append((where, int(label[1]), name[1] if name[1] is not None else name[2]))
        end = block.end()
    rest = text[end:].strip()
    if rest:
        where = f"{path}:{text.count(chr(10), 0, text.find(rest, end)) + 1}"
        raise AnnotationError(
            f"{where}: expected 'item {{ name: ... id: ... }}', got {rest[:200]!r}"
        )
    return found


def _named_lines(path: Path, lines: list[tuple[int, str]]) -> list[tuple[str, int, str]]:
    found = []
    for number, line in lines:
        match = _NAMED_LINE.fullmatch(line)
        if match is None or len(match[1]) > 18:
            raise AnnotationError(f"{path}:{number}: expected 'id: name', got {line[:200]!r}")
        found.append((f"{path}:{number}", int(match[1]), match[2].strip()))
    return found
