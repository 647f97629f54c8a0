import doctest
import importlib
import pkgutil

import pytest

import clipshards.readers

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(
        clipshards.readers.__path__, clipshards.readers.__name__ + "."
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
    assert sum(len(test.examples) for test in tests) > 3


def test_every_public_name_is_there() -> None:
    assert sorted(clipshards.readers.__all__) == clipshards.readers.__all__
    for name in clipshards.readers.__all__:
        assert getattr(clipshards.readers, name).__module__.startswith("clipshards.readers.")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = clipshards.readers.nonsense
