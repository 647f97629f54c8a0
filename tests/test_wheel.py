"""The wheel holds the three folders and nothing else, and works without the checkout."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
TOP = ("packer", "readers", "tools")

pytest.importorskip("setuptools", minversion="77", reason="builds with what is installed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy: building writes into the source tree."""
    source = tmp_path_factory.mktemp("source")
    for folder in (*TOP, "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPO / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPO / name, source)
    run("pip", "wheel", "--no-deps", "--no-build-isolation", "-w", source / "dist", source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed."""
    target = tmp_path_factory.mktemp("installed")
    run("pip", "install", "--no-deps", "--target", target, wheel)
    return target


def run(module: str, command: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", module, command, "--no-index"),
            *("--disable-pip-version-check", "--quiet", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def source_files() -> Iterator[str]:
    for top in TOP:
        for file in (REPO / top).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"clipshards/{file.relative_to(REPO).as_posix()}"


def test_wheel_holds_the_files_of_the_folders_and_its_description(wheel: Path) -> None:
    info = f"clipshards-{version('clipshards')}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    expected = set(source_files())
    assert {name for name in names if not name.startswith(f"{info}/")} == expected
    assert {f"clipshards/{top}/py.typed" for top in TOP} < expected
    assert {name.removeprefix(f"{info}/") for name in names - expected} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "top_level.txt",
    }


def test_folders_hold_nothing_but_python_and_the_typing_marks() -> None:
    suffixes = {Path(name).suffix for name in source_files()}
    assert suffixes == {".py", ".typed"}


def test_every_folder_with_modules_is_a_package() -> None:
    for top in TOP:
        for file in (REPO / top).rglob("*.py"):
            assert (file.parent / "__init__.py").exists()


def test_wheel_serves_every_platform_and_the_python_versions_that_are_promised(
    wheel: Path,
) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(name).decode()
    assert f"Requires-Python: {project['requires-python']}\n" in metadata
    required = {
        line.removeprefix("Requires-Dist: ")
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra" not in line
    }
    assert required == set(project["dependencies"])


def run_installed(installed: Path, *arguments: str) -> str:
    """Run Python with the installed wheel, and without the checkout."""
    # -S leaves out site-packages, and with it the link to the checkout; the packages that
    # clipshards needs are given by hand.
    needed = [str(installed), *(path for path in sys.path if path.endswith("site-packages"))]
    done = subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=installed,
        env={"PYTHONPATH": ":".join(needed), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


USE = """
import clipshards.packer, clipshards.readers, clipshards.tools.cli
from clipshards.packer import VideoRecord, pack
from clipshards.packer.media.synthetic import write_video
from clipshards.readers import verify
write_video("a.mp4", frames=5, width=32, height=32)
pack([VideoRecord("a.mp4", (0,))], "out", split="train", media_root=".")
assert verify("out").whole
for module in (clipshards.packer, clipshards.readers, clipshards.tools.cli):
    print(module.__file__)
"""


def test_installed_wheel_packs_and_verifies(installed: Path) -> None:
    files = run_installed(installed, "-c", USE).splitlines()
    assert len(files) == 3
    assert all(Path(file).is_relative_to(installed) for file in files)


def test_installed_command_answers(installed: Path) -> None:
    text = run_installed(installed, "-m", "clipshards.tools.cli", "--help")
    assert text.startswith("Usage: clipshards")
    assert (installed / "bin" / "clipshards").is_file()
