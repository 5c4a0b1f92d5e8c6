"""Guidance: identities at its limits, and how often it evaluates."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from hiss.diffusion.guidance import guide, pair, steer
from hiss.types import Denoise

X = torch.randn(3, 2, 400, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor(1.5)


def wanted(x: Tensor, sigma: Tensor) -> Tensor:
    return x / (1 + sigma**2) + 0.1


def unwanted(x: Tensor, sigma: Tensor) -> Tensor:
    return x.roll(1, -1) / (2 + sigma)


class Counting:
    """Both estimates at once and one alone, counted."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.calls["both"] += 1
        return wanted(x, sigma), unwanted(x, sigma)

    def one(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.calls["one"] += 1
        return wanted(x, sigma)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, unwanted), (1.0, wanted)])
def test_scales_zero_and_one_are_the_two_estimates(scale: float, expected: Denoise) -> None:
    guided = guide(pair(wanted, unwanted), wanted, scale)
    torch.testing.assert_close(guided(X, SIGMA), expected(X, SIGMA))


def test_guidance_goes_beyond_the_conditional_estimate() -> None:
    guided = guide(pair(wanted, unwanted), wanted, 4.0)(X, SIGMA)
    torch.testing.assert_close(guided, 4 * wanted(X, SIGMA) - 3 * unwanted(X, SIGMA))


def test_scale_one_costs_one_evaluation() -> None:
    counting = Counting()
    guide(counting.both, counting.one, 1.0)(X, SIGMA)
    assert counting.calls == {"one": 1}


def test_outside_the_interval_only_the_conditional_estimate_is_made() -> None:
    counting = Counting()
    guided = guide(counting.both, counting.one, 3.0, interval=(0.5, 2.0))
    full = guide(pair(wanted, unwanted), wanted, 3.0)
    for level, expected in ((0.1, wanted), (0.5, wanted), (0.6, full), (2.0, full), (2.1, wanted)):
        sigma = torch.tensor(level)
        torch.testing.assert_close(guided(X, sigma), expected(X, sigma))
    assert counting.calls == {"one": 3, "both": 2}


def test_full_rescale_gives_each_item_the_deviation_of_the_conditional_estimate() -> None:
    guided = guide(pair(wanted, unwanted), wanted, 6.0, rescale=1.0)(X, SIGMA)
    torch.testing.assert_close(guided.std(dim=(1, 2)), wanted(X, SIGMA).std(dim=(1, 2)))


def test_half_rescale_lies_halfway() -> None:
    plain, half, full = (guide(pair(wanted, unwanted), wanted, 6.0, rescale=r)(X, SIGMA) for r in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, (plain + full) / 2)


def test_rescaling_silence_stays_finite() -> None:
    def silence(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.zeros_like(x)

    guided = guide(pair(silence, silence), silence, 3.0, rescale=0.7)
    assert torch.equal(guided(X, SIGMA), torch.zeros_like(X))


def test_steering_adds_what_is_known_of_the_clean_signal() -> None:
    """Of clean signals N(0, 1), seen under noise and once more as y = clean + r * noise: the mean of the posterior."""
    y, r = 0.7, 0.5

    def gradient(
        x: Tensor, sigma: Tensor
    ) -> Tensor:  # of log p(y | x) = log N(y; x / (1 + s^2), s^2 / (1 + s^2) + r^2)
        shrunk = 1 + sigma**2
        return (y - x / shrunk) / (sigma**2 / shrunk + r**2) / shrunk

    steered = steer(lambda x, sigma: x / (1 + sigma**2), gradient, 1.0, interval=(0.0, 10.0))
    for sigma in (0.2, 1.5, 6.0):
        precision = 1 + 1 / sigma**2 + 1 / r**2
        expected = (X / sigma**2 + y / r**2) / precision
        torch.testing.assert_close(steered(X, torch.tensor(sigma)), expected)


def test_steering_acts_between_its_noise_levels_only() -> None:
    steered = steer(wanted, lambda x, sigma: torch.ones_like(x), 2.0, interval=(0.5, 2.0))
    for level, added in ((0.5, 0.0), (1.0, 2.0), (2.0, 8.0), (2.1, 0.0)):
        sigma = torch.tensor(level)
        torch.testing.assert_close(steered(X, sigma), wanted(X, sigma) + added)
