"""The DiffWave stack: dilated convolutions at full rate, for compatibility with models of that kind."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import UsageError
from hiss.networks.base import Network, NetworkConfig, Ports
from hiss.networks.layers import NoiseEmbedding, conv, zeroed
from hiss.types import Condition


@dataclass(frozen=True)
class DiffWaveConfig(NetworkConfig, name="diffwave"):
    """Sizes of a DiffWave stack."""

    channels: int = 64
    layers: int = 30
    cycle: int = 10
    """Dilations go 1, 2, 4, ... and start again after this many layers."""
    embedding: int = 512
    """Features of the noise embedding."""

    def __post_init__(self) -> None:
        if min(self.channels, self.layers, self.cycle, self.embedding) < 1:
            raise UsageError("channels, layers, cycle and embedding of a DiffWave stack must be at least 1")

    def build(self, ports: Ports) -> "DiffWave":
        return DiffWave(self, ports)


class Layer(nn.Module):
    """A gated dilated convolution that passes on one half of its output and keeps the other for the end."""

    def __init__(self, channels: int, embedding: int, dilation: int) -> None:
        super().__init__()
        self.shift = nn.Linear(embedding, channels)
        self.dilated = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.out = conv(1, channels, 2 * channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        gate, signal = self.dilated(x + self.shift(embedding)[..., None]).chunk(2, dim=1)
        passed, kept = self.out(torch.sigmoid(gate) * torch.tanh(signal)).chunk(2, dim=1)
        return (x + passed) / math.sqrt(2), kept


class DiffWave(Network):
    """F(x, noise, condition) without any change of resolution; tokens are not attended to.

    Source: Kong et al. 2021, "DiffWave: A Versatile Diffusion Model for Audio Synthesis", figure 2.
    """

    def __init__(self, config: DiffWaveConfig, ports: Ports) -> None:
        super().__init__()
        if ports.dims != 1:
            raise UsageError("diffwave works on waveforms (1 space dimension); take unet for 2")
        self.config: DiffWaveConfig = config
        self.ports = ports
        self.embedding = NoiseEmbedding(config.embedding, ports.vector)
        self.enter = conv(1, ports.channels + ports.signal, config.channels, 1)
        dilations = [2 ** (layer % config.cycle) for layer in range(config.layers)]
        self.layers = nn.ModuleList(Layer(config.channels, config.embedding, dilation) for dilation in dilations)
        self.collect = conv(1, config.channels, config.channels, 1)
        self.leave = zeroed(conv(1, config.channels, ports.channels, 1))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        embedding = self.embedding(noise, condition.vector)
        signal = condition.signal if self.ports.signal else None
        hidden = functional.relu(self.enter(x if signal is None else torch.cat([x, signal], dim=1)))
        collected = torch.zeros_like(hidden)
        for layer in self.layers:
            hidden, kept = layer(hidden, embedding)
            collected = collected + kept
        out: Tensor = self.leave(functional.relu(self.collect(collected / math.sqrt(len(self.layers)))))
        return out
