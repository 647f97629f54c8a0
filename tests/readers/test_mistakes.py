"""What users get wrong is told to them in words that say what to do."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshards.readers import Concat, DenseClip, ShardDataset, UniformClip, open_dataset
from clipshards.readers.split import Split


@pytest.fixture
def split(location: Path) -> Split:
    return open_dataset(location, split="train")


@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 2}, {"workers": 1}])
@pytest.mark.parametrize("returned", [None, np.zeros(3), [1]])
def test_transform_that_returns_no_dict_is_named_with_the_sample(
    split: Split, way: Any, returned: Any
) -> None:
    dataset = ShardDataset(split, batch_size=2, clip=UniformClip(2), transform=lambda _: returned)
    loader = dataset.loader(**way)
    with pytest.raises(TypeError, match=r"transform returned .*, expected a dict") as caught:
        next(iter(loader))
    told = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    assert "in transform, given train-000000" in told
    loader.close()


def test_error_of_a_transform_names_the_sample(split: Split) -> None:
    def fail(item: dict[str, Any]) -> dict[str, Any]:
        raise LookupError(item["key"])

    dataset = ShardDataset(split, batch_size=2, clip=UniformClip(2), transform=fail)
    with pytest.raises(LookupError) as caught:
        next(iter(dataset))
    (note,) = caught.value.__notes__
    assert note.startswith(f"in transform, given {caught.value.args[0]} of <split train of ")


def test_clip_that_is_a_class_is_refused(split: Split) -> None:
    with pytest.raises(TypeError, match="clip: expected a Clip such as UniformClip"):
        ShardDataset(split, batch_size=2, clip=UniformClip)  # type: ignore[arg-type]


def test_single_split_where_a_list_is_expected(split: Split) -> None:
    with pytest.raises(TypeError, match="expected a list of splits"):
        Concat(split)  # type: ignore[arg-type]


def test_setting_an_earlier_epoch_than_the_loaded_one_is_warned_of(
    split: Split, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = ShardDataset(split, batch_size=2, clip=DenseClip(2))
    dataset.set_epoch(3)
    batches = iter(dataset)
    next(batches)
    state = dataset.state_dict()
    again = ShardDataset(split, batch_size=2, clip=DenseClip(2))
    again.load_state_dict(state)
    with caplog.at_level(logging.WARNING, "clipshards"):
        again.set_epoch(3)
        assert not caplog.text
        again.load_state_dict(state)
        again.set_epoch(0)
    assert "the state that was loaded is given up (epoch 3, batch 1)" in caplog.text


@pytest.mark.parametrize("alone", [{"RANK": "0"}, {"WORLD_SIZE": "2"}])
def test_half_of_the_rank_variables_is_refused(
    split: Split, alone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in alone.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="expected both or neither"):
        ShardDataset(split, batch_size=2)


def test_drop_that_leaves_nothing_is_warned_of(
    split: Split, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(ShardDataset(split, batch_size=1000, tail="drop")) == 0
    assert "tail 'drop' leaves nothing" in caplog.text


def test_place_that_holds_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no folder there holds a data set"):
        open_dataset(tmp_path, split="train")


def test_values_that_cannot_be_stacked_are_named(split: Split) -> None:
    dataset = ShardDataset(
        split, batch_size=2, clip=UniformClip(2), transform=lambda item: {**item, "odd": None}
    )
    with pytest.raises(TypeError, match=r"'odd' of .* cannot be made one"):
        next(iter(dataset))
