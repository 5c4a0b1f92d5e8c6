"""Loss weightings: how much the squared error of the clean estimate counts at each noise level.

Each function returns w(sigma), of the shape of sigma, for the loss w(sigma) * mean((D(x, sigma) - clean)^2).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hiss.noise import seeded

Weighting = Callable[[Tensor], Tensor]


def uniform_noise(sigma: Tensor) -> Tensor:
    """Returns 1 / sigma^2: the error of the predicted noise counts the same everywhere.

    Source: Ho, Jain, Abbeel 2020, equation 14.
    """
    return sigma**-2


def clean(sigma: Tensor) -> Tensor:
    """Returns 1: the error of the clean signal counts the same everywhere."""
    return torch.ones_like(sigma)


def v(sigma: Tensor) -> Tensor:
    """Returns (1 + sigma^2) / sigma^2: the error of v counts the same everywhere, and so does that of EDM's target.

    Source: Salimans, Ho 2022, section 4 ("SNR + 1"); Karras et al. 2022, table 1, with sigma_data 1.
    """
    return 1 + sigma**-2


def flow(sigma: Tensor) -> Tensor:
    """Returns ((1 + sigma) / sigma)^2: the error of a rectified flow's velocity counts the same everywhere.

    Source: Liu, Gong, Liu 2023, equation 1.
    """
    return (1 + 1 / sigma) ** 2


def min_snr(sigma: Tensor, *, gamma: float = 5.0) -> Tensor:
    """Returns min(1 / sigma^2, gamma): low levels do not outweigh the rest.

    Source: Hang et al. 2023 (Min-SNR), in its form for the clean estimate.
    """
    return (sigma**-2).clamp(max=gamma)


def none(sigma: Tensor) -> Tensor:
    """Returns 0: the squared error does not count, and a model learns from its auxiliary losses alone."""
    return torch.zeros_like(sigma)


WEIGHTINGS: dict[str, Weighting] = {
    "uniform_noise": uniform_noise,
    "clean": clean,
    "v": v,
    "edm": v,
    "flow": flow,
    "min_snr": min_snr,
    "none": none,
}


class Uncertainty(nn.Module):
    """A learned log variance u(sigma) of the loss, so that every noise level pulls with the same force.

    A linear layer over random Fourier features of log(sigma) / 4. It starts at u = 0, where it changes nothing, and is
    thrown away after training.
    Source: Karras et al. 2024 (EDM2), equations 14 and 15.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, features: int = 128) -> None:
        super().__init__()
        generator = seeded("uncertainty", features)
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(features, generator=generator))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features, generator=generator))
        self.linear = nn.Linear(features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def log_variance(self, sigma: Tensor) -> Tensor:
        """Returns u(sigma) [batch] for sigma [batch]."""
        angles = torch.outer(sigma.log() / 4, self.frequencies) + self.phases
        output: Tensor = self.linear(math.sqrt(2) * angles.cos())
        return output.squeeze(-1)

    def forward(self, loss: Tensor, sigma: Tensor) -> Tensor:
        """Returns loss / exp(u) + u [batch] for the weighted squared error `loss` [batch] at sigma [batch]."""
        u = self.log_variance(sigma)
        return loss * torch.exp(-u) + u
