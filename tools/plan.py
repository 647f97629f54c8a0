"""`clipshards plan`: what a pack command would make, and what that takes."""

from typing import Any

import click

from clipshards.tools.pack import Formats
from clipshards.tools.pack import pack as pack_group
from clipshards.tools.pack_options import ONLY_PLAN, RUN_ONLY


def _planning(command: click.Command) -> click.Command:
    """Return a pack command that only plans."""
    params = [param for param in command.params if param.name not in RUN_ONLY]

    def callback(**values: Any) -> None:
        click.get_current_context().meta[ONLY_PLAN] = True
        assert command.callback is not None
        command.callback(**values, **RUN_ONLY)

    return click.Command(
        command.name,
        params=params,
        callback=callback,
        help=(command.help or "").replace("Pack ", "Plan the packing of ", 1),
    )


@click.group(
    cls=Formats,
    commands={name: _planning(command) for name, command in pack_group.commands.items()},
)
def plan() -> None:
    """Say what a pack command would make, how large, and how long it takes.

    Nothing is written. Up to 50 samples are made and thrown away for the estimate; the exit
    code is 1 if some of them, or lines of the annotation, cannot be packed.
    """
