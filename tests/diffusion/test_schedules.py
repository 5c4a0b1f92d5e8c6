"""Noise schedules: their closed forms, the grids they give, and what they draw for training."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch

from hiss.diffusion.schedules import (
    Angle,
    Cosine,
    Exponential,
    Flow,
    Karras,
    Linear,
    LogNormal,
    NoiseSchedule,
    OneStep,
)
from hiss.errors import UsageError

SCHEDULES = [
    pytest.param(member(), id=name)
    for name, member in NoiseSchedule.members.items()
    if issubclass(member, NoiseSchedule)
]


def test_the_family_has_the_schedules_of_the_literature() -> None:
    literature = {"linear", "cosine", "karras", "exponential", "flow", "angle", "lognormal"}
    assert set(NoiseSchedule.members) >= literature


@pytest.mark.parametrize("schedule", SCHEDULES)
class TestEverySchedule:
    def test_levels_are_positive_and_increase(self, schedule: NoiseSchedule) -> None:
        levels = schedule.sigma(torch.linspace(0, 1, 2001, dtype=torch.float64))
        assert levels[0] > 0
        assert (levels.diff() > 0).all()
        assert levels.isfinite().all()

    def test_a_level_keeps_the_shape_and_the_dtype_of_u(self, schedule: NoiseSchedule) -> None:
        for u in (torch.tensor(0.5), torch.rand(3, 2), torch.rand(3, dtype=torch.float64)):
            level = schedule.sigma(u)
            assert (level.shape, level.dtype) == (u.shape, u.dtype)

    @pytest.mark.parametrize("steps", [1, 2, 8, 50])
    def test_the_grid_falls_from_the_highest_level_to_zero(self, schedule: NoiseSchedule, steps: int) -> None:
        grid = schedule.grid(steps)
        assert (grid.shape, grid.dtype) == ((steps + 1,), torch.float32)
        assert grid[0] == schedule.sigma(torch.ones((), dtype=torch.float64)).float()
        assert grid[-1] == 0
        assert (grid.diff() < 0).all()
        if steps > 1:
            assert grid[-2] == schedule.sigma(torch.zeros((), dtype=torch.float64)).float()

    @pytest.mark.parametrize("start", [0.3, 1.0, 7.0])
    def test_the_grid_begins_exactly_at_a_given_level(self, schedule: NoiseSchedule, start: float) -> None:
        grid = schedule.grid(8, start=start)
        assert grid[0] == torch.tensor(start)
        assert grid[-1] == 0
        assert (grid.diff() < 0).all()

    @pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
    def test_strength_and_level_are_inverse(self, schedule: NoiseSchedule, strength: float) -> None:
        level = schedule.level(strength)
        grid = schedule.grid(3, start=level).double()
        expected = schedule.sigma(torch.tensor([strength, strength / 2, 0.0], dtype=torch.float64))
        torch.testing.assert_close(grid[:-1], expected, rtol=1e-6, atol=0)

    def test_a_level_that_went_through_float32_is_a_valid_start(self, schedule: NoiseSchedule) -> None:
        torch.testing.assert_close(schedule.grid(8, start=float(schedule.grid(1)[0])), schedule.grid(8))

    def test_training_levels_fall_one_into_each_stratum(self, schedule: NoiseSchedule) -> None:
        drawn = schedule.sample(64, generator=torch.Generator().manual_seed(1))
        bounds = schedule.sigma(torch.linspace(0, 1, 65, dtype=torch.float64)).float()
        in_order = drawn.sort().values
        assert (drawn.shape, drawn.dtype) == ((64,), torch.float32)
        assert (in_order >= bounds[:-1]).all()
        assert (in_order <= bounds[1:]).all()
        assert (drawn != in_order).any()

    def test_a_seed_reproduces_the_training_levels(self, schedule: NoiseSchedule) -> None:
        first, second, other = (schedule.sample(5, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)

    def test_it_survives_json(self, schedule: NoiseSchedule) -> None:
        assert NoiseSchedule.from_dict(schedule.to_dict()) == schedule

    def test_impossible_grids_are_refused(self, schedule: NoiseSchedule) -> None:
        for steps, start in ((0, None), (-3, None), (4, 0.0), (4, 1e9)):
            with pytest.raises(UsageError):
                schedule.grid(steps, start=start)

    @pytest.mark.parametrize("strength", [0.0, -0.5, 1.5, float("nan")])
    def test_impossible_strengths_are_refused(self, schedule: NoiseSchedule, strength: float) -> None:
        with pytest.raises(UsageError, match="strength"):
            schedule.level(strength)


def test_more_steps_than_float32_can_tell_apart_are_refused() -> None:
    with pytest.raises(UsageError, match="use fewer"):
        Karras().grid(50, start=0.002000001)


@pytest.mark.parametrize(
    ("schedule", "name", "betas"),
    [
        (Linear(), "linear", (1e-4, 0.02)),
        (Linear(beta_start=0.0015, beta_end=0.0195), "linear", (0.0015, 0.0195)),
        (Linear(beta_start=0.00085, beta_end=0.012, scaled=True), "scaled_linear", (0.00085, 0.012)),
        (Cosine(), "squaredcos_cap_v2", (1e-4, 0.02)),
    ],
)
def test_every_step_has_the_alphabar_of_diffusers(
    schedule: NoiseSchedule, name: str, betas: tuple[float, float]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever the import of diffusers says about its own dependencies
        from diffusers import DDPMScheduler
    theirs = DDPMScheduler(1000, beta_start=betas[0], beta_end=betas[1], beta_schedule=name).alphas_cumprod.double()
    ours = 1 / (1 + schedule.sigma(torch.linspace(0, 1, 1000, dtype=torch.float64)) ** 2)
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=1e-7)  # theirs is a product of 1000 float32 numbers


def test_between_two_steps_log_sigma_is_interpolated() -> None:
    low, middle, high = Linear().sigma(torch.tensor([500.0, 500.5, 501.0], dtype=torch.float64) / 999).tolist()
    assert middle == pytest.approx((low * high) ** 0.5, rel=1e-9)


def test_karras_has_the_steps_of_the_paper() -> None:
    low, high, rho, steps = 0.002, 80.0, 7, 18
    expected = [
        (high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(steps)
    ]
    assert Karras().grid(steps).tolist() == pytest.approx([*expected, 0.0], rel=1e-6)


@pytest.mark.parametrize("rho", [1.0, 0.5, 3.0])
def test_exponential_levels_are_those_of_k_diffusion(rho: float) -> None:
    low, high, steps = math.log(0.03), math.log(500.0), 12
    expected = [math.exp((1 - i / (steps - 1)) ** rho * (high - low) + low) for i in range(steps)]
    grid = Exponential(sigma_min=0.03, sigma_max=500.0, rho=rho).grid(steps)
    assert grid.tolist() == pytest.approx([*expected, 0.0], rel=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_a_flow_walks_the_shifted_times_of_the_paper(shift: float) -> None:
    steps = 8
    grid = Flow(shift=shift, sigma_min=shift / (steps - 1), sigma_max=1e7).grid(steps).double()
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    torch.testing.assert_close(grid / (1 + grid), shift * t / (1 + (shift - 1) * t), rtol=0, atol=1e-6)


def test_training_times_of_a_flow_are_uniform_until_they_are_shifted() -> None:
    drawn = Flow(shift=3.0, sigma_min=1e-6, sigma_max=1e6).sample(1000, generator=torch.Generator().manual_seed(0))
    shifted = (drawn / (1 + drawn)).double().sort().values
    t = shifted / (3 - 2 * shifted)
    torch.testing.assert_close(t, (torch.arange(1000).double() + 0.5) / 1000, rtol=0, atol=6e-4)


def test_angles_are_equally_spaced_in_the_grid_and_uniform_in_training() -> None:
    schedule = Angle(sigma_min=math.tan(math.pi / 16), sigma_max=1e7)
    angles = schedule.grid(8).double().atan() * 16 / math.pi
    torch.testing.assert_close(angles, torch.tensor([8, 7, 6, 5, 4, 3, 2, 1, 0]).double(), rtol=0, atol=1e-5)
    drawn = Angle(sigma_min=1e-6, sigma_max=1e6).sample(1000, generator=torch.Generator().manual_seed(0))
    t = drawn.double().atan().sort().values * 2 / math.pi
    torch.testing.assert_close(t, (torch.arange(1000).double() + 0.5) / 1000, rtol=0, atol=6e-4)


@pytest.mark.parametrize("schedule", [Exponential(0.01, 90.0, 2.0), Flow(3.0, 0.01, 90.0), Angle(0.01, 90.0)])
def test_levels_reach_from_sigma_min_to_sigma_max(schedule: NoiseSchedule) -> None:
    assert schedule.sigma(torch.tensor([0.0, 1.0]).double()).tolist() == pytest.approx([0.01, 90.0])


def test_lognormal_levels_have_the_stated_mean_and_spread() -> None:
    schedule = LogNormal(mean=-0.8, std=1.3, sigma_min=1e-5, sigma_max=1e5)
    logs = schedule.sample(20_000, generator=torch.Generator().manual_seed(0)).log()
    assert logs.mean().item() == pytest.approx(-0.8, abs=1e-3)
    assert logs.std().item() == pytest.approx(1.3, abs=1e-3)


def test_lognormal_reaches_its_ends_even_where_the_distribution_is_flat_zero() -> None:
    schedule = LogNormal(mean=-0.5, std=0.1, sigma_min=1e-3, sigma_max=1e3)
    ends = schedule.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([1e-3, 1e3])


def test_one_step_draws_its_share_at_the_highest_level_and_the_rest_as_its_base_does() -> None:
    base = LogNormal(sigma_max=200.0)
    drawn = OneStep(base=base, share=0.25).sample(40, generator=torch.Generator().manual_seed(0)).sort().values
    assert drawn[30:].tolist() == pytest.approx([200.0] * 10, rel=0.011)
    bounds = base.sigma(torch.linspace(0, 1, 31, dtype=torch.float64)).float()
    assert (drawn[:30] >= bounds[:-1]).all()
    assert (drawn[:30] <= bounds[1:]).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: OneStep(share=0.0),
        lambda: OneStep(share=1.0),
        lambda: Linear(beta_start=0.02, beta_end=0.01),
        lambda: Linear(levels=1),
        lambda: Cosine(beta_max=1.0),
        lambda: Cosine(offset=-1.0),
        lambda: Karras(sigma_min=0.0),
        lambda: Karras(sigma_min=2.0, sigma_max=1.0),
        lambda: Karras(rho=0.0),
        lambda: Exponential(rho=0.0),
        lambda: Exponential(sigma_min=2.0, sigma_max=1.0),
        lambda: Flow(shift=0.0),
        lambda: Flow(shift=float("nan")),
        lambda: Flow(sigma_max=float("inf")),
        lambda: Angle(sigma_min=0.0),
        lambda: LogNormal(std=0.0),
        lambda: LogNormal(sigma_max=float("inf")),
    ],
)
def test_schedules_that_cannot_be_are_refused(make: Callable[[], NoiseSchedule]) -> None:
    with pytest.raises(UsageError):
        make()
