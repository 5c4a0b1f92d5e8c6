"""Noise schedules: which levels training draws, and which grid of levels sampling walks."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hiss.errors import UsageError
from hiss.once import once
from hiss.spec import Spec


class NoiseSchedule(Spec, ABC):
    """Family of noise schedules; a member writes `sigma` and nothing else."""

    @abstractmethod
    def sigma(self, u: Tensor) -> Tensor:
        """Returns the noise level at `u` in [0, 1], of the same shape: strictly increasing, positive."""

    def sample(
        self, batch: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Returns random noise levels for training [batch], float32.

        One is drawn from each of `batch` equal strata of u and the order is shuffled, so that every batch covers the
        levels evenly. Drawn on the CPU, so that a seed means the same on every device.
        """
        strata = torch.randperm(batch, generator=generator)
        u = (strata + torch.rand(batch, generator=generator, dtype=torch.float64)) / batch
        return self.sigma(u).to(device=device, dtype=torch.float32)

    def grid(self, steps: int, *, start: float | None = None) -> Tensor:
        """Returns the levels that a sampler walks [steps + 1], float32 on the CPU: strictly decreasing, the last is 0.

        Args:
            steps: how many steps; at least 1.
            start: the first level, where it is not the highest one of the schedule.

        Raises:
            UsageError: steps is below 1, or `start` is not a level of this schedule above its lowest.
        """
        if steps < 1:
            raise UsageError(f"a sampler needs at least 1 step, not {steps}")
        highest = 1.0 if start is None else self._invert(start)
        levels = self.sigma(highest * torch.linspace(1, 0, steps, dtype=torch.float64))
        if start is not None:
            levels[0] = start
        grid = torch.cat([levels, levels.new_zeros(1)]).float()
        if not bool((grid.diff() < 0).all()):
            raise UsageError(f"{steps} steps do not fit between the levels {grid[0]:.8g} and {grid[-2]:.8g}; use fewer")
        return grid

    def level(self, strength: float) -> float:
        """Returns the noise level from which an edit of `strength` in (0, 1] starts: 1 keeps nothing of the original.

        Raises:
            UsageError: the strength is outside (0, 1].
        """
        if not 0 < strength <= 1:
            raise UsageError(f"strength must lie above 0 and at most at 1, not {strength}")
        return float(self.sigma(torch.tensor(strength, dtype=torch.float64)))

    def _invert(self, sigma: float) -> float:
        """Returns the u at which the schedule reaches `sigma`, by bisection."""
        lowest, highest = self.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if not lowest < sigma <= highest * (1 + 1e-6):  # a level that went through float32 may lie a little above
            raise UsageError(f"the first noise level must lie between {lowest:.6g} and {highest:.6g}, not {sigma}")
        low, high = 0.0, 1.0
        for _ in range(53):
            middle = (low + high) / 2
            if float(self.sigma(torch.tensor(middle, dtype=torch.float64))) < sigma:
                low = middle
            else:
                high = middle
        return high


@dataclass(frozen=True)
class Linear(NoiseSchedule, name="linear"):
    """Betas that grow linearly from step to step; between the steps log sigma is interpolated.

    Source: Ho, Jain, Abbeel 2020, section 4; with `scaled`, Rombach et al. 2022 (linear in the square root of beta).
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02
    levels: int = 1000
    """How many betas."""
    scaled: bool = False
    """Whether the square roots of the betas grow linearly instead, as in latent diffusion."""

    def __post_init__(self) -> None:
        if not 0 < self.beta_start <= self.beta_end < 1 or self.levels < 2:
            raise UsageError(
                "a linear schedule needs 0 < beta_start <= beta_end < 1 and at least 2 levels, not "
                f"{self.beta_start}, {self.beta_end} and {self.levels}"
            )

    def sigma(self, u: Tensor) -> Tensor:
        """Returns sqrt(1 / alphabar - 1) at step u * (levels - 1)."""
        return _interpolate(_linear(self), u)


@dataclass(frozen=True)
class Cosine(NoiseSchedule, name="cosine"):
    """alphabar falls like a squared cosine; between the steps log sigma is interpolated.

    Source: Nichol, Dhariwal 2021, equation 17, with betas clipped at `beta_max` as in the paper.
    """

    offset: float = 0.008
    """s in the paper: keeps the first betas from vanishing."""
    beta_max: float = 0.999
    levels: int = 1000
    """How many betas."""

    def __post_init__(self) -> None:
        if self.offset < 0 or not 0 < self.beta_max < 1 or self.levels < 2:
            raise UsageError(
                "a cosine schedule needs offset >= 0, 0 < beta_max < 1 and at least 2 levels, not "
                f"{self.offset}, {self.beta_max} and {self.levels}"
            )

    def sigma(self, u: Tensor) -> Tensor:
        """Returns sqrt(1 / alphabar - 1) at step u * (levels - 1)."""
        return _interpolate(_cosine(self), u)


@dataclass(frozen=True)
class Karras(NoiseSchedule, name="karras"):
    """The rho-th root of sigma grows linearly: small steps where the levels are low.

    Source: Karras et al. 2022, equation 5.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)
        _check_positive("rho", self.rho)

    def sigma(self, u: Tensor) -> Tensor:
        """Returns (low + u * (high - low))^rho, low and high being the rho-th roots of sigma_min and sigma_max."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        root: Tensor = low + u * (high - low)
        return root.pow(self.rho)


@dataclass(frozen=True)
class Exponential(NoiseSchedule, name="exponential"):
    """log sigma grows linearly: equal steps of the logarithm of the signal-to-noise ratio.

    Source: Lu et al. 2022 (DPM-Solver), section 3.3; with `rho`, the polyexponential schedule of k-diffusion.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 1.0
    """Above 1 the steps get smaller where the levels are low."""

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)
        _check_positive("rho", self.rho)

    def sigma(self, u: Tensor) -> Tensor:
        """Returns sigma_min * (sigma_max / sigma_min)^(u^rho)."""
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        logarithm: Tensor = low + u.pow(self.rho) * (high - low)
        return logarithm.exp()


@dataclass(frozen=True)
class Flow(NoiseSchedule, name="flow"):
    """The time t = sigma / (1 + sigma) of a rectified flow is uniform before it is shifted, and cut off at both ends.

    With sigma_min = shift / (steps - 1) and a high sigma_max the grid is that of t = 1, 1 - 1 / steps, ..., 0.
    Source: Liu, Gong, Liu 2023; for the shift Esser et al. 2024, "Scaling Rectified Flow Transformers", equation 23.
    """

    shift: float = 1.0
    """s of t' = s t / (1 + (s - 1) t): multiplies sigma; above 1 for more of the high levels."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)
        _check_positive("shift", self.shift)

    def sigma(self, u: Tensor) -> Tensor:
        """Returns shift * t / (1 - t), t going from that of sigma_min to that of sigma_max."""
        low, high = (sigma / (self.shift + sigma) for sigma in (self.sigma_min, self.sigma_max))
        t = low + u * (high - low)
        return self.shift * t / (1 - t)


@dataclass(frozen=True)
class Angle(NoiseSchedule, name="angle"):
    """The angle between signal and noise, pi / 2 * t = arctan(sigma), is uniform, cut off at both ends.

    Source: Salimans, Ho 2022, appendix D, with alpha = cos(pi / 2 * t).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)

    def sigma(self, u: Tensor) -> Tensor:
        """Returns the tangent of an angle that goes from that of sigma_min to that of sigma_max."""
        low, high = math.atan(self.sigma_min), math.atan(self.sigma_max)
        return torch.tan(low + u * (high - low))


@dataclass(frozen=True)
class LogNormal(NoiseSchedule, name="lognormal"):
    """log sigma is drawn from a normal distribution, cut off at both ends: where training should look most.

    Made for training; as a grid for sampling its highest levels are too far apart, take `karras` there. The default
    is the paper's for data of unit variance: mean -1.2 - log 0.5. The time t = sigma / (1 + sigma) of a rectified flow
    is logit-normal then, with the same mean and std (Esser et al. 2024, equation 19).
    Source: Karras et al. 2022, table 1.
    """

    mean: float = -0.5
    """Of log sigma."""
    std: float = 1.2
    """Of log sigma."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)
        _check_positive("std", self.std)

    def sigma(self, u: Tensor) -> Tensor:
        """Returns the u-quantile of the truncated distribution."""
        ends = torch.tensor([self.sigma_min, self.sigma_max], dtype=u.dtype, device=u.device).log()
        low, high = torch.special.ndtr((ends - self.mean) / self.std)
        quantile: Tensor = self.mean + self.std * torch.special.ndtri(torch.lerp(low, high, u))
        return quantile.exp().clamp(self.sigma_min, self.sigma_max)  # the tails round to infinity


@dataclass(frozen=True)
class OneStep(NoiseSchedule, name="one_step"):
    """A share of the draws at the highest level of another schedule, the rest spread as there.

    For a model that shall be good after a single evaluation from pure noise, and better after a few more. So that
    levels increase strictly, the share lies within the hundredth above the highest level.
    """

    base: NoiseSchedule = field(default_factory=LogNormal)
    share: float = 0.5
    """Of the draws, above 0 and below 1."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"the share of draws at the highest level must lie between 0 and 1, not {self.share}")

    def sigma(self, u: Tensor) -> Tensor:
        """Returns base(u / (1 - share)) up to its highest level, which the rest of u raises by a hundredth."""
        level = self.base.sigma((u / (1 - self.share)).clamp(max=1))
        return level * (1 + 0.01 * ((u - 1) / self.share + 1).clamp(min=0))


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise UsageError(f"noise levels need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")


def _check_positive(name: str, number: float) -> None:
    if not 0 < number < math.inf:
        raise UsageError(f"{name} must be positive, not {number}")


@once
def _linear(schedule: Linear) -> Tensor:
    power = 0.5 if schedule.scaled else 1.0
    ends = schedule.beta_start**power, schedule.beta_end**power
    return _log_sigmas(torch.linspace(*ends, schedule.levels, dtype=torch.float64) ** (1 / power))


@once
def _cosine(schedule: Cosine) -> Tensor:
    t = torch.linspace(0, 1, schedule.levels + 1, dtype=torch.float64)
    alphabar = torch.cos((t + schedule.offset) / (1 + schedule.offset) * math.pi / 2) ** 2
    return _log_sigmas((1 - alphabar[1:] / alphabar[:-1]).clamp(max=schedule.beta_max))


def _log_sigmas(betas: Tensor) -> Tensor:
    """Returns log sqrt(1 / alphabar - 1) of every step [levels]."""
    alphabar = (1 - betas).cumprod(0)
    return ((1 - alphabar) / alphabar).log() / 2


def _interpolate(log_sigmas: Tensor, u: Tensor) -> Tensor:
    """Returns sigma at u in [0, 1], linear in log sigma between the entries of a table [levels]."""
    table = log_sigmas.to(u)
    position = u * (len(table) - 1)
    below = position.long().clamp(0, len(table) - 2)
    return torch.lerp(table[below], table[below + 1], position - below).exp()
