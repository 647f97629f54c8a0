"""`clipshards batch` and `clipshards when`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


def test_a_step_and_what_comes_up_in_it(run: Run, packed: Path) -> None:
    order = ("--split", "train", "--seed", 3, "--global-batch", 6)
    code, out, err = run("batch", packed, *order, "--step", 4)
    assert (code, err) == (0, "")
    # 16 items: 3 batches, the last one filled up.
    assert out.startswith("step 4: batch 1 of epoch 1, 6 items\n")
    code, text, _ = run("batch", packed, *order, "--step", 4, "--json")
    told = json.loads(text)
    assert (code, told["epoch"], told["batch"], len(told["items"])) == (0, 1, 1, 6)
    first = told["items"][0]["key"]
    code, out, err = run("when", packed, first, *order, "--epochs", 2)
    assert (code, err) == (0, "")
    assert f"{first}: step 4, batch 1 of epoch 1\n" in out
    assert len(out.splitlines()) == 2
    code, text, _ = run("when", packed, first, *order, "--epochs", 2, "--json")
    assert {"key": first, "item": 0, "epoch": 1, "batch": 1, "step": 4} in json.loads(text)


WRONG = [
    ("batch", ("--step", 1, "--seed", -1), "not in the range"),
    ("batch", ("--step", 1, "--seed", 2**63), "not in the range"),
    ("batch", ("--step", 10**25), "epochs have"),
    ("batch", ("--step", 1, "--repeat", "nan"), "expected a number above 0"),
    ("when", ("--repeat", "1e300"), "expected a number above 0"),
    ("when", ("--epochs", 0), "not in the range"),
]


@pytest.mark.parametrize(("command", "options", "says"), WRONG)
def test_wrong_use_is_said(
    run: Run, packed: Path, command: str, options: tuple[object, ...], says: str
) -> None:
    key = ("train-00000000",) if command == "when" else ()
    code, out, err = run(command, packed, *key, "--split", "train", "--global-batch", 4, *options)
    assert (code, out) == (2, "")
    assert says in err


def test_what_never_comes_up_is_said(run: Run, packed: Path) -> None:
    code, _, err = run("when", packed, "nobody", "--split", "train", "--global-batch", 4)
    assert code == 2
    assert "no sample has the key or id 'nobody'" in err
