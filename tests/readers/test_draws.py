import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshards.readers.draws import generator_of

numbers = st.integers(0, 2**63 - 1)


def draw_uniform(
    count: int, *, seed: int, number: int, item: int, copy: int = 0
) -> npt.NDArray[np.float64]:
    generator = generator_of(seed=seed, number=number, item=item, copy=copy)
    return generator.random_sample(count)


# The draws of version 0.1.0: a change here changes the frames of every user's clips.
PINNED = [
    # seed, epoch, item, draws
    (0, 0, 0, ["0x1.7a5d3204726c0p-7", "0x1.eeb1585ce5460p-3", "0x1.c8667a55d9028p-4"]),
    (0, 0, 1, ["0x1.498ac0ff6240dp-1", "0x1.0435ec58bdff0p-4", "0x1.ecd83886ec6c8p-4"]),
    (0, 1, 0, ["0x1.a06ff187f343ap-1", "0x1.80ae833698420p-1", "0x1.57e2622a22f60p-1"]),
    (1, 0, 0, ["0x1.36da89edd58a0p-2", "0x1.b289f407757c1p-1", "0x1.3fc3972bb8304p-3"]),
    (
        2**63 - 1,
        2**40,
        10**12,
        ["0x1.e19f4d9c02dd0p-2", "0x1.c8a6bec89d116p-2", "0x1.de0c40e0b5f83p-1"],
    ),
]


@pytest.mark.parametrize(("seed", "epoch", "item", "draws"), PINNED)
def test_the_draws_are_those_of_version_0(
    seed: int, epoch: int, item: int, draws: list[str]
) -> None:
    found = draw_uniform(3, seed=seed, number=epoch, item=item)
    assert [float(value).hex() for value in found] == draws


@given(st.integers(0, 70), numbers, numbers, numbers)
def test_draws_are_float64_in_the_unit_interval(
    count: int, seed: int, epoch: int, item: int
) -> None:
    draws = draw_uniform(count, seed=seed, number=epoch, item=item)
    assert draws.shape == (count,)
    assert draws.dtype == np.float64
    assert ((draws >= 0) & (draws < 1)).all()
    longer = draw_uniform(count + 5, seed=seed, number=epoch, item=item)
    np.testing.assert_array_equal(longer[:count], draws)


def test_draws_neither_read_nor_move_the_global_generator() -> None:
    np.random.seed(1)
    before = draw_uniform(4, seed=2, number=3, item=4)
    expected = np.random.RandomState(1).random_sample()
    assert np.random.random_sample() == expected
    np.testing.assert_array_equal(draw_uniform(4, seed=2, number=3, item=4), before)


def test_each_item_epoch_and_seed_has_draws_of_its_own() -> None:
    draws = {
        draw_uniform(1, seed=seed, number=epoch, item=item)[0]
        for seed in range(10)
        for epoch in range(10)
        for item in range(10)
    }
    assert len(draws) == 1000


def test_draws_of_neighbouring_items_look_like_chance() -> None:
    draws = np.array([draw_uniform(4, seed=0, number=0, item=item) for item in range(3000)])
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 5 / np.sqrt(12 * 3000)
    between_items = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    inside_item = np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]
    assert max(abs(between_items), abs(inside_item)) < 5 / np.sqrt(3000)
