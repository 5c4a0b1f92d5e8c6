"""A plain convolutional encoder and decoder: the simplest denoiser, and what better ones are measured against."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import UsageError
from hiss.networks.base import Network, NetworkConfig, Ports
from hiss.networks.layers import NoiseEmbedding, zeroed
from hiss.types import Condition


@dataclass(frozen=True)
class ConvConfig(NetworkConfig, name="conv"):
    """Sizes of an encoder and of the decoder that mirrors it."""

    channels: tuple[int, ...] = (32, 64, 128, 256)
    """Of each level; the last are those of the latent."""
    strides: tuple[int, ...] = (4, 4, 4, 4)
    """How many times shorter each level is than the one before; its kernels are twice as long, or one more."""
    slope: float = 0.2
    """Of the LeakyReLU where it is negative."""
    dropout: float = 0.0
    """Share of the latent that is left out in training."""
    embedding: int = 128
    """Features of the time embedding."""
    skips: bool = False
    """Whether each level of the encoder is added to that of the decoder."""
    matched: bool = False
    """Whether the network sees x and the noise level that x has, as a denoiser of diffusion does. If not, it sees the
    signal of the condition alone, and the time means nothing: drawn from [0, 1) in training, 0 otherwise."""

    def __post_init__(self) -> None:
        if not self.channels or len(self.strides) != len(self.channels):
            raise UsageError(
                f"a conv network needs a stride for each level, not {len(self.strides)} for {len(self.channels)}"
            )
        if min(*self.channels, *self.strides, self.embedding // 2) < 1 or self.slope < 0 or not 0 <= self.dropout < 1:
            raise UsageError(
                "a conv network needs positive channels and strides, an embedding of at least 2, "
                "a slope of at least 0 and a dropout from 0 to below 1"
            )

    def build(self, ports: Ports) -> "Conv":
        return Conv(self, ports)


class Conv(Network):
    """Strided convolutions down to a latent, to which the embedded time is added, and transposed ones up again."""

    def __init__(self, config: ConvConfig, ports: Ports) -> None:
        super().__init__()
        if ports.dims != 1:
            raise UsageError("conv works on waveforms (1 space dimension); take unet for 2")
        if not (config.matched or ports.signal):
            raise UsageError("conv has nothing to hear: add the conditioner recording, or set matched to true")
        self.config: ConvConfig = config
        self.ports = ports
        self.multiple = prod(config.strides)
        self.embedding = NoiseEmbedding(config.embedding, ports.vector)
        self.place = nn.Linear(config.embedding, config.channels[-1])
        self.dropout = nn.Dropout(config.dropout)
        inputs = ports.signal + (ports.channels if config.matched else 0)
        levels = list(zip(pairwise((inputs, *config.channels)), config.strides, strict=True))
        self.down = nn.ModuleList(_strided(nn.Conv1d, *widths, stride) for widths, stride in levels)
        self.up = nn.ModuleList(
            _strided(nn.ConvTranspose1d, wide, narrow, stride) for (narrow, wide), stride in reversed(levels[1:])
        )
        self.leave = zeroed(_strided(nn.ConvTranspose1d, config.channels[0], ports.channels, config.strides[0]))
        self._start()

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        heard = [x] if self.config.matched else []
        if self.ports.signal and condition.signal is not None:
            heard.append(condition.signal)
        samples = x.shape[-1]
        hidden = functional.pad(torch.cat(heard, dim=1), (0, -samples % self.multiple))
        levels: list[Tensor] = []
        for stage in self.down:
            hidden = self._bent(stage(hidden))
            levels.append(hidden)
        time = self.place(self.embedding(self._time(noise), condition.vector))
        hidden = self.dropout(levels.pop()) + time[..., None]
        for stage in self.up:
            hidden = self._bent(stage(hidden))
            if self.config.skips:
                hidden = hidden + levels.pop()
        out: Tensor = self.leave(hidden)
        return out[..., :samples]

    def _time(self, noise: Tensor) -> Tensor:
        """Returns what is embedded [batch]; like dropout, a random time comes from the global generator of torch."""
        if self.config.matched:
            return noise
        return torch.rand_like(noise) if self.training else torch.zeros_like(noise)

    def _bent(self, hidden: Tensor) -> Tensor:
        return functional.leaky_relu(hidden, self.config.slope)

    @torch.no_grad()
    def _start(self) -> None:
        """Draws weights that keep the variance from level to level.

        Source: He et al. 2015, "Delving deep into rectifiers", equation 15; a sample behind a transposed convolution
        is a sum over kernel / stride positions only.
        """
        for layer in (*self.down, *self.up):
            assert isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)
            terms = layer.in_channels * layer.kernel_size[0]
            if isinstance(layer, nn.ConvTranspose1d):
                terms //= layer.stride[0]
            nn.init.normal_(layer.weight, std=sqrt(2 / (1 + self.config.slope**2) / terms))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def _strided(kind: type[nn.Conv1d | nn.ConvTranspose1d], inputs: int, outputs: int, stride: int) -> nn.Module:
    """Returns a layer that makes a whole number of strides exactly `stride` times shorter, or longer."""
    kernel = 2 * stride + stride % 2
    return kind(inputs, outputs, kernel, stride, padding=(kernel - stride) // 2)
