"""A text file of class names: line n is the name of class n, counted from 0."""

from pathlib import Path

from clipshards.packer.annotations.text import read_lines
from clipshards.packer.format.errors import AnnotationError


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the name of class 0, 1, ..., without the space around them.

    Raises:
        AnnotationError: The file is unreadable or empty, or a line is blank, which would
            shift nothing and yet leave a class without a name.
    """
    names = []
    for number, line in read_lines(path):
        if not line.strip():
            raise AnnotationError(f"{path}:{number}: expected a class name, got a blank line")
        names.append(line.strip())
    return tuple(names)
