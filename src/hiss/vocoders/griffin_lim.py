"""A vocoder that learns nothing: the spectrum that a mel spectrum stands for, and phases that agree with each other."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.signal.mel import MelProfile, mel_filters
from hiss.signal.stft import istft, stft
from hiss.vocoders.base import Vocoder, VocoderConfig, inside, surrounded

_TINY = 1e-9
_BLOCK = 2048
"""Frames that are done at once."""
_DRAWN = 256
"""Frames whose phases are drawn at once."""


@dataclass(frozen=True, kw_only=True)
class GriffinLimConfig(VocoderConfig, name="griffin_lim"):
    """How long phases are looked for."""

    iterations: int = 32
    """Each costs an STFT and its inverse."""
    momentum: float = 0.99
    """How far each iteration goes on in the direction of the one before; 0 for the original algorithm."""

    def __post_init__(self) -> None:
        if self.iterations < 0 or not 0 <= self.momentum <= 1:
            raise UsageError(
                "griffin_lim needs 0 or more iterations and a momentum from 0 to 1, "
                f"not {self.iterations} and {self.momentum}"
            )

    def build(self) -> "GriffinLim":
        return GriffinLim(self)


class GriffinLim(Vocoder):
    """The least-squares magnitudes of a mel spectrum, with phases from alternating projections, always the same ones.

    It needs no training, takes any mel profile, and is at its best where sounds are tones.

    Source: Griffin and Lim 1984, "Signal estimation from modified short-time Fourier transform"; for the momentum
    Perraudin, Balazs and Sondergaard 2013, "A fast Griffin-Lim algorithm", algorithm 2.
    """

    def __init__(self, config: GriffinLimConfig) -> None:
        super().__init__(config)
        self.config: GriffinLimConfig = config
        self.trained.fill_(True)

    def synthesise(self, mel: Tensor) -> Tensor:
        """Returns audio [batch, frames * hop] of a log-mel [batch, bins, frames], of any length at the same memory.

        Blocks of frames are done one after the other, each with as many neighbours as an iteration can reach as often
        as there are iterations: so the result is that of all frames at once.
        """
        profile, heard = self.config.mel, surrounded(mel)
        frames, reach = heard.shape[-1], (self.config.iterations + 1) * math.ceil(profile.n_fft / profile.hop)
        pieces = []
        for start in range(0, frames - 2, _BLOCK):
            end = min(start + _BLOCK, frames - 2)
            first, behind = max(0, start - reach), min(frames, end + 2 + reach)
            audio = inside(self._spectrum(heard[..., first:behind], first), hop=profile.hop)
            pieces.append(audio[..., (start - first) * profile.hop : (end - first) * profile.hop])
        return torch.cat(pieces, dim=-1)

    def _spectrum(self, heard: Tensor, first: int) -> Tensor:
        """Returns the spectrum [batch, n_fft // 2 + 1, frames] of log-mels, the frames from `first` on of a whole."""
        profile, frames = self.config.mel, heard.shape[-1]
        magnitude = (_inverse(profile).to(heard) @ heard.exp()).clamp(min=0)
        phases = _phases(magnitude.shape[1], first, frames).to(magnitude.device)
        mixed, before = self.config.momentum / (1 + self.config.momentum), torch.zeros_like(phases)
        for _ in range(self.config.iterations):
            made = istft(magnitude * phases, hop=profile.hop, samples=(frames - 1) * profile.hop)
            consistent = stft(made, n_fft=profile.n_fft, hop=profile.hop)
            ahead = consistent - mixed * before
            phases, before = ahead / ahead.abs().clamp(min=_TINY), consistent
        return magnitude * phases

    def fit(self, mels: Iterable[Tensor]) -> None:
        """Measures nothing: the mel spectrum is taken as it is."""


@lru_cache(maxsize=8)
def _inverse(profile: MelProfile) -> Tensor:
    """Returns the pseudo-inverse [n_fft // 2 + 1, bins] of the mel filters of a profile."""
    filters = mel_filters(profile.sample_rate, profile.n_fft, profile.bins, profile.low, profile.high)
    inverse: Tensor = torch.linalg.pinv(filters.double()).float()
    return inverse


def _phases(bins: int, first: int, frames: int) -> Tensor:
    """Returns random phases [bins, frames], as exp(i phase), which are the same for a frame wherever a part begins."""
    draws = range(first // _DRAWN, (first + frames - 1) // _DRAWN + 1)
    chance = torch.cat([torch.rand(bins, _DRAWN, generator=seeded("phases", draw)) for draw in draws], dim=-1)
    chance = 2 * math.pi * chance.narrow(1, first % _DRAWN, frames)
    return torch.polar(torch.ones_like(chance), chance)
