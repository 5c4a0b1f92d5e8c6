"""Noise is fixed by (seed, item): not by the batch it is drawn in, nor by whoever drew before."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from hiss.noise import generators, normal, seeded


def test_the_same_keys_give_the_same_stream() -> None:
    first, again = (torch.randn(100, generator=seeded(7, "data")) for _ in range(2))
    assert torch.equal(first, again)


@given(st.tuples(st.integers(), st.integers()), st.tuples(st.integers(), st.integers()))
def test_different_keys_give_different_streams(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (seeded(*one).initial_seed() == seeded(*other).initial_seed()) is (one == other)


def test_a_number_and_its_spelling_are_different_keys() -> None:
    assert seeded(1).initial_seed() != seeded("1").initial_seed()


def test_an_item_hears_the_same_noise_alone_and_in_a_crowd() -> None:
    crowd = normal(torch.empty(4, 2, 64), generators(3, range(4)))
    for item in range(4):
        alone = normal(torch.empty(1, 2, 64), generators(3, [item]))
        assert torch.equal(alone[0], crowd[item])


def test_items_and_seeds_hear_different_noise() -> None:
    one, two = normal(torch.empty(2, 1000), generators(0, range(2)))
    other = normal(torch.empty(1, 1000), generators(1, [0]))[0]
    for pair in ((one, two), (one, other)):
        assert abs(torch.corrcoef(torch.stack(pair))[0, 1]) < 0.15


def test_noise_is_standard_normal() -> None:
    noise = normal(torch.empty(1, 100_000), seeded(0))
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_noise_takes_shape_and_dtype_from_its_model_but_is_drawn_in_single_precision() -> None:
    wide = normal(torch.empty(2, 3, dtype=torch.float64), seeded(5))
    single = normal(torch.empty(2, 3), seeded(5))
    assert wide.dtype is torch.float64
    assert torch.equal(wide, single.double())


def test_drawing_with_generators_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    normal(torch.empty(2, 8), generators(0, range(2)))
    normal(torch.empty(2, 8), seeded(1))
    assert torch.equal(before, torch.get_rng_state())
