import pkgutil
import sys

import clipshards.tools


def test_no_module_has_the_name_of_one_in_the_standard_library() -> None:
    # `python tools/NAME.py` puts the folder first on the path.
    names = {info.name for info in pkgutil.iter_modules(clipshards.tools.__path__)}
    assert {"cli", "demo"} <= names
    assert not names & sys.stdlib_module_names
