"""The complex short-time spectrum with its magnitudes compressed, as networks for speech see it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.errors import HissError, UsageError
from hiss.representations.base import Coding, Representation, RepresentationConfig
from hiss.signal.stft import IstftStream, StftStream, compress, istft, stft

_FLOOR = 1e-12  # of a power, 120 dB below a sample of 1


@dataclass(frozen=True)
class StftConfig(RepresentationConfig, name="stft"):
    """Options of the compressed spectrum."""

    window: int = 512
    """Samples of a window, an even number; also the delay that taking apart and putting together costs."""
    hop: int = 256
    """Samples from one window to the next, at most half a window."""
    exponent: float = 0.5
    """What the magnitudes are raised to, in (0, 1]: below 1 soft sounds count more."""

    def __post_init__(self) -> None:
        if self.window < 4 or self.window % 2 or not 1 <= self.hop <= self.window // 2:
            raise UsageError(
                "a spectrum needs an even window of at least 4 samples and a hop of at most half of it, "
                f"not {self.window} and {self.hop}"
            )
        if not 0 < self.exponent <= 1:
            raise UsageError(f"exponent must lie above 0 and at most at 1, not {self.exponent}")

    def build(self, sample_rate: int, audio_channels: int) -> "Stft":
        return Stft(self, sample_rate, audio_channels)


class Stft(Representation):
    """[batch, audio_channels, samples] -> [batch, 2 * audio_channels, bins, frames]: real and imaginary parts in turn.

    z becomes z |z|^(exponent - 1) / scale. The window is a sine, the frames are centred (see `hiss.signal.stft`).
    Source: Welker, Richter, Gerkmann 2022, "Speech Enhancement with Score-Based Generative Models in the Complex STFT
    Domain", section 3.3.
    """

    scale: Tensor

    def __init__(self, config: StftConfig, sample_rate: int, audio_channels: int) -> None:
        super().__init__()
        self.config: StftConfig = config
        self.sample_rate = sample_rate
        self.audio_channels = audio_channels
        self.channels = 2 * audio_channels
        self.dims = 2
        self.hop = config.hop
        self.margin = math.ceil(config.window / 2 / config.hop)
        self.register_buffer("scale", torch.ones(()))

    def encode(self, audio: Tensor) -> Tensor:
        return self.compressed(self._spectrum(audio)) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        hop = self.config.hop
        return istft(self.expanded(x), hop=hop, samples=(x.shape[-1] - 1) * hop, window="sine")

    def coding(self) -> "StftCoding":
        return StftCoding(self)

    def shape(self, samples: int) -> tuple[int, ...]:
        return (self.channels, self.config.window // 2 + 1, math.ceil(samples / self.config.hop) + 1)

    def fit(self, batches: Iterable[Tensor]) -> None:
        energy, count = 0.0, 0
        for audio in batches:
            encoded = self.compressed(self._spectrum(audio))
            energy += float(encoded.double().square().sum())
            count += encoded.numel()
        if energy == 0:
            raise HissError("the training audio is empty or silent, so its level cannot be measured; check the data")
        self.scale.fill_(math.sqrt(energy / count))

    def compressed(self, spectrum: Tensor) -> Tensor:
        """Returns [batch, channels, bins, frames], not yet scaled, of spectra [batch, audio_channels, bins, frames]."""
        return torch.view_as_real(compress(spectrum, self.config.exponent, floor=_FLOOR)).movedim(-1, 2).flatten(1, 2)

    def expanded(self, x: Tensor) -> Tensor:
        """Returns the spectra [batch, audio_channels, bins, frames] of what is encoded."""
        spectrum = torch.complex(*(x.float() * self.scale).unflatten(1, (self.audio_channels, 2)).unbind(2))
        return compress(spectrum, 1 / self.config.exponent, floor=_FLOOR**self.config.exponent)

    def _spectrum(self, audio: Tensor) -> Tensor:
        return stft(audio.float(), n_fft=self.config.window, hop=self.config.hop, window="sine")


class StftCoding(Coding):
    """`Stft` in pieces: delayed by one window."""

    def __init__(self, stft: Stft) -> None:
        self.stft = stft
        self.latency = stft.config.window
        self._analysis = StftStream(n_fft=stft.config.window, hop=stft.config.hop, window="sine")
        self._synthesis = IstftStream(n_fft=stft.config.window, hop=stft.config.hop, window="sine")

    def encode(self, audio: Tensor, *, last: bool = False) -> Tensor:
        return self.stft.compressed(self._analysis.push(audio.float(), last=last)) / self.stft.scale

    def decode(self, x: Tensor, *, last: bool = False) -> Tensor:
        return self._synthesis.push(self.stft.expanded(x), last=last)
