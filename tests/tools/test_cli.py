import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path

import click
import makers
import pytest

from clipshards.readers import VerifyReport, integrity
from clipshards.tools import cli, demo

Run = Callable[..., tuple[int, str, str]]

COMMANDS = (
    "plan",
    "pack",
    "finish",
    "status",
    "extract-audio",
    "build-audio-features",
    "info",
    "show",
    "verify",
    "compare",
    "repair",
    "copy",
    "batch",
    "when",
    "bench",
    "demo",
)
# Command -> what its help must name.
HELP = {
    (): (*COMMANDS, "--version", "Exit codes: 0 fine, 1 the data has problems, 2 wrong use"),
    ("pack",): ("video",),
    ("pack", "video"): (
        "ANNOTATION",
        "--media-root",
        "--out",
        "--split",
        "--multi-label",
        "--unlabelled",
        "--delimiter",
        "--class-names",
        "--frame-table",
        "--seed",
        "--keep-order",
        "--shard-size",
        "--max-rejects",
        "--allow-outside",
        "--replan",
        "--json",
    ),
    ("pack", "rawframes"): ("ANNOTATION", "--with-offset", "--filename-tmpl", "--start-index"),
    ("pack", "skeleton"): ("ANNOTATION", "--source-split", "--valid-ratio", "--box-thr"),
    ("pack", "ava"): ("ANNOTATION", "--proposals", "--group", "--clip-frames", "--custom-classes"),
    ("pack", "activitynet"): ("ANNOTATION", "--feature-tmpl", "--video-tmpl", "--source-split"),
    ("pack", "audio"): ("ANNOTATION", "--media-root", "--features", "--keep-audio"),
    ("extract-audio",): ("ROOT", "DST", "--ext", "--level", "--num-workers"),
    ("build-audio-features",): ("AUDIO_HOME", "SPECTROGRAM_DIR", "--part", "--num-workers"),
    ("info",): ("LOCATION", "--split", "--json"),
    ("show",): ("LOCATION", "KEY_OR_ID", "--split", "--json"),
    ("verify",): ("LOCATION", "--split", "--level", "--journal", "--json", "Exit code 0"),
    ("compare",): ("A B", "--split", "--json", "Exit code 0"),
    ("repair",): ("LOCATION", "--from", "--split", "--json", "Exit code 0"),
    ("copy",): ("A B", "--split", "--json", "Exit code 0"),
    ("demo",): ("--out",),
}


def clipshards(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "clipshards.tools.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_every_command_has_a_help_text(run: Run, command: tuple[str, ...], option: str) -> None:
    code, out, err = run(*command, option)
    assert code == 0
    assert err == ""
    assert out.startswith(" ".join(("Usage: clipshards", *command)))
    for expected in HELP[command]:
        assert expected in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_help_lists_what_there_is() -> None:
    context = click.Context(cli.cli)
    assert tuple(cli.cli.list_commands(context)) == COMMANDS
    for name in COMMANDS:
        command = cli.cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help


def test_the_help_loads_nothing_but_click() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from clipshards.tools.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'av', 'numpy', 'librosa', 'boto3', 'tqdm'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: clipshards")
    assert done.stderr == "[]\n"


# Runs several command lines, each on a line of its own, in one process.
SEVERAL = """
import sys
from clipshards.tools.cli import main

for line in sys.argv[1].splitlines():
    sys.argv[1:] = line.split("|")
    try:
        main()
    except SystemExit as exc:
        assert not exc.code, line
assert "torch" not in sys.modules
"""


def test_packing_and_verifying_never_load_torch(
    media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    root, annotation = media_root.root, media_root.annotation
    lines = (
        f"pack|video|{annotation}|--media-root|{root}|--out|{out}|--split|train",
        f"verify|{out}",
        f"info|{out}",
        f"show|{out}|train-00000000",
    )
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version") == (0, f"clipshards {version('clipshards')}\n", "")


def test_without_a_command_the_help_comes_and_the_code_is_2(run: Run) -> None:
    for command in ((), ("pack",)):
        code, out, err = run(*command)
        assert code == 2
        assert "Usage: clipshards" in out + err


def test_an_unknown_command_is_wrong_use(run: Run) -> None:
    code, out, err = run("unpack")
    assert (code, out) == (2, "")
    assert f"No such command 'unpack'. There are: {', '.join(COMMANDS)}." in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nonsense",),
        ("info",),
        ("info", "--nonsense", "x"),
        ("info", "x", "y"),
        ("show", "x"),
        ("verify",),
        ("verify", "x", "--split"),
        ("demo", "x"),
        ("pack", "audio"),
        ("pack", "video"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_end_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["info", "verify", "show"])
def test_a_missing_data_set_is_wrong_use(run: Run, tmp_path: Path, command: str) -> None:
    more = ["key"] if command == "show" else []
    code, out, err = run(command, tmp_path / "nowhere", *more)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'nowhere'}: no data set here")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["info", "verify", "show"])
@pytest.mark.parametrize(
    ("split", "message"), [("test", "no split 'test'"), ("../x", "expected 1 to 32 characters")]
)
def test_a_missing_split_is_wrong_use(
    run: Run, packed: Path, command: str, split: str, message: str
) -> None:
    more = ["key"] if command == "show" else []
    code, out, err = run(command, packed, *more, "--split", split)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err


def test_a_damaged_manifest_is_a_problem_of_the_data(run: Run, copied: Path) -> None:
    (copied / "train" / "manifest.json").write_text("{}\n")
    code, out, err = run("info", copied, "--split", "train")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {copied}/train/manifest.json: ")


def test_a_location_may_hold_other_folders(run: Run, copied: Path) -> None:
    (copied / "train").rename(copied / "train.bak")
    for command in ("info", "verify"):
        code, out, err = run(command, copied)
        assert (code, err) == (0, "")
        assert "train" not in out


def test_the_process_ends_with_the_exit_code(packed: Path, damaged: Path, tmp_path: Path) -> None:
    for arguments, code in (
        (("verify", packed), 0),
        (("verify", damaged), 1),
        (("verify", tmp_path / "nowhere"), 2),
        (("nonsense",), 2),
    ):
        done = clipshards(*arguments)
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr


def test_the_installed_command_is_this_one() -> None:
    (entry,) = entry_points(group="console_scripts", name="clipshards")
    assert entry.load() is cli.main


@pytest.mark.parametrize("arguments", [("--help",), ("info",), ("show", "train-00000003")])
def test_a_reader_that_goes_away_is_neither_fine_nor_a_problem_of_the_data(
    packed: Path, arguments: tuple[str, ...]
) -> None:
    # As with `clipshards ... | head -0`: the pipe has no reader from the beginning.
    reader, writer = os.pipe()
    os.close(reader)
    name, *rest = arguments
    more = [] if name == "--help" else [packed, *rest]
    done = subprocess.run(
        [sys.executable, "-m", "clipshards.tools.cli", name, *map(str, more)],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 128 + signal.SIGPIPE


def test_damage_that_nobody_reads_of_is_no_success(damaged: Path) -> None:
    command = shlex.join([sys.executable, "-m", "clipshards.tools.cli", "verify", str(damaged)])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | true"], timeout=60, check=False
    )
    # 1 where the report came before `true` had gone.
    assert done.returncode in (1, 128 + signal.SIGPIPE)


def test_an_interrupted_run_is_told_how_to_go_on(
    run: Run, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(integrity, "verify", interrupt)
    code, _, err = run("verify", packed)
    assert code == 130
    assert "Given again without --replan, a pack or copy command goes on" in err


@pytest.mark.parametrize("command", ["info", "verify", "show", "pack"])
@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("gs://bucket/set", "gs://bucket/set: expected a folder or s3://bucket/prefix"),
        ("{tmp}/file", "{tmp}/file: this is a file, expected the folder of a data set"),
    ],
    ids=["address", "file"],
)
def test_a_location_that_cannot_hold_a_data_set_is_wrong_use(
    run: Run,
    tmp_path: Path,
    media_root: makers.MediaRoot,
    command: str,
    location: str,
    says: str,
) -> None:
    (tmp_path / "file").write_bytes(b"")
    location, says = (text.format(tmp=tmp_path) for text in (location, says))
    root = media_root.root
    words: dict[str, list[object]] = {
        "show": ["show", location, "key"],
        "pack": ["pack", "video", media_root.annotation, "--media-root", root, "--out", location],
    }
    for split in ([], ["--split", "train"]) if command != "pack" else (["--split", "train"],):
        code, out, err = run(*words.get(command, [command, location]), *split)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {says}")
        assert err.count("\n") == 1


def test_an_error_of_click_in_a_command_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = integrity.verify

    def verify_damaged(location: Path) -> VerifyReport:
        shard = location / "train" / "train-000000.tar"
        shard.write_bytes(shard.read_bytes()[:-1])
        return whole(location)

    monkeypatch.setattr(integrity, "verify", verify_damaged)
    monkeypatch.setattr(demo, "_VIDEOS", {"train": 1, "val": 1})
    code, out, err = run("demo", "--out", tmp_path / "demo")
    assert code == 1
    assert "whole" not in out
    assert err.startswith("Error: train/train-000000.tar: ")
