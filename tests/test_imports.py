"""What may import what, what must not be loaded, and which names are public."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import clipshards.packer
import clipshards.readers
import clipshards.tools
from clipshards.packer.media.synthetic import write_video

FOLDERS = {
    top.__name__: Path(top.__path__[0])
    for top in (clipshards.packer, clipshards.readers, clipshards.tools)
}

# Room -> rooms that its modules may import. A module's room is the longest name that fits.
GROUND = {
    "clipshards.packer.format": [],
    "clipshards.packer.storage": ["clipshards.packer.format"],
    "clipshards.packer.frames": ["clipshards.packer.format"],
    "clipshards.packer.processes": [],
}
ROOMS = GROUND | {
    "clipshards.packer.annotations": [
        "clipshards.packer.format",
        "clipshards.packer.records",
        "clipshards.packer.skeletons",
    ],
    "clipshards.packer.skeletons": ["clipshards.packer.format", "clipshards.packer.records"],
    "clipshards.packer.media": [
        *GROUND,
        "clipshards.packer.annotations",
        "clipshards.packer.encoding",
        "clipshards.packer.media_root",
        "clipshards.packer.records",
    ],
    "clipshards.packer.encoding": [],
    "clipshards.packer.media_root": ["clipshards.packer.format"],
    "clipshards.packer.records": [],
    "clipshards.packer": [
        *GROUND,
        "clipshards.packer.annotations",
        "clipshards.packer.encoding",
        "clipshards.packer.media",
        "clipshards.packer.media_root",
        "clipshards.packer.records",
        "clipshards.packer.skeletons",
    ],
    "clipshards.readers": [*GROUND],
    "clipshards.tools": [
        *GROUND,
        "clipshards.packer",
        "clipshards.packer.annotations",
        "clipshards.packer.encoding",
        "clipshards.packer.media",
        "clipshards.packer.records",
        "clipshards.readers",
    ],
}

# Other people's packages, and the rooms or modules that may touch them.
OUTSIDE = {
    "numpy": [
        "clipshards.packer",
        "clipshards.readers",
    ],
    "google_crc32c": ["clipshards.packer.format"],
    "boto3": ["clipshards.packer.storage.s3_connection"],
    "botocore": ["clipshards.packer.storage"],
    "urllib3": ["clipshards.packer.storage"],
    "PIL": ["clipshards.packer.frames", "clipshards.packer.media"],
    "av": ["clipshards.packer.frames", "clipshards.packer.media"],
    "librosa": ["clipshards.packer.media"],
    "torch": [
        "clipshards.readers.batch_maker",
        "clipshards.readers.collate",
        "clipshards.readers.cursor",
        "clipshards.readers.data",
        "clipshards.readers.foreign_tars",
        "clipshards.readers.hand_over",
        "clipshards.readers.makers",
        "clipshards.readers.measuring",
        "clipshards.readers.mmengine_order",
        "clipshards.readers.ranks",
        "clipshards.readers.shared_memory",
        "clipshards.readers.waiting",
        "clipshards.readers.webdataset",
    ],
    "webdataset": ["clipshards.readers.foreign_tars", "clipshards.readers.strict_tar"],
    "ray": ["clipshards.packer.engines"],
    "click": ["clipshards.tools"],
    "tqdm": ["clipshards.tools"],
}


def modules() -> dict[str, Path]:
    """Return the name and the file of every module of ours."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            inside = file.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *inside)).removesuffix(".__init__")
            found[name] = file
    return found


MODULES = modules()


def imports_of(name: str) -> set[str]:
    """Return what a module imports, anywhere in it, functions and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def room_of(name: str) -> str:
    return max((room for room in ROOMS if f"{name}.".startswith(f"{room}.")), key=len)


def test_all_modules_are_looked_at() -> None:
    assert len(MODULES) > 40
    assert {room_of(name) for name in MODULES} == set(ROOMS)
    assert "clipshards.packer.frames.decode" in imports_of("clipshards.readers.video")


@pytest.mark.parametrize("name", MODULES)
def test_imports_among_us_point_one_way(name: str) -> None:
    room = room_of(name)
    for imported in imports_of(name):
        if imported.startswith("clipshards"):
            assert imported in MODULES, f"{name} imports {imported}, which is no module"
            assert room_of(imported) in (room, *ROOMS[room]), f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_outside_packages_are_touched_by_few(name: str) -> None:
    for imported in imports_of(name):
        top = imported.partition(".")[0]
        if top == "clipshards" or top in sys.stdlib_module_names:
            continue
        assert top in OUTSIDE, f"{name} imports {imported}, which nothing of ours may"
        places = OUTSIDE[top]
        assert any(f"{name}.".startswith(f"{place}.") for place in places), (
            f"{name} imports {imported}, which only {', '.join(places)} may"
        )


HEAVY = ["torch", "librosa", "boto3", "botocore", "av", "PIL"]


def loaded_by(code: str, heavy: list[str], *arguments: str) -> list[str]:
    """Run code in a fresh process; return which of the heavy modules it loaded."""
    last = f"import sys; print('LOADED', *[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{last}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


HELP = """
import sys
from clipshards.tools.cli import main
sys.argv = ["clipshards", "--help"]
try:
    main()
except SystemExit as exc:
    assert exc.code == 0, exc.code
"""


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import clipshards.packer", [*HEAVY, "numpy"]),
        ("import clipshards.readers", [*HEAVY, "numpy"]),
        ("import clipshards.tools.cli", [*HEAVY, "numpy"]),
        (HELP, [*HEAVY, "numpy"]),
        ("from clipshards.packer import VideoList, pack, Recipe, VideoRecord", HEAVY),
        ("from clipshards.readers import open_dataset, verify, UniformClip, VideoItem", HEAVY),
    ],
    ids=["packer", "readers", "cli", "help", "names of packer", "names of readers"],
)
def test_import_is_light(code: str, heavy: list[str]) -> None:
    assert loaded_by(code, heavy) == []


PACK_AND_VERIFY = """
import sys
from clipshards.packer import VideoRecord, pack
from clipshards.readers import open_dataset, verify
media, out = sys.argv[1:]
pack([VideoRecord("a.mp4", (0,))], out, split="train", media_root=media)
assert verify(out).whole
assert len(open_dataset(out)) == 1
assert "av" in sys.modules
"""


def test_packing_and_verifying_load_no_torch(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=5, width=32, height=32, sound=False)
    heavy = ["torch", "librosa", "boto3"]
    assert loaded_by(PACK_AND_VERIFY, heavy, str(tmp_path), str(tmp_path / "out")) == []


def test_loaded_modules_are_seen() -> None:
    assert loaded_by("import numpy", ["torch", "numpy"]) == ["numpy"]


@pytest.mark.parametrize("package", [clipshards.packer, clipshards.readers])
class TestPublicNames:
    """`__all__`, and the names that resolve when first used."""

    def test_names_are_sorted_and_each_has_a_home(self, package: Any) -> None:
        assert package.__all__ == sorted(package._HOME)
        assert list(package._HOME) == package.__all__

    def test_every_name_resolves_to_what_is_defined_there(self, package: Any) -> None:
        for name in package.__all__:
            value = getattr(package, name)
            assert not isinstance(value, ModuleType)
            home = package._HOME[name]
            full = home if home.startswith("clipshards.") else f"{package.__name__}.{home}"
            assert value is getattr(importlib.import_module(full), name)
            # Imported from where it is defined, not from where it passes through.
            if hasattr(value, "__module__") and value.__module__.startswith("clipshards"):
                assert value.__module__ == full

    def test_no_submodule_stands_before_a_name(self, package: Any) -> None:
        submodules = {info.name for info in pkgutil.iter_modules(package.__path__)}
        assert len(submodules) > 5
        assert not submodules & set(package.__all__)

    def test_type_checkers_see_the_same_names(self, package: Any) -> None:
        tree = ast.parse(MODULES[package.__name__].read_text(encoding="utf-8"))
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        seen: dict[str, str | None] = {}
        for node in block.body:
            assert isinstance(node, ast.ImportFrom)
            seen |= {alias.name: node.module for alias in node.names}
        homes = {
            name: home if home.startswith("clipshards.") else f"{package.__name__}.{home}"
            for name, home in package._HOME.items()
        }
        assert seen == homes

    def test_unknown_name_is_an_attribute_error(self, package: Any) -> None:
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            _ = package.nonsense


def test_no_tool_has_the_name_of_a_standard_module() -> None:
    names = {file.stem for file in FOLDERS["clipshards.tools"].rglob("*.py")} - {"__init__"}
    assert len(names) > 5
    assert not names & sys.stdlib_module_names
