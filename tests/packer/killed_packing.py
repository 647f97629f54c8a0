"""Packs in child processes that are killed; a script, run by test_crash.py.

    killed_packing.py REQUEST.json

The request is a list of `[options, kills]`: options of `pack` with the records as pairs of
path and label, and the moments at which one child after the other is killed. An integer n
kills at the child's n-th call that would change the data set's folder; a float at that many
seconds. Prints as JSON, for each entry, how many children were killed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import clipshards.packer.frames.scan  # noqa: F401 - loaded once, before the forks
from clipshards.packer import DatasetError, Recipe, RejectsError, VideoRecord, pack

_OPENED_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main(request: Path) -> None:
    """Run all packings of a request."""
    # A killed process loses nothing that it wrote; only a power cut would, and fsync is slow.
    os.fsync = lambda fd: None
    killed = [run(options, kills) for options, kills in json.loads(request.read_text())]
    print(json.dumps(killed))


def run(options: dict[str, Any], kills: list[int | float]) -> int:
    """Return how many of the children, packing one behind the other, were killed."""
    killed = 0
    for moment in kills:
        child = os.fork()
        if not child:
            run_child(options, moment if isinstance(moment, int) else 0)
        if isinstance(moment, float):
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif status:
            sys.exit(f"a packing failed: {options}, {kills}")
    return killed


def run_child(options: dict[str, Any], kill_at: int) -> None:
    """Pack, and never come back."""
    code = 1
    try:
        if kill_at:
            kill_at_change(kill_at, options["out"])
        pack_with(options)
        code = 0
    except RejectsError:
        code = 0
    except DatasetError as exc:
        sys.stderr.write(f"{exc}\n")
    finally:
        os._exit(code)


def kill_at_change(number: int, folder: str) -> None:
    """Kill this process before its `number`-th call that changes something under `folder`."""
    seen = 0

    # Python raises these events before the calls.
    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if changed_path(event, args).startswith(folder):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def changed_path(event: str, args: tuple[Any, ...]) -> str:
    """Return the path that a call is about to make, replace or remove; empty for none."""
    if event == "open":
        path, _, flags = args
        return str(path) if isinstance(path, str | Path) and flags & _OPENED_TO_WRITE else ""
    if event in ("os.rename", "os.link"):
        return str(args[1])
    if event in ("os.mkdir", "os.remove", "os.rmdir"):
        path = str(args[0])
        if args[-1] >= 0:  # relative to an open folder
            path = f"{Path(f'/proc/self/fd/{args[-1]}').readlink()}/{path}"
        return path if os.path.lexists(path) == (event != "os.mkdir") else ""
    return ""


def pack_with(options: dict[str, Any]) -> None:
    """Pack as the options say."""
    options = dict(options)
    records = [VideoRecord(path, (label,)) for path, label in options.pop("records")]
    recipe = Recipe(frame_table=options.pop("frame_table"))
    pack(records, options.pop("out"), recipe=recipe, **options)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
