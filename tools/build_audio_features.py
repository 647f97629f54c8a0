"""`clipshards build-audio-features`: the mel features of a folder of sounds, as npy files."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipshards.tools.printing import count_text, print_json, progress_bar

if TYPE_CHECKING:
    from clipshards.packer.media.extract import AudioReport


@click.command()
@click.argument("audio_home", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("spectrogram_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--level",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Where the sounds are: 1 in AUDIO_HOME itself, 2 in its folders.",
)
@click.option(
    "--ext",
    multiple=True,
    default=("wav",),
    show_default=True,
    help="Extension of the sounds or videos; can be given several times.",
)
@click.option(
    "--num-workers",
    "--num-worker",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Processes.",
)
@click.option(
    "--part",
    default="1/1",
    show_default=True,
    metavar="K/N",
    help="Do the K-th of N parts; together they do each file once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def build_audio_features(
    audio_home: Path,
    spectrogram_dir: Path,
    level: int,
    ext: tuple[str, ...],
    num_workers: int,
    part: str,
    as_json: bool,
) -> None:
    """Write the mel features of each sound below AUDIO_HOME, at the same place.

    class/x.wav becomes SPECTROGRAM_DIR/class/x.npy: float32 of shape (frames, 80), as
    MMAction2's tool makes them. An array that stands there whole is skipped, so a run that
    was killed goes on when the same command is given again.

    Exit code 0: all there. 1: some sounds gave no features, a line for each.
    """
    from clipshards.packer.media.extract import build_audio_features as build

    with folder_progress("build-audio-features") as progress:
        report = build(
            audio_home,
            spectrogram_dir,
            ext=ext,
            level=level,
            part=parse_part(part),
            workers=num_workers,
            progress=progress,
        )
    print_audio_report(report, "npy", as_json=as_json)


@contextmanager
def folder_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Return a context with a progress function for a number of files yet unknown."""
    with progress_bar(0, "file", label) as bar:

        def progress(files: int, total: int) -> None:
            bar.total = total
            bar.update(files)

        yield progress


def print_audio_report(report: "AudioReport", noun: str, *, as_json: bool) -> None:
    """Print what was made and what was not, and exit with 1 if anything was not.

    Raises:
        click.exceptions.Exit: There is a failure.
    """
    if as_json:
        print_json(asdict(report))
    else:
        for failure in report.failures:
            click.echo(f"{shown(failure.path)}: {failure.reason}")
        pieces = [f"{report.made} made", f"{report.skipped} there already"]
        if report.failures:
            pieces.append(f"{len(report.failures)} FAILED")
        click.echo(
            f"{count_text(report.files, 'file')} to {noun} in {report.seconds:.1f} s: "
            f"{', '.join(pieces)} ({shown(report.target)})"
        )
    if report.failures:
        raise click.exceptions.Exit(1)


def shown(path: str) -> str:
    r"""Return a path on one line and without control of the terminal.

    >>> shown("a b.mp4"), shown("a\nb.mp4")
    ('a b.mp4', "'a\\nb.mp4'")
    """
    return path if path.isprintable() else ascii(path)


def parse_part(text: str) -> tuple[int, int]:
    """Return the numbers of a text like `2/5`.

    Raises:
        ValueError: Not two numbers, or the first is not from 1 to the second.

    >>> parse_part("2/5")
    (2, 5)
    """
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"part {text!r}: expected K/N with K from 1 to N, as 2/5")
    return int(match[1]), int(match[2])
