"""Guidance: push an estimate away from what is expected without, or with an unwanted, condition."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hiss.types import Denoise

DenoiseBoth = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x, sigma) -> (estimate with the condition, estimate without), which a network can compute in one doubled batch."""

Gradient = Callable[[Tensor, Tensor], Tensor]
"""(x, sigma) -> how something grows with each number in x; the shape is that of x."""


def guide(
    both: DenoiseBoth,
    conditional: Denoise,
    scale: float,
    *,
    interval: tuple[float, float] = (0.0, math.inf),
    rescale: float = 0.0,
) -> Denoise:
    """Returns a denoiser whose estimate is without + scale * (with - without).

    A negative prompt is the condition of the second estimate of `both`. Where guidance does nothing (scale 1, or sigma
    outside the interval) only `conditional` is evaluated. sigma is one number for the whole batch.

    Args:
        both: both estimates at once; see also `pair`.
        conditional: the first of the two alone.
        scale: 0 ignores the condition, 1 follows it, more exaggerates it.
        interval: guide only where interval[0] < sigma <= interval[1].
        rescale: in [0, 1], how far to bring each item's standard deviation back to that of the conditional estimate.

    Source: Ho, Salimans 2022, equation 6; Kynkäänniemi et al. 2024 (interval); Lin et al. 2023, equations
    15 and 16 (rescale), here on the clean estimate.
    """
    if scale == 1:
        return conditional
    low, high = interval

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        if not low < float(sigma) <= high:
            return conditional(x, sigma)
        wanted, unwanted = both(x, sigma)
        estimate = unwanted + scale * (wanted - unwanted)
        if rescale:
            ratio = _deviation(wanted) / _deviation(estimate).clamp(min=torch.finfo(x.dtype).tiny)  # may be silence
            estimate = estimate * (1 + rescale * (ratio - 1))
        return estimate

    return guided


def pair(conditional: Denoise, unconditional: Denoise) -> DenoiseBoth:
    """Returns both estimates of two denoisers, such as a model and a weaker one.

    Source: Karras et al. 2024 (autoguidance), for a weaker version of the model as the second; Ahn et al. 2024
    (perturbed-attention guidance), for the model itself with its self-attention blind.
    """
    return lambda x, sigma: (conditional(x, sigma), unconditional(x, sigma))


def steer(denoise: Denoise, gradient: Gradient, scale: float, *, interval: tuple[float, float]) -> Denoise:
    """Returns a denoiser that is led to what somebody else recognises: estimate + scale * sigma^2 * gradient.

    sigma is one number for the whole batch.
    With scale 1 and the gradient of log p(wanted | x), at the same noise level, of a denoiser without conditions, that
    is the expected clean signal given both x and what is wanted.

    Args:
        denoise: the estimate that is led.
        gradient: of how much x, under noise of level sigma, is like what is wanted; without dimension over that of x.
        scale: 0 leads nowhere.
        interval: lead only where interval[0] < sigma <= interval[1].

    Source: Dhariwal & Nichol 2021, section 4 (classifier guidance), by equation 14 there, on the clean estimate.
    """
    low, high = interval

    def steered(x: Tensor, sigma: Tensor) -> Tensor:
        estimate = denoise(x, sigma)
        return estimate + scale * sigma**2 * gradient(x, sigma) if low < float(sigma) <= high else estimate

    return steered


def _deviation(x: Tensor) -> Tensor:
    """Returns the standard deviation of each item, shaped to broadcast over x [batch, ...]."""
    return x.std(dim=tuple(range(1, x.ndim)), keepdim=True, correction=0)
