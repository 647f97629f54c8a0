import doctest
import importlib
import pkgutil

import pytest

import clipshards.packer.format

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(
        clipshards.packer.format.__path__, clipshards.packer.format.__name__ + "."
    )
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings_are_right(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    tests = [
        test
        for name in MODULES
        for test in doctest.DocTestFinder().find(importlib.import_module(name))
    ]
    assert len(MODULES) > 5
    assert sum(len(test.examples) for test in tests) > 5
