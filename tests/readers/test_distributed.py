"""Real ranks with real loader processes, killed at any moment and resumed as others."""

import json
import random
import runpy
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pack_inputs import small_skeletons

from clipshards.packer import pack
from clipshards.readers import DenseClip, ShardDataset, open_dataset

ITEMS = 147
BATCH = 8
EPOCHS = 2

Batch = list[list[Any]]
"""Rows of key, checksum and validity."""

# A program whose two ranks make the data set too early.
MADE_BEFORE = """
import json, os, signal, sys
import torch
from torch.utils.data import DataLoader
from clipshards.readers import ShardDataset, open_dataset

def main(location, store, how):
    rank = 0 if (child := os.fork()) else 1
    signal.alarm(90)
    dataset = ShardDataset(open_dataset(location), batch_size=4)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    options = {"batch_size": None, "num_workers": 1}
    try:
        if how == "dataset":
            loader = dataset
        elif how == "loader":
            loader = dataset.loader(workers=1)
        else:
            loader = DataLoader(dataset, multiprocessing_context=how, **options)
        said = f"read {len(next(iter(loader))['key'])} items"
    except RuntimeError as exc:
        said = str(exc)
    torch.distributed.barrier()
    if child:
        os.waitpid(child, 0)
        print(json.dumps(said))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@dataclass
class Plan:
    """What is asked of killed_training.py."""

    lives: list[tuple[int, int, int]]
    """Ranks, loader processes, steps until all are killed; 0 for never."""
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    by: str = "gloo"


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small split; each item's keypoints tell it, and the frames chosen, apart."""
    out = tmp_path_factory.mktemp("set")
    pack(small_skeletons(ITEMS), out, split="train", shard_size=30_000)
    assert len(open_dataset(out).manifest.shards) > 5
    return out


def run(location: Path, folder: Path, plan: Plan) -> list[dict[str, Any]]:
    """Return what each life of the plan did."""
    folder.mkdir()
    options = {"global_batch": BATCH} | plan.options
    items = round(ITEMS * options.get("repeat", 1) + 0.01)
    whole, rest = divmod(items, BATCH)
    request = folder / "request.json"
    request.write_text(
        json.dumps(
            {
                "location": str(location),
                "folder": str(folder),
                "options": options,
                "steps": whole + (rest > 0 and options.get("tail") != "drop"),
                "epochs": EPOCHS,
                "lives": plan.lives,
                "seed": plan.seed,
                "by": plan.by,
                "pause_s": 0.004,
            }
        )
    )
    script = Path(__file__).with_name("killed_training.py")
    done = subprocess.run(
        [sys.executable, script, request], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    lives: list[dict[str, Any]] = json.loads(done.stdout)
    return lives


@dataclass
class Whole:
    """All batches as processes read them that nobody interrupts."""

    location: Path
    plan: Plan
    shares: dict[tuple[int, int], dict[tuple[int, int], Batch]] = field(default_factory=dict)

    def of(self, rank: int, ranks: int) -> dict[tuple[int, int], Batch]:
        """Return what a rank gets, by epoch and batch."""
        if (rank, ranks) not in self.shares:
            script = runpy.run_path(str(Path(__file__).with_name("killed_training.py")))
            options = {"global_batch": BATCH, "rank": rank, "world_size": ranks}
            dataset = ShardDataset(
                open_dataset(self.location),
                clip=DenseClip(2),
                seed=5,
                **(options | self.plan.options),
            )
            self.shares[rank, ranks] = {
                (epoch, number): [
                    list(row) for row in script["rows_of"](dataset.read_batch(epoch, number))
                ]
                for epoch in range(EPOCHS)
                for number in range(len(dataset))
            }
        return self.shares[rank, ranks]


def check(lives: list[dict[str, Any]], whole: Whole) -> None:
    """Each life goes on just behind the state before; together they give the whole run."""
    expected = whole.of(0, 1)
    order = list(expected)
    complete: set[tuple[int, int]] = set()
    states = [(0, 0)]
    for life in lives:
        ranks, start = life["ranks"], tuple(life["start"])
        assert start in states
        # All that the state counts as given was given, by all ranks.
        first = order.index(start) if start in expected else len(order)
        assert complete >= set(order[:first])
        got = {}
        for rank, seen in enumerate(life["seen"]):
            mine = [
                (place, share)
                for place in order[first:]
                if (share := whole.of(rank, ranks).get(place))
            ]
            assert [((epoch, number), rows) for epoch, number, rows in seen] == mine[: len(seen)]
            assert life["killed"] or len(seen) == len(mine)
            got[rank] = {place for place, _ in mine[: len(seen)]}
        for place in order[first:]:
            shares = [whole.of(rank, ranks).get(place, []) for rank in range(ranks)]
            if all(place in got[rank] for rank in range(ranks) if shares[rank]):
                assert sorted(row for share in shares for row in share) == sorted(expected[place])
                complete.add(place)
        states = [tuple(state) for state in life["states"]] or [start]
    assert complete == set(order)
    assert not lives[-1]["killed"]


def test_a_run_killed_twice_goes_on_as_other_ranks(location: Path, tmp_path: Path) -> None:
    plan = Plan([(2, 1, 7), (4, 0, 12), (1, 2, 0)], seed=3)
    whole = Whole(location, plan)
    expected = whole.of(0, 1)
    assert len(expected) == 19 * EPOCHS
    assert sum(row[2] for rows in expected.values() for row in rows) == ITEMS * EPOCHS
    lives = run(location, tmp_path / "killed", plan)
    check(lives, whole)
    assert [life["killed"] for life in lives] == [True, True, False]
    assert tuple(lives[1]["start"]) > (0, 0)
    assert lives[2]["start"] > lives[1]["start"]


def test_ranks_without_a_share_of_the_last_batch_keep_their_place(
    location: Path, tmp_path: Path
) -> None:
    # The last batch has 3 items: of 4 ranks, the first gets none.
    plan = Plan([(4, 0, 18), (4, 1, 0)], {"tail": "ragged"}, seed=1)
    check(run(location, tmp_path / "killed", plan), Whole(location, plan))


@pytest.mark.deep
@pytest.mark.parametrize("repeat", [1, 1.5])
@pytest.mark.parametrize("tail", ["pad", "drop", "ragged"])
def test_a_run_killed_twelve_times_gives_the_uninterrupted_one(
    location: Path, tmp_path: Path, tail: str, repeat: float
) -> None:
    draw = random.Random(f"{tail} {repeat}")
    topologies = [(ranks, workers) for ranks in (1, 2, 4) for workers in (0, 1, 2)]
    lives = [(*draw.choice(topologies), draw.randrange(1, 3)) for _ in range(11)]
    # One more near the end of an epoch.
    plan = Plan([*lives, (4, 1, 9), (2, 2, 0)], {"tail": tail, "repeat": repeat}, seed=7)
    found = run(location, tmp_path / "killed", plan)
    check(found, Whole(location, plan))
    assert sum(life["killed"] for life in found) >= 10


def test_ranks_of_the_environment_share_the_batches(location: Path, tmp_path: Path) -> None:
    # As torchrun starts them, without a process group.
    plan = Plan([(2, 1, 0)], by="environment")
    check(run(location, tmp_path / "run", plan), Whole(location, plan))


@pytest.mark.parametrize("how", ["dataset", "loader", "fork", "spawn"])
def test_a_data_set_made_before_the_process_group_says_what_to_do(
    location: Path, tmp_path: Path, how: str
) -> None:
    # A file: a worker that is spawned loads the program again.
    script = tmp_path / "made_before.py"
    script.write_text(MADE_BEFORE)
    done = subprocess.run(
        [sys.executable, script, location, tmp_path / "store", how],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "made for 1 ranks, there are 2 now" in said
    assert "make it after init_process_group" in said
