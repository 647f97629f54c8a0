"""What the documents show must run, and what they quote must be what the program prints.

`python tests/test_docs.py` prints docs/cli.md anew.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from clipshards.packer.media.synthetic import write_video
from clipshards.tools.cli import cli

REPO = Path(__file__).resolve().parents[1]
GUIDES = ("README.md", "docs/packing.md", "docs/reading.md")


def code_blocks(document: str, language: str) -> list[str]:
    text = (REPO / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the documents assume it: videos, a list, and the list packed."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "videos/kitchen").mkdir(parents=True)
    lines = []
    for number in range(1, 5):
        name = f"kitchen/v_{number:04d}.mp4"
        write_video(folder / "videos" / name, frames=12, width=64, height=48, seed=number)
        lines.append(f"{name} {number % 2}\n")
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
    run_shell(pack_command(), folder)
    return folder


def pack_command() -> str:
    (block,) = (block for block in code_blocks("README.md", "sh") if "pack video" in block)
    return block


def run_shell(script: str, folder: Path) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("document", GUIDES)
def test_python_examples_run_as_printed(document: str, user_folder: Path) -> None:
    script = "\n".join(code_blocks(document, "python"))
    # A file, and not exec: loader processes must be able to find what it defines.
    example = user_folder / "example.py"
    example.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, example.name], cwd=user_folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_packing_commands_run_as_printed(user_folder: Path) -> None:
    blocks = code_blocks("docs/packing.md", "sh")
    planned = [block for block in blocks if block.startswith("clipshards plan")]
    parted = [block for block in blocks if "--part" in block]
    assert (len(planned), len(parted)) == (1, 1)
    # The split stands there already, made by another recipe.
    out = run_shell(planned[0].replace("--out shards", "--out elsewhere"), user_folder)
    assert "4 samples in 1 shard" in out
    assert not (user_folder / "elsewhere").exists()
    assert "finished: 4 of 4 entries packed" in run_shell(parted[0], user_folder)


def test_reading_commands_run_as_printed(user_folder: Path) -> None:
    out = run_shell("\n".join(code_blocks("docs/reading.md", "sh")), user_folder)
    assert re.search(
        r"the fastest is loader\((threads|workers)=\d+\), [0-9.,]+ items/s, \d+% of ", out
    )
    assert "step 123: batch 0 of epoch 123, 4 items" in out
    assert "train-00000000: step 2, batch 0 of epoch 2" in out


def test_integrity_commands_run_as_printed(user_folder: Path) -> None:
    blocks = code_blocks("docs/integrity.md", "sh")
    assert len(blocks) == 4
    out = run_shell("\n".join(blocks), user_folder)
    # Other examples may have packed a second split.
    assert re.search("^no damage found: .*, presence, sizes and", out, flags=re.MULTILINE)
    assert len(re.findall("^whole.*: . shards?, . samples?", out, flags=re.MULTILINE)) == 2
    assert re.search("^whole: 0 of . shards? replaced", out, flags=re.MULTILINE)
    assert re.search("^whole: 0 of . shards? made anew", out, flags=re.MULTILINE)


def test_readme_commands_run_as_printed(user_folder: Path) -> None:
    blocks = code_blocks("README.md", "sh")
    looked = [block for block in blocks if block.startswith(("clipshards info", "tar tf"))]
    assert len(looked) == 2
    out = run_shell("\n".join(looked), user_folder)
    assert "train-00000000.mp4" in out
    assert "whole" in out


def test_links_lead_to_files_that_exist() -> None:
    documents = [REPO / "README.md", REPO / "CONTRIBUTING.md", *(REPO / "docs").rglob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_tests_that_the_readme_names_exist() -> None:
    text = (REPO / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", text)
    assert len(named) > 10
    for name, file in named:
        assert f"def {name}(" in (REPO / file).read_text(encoding="utf-8"), name


def test_command_line_page_is_what_help_prints() -> None:
    page = (REPO / "docs/cli.md").read_text(encoding="utf-8")
    assert page == cli_page(), "run `make docs`"


def cli_page() -> str:
    lines = ["# Command line\n"]
    names = cli.context_settings["help_option_names"]
    root = click.Context(
        cli, info_name="clipshards", max_content_width=100, help_option_names=names
    )
    for context in _contexts(root):
        lines += [f"## {context.command_path}\n", "```text", context.get_help(), "```\n"]
    return "\n".join(lines)


def _contexts(context: click.Context) -> list[click.Context]:
    found = [context]
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            child = click.Context(command, info_name=name, parent=context, max_content_width=100)
            found += _contexts(child)
    return found


if __name__ == "__main__":
    sys.stdout.write(cli_page())
