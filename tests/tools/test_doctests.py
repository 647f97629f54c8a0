import doctest
import importlib
import pkgutil
import sys

import pytest

import clipshards.tools

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(clipshards.tools.__path__, clipshards.tools.__name__ + ".")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings_are_right(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert len(MODULES) >= 7
    assert sum(len(test.examples) for test in tests) >= 2


def test_no_module_has_the_name_of_one_in_the_standard_library() -> None:
    # `python tools/NAME.py` puts the folder first on the path.
    names = {name.rsplit(".", 1)[1] for name in MODULES}
    assert not names & sys.stdlib_module_names
