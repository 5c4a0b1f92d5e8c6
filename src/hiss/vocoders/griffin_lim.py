"""A vocoder that learns nothing: the spectrum that a mel spectrum stands for, and phases that agree with each other."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.once import once
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
        """Returns audio [batch, frames * hop] of a log-mel [batch, bins, frames], of any length at the same memory."""
        heard = surrounded(mel)
        return self._sound(heard, torch.arange(heard.shape[-1]))

    def synthesise_long(self, mel: Tensor) -> Tensor:
        return self.synthesise(mel)

    def synthesise_circle(self, mel: Tensor) -> Tensor:
        # With as many neighbours as the iterations reach and their phases, a frame and its copy a turn later are alike.
        frames, before = mel.shape[-1], self._reach + 1
        places = torch.arange(-before, frames + before) % frames
        audio = self._sound(mel[..., places], places)
        return audio[..., self._reach * self.config.mel.hop :][..., : frames * self.config.mel.hop]

    @property
    def _reach(self) -> int:
        """Frames on either side that all iterations together reach."""
        return (self.config.iterations + 1) * math.ceil(self.config.mel.n_fft / self.config.mel.hop)

    def _sound(self, heard: Tensor, places: Tensor) -> Tensor:
        """Returns audio [batch, frames * hop] of log-mels [batch, bins, 1 + frames + 1], with phases of their places.

        Blocks of frames are done one after the other, each with the neighbours that the iterations reach: so the result
        is that of all frames at once.
        """
        hop, frames, pieces = self.config.mel.hop, len(places), []
        for start in range(0, frames - 2, _BLOCK):
            end = min(start + _BLOCK, frames - 2)
            part = slice(max(0, start - self._reach), min(frames, end + 2 + self._reach))
            audio = inside(self._spectrum(heard[..., part], places[part]), hop=hop)
            pieces.append(audio[..., (start - part.start) * hop : (end - part.start) * hop])
        return torch.cat(pieces, dim=-1)

    def _spectrum(self, heard: Tensor, places: Tensor) -> Tensor:
        """Returns the spectrum [batch, n_fft // 2 + 1, frames] of log-mels that begin with phases of places."""
        profile, frames = self.config.mel, heard.shape[-1]
        magnitude = (_inverse(profile).to(heard) @ heard.exp()).clamp(min=0)
        phases = _phases(magnitude.shape[1], places).to(magnitude.device)
        mixed, before = self.config.momentum / (1 + self.config.momentum), torch.zeros_like(phases)
        for _ in range(self.config.iterations):
            made = istft(magnitude * phases, hop=profile.hop, samples=(frames - 1) * profile.hop)
            consistent = stft(made, n_fft=profile.n_fft, hop=profile.hop)
            ahead = consistent - mixed * before
            phases, before = ahead / ahead.abs().clamp(min=_TINY), consistent
        return magnitude * phases

    def fit(self, mels: Iterable[Tensor]) -> None:
        """Measures nothing: the mel spectrum is taken as it is."""


@once
def _inverse(profile: MelProfile) -> Tensor:
    """Returns the pseudo-inverse [n_fft // 2 + 1, bins] of the mel filters of a profile."""
    filters = mel_filters(profile.sample_rate, profile.n_fft, profile.bins, profile.low, profile.high)
    inverse: Tensor = torch.linalg.pinv(filters.double()).float()
    return inverse


def _phases(bins: int, places: Tensor) -> Tensor:
    """Returns random phases [bins, frames], as exp(i phase), which are the same for a place in whatever part it is."""
    draws, which = torch.unique(places // _DRAWN, return_inverse=True)
    chance = torch.cat([torch.rand(bins, _DRAWN, generator=seeded("phases", draw)) for draw in draws.tolist()], dim=-1)
    chance = 2 * math.pi * chance[:, which * _DRAWN + places % _DRAWN]
    return torch.polar(torch.ones_like(chance), chance)
