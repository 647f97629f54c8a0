"""Every damage of a small split of every task: found by the lowest level that can see it."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import damage
import pytest
from damage import Damage, damaged
from tiny_splits import SPLIT, TINY, TinySplit, tiny_split

from clipshards.packer.format.errors import NotFoundError
from clipshards.packer.format.names import MANIFEST_NAME
from clipshards.readers import open_dataset, verify
from clipshards.readers.findings import LEVELS, Level
from clipshards.readers.shard_check import check_shard
from clipshards.tools.cli import main


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> TinySplit:
    """A split of each task."""
    return tiny_split(request.param)


@pytest.fixture
def folder(tiny: TinySplit, tmp_path: Path) -> Path:
    """The folder of the split, to be damaged."""
    return tiny.write(tmp_path / "set")


def check_found(folder: Path, tiny: TinySplit, one: Damage, level: Level) -> None:
    """Check that a level names what is damaged and nothing else."""
    findings = verify(folder.parent, level=level).damage
    text = f"{one.name}, level {level}:\n" + "\n".join(map(str, findings))
    accused = [finding for finding in findings if finding.key]
    members = frozenset((finding.key, finding.part) for finding in accused)
    if level == "quick":
        assert {finding.shard for finding in findings} == one.quick, text
        assert not members, text
    else:
        assert {finding.shard for finding in findings} == one.files, text
        assert members == one.members or one.members is None, text
    if findings:
        assert {finding.split for finding in findings} == {SPLIT}, text
        assert any(one.says in str(finding) for finding in findings), text
        assert all(finding.remedy for finding in findings), text
    # The user's own name of a sample is told where it is known.
    if not one.sealed:
        names = dict(samples_of(tiny))
        assert all(finding.id in ("", names[finding.key]) for finding in accused), text


def samples_of(tiny: TinySplit) -> Iterator[tuple[str, str]]:
    """Yield key and id of all samples."""
    for number in range(len(tiny.shards)):
        index = damage.index_of(tiny, number)
        yield from zip(index.keys, index.ids, strict=True)


def check_levels(folder: Path, tiny: TinySplit, one: Damage, levels: tuple[Level, ...]) -> None:
    with damaged(folder, tiny, one):
        for level in levels:
            check_found(folder, tiny, one, level)


def test_an_intact_split_is_never_flagged(folder: Path) -> None:
    for level in LEVELS:
        report = verify(folder.parent, level=level)
        assert (report.findings, report.whole, report.shards) == ([], True, 3)


def test_the_regions_are_all_of_a_shard(tiny: TinySplit) -> None:
    for number, name in enumerate(tiny.shards):
        found = damage.regions(tiny, number)
        ends = [0, *(region.stop for region in found)]
        assert [region.start for region in found] == ends[:-1]
        assert ends[-1] == len(tiny.files[name])
        assert {region.kind for region in found} == set(damage.KINDS)


def test_damage_is_found_by_the_lowest_level_that_can_see_it(folder: Path, tiny: TinySplit) -> None:
    rng = random.Random(tiny.task)
    # What there are hundreds of, some of each kind; the deep tests look at all.
    matrix = list(damage.whole_matrix(tiny, rng, number=rng.randrange(2)))
    some = rng.sample(matrix, len(matrix) // 3)
    whole = [*damage.of_whole_shards(tiny, 0), *damage.of_other_packs(tiny, 0)]
    for one in (*some, *whole, *damage.doubled_keys(tiny)):
        check_levels(folder, tiny, one, ("quick", "full"))
    assert {one.level for one in some} == {"quick", "full"}
    assert verify(folder.parent).findings == []


@pytest.mark.deep
def test_every_damage_is_found_by_the_lowest_level_that_can_see_it(
    folder: Path, tiny: TinySplit
) -> None:
    rng = random.Random(1)
    for number in range(len(tiny.shards)):
        for one in damage.whole_matrix(tiny, rng, number=number):
            check_levels(folder, tiny, one, LEVELS)


@pytest.mark.deep
def test_every_flipped_byte_of_headers_padding_end_and_index_is_found(
    folder: Path, tiny: TinySplit
) -> None:
    rng = random.Random(2)
    split = open_dataset(folder.parent)
    kinds = set(damage.KINDS) - {"payload"}
    for count, one in enumerate(damage.flips(tiny, 0, rng, each=None, kinds=kinds)):
        with damaged(folder, tiny, one):
            found = check_shard(split, 0, lambda _: None, deep=False).findings
            assert frozenset((f.key, f.part) for f in found if f.key) == one.members, one.name
            assert {finding.shard for finding in found} == one.files, one.name
            assert any(one.says in str(finding) for finding in found), one.name
            if count % 97 == 0:
                check_found(folder, tiny, one, "full")


@pytest.mark.deep
def test_every_flipped_byte_of_the_manifest_is_found(folder: Path, tiny: TinySplit) -> None:
    for one in damage.manifest_flips(tiny, random.Random(3)):
        check_levels(folder, tiny, one, ("quick",))


@pytest.mark.deep
def test_flipped_bytes_of_payloads_are_found(folder: Path, tiny: TinySplit) -> None:
    for one in damage.flips(tiny, 0, random.Random(4), each=100, kinds={"payload"}):
        check_levels(folder, tiny, one, ("full",))


@pytest.mark.deep
def test_a_shard_is_cut_anywhere(folder: Path, tiny: TinySplit) -> None:
    for one in damage.truncations(tiny, 0, random.Random(5), more=400):
        check_levels(folder, tiny, one, ("quick", "full"))


def few(tiny: TinySplit) -> Iterator[tuple[Damage, tuple[int, int]]]:
    """Yield damages of each kind, and the exit codes of the levels quick and full."""
    rng = random.Random(6)
    for one in (
        next(damage.flips(tiny, 1, rng, each=1, kinds={"payload"})),
        next(damage.flips(tiny, 1, rng, each=1, kinds={"trailer"})),
        next(damage.manifest_flips(tiny, rng, step=100)),
        next(damage.truncations(tiny, 1, rng, more=0)),
        *damage.of_the_rejects(tiny, rng),
        *damage.of_whole_shards(tiny, 0),
        *damage.of_other_packs(tiny, 1),
        *damage.doubled_keys(tiny),
    ):
        yield one, (int(bool(one.quick)), 1)


def run(
    arguments: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["clipshards", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code or 0
    assert isinstance(code, int)
    return code, *capsys.readouterr()


@pytest.mark.parametrize("task", ["video", "skeleton"])
def test_the_command_says_by_its_exit_code_what_was_found(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = tiny_split(task)
    folder = tiny.write(tmp_path / "set")
    for level in LEVELS:
        command = ("verify", folder.parent, "--level", level)
        assert run(command, monkeypatch, capsys)[0] == 0
    for one, codes in few(tiny):
        with damaged(folder, tiny, one):
            for level, expected in zip(LEVELS, codes, strict=False):
                command = ("verify", folder.parent, "--level", level)
                code, out, err = run(command, monkeypatch, capsys)
                assert (code, err) == (expected, ""), (one.name, level, out, err)
                named = one.quick if level == "quick" else one.files
                assert all(f"error: {SPLIT}/{name}: " in out for name in named), (one.name, out)
                assert ("DAMAGED" in out) == bool(code), (one.name, out)
    (folder / "manifest.json").unlink()
    code, out, err = run(("verify", folder.parent), monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert "packing of t has not ended" in err


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: None])
def test_where_the_manifest_is_gone_there_is_no_split(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    folder = tiny_split("audio").write(tmp_path / "set")
    damage.instead(MANIFEST_NAME, make, folder)
    for level in LEVELS:
        with pytest.raises(NotFoundError, match="packing of t has not ended"):
            verify(folder.parent, level=level)
