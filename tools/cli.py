"""The command `clipshards`. Only click is loaded here: `--help` must come at once."""

import importlib
import io
import signal
import sys
from typing import Any

import click

from clipshards.packer.format.errors import DatasetError, NotFoundError, PlanError

# Name -> (module and object, first line of its help), in the order of `--help`.
_COMMANDS = {
    "plan": ("clipshards.tools.plan:plan", "Say what a pack command would make, and how long."),
    "pack": ("clipshards.tools.pack:pack", "Pack an annotation and its media into shards."),
    "finish": ("clipshards.tools.finish:finish", "Finish a split that was packed in parts."),
    "status": ("clipshards.tools.status:status", "Print how far a packing job has come."),
    "extract-audio": (
        "clipshards.tools.extract_audio:extract_audio",
        "Write the sound of a folder of videos as wav files.",
    ),
    "build-audio-features": (
        "clipshards.tools.build_audio_features:build_audio_features",
        "Compute the mel features of a folder of sounds.",
    ),
    "info": ("clipshards.tools.info:info", "Print what a data set holds."),
    "show": ("clipshards.tools.show:show", "Print one sample, found by its key or your id."),
    "verify": ("clipshards.tools.verify:verify", "Check a data set and say what is damaged."),
    "compare": ("clipshards.tools.compare:compare", "Say in what two data sets differ."),
    "repair": ("clipshards.tools.copying:repair", "Replace what is damaged from an intact copy."),
    "copy": ("clipshards.tools.copying:copy", "Copy a data set, every byte checked."),
    "batch": ("clipshards.tools.order:batch", "List the items that make a step of training."),
    "when": ("clipshards.tools.order:when", "Say in which steps of training a sample comes up."),
    "bench": ("clipshards.tools.bench:bench", "Measure how fast a data set comes here."),
    "demo": ("clipshards.tools.demo:demo", "Generate videos, pack, verify and stream them."),
}


class _Commands(click.Group):
    """A group whose commands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click would import every command to suggest near names.
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. There are: {', '.join(_COMMANDS)}.")
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"clipshards {version('clipshards')}")
    ctx.exit()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version and exit.",
)
def cli() -> None:
    """Pack video data sets into checked tar shards, and stream them into PyTorch.

    Exit codes: 0 fine, 1 the data has problems, 2 wrong use.
    """


_ended: list[int] = []
"""Signals that were to end this program."""


def _end(number: int, _frame: object) -> None:
    _ended.append(number)
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line, and turn errors into one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows ASCII only must not stop a report over a file name.
            stream.reconfigure(errors="backslashreplace")
    # What job arrays end their tasks by ends them as Ctrl-C does.
    signal.signal(signal.SIGTERM, _end)
    try:
        # Outside its standalone mode, click returns the code of an Exit, else the command's None.
        code = cli(prog_name="clipshards", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except SystemExit:
        # In this mode click exits for one reason only: the reader of our output has gone, as
        # with `| head`. Its code 1 would say that the data has problems, and 0 that it has
        # none. 128 + SIGPIPE is what a shell gives for a program that ends so.
        code = 141
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "\nInterrupted. Given again without --replan, a pack or copy command goes on where "
            "this one stopped.",
            err=True,
        )
        code = 143 if _ended else 130
    except (DatasetError, ValueError) as exc:
        click.echo(f"error: {exc}", err=True)
        wrong_use = isinstance(exc, NotFoundError | PlanError | ValueError)
        code = 2 if wrong_use else 1
    sys.exit(code)


if __name__ == "__main__":
    main()
