"""The MDCT: real, as many numbers as samples, each frequency bin scaled by itself and companded."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.representations.base import Representation, RepresentationConfig
from hiss.signal.mdct import MdctWindow, imdct, mdct, slope

_SILENT = 1e-4  # of the RMS of all bins, 80 dB below: what a softer bin holds is rounding, not sound
_FLOOR = 1e-4  # of the RMS of a bin; the slope of a power is that at this value where it would be infinite
_FRAMES = 8192  # that are kept to measure the spread, 8 MiB for 256 bins


@dataclass(frozen=True)
class MdctConfig(RepresentationConfig, name="mdct"):
    """Options of the MDCT."""

    bins: int = 256
    """Frequency bins, an even number; also the hop in samples, half of a window."""
    window: MdctWindow = "sine"
    alpha: float = 4.0
    """Of the kbd window: the larger, the less it leaks far away."""
    companding: Literal["power", "asinh", "none"] = "power"
    """What becomes of a coefficient c in units of the RMS of its bin, so that soft sounds count more: its sign times
    |c|^exponent, knee * asinh(c / knee), or nothing."""
    exponent: float = 0.6
    """Of the power, in (0, 1]."""
    knee: float = 0.1
    """Of asinh: linear below, logarithmic above."""
    mid_side: bool = False
    """Whether stereo is turned into (left + right) / sqrt(2) and (left - right) / sqrt(2); mono stays as it is."""

    def __post_init__(self) -> None:
        slope(self.window, self.bins, alpha=self.alpha)  # says what is wrong with these three
        if not 0 < self.exponent <= 1:
            raise UsageError(f"exponent must lie above 0 and at most at 1, not {self.exponent}")
        if not 0 < self.knee < math.inf:
            raise UsageError(f"the knee of asinh must be positive, not {self.knee}")

    def build(self, sample_rate: int, audio_channels: int) -> "Mdct":
        return Mdct(self, sample_rate, audio_channels)


class Mdct(Representation):
    """[batch, audio_channels, samples] -> [batch, audio_channels, bins, frames]: companded(c / scale) / spread.

    `scale` is the RMS over the training set of the coefficients c of one channel and bin, and `spread` that of what is
    companded, so that each bin comes to unit variance. Bins more than 80 dB below the RMS of all are taken to be that
    loud, so that rounding errors do not become sound.
    """

    scale: Tensor
    spread: Tensor

    def __init__(self, config: MdctConfig, sample_rate: int, audio_channels: int) -> None:
        super().__init__()
        if config.mid_side and audio_channels > 2:
            raise UsageError(f"mid and side are those of 2 channels, not of {audio_channels}; set mid_side to false")
        self.config: MdctConfig = config
        self.sample_rate = sample_rate
        self.audio_channels = self.channels = audio_channels
        self.dims = 2
        self.hop = config.bins
        self.margin = 1
        self.register_buffer("scale", torch.ones(audio_channels, config.bins, 1))
        self.register_buffer("spread", torch.ones(audio_channels, config.bins, 1))

    def encode(self, audio: Tensor) -> Tensor:
        return self._companded(self._spectrum(audio) / self.scale) / self.spread

    def decode(self, x: Tensor) -> Tensor:
        spectrum = self._expanded(_exact(x) * self.spread) * self.scale
        samples = (x.shape[-1] - 1) * self.config.bins
        return self._turned(imdct(spectrum, samples=samples, window=self.config.window, alpha=self.config.alpha))

    def shape(self, samples: int) -> tuple[int, ...]:
        return (self.channels, self.config.bins, math.ceil(samples / self.config.bins) + 1)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Measures `scale` over all frames, and then `spread`, which depends on it, over those that were kept.

        These are 8192 at random, or all if there are not more: so batches are read only once, and the spread of a bin
        is exact to about 2 %.
        """
        generator, frames = seeded("mdct", "fit"), 0
        energy = torch.zeros(self.scale.shape, dtype=torch.float64)  # on the CPU: not all accelerators have it
        kept, keys = self.scale.new_zeros(*self.scale.shape[:2], 0), torch.zeros(0)
        for audio in batches:
            spectrum = self._spectrum(audio.to(self.scale.device)).movedim(0, 2).flatten(2)
            energy += spectrum.cpu().double().square().sum(dim=-1, keepdim=True)
            frames += spectrum.shape[-1]
            # Each frame draws a number, and those with the lowest ones stay.
            keys = torch.cat([keys, torch.rand(spectrum.shape[-1], generator=generator)])
            lowest = keys.argsort()[:_FRAMES]
            kept, keys = torch.cat([kept, spectrum], dim=-1)[..., lowest.to(kept.device)], keys[lowest]
        if not bool(energy.any()):
            raise HissError("the training audio is empty or silent, so its level cannot be measured; check the data")
        level = (energy / frames).sqrt()
        least = _SILENT * level.square().mean().sqrt()
        self.scale.copy_(level.clamp(min=float(least)))
        spread = self._companded(kept / self.scale).cpu().double().square().mean(dim=-1, keepdim=True).sqrt()
        # That of a bin whose coefficients are all as loud is the largest there is. It stands for silent bins, and a
        # share of it is the least, in case that the frames that were kept lack the few in which a bin sounds.
        steady = self._companded(torch.ones_like(self.scale)).cpu().double()
        self.spread.copy_(torch.where(level > least, spread.maximum(0.05 * steady), steady))

    def _companded(self, x: Tensor) -> Tensor:
        if self.config.companding == "power":
            return _power(x, self.config.exponent, floor=_FLOOR)
        if self.config.companding == "asinh":
            return self.config.knee * torch.asinh(x / self.config.knee)
        return x

    def _expanded(self, x: Tensor) -> Tensor:
        if self.config.companding == "power":
            return _power(x, 1 / self.config.exponent, floor=_FLOOR**self.config.exponent)
        if self.config.companding == "asinh":
            return self.config.knee * torch.sinh(x / self.config.knee)
        return x

    def _spectrum(self, audio: Tensor) -> Tensor:
        config = self.config
        return mdct(self._turned(_exact(audio)), bins=config.bins, window=config.window, alpha=config.alpha)

    def _turned(self, audio: Tensor) -> Tensor:
        """Returns mid and side of left and right [batch, 2, samples], or these of those."""
        if not self.config.mid_side or self.audio_channels == 1:
            return audio
        left, right = audio.unbind(1)
        return torch.stack([left + right, left - right], dim=1) * math.sqrt(0.5)


def _exact(x: Tensor) -> Tensor:
    """Returns numbers in float32, or in float64 where they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _power(x: Tensor, exponent: float, *, floor: float) -> Tensor:
    """Returns x |x|^(exponent - 1), with values below `floor` treated as `floor`; see `hiss.signal.stft.compress`."""
    return x * x.abs().clamp(min=floor) ** (exponent - 1)
