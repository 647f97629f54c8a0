"""`clipshards compare`: what two data sets differ in, by their manifests and indexes."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from clipshards.tools.printing import bytes_text, count_text, print_json, printable

if TYPE_CHECKING:
    from clipshards.readers.comparison import (
        CompareReport,
        Listed,
        PartDifference,
        SampleDifference,
        SplitComparison,
    )


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--split", help="One split; default: all of both.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def compare(a: str, b: str, split: str | None, as_json: bool) -> None:
    """Say in what the data sets at A and B differ, a line for each difference.

    Compared are manifests, and the indexes of the shards that differ, as they stand now. No
    payload is read: that the bytes still are what these promise is for `verify` to say.

    Exit code 0: the same. 1: different. 2: wrong use.
    """
    from clipshards.readers.comparing import compare as compare_locations

    report = compare_locations(a, b, split=split)
    if as_json:
        print_json(_as_json(report))
    else:
        for line in _lines(report):
            click.echo(line)
    if not report.same:
        raise click.exceptions.Exit(1)


def _as_json(report: "CompareReport") -> dict[str, Any]:
    value = asdict(report)
    for comparison, found in zip(report.splits, value["splits"], strict=True):
        found |= {"same": comparison.same, "same_samples": comparison.same_samples}
    return value | {"same": report.same, "same_samples": report.same_samples}


def _lines(report: "CompareReport") -> Iterator[str]:
    for name in report.only_in_a:
        yield f"{name}: only in A"
    for name in report.only_in_b:
        yield f"{name}: only in B"
    for one in report.splits:
        for line in () if one.same else _lines_of_split(one):
            yield f"{one.split}: {line}"
    if report.same:
        digests = ", ".join(f"{one.split} {one.digest_a[:12]}" for one in report.splits)
        yield f"same: {count_text(len(report.splits), 'split')} ({digests})"
    elif report.same_samples:
        yield "DIFFERENT, the samples are the same"
    else:
        yield "DIFFERENT"


def _lines_of_split(one: "SplitComparison") -> Iterator[str]:
    yield f"content digest: {one.digest_a[:12]} in A, {one.digest_b[:12]} in B"
    for field in one.fields:
        yield f"{field.name}: {_value(field.a)} in A, {_value(field.b)} in B"
    for name in one.class_names.first:
        yield f"class {name.id}: {_value(name.a)} in A, {_value(name.b)} in B"
    yield from _more(one.class_names, "class")
    for words, shards in (
        ("is not the same", one.shards_differ),
        ("only in A", one.shards_only_in_a),
        ("only in B", one.shards_only_in_b),
    ):
        for shard in shards.first:
            yield f"{printable(shard)}: {words}"
        yield from _more(shards, "shard")
    for where, samples in (("A", one.samples_only_in_a), ("B", one.samples_only_in_b)):
        for sample in samples.first:
            place = f"{printable(sample.shard)}: {printable(sample.key)} ({printable(sample.id)})"
            yield f"{place}: only in {where}"
        yield from _more(samples, "sample")
    for differing in one.samples_differ.first:
        yield _sample_line(differing)
    yield from _more(one.samples_differ, "sample")
    if one.same_samples:
        if one.samples_moved:
            moved = count_text(one.samples_moved, "sample")
            yield f"the same samples, cut otherwise: {moved} at another place"
        elif one.shards_differ.count or one.shards_only_in_a.count or one.shards_only_in_b.count:
            yield "the same samples at the same places, other indexes"
        else:
            yield "the same shards"


def _more(listed: "Listed[Any]", noun: str) -> Iterator[str]:
    rest = listed.count - len(listed.first)
    if rest:
        yield f"... and {count_text(rest, f'more {noun}')}"


def _sample_line(one: "SampleDifference") -> str:
    ids = printable(one.id_a)
    if one.id_b != one.id_a:
        ids = f"{ids} in A, {printable(one.id_b)} in B"
    parts = "; ".join(map(_part_text, one.parts)) or "the key stands more than once"
    return f"{printable(one.key)} ({ids}): {parts}"


def _part_text(part: "PartDifference") -> str:
    if part.bytes_a is None or part.bytes_b is None:
        return f"{part.name} only in {'A' if part.bytes_b is None else 'B'}"
    if part.bytes_a == part.bytes_b:
        return f"{part.name} of {bytes_text(part.bytes_a)} has another crc32c"
    return f"{part.name} of {part.bytes_a} bytes in A, {part.bytes_b} in B"


def _value(value: Any) -> str:
    """Return a value of a manifest, digests short."""
    if value is None:
        return "none"
    if isinstance(value, str) and len(value) == 64:
        return value[:12]
    return repr(value)
