"""`clipshards extract-audio`: the sound of a folder of videos, as wav files."""

from pathlib import Path

import click

from clipshards.tools.build_audio_features import folder_progress, print_audio_report


@click.command()
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("dst", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--ext",
    multiple=True,
    default=("mp4",),
    show_default=True,
    help="Extension of the videos; can be given several times.",
)
@click.option(
    "--level",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Where the videos are: 1 in ROOT itself, 2 in its folders.",
)
@click.option(
    "--num-workers",
    "--num-worker",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Processes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def extract_audio(
    root: Path, dst: Path, ext: tuple[str, ...], level: int, num_workers: int, as_json: bool
) -> None:
    """Write the sound of each video below ROOT as a wav at the same place below DST.

    Rate and channels are kept, samples have 16 bits. A wav that stands there whole is
    skipped, so a run that was killed goes on when the same command is given again.

    Exit code 0: all there. 1: some videos gave no sound, a line for each.
    """
    from clipshards.packer.media.extract import extract_audio as extract

    with folder_progress("extract-audio") as progress:
        report = extract(root, dst, ext=ext, level=level, workers=num_workers, progress=progress)
    print_audio_report(report, "wav", as_json=as_json)
