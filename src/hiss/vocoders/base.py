"""What every vocoder is: sound from a log-mel spectrum."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.signal.mel import MelProfile
from hiss.signal.moments import moments
from hiss.signal.overlap import Windows
from hiss.signal.resampling import turned
from hiss.signal.stft import istft
from hiss.spec import Spec

NEAR = 0.04
"""Seconds on either side within which a vocoder finds nearly all that a sample is made from."""

_WINDOW = 2048
"""Frames that are made into sound at once."""


@dataclass(frozen=True, kw_only=True)
class VocoderConfig(Spec, ABC):
    """Family of vocoder configurations; a member lives in one file of this folder."""

    mel: MelProfile = MelProfile()
    """What the vocoder hears."""

    @abstractmethod
    def build(self) -> "Vocoder":
        """Returns the vocoder with fresh weights."""


class Vocoder(nn.Module, ABC):
    """Makes sound of the log-mel that its profile made of a sound."""

    config: VocoderConfig
    trained: Tensor
    """Whether the weights were learned, not only drawn."""
    mean: Tensor
    """[bins]; with `scale` it brings each mel band of the training set to zero mean and unit variance."""
    scale: Tensor

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(config.mel.bins))
        self.register_buffer("scale", torch.ones(config.mel.bins))

    def forward(self, mel: Tensor) -> Tensor:
        """Returns audio [..., samples] of a log-mel [..., bins, frames]; there are frames * hop samples."""
        return self._made(mel, self.synthesise_long)

    def circle(self, mel: Tensor) -> Tensor:
        """Returns as much audio, whose end leads back to its start, as the last frame does to the first."""
        return self._made(mel, self.synthesise_circle)

    @abstractmethod
    def synthesise(self, mel: Tensor) -> Tensor:
        """Returns audio [batch, frames * hop] of a log-mel [batch, bins, frames] of unit variance."""

    def synthesise_long(self, mel: Tensor) -> Tensor:
        """Returns the same of any number of frames, in windows whose memory is bounded."""
        overlap, hop = 4 * self._reach, self.config.mel.hop
        windows = Windows(self.synthesise, size=max(_WINDOW, 2 * overlap), overlap=overlap, grows=hop)
        return windows.push(mel, last=True)

    def synthesise_circle(self, mel: Tensor) -> Tensor:
        """Returns the same of frames on a circle."""
        hop, frames, reach = self.config.mel.hop, mel.shape[-1], self._reach
        audio = self.synthesise_long(turned(mel, start=-reach, size=frames + 2 * reach))
        return audio[..., reach * hop : (reach + frames) * hop]

    @property
    def _reach(self) -> int:
        """Frames on either side that a sample is made from, nearly."""
        return math.ceil(NEAR * self.config.mel.sample_rate / self.config.mel.hop)

    def _made(self, mel: Tensor, synthesise: Callable[[Tensor], Tensor]) -> Tensor:
        *batch, bins, frames = mel.shape
        normal = (mel.reshape(-1, bins, frames).float() - self.mean[:, None]) / self.scale[:, None]
        return synthesise(normal).reshape(*batch, frames * self.config.mel.hop)

    def fit(self, mels: Iterable[Tensor]) -> None:
        """Measures `mean` and `scale` over the log-mels [batch, bins, frames] of the whole training set."""
        mean, std = moments(mels, over=(0, 2))
        self.mean.copy_(mean)
        self.scale.copy_(std.clamp(min=1e-3))


def surrounded(mel: Tensor) -> Tensor:
    """Returns a log-mel [..., bins, frames] with its first and its last frame once more: `inside` leaves these out.

    Frames of a profile are centred between hops, those of an STFT on them.
    """
    return functional.pad(mel, (1, 1), mode="replicate")


def inside(spectrum: Tensor, *, hop: int) -> Tensor:
    """Returns audio [..., frames * hop] of the spectrum [..., n_fft // 2 + 1, frames + 2] of a `surrounded` mel."""
    start = hop - hop // 2
    return istft(spectrum, hop=hop, samples=(spectrum.shape[-1] - 2) * hop + start)[..., start:]
