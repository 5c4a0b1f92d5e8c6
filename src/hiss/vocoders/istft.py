"""A vocoder that never leaves the frame rate: ConvNeXt blocks predict a spectrum, and the inverse STFT makes sound."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import UsageError
from hiss.vocoders.base import Vocoder, VocoderConfig, inside, surrounded

_LOUDEST = 100.0  # magnitude; an untrained head would overflow


@dataclass(frozen=True, kw_only=True)
class IstftConfig(VocoderConfig, name="istft"):
    """Sizes of a vocoder with an inverse STFT as its head."""

    channels: int = 256
    expansion: int = 3
    """How many times wider the inner layer of a block is."""
    blocks: int = 6
    kernel: int = 7
    """Frames that the depthwise convolution of a block sees, an odd number."""
    window: int | None = None
    """Samples of a window of the head; those of the mel profile where left out."""

    def __post_init__(self) -> None:
        if min(self.channels, self.expansion, self.blocks) < 1 or self.kernel % 2 == 0:
            raise UsageError("istft needs positive channels, expansion and blocks, and an odd kernel")
        if self.n_fft % 2 or self.n_fft < 2 * self.mel.hop:
            raise UsageError(
                f"the window of istft is even and at least two hops of {self.mel.hop} samples, not {self.n_fft}"
            )

    @property
    def n_fft(self) -> int:
        """Samples of a window of the head."""
        return self.mel.n_fft if self.window is None else self.window

    def build(self) -> "Istft":
        return Istft(self)


class Block(nn.Module):
    """A depthwise convolution over time, then two dense layers at each frame, added to the input."""

    def __init__(self, channels: int, kernel: int, expansion: int, gain: float) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)
        self.gain = nn.Parameter(torch.full((channels,), gain))

    def forward(self, x: Tensor) -> Tensor:
        """Returns [batch, frames, channels] of the same."""
        hidden = self.norm(self.over_time(x.transpose(1, 2)).transpose(1, 2))
        out: Tensor = x + self.gain * self.narrow(functional.gelu(self.widen(hidden)))
        return out


class Istft(Vocoder):
    """Magnitude exp(m) and phase p of each bin from a stack of ConvNeXt blocks; exp(m) (cos p + i sin p) is inverted.

    Source: Siuzdak 2023, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders", section 3.
    """

    def __init__(self, config: IstftConfig) -> None:
        super().__init__(config)
        self.config: IstftConfig = config
        channels = config.channels
        self.enter = nn.Conv1d(config.mel.bins, channels, config.kernel, padding=config.kernel // 2)
        self.first = nn.LayerNorm(channels)
        self.blocks = nn.Sequential(
            *(Block(channels, config.kernel, config.expansion, 1 / config.blocks) for _ in range(config.blocks))
        )
        self.last = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, config.n_fft + 2)

    def synthesise(self, mel: Tensor) -> Tensor:
        hidden = self.last(self.blocks(self.first(self.enter(surrounded(mel)).transpose(1, 2))))
        magnitude, phase = self.head(hidden).float().transpose(1, 2).chunk(2, dim=1)
        return inside(torch.polar(magnitude.exp().clamp(max=_LOUDEST), phase), hop=self.config.mel.hop)
