"""Samplers walk step for step like the schedulers of diffusers, with the same levels and the same noise."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from hiss.diffusion.sampling import ddim, ddpm, dpmpp_2m, dpmpp_2m_sde
from hiss.noise import seeded

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # whatever the import of diffusers says about its own dependencies
    import diffusers

STEPS = 20
START = torch.randn(2, 3, 64, generator=seeded("start"))


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of two points with a little spread, in each sample on its own: far from linear."""
    variance = 0.04 + sigma**2
    return (0.04 * x + sigma**2 * torch.tanh(x / variance)) / variance


def theirs(scheduler: Any, sigmas: Tensor, **options: Any) -> list[Tensor]:
    """Returns the states of diffusers, one for each level; its network predicts the noise."""
    x = START
    states = []
    for time, sigma in zip(scheduler.timesteps, sigmas[:-1], strict=True):
        states.append(x * (1 + sigma**2).sqrt())
        noise = (states[-1] - denoise(states[-1], sigma)) / sigma
        x = scheduler.step(noise, time, x, **options).prev_sample
    return [*states, x]


def ours(walk: Any, sigmas: Tensor, **options: Any) -> list[Tensor]:
    """Returns the states of hiss, one for each level."""
    states = []

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        states.append(x)
        return denoise(x, sigma)

    x = walk(watched, START * (1 + sigmas[0] ** 2).sqrt(), sigmas, **options)
    return [*states, x]


def levels(scheduler: Any) -> Tensor:
    """Returns the noise levels of a scheduler's timesteps, and 0."""
    alphabar = scheduler.alphas_cumprod[scheduler.timesteps].double()
    return torch.cat([(1 / alphabar - 1).sqrt(), torch.zeros(1, dtype=torch.float64)]).float()


def assert_equal(first: list[Tensor], second: list[Tensor], sigmas: Tensor) -> None:
    for x, y, sigma in zip(first, second, sigmas, strict=True):
        unit = (1 + sigma**2).rsqrt()  # compare at the scale of the variance-preserving state
        torch.testing.assert_close(unit * x, unit * y, atol=1e-4, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(eta: float) -> None:
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(STEPS)
    sigmas = levels(scheduler)
    assert_equal(
        ours(ddim, sigmas, eta=eta, generator=seeded(0)),
        theirs(scheduler, sigmas, eta=eta, generator=seeded(0)),
        sigmas,
    )


def test_ddpm() -> None:
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    scheduler.set_timesteps(STEPS)
    sigmas = levels(scheduler)
    assert_equal(ours(ddpm, sigmas, generator=seeded(0)), theirs(scheduler, sigmas, generator=seeded(0)), sigmas)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
@pytest.mark.parametrize("steps", [8, STEPS])
@pytest.mark.parametrize(
    ("algorithm", "walk"), [("dpmsolver++", dpmpp_2m), ("sde-dpmsolver++", dpmpp_2m_sde)], ids=["2m", "2m_sde"]
)
def test_dpm_solver(algorithm: str, walk: Any, steps: int) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type=algorithm, solver_order=2, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas
    assert_equal(ours(walk, sigmas, generator=seeded(0)), theirs(scheduler, sigmas, generator=seeded(0)), sigmas)
