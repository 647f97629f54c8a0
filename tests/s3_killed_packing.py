"""Packs to S3 in processes that are killed, or that run at once; a script of test_pack_s3.py.

    s3_killed_packing.py REQUEST.json
    s3_killed_packing.py together REQUEST.json NUMBER
    s3_killed_packing.py command PART_BYTES ARGUMENTS...

The first request is `[part bytes, [[options, kills], ...]]`: options of `pack` with the records
as pairs of path and label, and the moments at which one child after the other is killed. An
integer n kills before the child's n-th request, -n behind it, before its answer is seen; a float
at that many seconds; null never. Prints as JSON how each child of each entry ended. Of the
second one, all jobs are run, each as soon as another process has come to it as well. The last is
the command line.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from botocore.httpsession import URLLib3Session

import clipshards.packer.storage.s3  # noqa: F401 - loaded once, before the forks
from clipshards.packer import DatasetError, Recipe, VideoRecord, pack
from clipshards.packer.storage import s3_put
from clipshards.tools.cli import main as command_line


def main() -> None:
    """Do what the arguments say."""
    if sys.argv[1] == "command":
        s3_put._PART = int(sys.argv[2])
        del sys.argv[1:3]
        command_line()
    elif sys.argv[1] == "together":
        part, jobs = json.loads(Path(sys.argv[2]).read_text())
        s3_put._PART = part
        run_together(jobs, Path(sys.argv[2]).parent, int(sys.argv[3]))
    else:
        part, jobs = json.loads(Path(sys.argv[1]).read_text())
        s3_put._PART = part
        print(json.dumps([[run(options, moment) for moment in kills] for options, kills in jobs]))


def run_together(jobs: list[dict[str, Any]], place: Path, number: int) -> None:
    """Run the jobs, each begun in the instant in which both processes have come to it."""
    deadline = time.monotonic() + 200
    for round_, options in enumerate(jobs):
        (place / f"ready-{round_}-{number}").touch()
        while not (place / f"ready-{round_}-{1 - number}").exists():
            if time.monotonic() > deadline:
                sys.exit("nobody else came")
        pack_with(options)


def run(options: dict[str, Any], moment: int | float | None) -> int:
    """Return the exit code of a child that packs, or the negative signal that ended it."""
    child = os.fork()
    by_request = moment if isinstance(moment, int) else 0
    if not child:
        run_child(options, by_request)
    if moment is not None and not by_request:
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def run_child(options: dict[str, Any], kill_at: int) -> None:
    """Pack, and never come back."""
    code = 1
    try:
        if kill_at:
            kill_at_request(kill_at)
        pack_with(options)
        code = 0
    except DatasetError as exc:
        sys.stderr.write(f"{exc}\n")
    finally:
        os._exit(code)


def kill_at_request(number: int) -> None:
    """Kill this process before its `number`-th request, or behind it where that is negative."""
    seen, lock, send = 0, threading.Lock(), URLLib3Session.send

    def counted(session: Any, request: Any) -> Any:
        nonlocal seen
        with lock:
            seen += 1
            own = seen
        if own == number:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = send(session, request)
        if own == -number:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    URLLib3Session.send = counted


def pack_with(options: dict[str, Any]) -> None:
    """Pack as the options say."""
    options = dict(options)
    records = [VideoRecord(path, (label,)) for path, label in options.pop("records")]
    pack(records, options.pop("out"), recipe=Recipe(frame_table="none"), **options)


if __name__ == "__main__":
    main()
