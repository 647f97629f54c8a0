"""Options that `clipshards pack` commands share, and what they need of each other."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast, get_args

import click
from click.core import ParameterSource

from clipshards.packer.encoding import RECIPES, Preset

if TYPE_CHECKING:
    from clipshards.packer.format.manifest import LabelMode
    from clipshards.packer.recipe import Recipe

_ENCODING = ("short_side", "fps", "gop", "crf", "preset", "if_needed", "allow_unpinned")
_VIDEO = ("recipe", "frame_table", "audio", *_ENCODING)

ONLY_PLAN = "clipshards.plan"
"""Set in a context's `meta` where a command is to plan only."""
RUN_ONLY = {
    "engine": "local",
    "ray_address": None,
    "part": None,
    "replan": False,
    "retry_rejects": False,
    "repair": False,
}
"""Options of the run, which a plan has no use for, and what they are where none is given."""

annotation_file = click.Path(exists=True, dir_okay=False, path_type=Path)


def _part_of(
    _context: click.Context, _param: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """Return (number, parts) of a text like `2/5`."""
    if text is None:
        return None
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"expected a part as 2/5, counted from 1, got {text!r}")
    return int(part), int(parts)


class Common(TypedDict):
    """Values of the options that every pack command has."""

    media_root: str | None
    out: str
    split: str
    class_names: Path | None
    seed: int
    keep_order: bool
    shard_size: str
    max_rejects: int | None
    workers: int | None
    engine: str
    ray_address: str | None
    part: tuple[int, int] | None
    allow_outside: bool
    replan: bool
    retry_rejects: bool
    repair: bool
    as_json: bool


def label_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the two options that say how many labels an entry has."""
    for option in (
        click.option("--unlabelled", is_flag=True, help="Entries have no label."),
        click.option("--multi-label", is_flag=True, help="Entries have one label or more."),
    ):
        command = option(command)
    return command


def label_mode(multi_label: bool, unlabelled: bool) -> "LabelMode":
    """Return what the two options say."""
    if multi_label and unlabelled:
        raise click.UsageError("--multi-label and --unlabelled exclude each other.")
    return "many" if multi_label else "none" if unlabelled else "one"


def common_options(*, media: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the options of every pack command.

    Args:
        media: Whether entries always name files, so that their root must be given.
    """
    options = (
        click.option(
            "--media-root",
            required=media,
            type=click.Path(exists=True, file_okay=False),
            help="Folder that the annotation's paths start from.",
        ),
        click.option("--out", required=True, metavar="LOCATION", help="Folder of the data set."),
        click.option("--split", required=True, help="Name of the split, as train or val."),
        click.option(
            "--class-names",
            type=annotation_file,
            help="Text file with the name of class 0, 1, ... on a line each.",
        ),
        click.option(
            "--seed", default=0, show_default=True, help="Seed of the order in the shards."
        ),
        click.option(
            "--keep-order", is_flag=True, help="Keep the annotation's order in the shards."
        ),
        click.option(
            "--shard-size",
            default="256MB",
            show_default=True,
            metavar="SIZE",
            help="Size of a shard, about, by the media that go in; a number with kB, MB or GB.",
        ),
        click.option(
            "--max-rejects",
            type=click.IntRange(min=0),
            help="Rejects up to which the split is still finished.  "
            "[default: 10, or 1 % if that is more]",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            help="Processes that make shards; their bytes do not depend on it.  "
            "[default: one a processor]",
        ),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Where shards are made: on this machine, or on a Ray cluster.",
        ),
        click.option(
            "--ray-address",
            metavar="ADDRESS",
            help="Of the Ray cluster.  [default: RAY_ADDRESS, else one on this machine]",
        ),
        click.option(
            "--part",
            metavar="K/N",
            callback=_part_of,
            help="Make the shards of part K of N only, as in a job array; `clipshards finish` ends "
            "the split.",
        ),
        click.option("--allow-outside", is_flag=True, help="Let paths lead out of the media root."),
        click.option("--replan", is_flag=True, help="Start over: replace what stands there."),
        click.option(
            "--retry-rejects",
            is_flag=True,
            help="Make those shards of a finished split anew that lack samples.",
        ),
        click.option(
            "--repair",
            is_flag=True,
            help="Make damaged or missing files of a finished split anew, as the bytes they were.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def insist(needed: str, given: object, *options: str) -> None:
    """Refuse options that would do nothing, as another one that they need was not given."""
    context = click.get_current_context()
    for option in options:
        name = option.strip("-").replace("-", "_")
        if not given and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} needs {needed}.")


def _rate_of(
    _context: click.Context, _param: click.Parameter, text: str | None
) -> float | Fraction:
    """Return a rate like `25`, `29.97` or `30000/1001`; 0 for none."""
    if text is None:
        return 0
    try:
        return Fraction(text) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"expected frames per second, got {text!r}") from None


def video_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how videos become parts."""
    options = (
        click.option(
            "--recipe",
            type=click.Choice(["copy", "remux", *RECIPES]),
            default="copy",
            show_default=True,
            help="copy: the file's bytes. remux: an mp4 of its packets, unchanged. The others "
            "encode anew, with loss, for faster reading: sparse for few frames of each video, "
            "balanced for clips too, fast for both at more bytes, intra for single frames.",
        ),
        click.option(
            "--short-side",
            type=click.IntRange(min=2),
            help="Encoded: scale larger videos down to it, in pixels.",
        ),
        click.option(
            "--fps", metavar="RATE", callback=_rate_of, help="Encoded: frames per second, as 25."
        ),
        click.option(
            "--gop",
            type=click.IntRange(min=1),
            help="Encoded: frames between random-access points.  [default: the recipe's]",
        ),
        click.option(
            "--crf",
            type=click.IntRange(0, 51),
            default=23,
            show_default=True,
            help="Encoded: x264's quality, less is better and larger.",
        ),
        click.option(
            "--preset",
            type=click.Choice(get_args(Preset)),
            default="medium",
            show_default=True,
            help="Encoded: x264's preset.",
        ),
        click.option(
            "--audio",
            type=click.Choice(["keep", "drop"]),
            default="keep",
            show_default=True,
            help="Remuxed or encoded: keep the first sound track as it is, or none.",
        ),
        click.option(
            "--if-needed",
            is_flag=True,
            help="Copy videos that already are what the recipe would make of them.",
        ),
        click.option(
            "--allow-unpinned",
            is_flag=True,
            help="Encode where the bytes may differ from those of other machines.",
        ),
        click.option(
            "--frame-table",
            type=click.Choice(["decode", "demux", "none"]),
            default="decode",
            show_default=True,
            help="decode: decode each video once, which proves it whole and lets readers jump. "
            "demux: make the table from the container's times, with a few pictures decoded. "
            "none: pack videos undecoded.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def video_recipe(options: dict[str, Any]) -> "tuple[Recipe, Common]":
    """Return what `video_options` say, and the other options."""
    from clipshards.packer.recipe import Recipe

    media = options["recipe"]
    words = [f"--{name.replace('_', '-')}" for name in _ENCODING]
    insist(f"--recipe {', '.join(RECIPES)}", media in RECIPES, *words)
    insist("--recipe remux or one that encodes", media != "copy", "--audio")
    recipe = Recipe(
        media=media,
        frame_table=options["frame_table"],
        audio=options["audio"],
        short_side=options["short_side"] or 0,
        fps=options["fps"],
        gop=options["gop"] or 0,
        crf=options["crf"],
        preset=options["preset"],
        if_needed=options["if_needed"],
        allow_unpinned=options["allow_unpinned"],
    )
    common = {name: value for name, value in options.items() if name not in _VIDEO}
    return recipe, cast(Common, common)
