"""Options that several `clipshards pack` commands share, and what they need of each other."""

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast, get_args

import click
from click.core import ParameterSource

from clipshards.packer.encoding import RECIPES, Preset
from clipshards.tools.pack_run import Common

if TYPE_CHECKING:
    from clipshards.packer.recipe import Recipe

_ENCODING = ("short_side", "fps", "gop", "crf", "preset", "if_needed", "allow_unpinned")
_VIDEO = ("recipe", "frame_table", "audio", *_ENCODING)


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
