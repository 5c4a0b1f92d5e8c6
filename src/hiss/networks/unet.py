"""One U-Net over 1 or 2 space dimensions, shaped for CPUs: patch first, few wide layers at short length."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import UsageError
from hiss.networks.base import Network, NetworkConfig, Ports
from hiss.networks.layers import (
    Attention,
    NoiseEmbedding,
    Resample,
    ResidualBlock,
    Size,
    conv,
    fold,
    group_norm,
    padded,
    sizes,
    unfold,
    zeroed,
)
from hiss.types import Condition


@dataclass(frozen=True)
class UNetConfig(NetworkConfig, name="unet"):
    """Sizes of a U-Net; level 0 is the longest, `channels` has one entry a level."""

    channels: tuple[int, ...] = (128, 192, 256, 384)
    patch: Size = 1
    """Space folded into channels before the first layer, per dimension."""
    factors: tuple[Size, ...] = (2, 2, 2)
    """Shrinking from each level to the next, per dimension."""
    blocks: int = 1
    """Residual blocks a level, on the way down and again on the way up."""
    attention: tuple[bool, ...] = (False, False, False, True)
    """Self-attention (and cross-attention, where there are tokens) after each block of a level."""
    head: int = 32
    """Features of an attention head."""
    embedding: int = 256
    """Features of the noise embedding."""
    dropout: float = 0.0
    coordinate: bool = False
    """Tells the network where on the first space dimension (frequency, over 2) it is, by one more input channel."""
    rows: bool = False
    """Tells it more exactly, over 2 space dimensions: each block learns a vector for each row of the first one, a band
    of frequencies, and adds it to what it is given."""

    def __post_init__(self) -> None:
        levels = len(self.channels)
        if len(self.factors) != levels - 1 or len(self.attention) != levels:
            raise UsageError(
                f"a U-Net of {levels} levels needs {levels - 1} factors and {levels} attention flags, "
                f"not {len(self.factors)} and {len(self.attention)}"
            )

    def build(self, ports: Ports) -> "UNet":
        return UNet(self, ports)


class Stage(nn.Module):
    """A residual block, followed by attention where the level asks for it."""

    def __init__(self, config: UNetConfig, ports: Ports, level: int, inputs: int, rows: int) -> None:
        super().__init__()
        channels = config.channels[level]
        self.rows = nn.Parameter(torch.zeros(inputs, rows, 1)) if rows else None
        self.block = ResidualBlock(ports.dims, inputs, channels, config.embedding, config.dropout)
        attends = config.attention[level]
        self.attend = Attention(channels, head=config.head) if attends else None
        self.cross = Attention(channels, head=config.head, tokens=ports.tokens) if attends and ports.tokens else None

    def forward(self, x: Tensor, embedding: Tensor, condition: Condition) -> Tensor:
        if self.rows is not None:
            x = x + self.rows
        x = self.block(x, embedding)
        if self.attend is not None:
            x = self.attend(x)
        if self.cross is not None and condition.tokens is not None:
            x = self.cross(x, condition.tokens, condition.mask)
        return x


class UNet(Network):
    """F(x, noise, condition) as a U-Net with skips between equal levels.

    Source: Ronneberger et al. 2015 (skips), Ho et al. 2020 and Dhariwal & Nichol 2021 (blocks).
    """

    def __init__(self, config: UNetConfig, ports: Ports) -> None:
        super().__init__()
        self.config: UNetConfig = config
        self.ports = ports
        dims, widths = ports.dims, config.channels
        self.patch = sizes(config.patch, dims)
        factors = [sizes(factor, dims) for factor in config.factors]
        self.attends = any(config.attention)
        self.multiple = tuple(math.prod(column) for column in zip(self.patch, *factors, strict=True))
        block = math.prod(self.patch)
        inputs = (ports.channels + ports.signal + config.coordinate) * block
        if config.rows and (dims < 2 or not ports.bins):
            raise UsageError("rows are those of spectra; over samples, set rows of the network to false")
        rows = -(-ports.bins // self.multiple[0]) * math.prod(factor[0] for factor in factors) if config.rows else 0
        self.embedding = NoiseEmbedding(config.embedding, ports.vector)
        self.enter = conv(dims, inputs, widths[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList(Stage(config, ports, level, width, rows) for _ in range(config.blocks)))
            self.up.append(nn.ModuleList(Stage(config, ports, level, 2 * width, rows) for _ in range(config.blocks)))
            if level < len(factors):
                rows //= factors[level][0]
        for level, factor in enumerate(factors):
            self.shrink.append(Resample(widths[level], widths[level + 1], factor, "down"))
            self.grow.append(Resample(widths[level + 1], widths[level], factor, "up"))
        self.norm = group_norm(widths[0])
        self.leave = zeroed(conv(dims, widths[0], ports.channels * block))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        space = x.shape[2:]
        embedding = self.embedding(noise, condition.vector)
        hidden = self.enter(fold(padded(self._inputs(x, condition), self.multiple), self.patch))
        skips: list[Tensor] = []
        for level, stages in enumerate(self.down):
            if level:
                hidden = self.shrink[level - 1](hidden)
            for stage in stages.children():
                hidden = stage(hidden, embedding, condition)
                skips.append(hidden)
        for level, stages in reversed(list(enumerate(self.up))):
            for stage in stages.children():
                hidden = stage(torch.cat([hidden, skips.pop()], dim=1), embedding, condition)
            if level:
                hidden = self.grow[level - 1](hidden)
        out = unfold(self.leave(functional.silu(self.norm(hidden))), self.patch)
        for dimension, size in enumerate(space, start=2):
            out = out.narrow(dimension, 0, size)
        return out

    def _inputs(self, x: Tensor, condition: Condition) -> Tensor:
        parts = [x]
        if self.ports.signal and condition.signal is not None:
            parts.append(condition.signal)
        if self.config.coordinate:
            ramp = torch.linspace(-1, 1, x.shape[2], device=x.device, dtype=x.dtype)
            parts.append(ramp.reshape(-1, *(1,) * (x.ndim - 3)).expand(x.shape[0], 1, *x.shape[2:]))
        return torch.cat(parts, dim=1) if len(parts) > 1 else x
