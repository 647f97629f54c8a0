"""What all `clipshards pack` commands share: their options, the run and its report."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipshards.packer.format.errors import RejectsError
from clipshards.packer.processes import processors
from clipshards.tools.pack_options import ONLY_PLAN, Common
from clipshards.tools.pack_report import (
    plan_line,
    print_estimate,
    print_part,
    print_plan,
    print_rejects,
    print_remade,
    print_report,
    print_warnings,
)
from clipshards.tools.printing import bytes_text, print_json, progress_bar

if TYPE_CHECKING:
    from clipshards.packer.format.manifest import LabelMode
    from clipshards.packer.making import Engine
    from clipshards.packer.packing import Packing
    from clipshards.packer.recipe import Recipe
    from clipshards.packer.records import Excluded, Record, Reject
    from clipshards.packer.reports import PlanSummary


def run_pack(
    source: "Iterable[Record | Reject | Excluded]",
    common: Common,
    *,
    labels: "LabelMode",
    class_names: Sequence[str] = (),
    recipe: "Recipe | None" = None,
) -> None:
    """Pack the records of an annotation and print what happened; exit with 1 on rejects.

    Under `clipshards plan`, print what would happen. `class_names` are those that the
    annotation knows; a file of the user's goes before.
    """
    from clipshards.packer.annotations.class_names import read_class_names
    from clipshards.packer.packing import Packing

    if common["part"] and (common["replan"] or common["retry_rejects"] or common["repair"]):
        raise click.UsageError(
            "--part: --replan, --retry-rejects and --repair are of all parts at once; run the "
            "command without --part."
        )
    if common["repair"] and (common["replan"] or common["retry_rejects"]):
        raise click.UsageError("--repair excludes --replan and --retry-rejects.")
    names = common["class_names"]
    try:
        job = Packing(
            source,
            common["out"],
            split=common["split"],
            media_root=common["media_root"],
            labels=labels,
            class_names=class_names if names is None else read_class_names(names),
            recipe=recipe,
            seed=None if common["keep_order"] else common["seed"],
            shard_size=parse_size(common["shard_size"]),
            max_rejects=common["max_rejects"],
            allow_outside=common["allow_outside"],
        )
        if click.get_current_context().meta.get(ONLY_PLAN):
            _tell_plan(job, common)
        elif common["repair"]:
            _repair(job, common)
        else:
            _run_job(job, common)
    except RejectsError as exc:
        if common["as_json"]:
            print_json({"error": str(exc), "rejects": [asdict(row) for row in exc.rejects]})
        else:
            print_rejects(exc.rejects)
            print_warnings(getattr(source, "warnings", ()))
        raise


def _tell_plan(job: "Packing", common: Common) -> None:
    plan, status = job.plan(), job.standing()
    if not common["as_json"]:
        print_plan(plan, status)
    estimate = job.estimate()
    if common["as_json"]:
        value = asdict(plan) | {"estimate": asdict(estimate)}
        print_json(value | {"standing": None if status is None else asdict(status)})
    else:
        print_estimate(plan, estimate, workers=common["workers"] or processors())
    if estimate.rejects or plan.rejects:
        raise click.exceptions.Exit(1)


def _run_job(job: "Packing", common: Common) -> None:
    with progress_bar(job.entries, "entry", f"pack {common['split']}") as bar:
        packed_bytes = 0

        def progress(entries: int, media_bytes: int) -> None:
            nonlocal packed_bytes
            packed_bytes += media_bytes
            bar.set_postfix_str(bytes_text(packed_bytes), refresh=False)
            bar.update(entries)

        def planning(plan: "PlanSummary") -> None:
            if plan.source_bytes:
                bar.write(plan_line(plan), sys.stderr)
            for text in plan.warnings:
                bar.write(f"warning: {text}", sys.stderr)

        engine = _engine(common)
        if common["part"]:
            part, parts = common["part"]
            made = job.run_part(part, parts, engine=engine, planning=planning, progress=progress)
        else:
            report = job.run(
                engine=engine,
                replan=common["replan"],
                retry_rejects=common["retry_rejects"],
                planning=planning,
                progress=progress,
            )
    if common["part"]:
        if common["as_json"]:
            print_json(asdict(made))
        else:
            print_part(made)
        # Whether there are too many of them, and what that means, is for `finish` to say.
        rejects: tuple[object, ...] = ()
    else:
        if common["as_json"]:
            print_json(asdict(report))
        else:
            print_report(report)
        rejects = report.rejects
    if rejects:
        raise click.exceptions.Exit(1)


def _repair(job: "Packing", common: Common) -> None:
    """Make damaged files anew, tell what was done, and end with 1 where some cannot be made."""
    from clipshards.packer.copying import total_bytes
    from clipshards.packer.remaking import SourcesDifferError

    split = common["split"]
    with progress_bar(total_bytes(common["out"], split=split), "B", f"repair {split}") as bar:
        try:
            report = job.repair(engine=_engine(common), progress=bar.update)
        except SourcesDifferError as exc:
            report = exc.report
    if common["as_json"]:
        print_json(asdict(report) | {"whole": not report.refused})
    else:
        print_remade(report)
    if report.refused:
        raise click.exceptions.Exit(1)


def _engine(common: Common) -> "Engine":
    if common["engine"] == "ray":
        from clipshards.packer.engines.ray import RayEngine

        return RayEngine(address=common["ray_address"], workers=common["workers"] or 0)
    from clipshards.packer.engines.local import LocalEngine

    if common["ray_address"] is not None:
        raise click.UsageError("--ray-address needs --engine ray.")
    return LocalEngine(common["workers"] or processors())


def parse_size(text: str) -> int:
    """Return the bytes that a text like `256MB` stands for.

    Raises:
        ValueError: Not a number with B, kB, MB, GB, TB or nothing behind it.

    >>> parse_size("256MB"), parse_size("1.5 GB"), parse_size("4096")
    (256000000, 1500000000, 4096)
    """
    units = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    number = text.strip().rstrip("bBkKmMgGtT ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise ValueError(
            f"--shard-size {text!r}: expected a number of bytes, or one with kB, MB, GB or TB"
        )
    return size
