"""Samplers, against the exact solution for Gaussian data: order, variance, and what all of them promise."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hiss.diffusion.sampling import SAMPLERS, ddim, ddpm, dpmpp_2m, dpmpp_2m_sde, euler, heun, pingpong, sampler, unipc
from hiss.diffusion.schedules import Cosine, Karras, Linear, NoiseSchedule
from hiss.errors import UsageError
from hiss.noise import generators, seeded
from hiss.types import Denoise, Sampler

DRAWING = ["ddpm", "dpmpp_2m_sde", "pingpong"]
MEAN = torch.tensor([0.5, 0.0, -2.0, 1.0], dtype=torch.float64)
VARIANCE = torch.tensor([0.05, 0.3, 1.0, 2.0], dtype=torch.float64)


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of Gaussian data."""
    return MEAN + (x - MEAN) * VARIANCE / (VARIANCE + sigma**2)


def solution(x: Tensor, start: float, end: float) -> Tensor:
    """Where the probability flow of the Gaussian carries x from one level to another."""
    return MEAN + (x - MEAN) * ((VARIANCE + end**2) / (VARIANCE + start**2)).sqrt()


def meant_for(name: str) -> Denoise:
    """The denoiser that a sampler is made for: the exact one, or for `pingpong` the end of the probability flow."""
    return (lambda x, sigma: solution(x, float(sigma), 0.0)) if name == "pingpong" else gaussian


def error(walk: Sampler, steps: int) -> float:
    start, end = 10.0, 0.02
    levels = Karras(end, start).sigma(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
    x = torch.full((1, 1, 4), 9.0, dtype=torch.float64)
    return float((walk(gaussian, x, levels) - solution(x, start, end)).abs().max())


@pytest.mark.parametrize(
    ("walk", "order"),
    [(euler, 1), (ddim, 1), (heun, 2), (dpmpp_2m, 2), (unipc, 3)],
    ids=lambda p: getattr(p, "__name__", p),
)
def test_halving_the_steps_divides_the_error_by_two_to_the_order(walk: Sampler, order: int) -> None:
    errors = [error(walk, steps) for steps in (64, 128, 256)]
    measured = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert measured == pytest.approx([order, order], abs=0.3)


@pytest.mark.parametrize(("walk", "order"), [(ddpm, 1), (dpmpp_2m_sde, 2)], ids=["ddpm", "dpmpp_2m_sde"])
def test_samplers_that_draw_converge_to_the_variance_of_the_data(walk: Sampler, order: int) -> None:
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x * 0.5 / (0.5 + sigma**2)

    def distance(steps: int) -> float:
        start = 20 * torch.randn(1, 100_000, generator=seeded(0))
        x = walk(denoise, start, Karras(0.002, 20.0).grid(steps), generator=seeded(1))
        assert abs(x.mean().item()) < 0.01
        return abs(x.var().item() / 0.5 - 1)

    assert math.log2(distance(20) / distance(80)) / 2 == pytest.approx(order, abs=0.25)
    assert distance(640) < 0.02


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_reaches_the_variance_for_any_eta(eta: float) -> None:
    grid = Karras(0.002, 20.0).grid(500)
    x = ddim(
        lambda x, sigma: x / (1 + sigma**2),
        20 * torch.randn(1, 100_000, generator=seeded(0)),
        grid,
        generator=seeded(1),
        eta=eta,
    )
    assert x.var().item() == pytest.approx(1, abs=0.02)


def test_pingpong_returns_the_data_from_any_number_of_steps_of_a_consistency_model() -> None:
    for steps in (1, 2, 5):
        grid = Karras(0.5, 20.0).grid(steps)
        x = MEAN + (VARIANCE + grid[0].double() ** 2).sqrt() * torch.randn(20_000, 1, 4, generator=seeded(0)).double()
        y = pingpong(meant_for("pingpong"), x, grid, generator=seeded(steps))
        torch.testing.assert_close(y.mean(dim=(0, 1)), MEAN, atol=0.04, rtol=0)
        torch.testing.assert_close(y.var(dim=(0, 1)) / VARIANCE, torch.ones_like(VARIANCE), atol=0.04, rtol=0)


def test_pingpong_adds_to_each_estimate_fresh_noise_of_the_next_level() -> None:
    grid = torch.tensor([20.0, 3.0, 0.7, 0.0])
    variance = 400 + VARIANCE
    for level, lower in pairwise(grid.tolist()):
        variance = (VARIANCE / (VARIANCE + level**2)) ** 2 * variance + lower**2
    x = MEAN + (400 + VARIANCE).sqrt() * torch.randn(50_000, 1, 4, generator=seeded(0)).double()
    y = pingpong(gaussian, x, grid, generator=seeded(1))
    torch.testing.assert_close(y.var(dim=(0, 1)) / variance, torch.ones_like(VARIANCE), atol=0.03, rtol=0)


@pytest.mark.parametrize("name", DRAWING)
def test_temperature_multiplies_everything_that_is_drawn(name: str) -> None:
    grid = Karras().grid(12)
    noise = grid[0] * torch.randn(2, 50, generator=seeded(0))
    plain, cold = (
        sampler(name, temperature=t)(lambda x, sigma: x / (1 + sigma**2), t * noise, grid, generator=seeded(1))
        for t in (1.0, 0.6)
    )
    torch.testing.assert_close(cold, 0.6 * plain)


def test_relatives_are_what_their_documentation_says() -> None:
    grid = Karras().grid(10)
    x = 80 * torch.randn(2, 3, 4, generator=seeded(0), dtype=torch.float64)
    assert torch.equal(euler(gaussian, x, grid), ddim(gaussian, x, grid))
    assert torch.equal(
        ddpm(gaussian, x, grid, generator=seeded(1)), ddim(gaussian, x, grid, generator=seeded(1), eta=1.0)
    )
    assert torch.equal(dpmpp_2m(gaussian, x, grid), dpmpp_2m_sde(gaussian, x, grid, eta=0.0))


def test_an_unknown_sampler_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'heun'"):
        sampler("huen")


@pytest.mark.parametrize("name", SAMPLERS)
class TestEverySampler:
    def test_is_found_by_name(self, name: str) -> None:
        grid = Karras().grid(4)
        x = torch.ones(1, 1, 4, dtype=torch.float64)
        found = sampler(name)(gaussian, x, grid, generator=seeded(0))
        assert torch.equal(found, SAMPLERS[name](gaussian, x, grid, generator=seeded(0)))

    def test_reports_each_step_and_asks_at_each_level(self, name: str) -> None:
        grid = Karras().grid(5)
        levels: list[float] = []
        steps: list[tuple[int, int]] = []

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            assert sigma.ndim == 0
            levels.append(float(sigma))
            return gaussian(x, sigma)

        def watch(step: int, total: int, clean: Tensor) -> None:
            steps.append((step, total))
            assert clean.shape == (2, 3, 4)

        SAMPLERS[name](denoise, torch.ones(2, 3, 4), grid, generator=seeded(0), watch=watch)
        assert steps == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
        assert list(dict.fromkeys(levels)) == grid[:-1].tolist()
        assert len(levels) == (9 if name == "heun" else 5)

    def test_one_step_is_one_evaluation_of_the_denoiser(self, name: str) -> None:
        x = 80 * torch.randn(2, 3, 4, generator=seeded(0), dtype=torch.float64)
        expected = gaussian(x, torch.tensor(80.0))
        torch.testing.assert_close(SAMPLERS[name](gaussian, x, torch.tensor([80.0, 0.0])), expected)

    def test_the_last_step_to_zero_returns_the_denoised_signal(self, name: str) -> None:
        seen: list[Tensor] = []
        x = SAMPLERS[name](
            gaussian,
            torch.ones(1, 1, 4, dtype=torch.float64),
            Karras().grid(6),
            generator=seeded(0),
            watch=lambda step, total, clean: seen.append(clean),
        )
        torch.testing.assert_close(x, seen[-1], rtol=0, atol=1e-12)

    def test_an_item_is_the_same_alone_and_in_a_crowd(self, name: str) -> None:
        grid = Karras().grid(6)
        x = 80 * torch.randn(3, 2, 4, generator=seeded(0), dtype=torch.float64)
        crowd = SAMPLERS[name](gaussian, x, grid, generator=generators(5, [0, 1, 2]))
        alone = SAMPLERS[name](gaussian, x[2:], grid, generator=generators(5, [2]))
        torch.testing.assert_close(crowd[2:], alone)

    def test_keeps_dtype_and_input_and_global_random_state(self, name: str) -> None:
        x = 80 * torch.randn(2, 3, 4, generator=seeded(0))
        before, state = x.clone(), torch.random.get_rng_state()
        y = SAMPLERS[name](lambda x, sigma: gaussian(x, sigma).to(x), x, Karras().grid(6), generator=seeded(1))
        assert (y.dtype, y.shape) == (x.dtype, x.shape)
        assert torch.equal(x, before)
        assert torch.equal(torch.random.get_rng_state(), state)

    @pytest.mark.parametrize("schedule", [Linear(), Cosine(), Karras()], ids=["linear", "cosine", "karras"])
    def test_many_steps_in_float32_come_near_the_data(self, name: str, schedule: NoiseSchedule) -> None:
        grid = schedule.grid(400)
        x = grid[0] * torch.randn(5000, 1, 4, generator=seeded(0))
        denoise = meant_for(name)
        y = SAMPLERS[name](lambda x, sigma: denoise(x, sigma).to(x), x, grid, generator=seeded(1))
        torch.testing.assert_close(y.mean(dim=(0, 1)).double(), MEAN, atol=0.08, rtol=0)
        torch.testing.assert_close(y.var(dim=(0, 1)).double() / VARIANCE, torch.ones_like(VARIANCE), atol=0.12, rtol=0)

    def test_can_stop_above_zero(self, name: str) -> None:
        levels = Karras(0.5, 20.0).sigma(torch.linspace(1, 0, 401, dtype=torch.float64))
        x = 20 * torch.randn(10_000, 1, 4, generator=seeded(0)).double()
        y = SAMPLERS[name](meant_for(name), x, levels, generator=seeded(1))
        expected = VARIANCE + 0.5**2
        torch.testing.assert_close(y.var(dim=(0, 1)) / expected, torch.ones_like(expected), atol=0.05, rtol=0)


def mixture(*, components: int, deviation: float) -> Denoise:
    """The exact denoiser of a mixture of Gaussians in 16 dimensions whose variance is 1."""
    means = torch.randn(components, 16, generator=seeded("mixture")).double()
    means = (means - means.mean(0)) / means.std(0, correction=0) * math.sqrt(1 - deviation**2)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        variance = deviation**2 + sigma**2
        away = x[:, None] - means
        share = torch.softmax(-away.square().sum(-1) / (2 * variance), dim=1)
        return (share[..., None] * (means + away * deviation**2 / variance)).sum(1)

    return denoise


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Karras()], ids=["linear", "cosine", "karras"])
@pytest.mark.parametrize("deviation", [0.1, 0.5, 0.9])
def test_unipc_is_nearer_to_the_exact_flow_than_dpmpp_2m_at_eight_steps(
    schedule: NoiseSchedule, deviation: float
) -> None:
    """Root mean square distance to the exact solution, unipc against dpmpp_2m (the data have a deviation of 1).

    Deviation of a component    0.1              0.5              0.9
    linear                      0.414 / 0.737    0.190 / 0.399    0.113 / 0.385
    cosine                      0.213 / 0.373    0.098 / 0.219    0.082 / 0.163
    karras                      0.328 / 0.438    0.164 / 0.273    0.048 / 0.182
    """
    denoise = mixture(components=12, deviation=deviation)
    grid = schedule.grid(8).double()
    x = grid[0] * torch.randn(128, 16, generator=seeded("start")).double()
    exact = unipc(denoise, x, Karras(0.0005, float(grid[0])).grid(300).double())
    ours, theirs = ((walk(denoise, x, grid) - exact).square().mean().sqrt().item() for walk in (unipc, dpmpp_2m))
    assert ours < 0.9 * theirs
