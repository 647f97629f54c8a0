"""The examples in the docstrings of all modules."""

import ast
import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import clipshards.packer
import clipshards.readers
import clipshards.tools

MODULES = sorted(
    info.name
    for package in (clipshards.packer, clipshards.readers, clipshards.tools)
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


def examples_of(name: str) -> Iterator[doctest.DocTest]:
    """Yield the examples of a module: doctest itself misses those under the fields of classes."""
    module = importlib.import_module(name)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str) and ">>>" in text:
                yield doctest.DocTestParser().get_doctest(
                    inspect.cleandoc(text), dict(vars(module)), name, module.__file__, node.lineno
                )


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings_are_right(name: str) -> None:
    runner = doctest.DocTestRunner()
    for test in examples_of(name):
        assert test.examples
        assert runner.run(test).failed == 0


def test_examples_are_found_in_every_package() -> None:
    found = {name for name in MODULES if list(examples_of(name))}
    assert {
        "clipshards.packer.format.manifest",
        "clipshards.packer.frames.nal",
        "clipshards.packer.records",
        "clipshards.readers.clips",
        "clipshards.tools.printing",
    } <= found
