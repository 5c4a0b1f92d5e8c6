"""Parameterizations and loss weightings: what a network predicts, and how much its error counts."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hiss.diffusion.parameterizations import PARAMETERIZATIONS, estimate, expand, target
from hiss.diffusion.weightings import WEIGHTINGS, Uncertainty, min_snr

SIGMA = torch.tensor([0.003, 0.1, 0.7, 1.0, 4.0, 90.0], dtype=torch.float64)


@pytest.fixture(name="signal")
def _signal() -> tuple[Tensor, Tensor, Tensor]:
    """Returns (clean, noise, x), each [batch, channels, samples], one item for each level."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, len(SIGMA), 2, 5000, generator=generator, dtype=torch.float64)
    return clean, noise, clean + expand(SIGMA, clean) * noise


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_the_target_leads_back_to_the_clean_signal(name: str, signal: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, _, x = signal
    scalings = PARAMETERIZATIONS[name](SIGMA)
    assert all(part.shape == SIGMA.shape for part in scalings)
    torch.testing.assert_close(estimate(scalings, x, target(scalings, x, clean)), clean)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("noise", lambda clean, noise, sigma: noise),
        ("clean", lambda clean, noise, sigma: clean),
        ("v", lambda clean, noise, sigma: (noise - sigma * clean) / (1 + sigma**2).sqrt()),
        ("edm", lambda clean, noise, sigma: (sigma * clean - noise) / (1 + sigma**2).sqrt()),
        ("flow", lambda clean, noise, sigma: noise - clean),
    ],
)
def test_the_target_is_what_the_name_says(
    name: str, expected: Callable[[Tensor, Tensor, Tensor], Tensor], signal: tuple[Tensor, Tensor, Tensor]
) -> None:
    clean, noise, x = signal
    made = target(PARAMETERIZATIONS[name](SIGMA), x, clean)
    torch.testing.assert_close(made, expected(clean, noise, expand(SIGMA, x)))


@pytest.mark.parametrize("name", [name for name in PARAMETERIZATIONS if name not in ("flow", "wiener")])
def test_a_network_reads_and_writes_unit_variance(name: str, signal: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, _, x = signal
    scalings = PARAMETERIZATIONS[name](SIGMA)
    for part in (expand(scalings.scale, x) * x, target(scalings, x, clean)):
        torch.testing.assert_close(part.flatten(1).std(1), torch.ones_like(SIGMA), atol=0.04, rtol=0)


def test_a_wiener_network_reads_the_best_linear_estimate(signal: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, _, x = signal
    read = expand(PARAMETERIZATIONS["wiener"](SIGMA).scale, x) * x
    # Its error is the least there is, sigma^2 / (1 + sigma^2), and independent of what it was made of.
    torch.testing.assert_close((read - clean).flatten(1).var(1), SIGMA**2 / (1 + SIGMA**2), atol=0.04, rtol=0)
    assert float(((read - clean) * x / expand(SIGMA, x)).flatten(1).mean(1).abs().max()) < 0.05
    torch.testing.assert_close(target(PARAMETERIZATIONS["wiener"](SIGMA), x, clean), clean)


def test_the_state_of_a_flow_is_a_straight_mixture(signal: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, noise, x = signal
    t = expand(SIGMA / (1 + SIGMA), x)
    torch.testing.assert_close(
        expand(PARAMETERIZATIONS["flow"](SIGMA).scale, x) * x, torch.lerp(clean, noise, t.expand_as(x))
    )


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_every_network_is_told_a_quarter_of_log_sigma(name: str) -> None:
    torch.testing.assert_close(PARAMETERIZATIONS[name](SIGMA).noise, SIGMA.log() / 4)


def test_a_level_without_dimension_serves_the_whole_batch(signal: tuple[Tensor, Tensor, Tensor]) -> None:
    _, _, x = signal
    one = torch.tensor(0.7, dtype=torch.float64)
    for parameterization in PARAMETERIZATIONS.values():
        whole = estimate(parameterization(one), x, x.sin())
        torch.testing.assert_close(whole, estimate(parameterization(one.expand(len(x))), x, x.sin()))


@pytest.mark.parametrize(
    ("weighting", "parameterization"),
    [("uniform_noise", "noise"), ("clean", "clean"), ("v", "v"), ("edm", "edm"), ("flow", "flow")],
)
def test_a_weighting_counts_the_error_of_its_parameterization_the_same_everywhere(
    weighting: str, parameterization: str
) -> None:
    torch.testing.assert_close(WEIGHTINGS[weighting](SIGMA), PARAMETERIZATIONS[parameterization](SIGMA).out ** -2)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_are_positive_and_of_the_shape_of_sigma_and_none_is_0(name: str) -> None:
    weights = WEIGHTINGS[name](SIGMA)
    assert ((weights == 0) if name == "none" else (weights > 0)).all()
    assert (weights.shape, weights.dtype) == (SIGMA.shape, SIGMA.dtype)


def test_min_snr_stops_growing_at_gamma() -> None:
    assert min_snr(torch.tensor([2.0, 1.0, 0.5, 0.1]), gamma=5.0).tolist() == pytest.approx([0.25, 1.0, 4.0, 5.0])


def test_uncertainty_changes_nothing_at_first() -> None:
    loss = torch.rand(6)
    torch.testing.assert_close(Uncertainty()(loss, SIGMA.float()), loss)


def test_the_gradient_of_uncertainty_is_one_minus_the_scaled_loss() -> None:
    uncertainty = Uncertainty()
    torch.nn.init.constant_(uncertainty.linear.bias, 0.3)
    loss = torch.tensor([0.5, 2.0, 3.0])
    uncertainty(loss, SIGMA[:3].float()).sum().backward()
    gradient = uncertainty.linear.bias.grad
    assert gradient is not None
    assert gradient.item() == pytest.approx(float((1 - loss * math.exp(-0.3)).sum()), rel=1e-5)


def test_uncertainty_learns_the_logarithm_of_the_loss_at_each_level() -> None:
    uncertainty = Uncertainty()
    sigma = torch.logspace(-2, 1, 64)
    loss = sigma**2 / (1 + sigma**2) + 0.01
    optimizer = torch.optim.Adam(uncertainty.parameters(), lr=0.02)
    for _ in range(500):
        optimizer.zero_grad()
        uncertainty(loss, sigma).mean().backward()
        optimizer.step()
    torch.testing.assert_close(uncertainty.log_variance(sigma), loss.log(), atol=0.1, rtol=0)


def test_uncertainty_is_built_without_chance_and_saved_whole() -> None:
    first, second = Uncertainty(features=16).state_dict(), Uncertainty(features=16).state_dict()
    assert first.keys() == {"frequencies", "phases", "linear.weight", "linear.bias"}
    assert all(torch.equal(first[key], second[key]) for key in first)
