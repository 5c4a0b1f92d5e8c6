"""Parameterizations: what a network predicts, as four scalings around it.

D(x, sigma) = skip * x + out * F(scale * x, noise): each function here returns the four for one convention of the
literature. Data have unit variance; `noise`, what the network is told of the level, is log(sigma) / 4 everywhere.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Scalings(NamedTuple):
    """The four numbers around a network F, each of the shape of sigma: none, or [batch]."""

    skip: Tensor
    """How much of x the estimate keeps."""
    out: Tensor
    """What multiplies the network's output."""
    scale: Tensor
    """What multiplies the network's input."""
    noise: Tensor
    """What the network is told of the noise level."""


def noise(sigma: Tensor) -> Scalings:
    """Returns the scalings of a network that predicts the noise.

    Source: Ho, Jain, Abbeel 2020, equation 14.
    """
    return Scalings(sigma.new_ones(sigma.shape), -sigma, _unit(sigma), _told(sigma))


def clean(sigma: Tensor) -> Scalings:
    """Returns the scalings of a network that predicts the clean signal itself."""
    return Scalings(sigma.new_zeros(sigma.shape), sigma.new_ones(sigma.shape), _unit(sigma), _told(sigma))


def wiener(sigma: Tensor) -> Scalings:
    """Returns the scalings of a network that predicts the clean signal, given the linear estimate x / (1 + sigma^2).

    At high levels hardly anything of x is left: a model that listens to a recording is then not disturbed by noise that
    tells it nothing, and its first step is the same for any noise.
    """
    return Scalings(sigma.new_zeros(sigma.shape), sigma.new_ones(sigma.shape), _unit(sigma) ** 2, _told(sigma))


def v(sigma: Tensor) -> Scalings:
    """Returns the scalings of a network that predicts v = (noise - sigma * clean) / sqrt(1 + sigma^2).

    Source: Salimans, Ho 2022, section 4.
    """
    unit = _unit(sigma)
    return Scalings(unit**2, -sigma * unit, unit, _told(sigma))


def flow(sigma: Tensor) -> Scalings:
    """Returns the scalings of a network that predicts the velocity noise - clean of a rectified flow.

    Its time is t = sigma / (1 + sigma), and its state x / (1 + sigma) = (1 - t) * clean + t * noise.
    Source: Liu, Gong, Liu 2023, equation 1.
    """
    share = 1 / (1 + sigma)
    return Scalings(share, -sigma * share, share, _told(sigma))


def edm(sigma: Tensor) -> Scalings:
    """Returns the scalings that keep the variance of a network's input and of its target at 1.

    With data of unit variance this is `v` with the sign of the output turned.
    Source: Karras et al. 2022, table 1, with sigma_data 1.
    """
    unit = _unit(sigma)
    return Scalings(unit**2, sigma * unit, unit, _told(sigma))


PARAMETERIZATIONS: dict[str, Callable[[Tensor], Scalings]] = {
    "noise": noise,
    "clean": clean,
    "wiener": wiener,
    "v": v,
    "flow": flow,
    "edm": edm,
}


def expand(level: Tensor, x: Tensor) -> Tensor:
    """Returns `level`, without dimension or [batch], shaped so that it multiplies x [batch, ...] item by item."""
    return level.reshape(-1, *[1] * (x.ndim - 1)) if level.ndim else level


def estimate(scalings: Scalings, x: Tensor, output: Tensor) -> Tensor:
    """Returns the clean signal [batch, channels, *space] that a network means by `output` at the state x."""
    return expand(scalings.skip, x) * x + expand(scalings.out, x) * output


def target(scalings: Scalings, x: Tensor, clean: Tensor) -> Tensor:
    """Returns what a network should put out at the state x [batch, channels, *space]: the inverse of `estimate`."""
    return (clean - expand(scalings.skip, x) * x) / expand(scalings.out, x)


def _unit(sigma: Tensor) -> Tensor:
    """Returns what brings x = clean + sigma * noise to unit variance."""
    return (1 + sigma**2).rsqrt()


def _told(sigma: Tensor) -> Tensor:
    return sigma.log() / 4
