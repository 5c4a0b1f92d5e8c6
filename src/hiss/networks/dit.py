"""The diffusion transformer (DiT): attention over patches of x, at one width from the first layer to the last."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import UsageError
from hiss.networks.base import Network, NetworkConfig, Ports
from hiss.networks.layers import Attention, NoiseEmbedding, Size, attend, fold, padded, sizes, unfold, zeroed
from hiss.types import Condition

_SLOWEST = 1e-4
"""Radians a patch by which the slowest pair of features turns; the fastest turns by 1."""


@dataclass(frozen=True)
class DiTConfig(NetworkConfig, name="dit"):
    """Sizes of a diffusion transformer."""

    patch: Size = 8
    """Space that is one token, per dimension: with half as much, attention takes four times as long."""
    width: int = 256
    """Features of a token."""
    layers: int = 8
    head: int = 64
    """Features of an attention head: a multiple of 2 for each space dimension."""
    growth: int = 4
    """How many times as many features there are within the feed-forward part of a layer."""
    embedding: int = 256
    """Features of the noise embedding."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.head, self.growth) < 1 or self.width % self.head:
            raise UsageError(
                "the sizes of a diffusion transformer must be at least 1, and its width a multiple of its heads, "
                f"not {self.width} and {self.head}"
            )

    def build(self, ports: Ports) -> "DiT":
        return DiT(self, ports)


class Layer(nn.Module):
    """Self-attention and a feed-forward part, each scaled, shifted and let through as the noise embedding says.

    Queries and keys are normalized, which keeps attention from saturating in long trainings (Henry et al. 2020).
    """

    def __init__(self, config: DiTConfig, tokens: int) -> None:
        super().__init__()
        width, self.head = config.width, config.head
        self.film = zeroed(nn.Linear(config.embedding, 6 * width))
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.norm_query, self.norm_key = nn.RMSNorm(config.head), nn.RMSNorm(config.head)
        self.out = nn.Linear(width, width)
        self.cross = Attention(width, head=config.head, tokens=tokens) if tokens else None
        self.widen = nn.Linear(width, config.growth * width)
        self.dropout = nn.Dropout(config.dropout)
        self.narrow = nn.Linear(config.growth * width, width)

    def forward(self, x: Tensor, embedding: Tensor, turns: Tensor, condition: Condition) -> Tensor:
        """Returns x [batch, patches, width] after the layer; `turns` are those of `rotations`."""
        attention, forward = self.film(embedding)[:, None].chunk(2, dim=-1)
        scale, shift, gate = attention.chunk(3, dim=-1)
        x = x + gate * self._attended(_modulated(x, scale, shift), turns)
        if self.cross is not None and condition.tokens is not None:
            x = self.cross(x.transpose(1, 2), condition.tokens, condition.mask).transpose(1, 2)
        scale, shift, gate = forward.chunk(3, dim=-1)
        hidden = functional.gelu(self.widen(_modulated(x, scale, shift)))
        out: Tensor = x + gate * self.narrow(self.dropout(hidden))
        return out

    def _attended(self, x: Tensor, turns: Tensor) -> Tensor:
        query, key, value = (_heads(part, self.head) for part in self.query_key_value(x).chunk(3, dim=-1))
        # Under autocast, too, norms and turns are computed in the numbers of the weights.
        query, key = (
            rotated(norm(part.to(norm.weight)), turns)
            for norm, part in ((self.norm_query, query), (self.norm_key, key))
        )
        seen = attend(query.to(value.dtype), key.to(value.dtype), value, within=True)
        out: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return out


class DiT(Network):
    """F(x, noise, condition) as a transformer over patches, which know by rotation where they are.

    Over 2 space dimensions each row of patches, a band of frequencies, also has a vector of its own, since there the
    distance of two patches does not say everything. The signal of a condition is cut into patches together with x.
    Source: Peebles, Xie 2023, "Scalable Diffusion Models with Transformers", figure 3 (adaLN-Zero); Evans et al. 2024,
    "Long-form music generation with latent diffusion", for audio.
    """

    attends = True

    def __init__(self, config: DiTConfig, ports: Ports) -> None:
        super().__init__()
        if config.head % (2 * ports.dims):
            raise UsageError(
                f"heads over {ports.dims} space dimensions have a multiple of {2 * ports.dims} features, "
                f"not {config.head}"
            )
        self.config: DiTConfig = config
        self.ports = ports
        self.patch = sizes(config.patch, ports.dims)
        block = prod(self.patch)
        self.embedding = NoiseEmbedding(config.embedding, ports.vector)
        self.enter = nn.Linear((ports.channels + ports.signal) * block, config.width)
        rows = -(-ports.bins // self.patch[0])
        self.rows = nn.Parameter(torch.zeros(rows, 1, config.width)) if rows else None
        self.layers = nn.ModuleList(Layer(config, ports.tokens) for _ in range(config.layers))
        self.film = zeroed(nn.Linear(config.embedding, 2 * config.width))
        self.leave = zeroed(nn.Linear(config.width, ports.channels * block))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        signal = condition.signal if self.ports.signal else None
        inputs = fold(padded(x if signal is None else torch.cat([x, signal], dim=1), self.patch), self.patch)
        space = inputs.shape[2:]
        embedding = self.embedding(noise, condition.vector)
        hidden = self.enter(inputs.flatten(2).transpose(1, 2))
        if self.rows is not None:
            hidden = hidden + self.rows.expand(-1, space[1], -1).flatten(0, 1)
        turns = rotations(space, self.config.head, device=x.device)
        for layer in self.layers:
            hidden = layer(hidden, embedding, turns, condition)
        made = self.leave(_modulated(hidden, *self.film(embedding)[:, None].chunk(2, dim=-1)))
        out = unfold(made.transpose(1, 2).reshape(len(x), -1, *space), self.patch)
        for dimension, size in enumerate(x.shape[2:], start=2):
            out = out.narrow(dimension, 0, size)
        return out


def rotations(space: tuple[int, ...], features: int, *, device: torch.device | None = None) -> Tensor:
    """Returns cosine and sine of how far each pair of features turns at each patch: [2, patches, features / 2].

    Patches come row by row. Pairs are dealt out evenly to the dimensions of space; those of one turn by its coordinate
    times a speed of their own.
    """
    each = features // 2 // len(space)
    speeds = _SLOWEST ** (torch.arange(each, device=device) / each)
    places = torch.meshgrid([torch.arange(size, device=device) for size in space], indexing="ij")
    angles = torch.cat([place.reshape(-1, 1) * speeds for place in places], dim=1)
    return torch.stack([angles.cos(), angles.sin()])


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """Returns x [..., patches, features] with each pair of neighbouring features turned as `rotations` says.

    Source: Su et al. 2021, "RoFormer", equation 34.
    """
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = turns
    return torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1).flatten(-2)


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Returns layer-normalized x [batch, patches, width], scaled and shifted by [batch, 1, width]."""
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:]), 1 + scale)


def _heads(x: Tensor, head: int) -> Tensor:
    """Returns [batch, heads, length, features of a head]."""
    split: Tensor = x.unflatten(-1, (-1, head)).transpose(1, 2)
    return split
