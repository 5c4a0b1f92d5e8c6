"""Samplers: functions that walk from noise to a clean signal along a grid of noise levels.

All have the shape of `hiss.types.Sampler`. The state is x = clean + sigma * noise, `denoise` gets sigma as a tensor
without dimensions, and a last level of 0 makes the last step return the denoised signal. `watch` is called after each
step with (steps done, steps in all, estimate of the clean signal). Those that draw noise take `temperature`, which
multiplies the standard deviation of what they draw; x itself comes from the caller.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from hiss.errors import unknown
from hiss.noise import normal
from hiss.types import Denoise, Generator, Sampler, Watch


def ddim(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    watch: Watch | None = None,
    eta: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    """Returns a clean x [batch, channels, *space]; one evaluation a step, first order.

    `eta` goes from the deterministic walk (0) to the one that draws afresh all noise that can be (1).
    Source: Song, Meng, Ermon 2021, equations 12 and 16.
    """
    for step, (sigma, level, lower) in enumerate(_walk(x, sigmas), 1):
        clean = denoise(x, sigma)
        fresh = eta * lower * math.sqrt(1 - (lower / level) ** 2)
        x = clean + math.sqrt(lower**2 - fresh**2) / level * (x - clean)
        if fresh:
            x = x + temperature * fresh * normal(x, generator)
        if watch:
            watch(step, len(sigmas) - 1, clean)
    return x


def ddpm(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    watch: Watch | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Returns a clean x by ancestral sampling: each step draws from the posterior given the estimate; DDIM, eta 1.

    Source: Ho, Jain, Abbeel 2020, algorithm 2, with the lower of its two variances (equation 7).
    """
    return ddim(denoise, x, sigmas, generator=generator, watch=watch, eta=1.0, temperature=temperature)


def euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Returns a clean x by Euler's method on dx/dsigma = (x - D) / sigma. It is DDIM, eta 0, under its other name.

    The same step also is Euler's method on the straight paths of a rectified flow.
    Source: Karras et al. 2022, algorithm 1 without its correction.
    """
    return ddim(denoise, x, sigmas, generator=generator, watch=watch)


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Returns a clean x by the trapezoidal rule on dx/dsigma = (x - D) / sigma; second order.

    Two evaluations a step, one in a last step to 0.
    Source: Karras et al. 2022, algorithm 1.
    """
    for step, (sigma, level, lower) in enumerate(_walk(x, sigmas), 1):
        clean = denoise(x, sigma)
        slope = (x - clean) / level
        ahead = clean + lower * slope
        if lower > 0:
            slope_ahead = (ahead - denoise(ahead, sigmas[step].to(x.device))) / lower
            ahead = x + (lower - level) / 2 * (slope + slope_ahead)
        x = ahead
        if watch:
            watch(step, len(sigmas) - 1, clean)
    return x


def pingpong(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    watch: Watch | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Returns a clean x by denoising all the way and adding fresh noise of the next level; one evaluation a step.

    For models that were distilled into few steps, whose estimate is a sound and not the mean of many: on the mean, many
    steps lose variance. It is the multistep sampling of consistency models.
    Source: Song et al. 2023 (consistency models), algorithm 1.
    """
    for step, (sigma, _, lower) in enumerate(_walk(x, sigmas), 1):
        x = clean = denoise(x, sigma)
        if lower:
            x = clean + temperature * lower * normal(clean, generator)
        if watch:
            watch(step, len(sigmas) - 1, clean)
    return x


def dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    watch: Watch | None = None,
    eta: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """Returns a clean x by a two-step method in log sigma that draws noise; one evaluation a step.

    `eta` scales the noise of the stochastic differential equation: 0 is the deterministic `dpmpp_2m`.
    Source: Lu et al. 2022 (DPM-Solver++), section 5, SDE-DPM-Solver++(2M) in its midpoint form.
    """
    before: tuple[Tensor, float] | None = None  # the estimate of the step before, and the length of that step
    for step, (sigma, level, lower) in enumerate(_walk(x, sigmas), 1):
        clean = denoise(x, sigma)
        if lower == 0:
            x = clean
        else:
            h = math.log(level / lower)
            ahead = clean if before is None else clean + h / (2 * before[1]) * (clean - before[0])
            x = lower / level * math.exp(-eta * h) * x - math.expm1(-(1 + eta) * h) * ahead
            if eta:
                x = x + temperature * lower * math.sqrt(-math.expm1(-2 * eta * h)) * normal(x, generator)
            before = clean, h
        if watch:
            watch(step, len(sigmas) - 1, clean)
    return x


def dpmpp_2m(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Returns a clean x by a two-step method in log sigma; one evaluation a step, second order.

    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2.
    """
    return dpmpp_2m_sde(denoise, x, sigmas, generator=generator, watch=watch, eta=0.0)


def unipc(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Returns a clean x by a multistep predictor and corrector; one evaluation a step, third order.

    The estimate at each level serves twice: together with the two before it corrects the state that led there, and
    together with one of them it predicts the next.

    The paper lets the estimate follow a polynomial of log(sigma), as `dpmpp_2m` does. Here it is a polynomial of
    log(1 + sigma): for data of unit variance the estimate settles when sigma falls below 1, while log(sigma) goes on
    to minus infinity, so that the polynomial of the paper runs wild in long steps.
    Source: Zhao et al. 2023 (UniPC), section 3.
    """
    past: list[tuple[float, Tensor]] = []  # (level, estimate), the oldest first
    start = x  # the corrected state one step back
    for step, (sigma, level, lower) in enumerate(_walk(x, sigmas), 1):
        clean = denoise(x, sigma)
        if past:
            x = _exponential(start, past[-1][0], level, [*past, (level, clean)])
        past = [*past, (level, clean)][-2:]
        start, x = x, clean if lower == 0 else _exponential(x, level, lower, past)
        if watch:
            watch(step, len(sigmas) - 1, clean)
    return x


def _exponential(x: Tensor, level: float, lower: float, past: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Returns the state at `lower` if the estimate follows the polynomial of log(1 + sigma) through `past`.

    With t = log(1 / sigma) the exact solution is lower / level * x + integral of exp(t - t_lower) * D(t) dt. The weight
    of each estimate is the integral of its Lagrange polynomial, by a quadrature that is exact nearly to rounding.
    """
    start, end = -math.log(level), -math.log(lower)
    points, areas = np.polynomial.legendre.leggauss(16)
    t = start + (end - start) * (points + 1) / 2
    areas = areas * (end - start) / 2 * np.exp(t - end)
    variable = np.log1p(np.exp(-t))
    nodes = [math.log1p(sigma) for sigma, _ in past]
    x = lower / level * x
    for here, (_, clean) in zip(nodes, past, strict=True):
        lagrange = math.prod((variable - there) / (here - there) for there in nodes if there != here)
        x = x + float(np.sum(areas * lagrange)) * clean
    return x


def _walk(x: Tensor, sigmas: Tensor) -> Iterator[tuple[Tensor, float, float]]:
    """Yields for each step the level on the device of x, the same as a number, and the next level."""
    on_device = sigmas.to(x.device)
    levels = sigmas.tolist()
    yield from zip(on_device[:-1], levels[:-1], levels[1:], strict=True)


_DRAWING: dict[str, Callable[..., Tensor]] = {"ddpm": ddpm, "dpmpp_2m_sde": dpmpp_2m_sde, "pingpong": pingpong}

SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "euler": euler,
    "heun": heun,
    "pingpong": pingpong,
    "unipc": unipc,
}


def sampler(name: str, *, temperature: float = 1.0) -> Sampler:
    """Returns the sampler of that name.

    Args:
        name: one of `SAMPLERS`.
        temperature: scales the noise that it draws, if it draws any.

    Raises:
        UsageError: there is no such sampler.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    return partial(_DRAWING[name], temperature=temperature) if name in _DRAWING else SAMPLERS[name]
