"""Audio as it is: samples, optionally with the high frequencies raised, scaled to unit variance."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.errors import HissError, UsageError
from hiss.representations.base import Representation, RepresentationConfig


@dataclass(frozen=True)
class WaveformConfig(RepresentationConfig, name="waveform"):
    """Options of the waveform representation."""

    pre_emphasis: float = 0.0
    """Coefficient a of y[n] = x[n] - a x[n - 1], in [0, 1): flattens the falling spectrum of speech and music, so that
    white noise hides all frequencies at about the same level."""

    def __post_init__(self) -> None:
        if not 0 <= self.pre_emphasis < 1:
            raise UsageError(f"pre_emphasis must be at least 0 and below 1, not {self.pre_emphasis}")

    def build(self, sample_rate: int, audio_channels: int) -> "Waveform":
        return Waveform(self, sample_rate, audio_channels)


class Waveform(Representation):
    """[batch, audio_channels, samples] -> the same shape, of unit variance over the training set.

    The pre-emphasis is circular, a product in the frequency domain: inverted exactly at any length.
    """

    scale: Tensor

    def __init__(self, config: WaveformConfig, sample_rate: int, audio_channels: int) -> None:
        super().__init__()
        self.config: WaveformConfig = config
        self.sample_rate = sample_rate
        self.audio_channels = self.channels = audio_channels
        self.dims = 1
        self.hop = 1
        self.margin = 0
        self.register_buffer("scale", torch.ones(()))

    def encode(self, audio: Tensor) -> Tensor:
        return self._emphasise(audio) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        return self._emphasise(x * self.scale, inverse=True)

    def shape(self, samples: int) -> tuple[int, ...]:
        return (self.channels, samples)

    def fit(self, batches: Iterable[Tensor]) -> None:
        energy, count = 0.0, 0
        for audio in batches:
            energy += float(self._emphasise(audio).double().square().sum())
            count += audio.numel()
        if energy == 0:
            raise HissError("the training audio is empty or silent, so its level cannot be measured; check the data")
        self.scale.fill_(math.sqrt(energy / count))

    def _emphasise(self, audio: Tensor, *, inverse: bool = False) -> Tensor:
        if self.config.pre_emphasis == 0:
            return audio
        samples = audio.shape[-1]
        angle = torch.arange(samples // 2 + 1, device=audio.device) * (2 * math.pi / samples)
        response = 1 - self.config.pre_emphasis * torch.exp(-1j * angle)
        spectrum = torch.fft.rfft(audio.float())
        filtered: Tensor = torch.fft.irfft(spectrum / response if inverse else spectrum * response, n=samples)
        return filtered
