"""The parts that networks share: embeddings, convolutions over 1 or 2 dimensions, residual and attention blocks."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from hiss.errors import UsageError

Size = int | tuple[int, ...]


def conv(dims: int, inputs: int, outputs: int, kernel: int = 3, *, zero: bool = False) -> nn.Module:
    """Returns a convolution over `dims` space dimensions that keeps their size; `zero` starts it at zero."""
    layer = (nn.Conv1d, nn.Conv2d)[dims - 1](inputs, outputs, kernel, padding=kernel // 2)
    return zeroed(layer) if zero else layer


def zeroed(layer: nn.Module) -> nn.Module:
    """Returns the layer with all of its weights set to zero, so that a block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def sizes(size: Size, dims: int) -> tuple[int, ...]:
    """Returns one size per space dimension."""
    return (size,) * dims if isinstance(size, int) else tuple(size)


def fold(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Returns space moved into channels: [batch, channels * prod(factors), *(space / factors)]."""
    batch, channels, *space = x.shape
    split = [n for size, factor in zip(space, factors, strict=True) for n in (size // factor, factor)]
    dims = len(factors)
    order = [0, 1, *(2 + 2 * i + 1 for i in range(dims)), *(2 + 2 * i for i in range(dims))]
    smaller = [size // factor for size, factor in zip(space, factors, strict=True)]
    return x.reshape(batch, channels, *split).permute(order).reshape(batch, channels * math.prod(factors), *smaller)


def unfold(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Returns channels moved back into space: the inverse of `fold`."""
    batch, channels, *space = x.shape
    dims = len(factors)
    order = [0, 1]
    for i in range(dims):
        order += [2 + dims + i, 2 + i]
    larger = [size * factor for size, factor in zip(space, factors, strict=True)]
    inner = channels // math.prod(factors)
    return x.reshape(batch, inner, *factors, *space).permute(order).reshape(batch, inner, *larger)


def padded(x: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """Returns x with zeros behind it, so that each size of space is a multiple of its number."""
    lacking = [-size % whole for size, whole in zip(x.shape[2:], multiple, strict=True)]
    return functional.pad(x, [n for lack in reversed(lacking) for n in (0, lack)]) if any(lacking) else x


class Fourier(nn.Module):
    """Sines and cosines of a scalar at fixed, geometrically spaced frequencies: [batch] -> [batch, features]."""

    frequencies: Tensor

    def __init__(self, features: int, *, lowest: float = 0.1, highest: float = 16.0) -> None:
        super().__init__()
        if features < 2 or features % 2:
            raise UsageError(f"sines and cosines of a number are an even number of features, not {features}")
        spaced = torch.logspace(math.log10(lowest), math.log10(highest), features // 2)
        self.register_buffer("frequencies", 2 * math.pi * spaced, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        angle = value[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1) * math.sqrt(2)


class NoiseEmbedding(nn.Module):
    """Noise level and condition vector -> [batch, features], for the FiLM of every block."""

    def __init__(self, features: int, vector: int = 0) -> None:
        super().__init__()
        self.fourier = Fourier(features)
        self.first = nn.Linear(features, features)
        self.vector = nn.Linear(vector, features) if vector else None
        self.second = nn.Linear(features, features)

    def forward(self, noise: Tensor, vector: Tensor | None) -> Tensor:
        hidden = self.first(self.fourier(noise))
        if self.vector is not None and vector is not None:
            hidden = hidden + self.vector(vector)
        return functional.silu(self.second(functional.silu(hidden)))


def group_norm(channels: int) -> nn.GroupNorm:
    """Returns a GroupNorm of at most 32 groups of at least 8 channels."""
    groups = max(1, min(32, channels // 8))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


class ResidualBlock(nn.Module):
    """Two convolutions with GroupNorm, the embedding scaling and shifting between them (FiLM, Perez et al. 2018)."""

    def __init__(self, dims: int, inputs: int, outputs: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = conv(dims, inputs, outputs)
        self.film = zeroed(nn.Linear(embedding, 2 * outputs))
        self.norm2 = group_norm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(dims, outputs, outputs, zero=True)
        self.skip = conv(dims, inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(x)))
        film = self.film(embedding)
        scale, shift = film.reshape(*film.shape, *(1,) * (x.ndim - 2)).chunk(2, dim=1)
        hidden = functional.silu(torch.addcmul(shift, self.norm2(hidden), 1 + scale))
        out: Tensor = self.skip(x) + self.conv2(self.dropout(hidden))
        return out


_BLIND = ContextVar("blind", default=False)


@contextmanager
def blind() -> Iterator[None]:
    """Within it, self-attention looks nowhere: each position attends to itself alone. In other threads it looks on.

    Source: Ahn et al. 2024, "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance", where the
    attention map is replaced by the identity.
    """
    before = _BLIND.set(True)
    try:
        yield
    finally:
        _BLIND.reset(before)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, within: bool = False) -> Tensor:
    """Returns what queries [batch, heads, length, features] attend to, of the same shape.

    Args:
        query: what looks.
        key: [batch, heads, other length, features]; as the values.
        value: what is seen.
        mask: [batch, other length], True where there is something to attend to.
        within: whether it is self-attention, which may be blind.

    Source: Vaswani et al. 2017, eq. 1.
    """
    if within and _BLIND.get():
        return value
    allowed = None if mask is None else mask[:, None, None, :]
    # The fused kernel of CPUs takes several times longer for the gradient of a short sequence than plain products.
    plain = query.device.type == "cpu" and torch.is_grad_enabled() and query.shape[2] <= 512
    with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


class Attention(nn.Module):
    """Multi-head attention of every position to all positions, or to tokens where `tokens` features are given."""

    def __init__(self, channels: int, *, head: int = 32, tokens: int = 0) -> None:
        super().__init__()
        self.heads = next(count for count in range(max(1, channels // head), 0, -1) if channels % count == 0)
        self.norm = group_norm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(tokens or channels, 2 * channels, bias=False)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Returns x [batch, channels, *space] plus what it attends to.

        `tokens` is [batch, length, features], `mask` [batch, length], True where a token is real.
        """
        flat = self.norm(x).flatten(2).transpose(1, 2)
        source = flat if tokens is None else tokens
        key, value = (self._split(part) for part in self.key_value(source).chunk(2, dim=-1))
        seen = attend(self._split(self.query(flat)), key, value, mask, within=tokens is None)
        out: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return x + out.transpose(1, 2).reshape(x.shape)

    def _split(self, x: Tensor) -> Tensor:
        """Returns [batch, heads, length, features of a head]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Resample(nn.Module):
    """Changes space by whole factors and channels by one matrix: folding down, unfolding up."""

    def __init__(self, inputs: int, outputs: int, factors: tuple[int, ...], direction: Literal["down", "up"]) -> None:
        super().__init__()
        self.factors, self.down = factors, direction == "down"
        block, dims = math.prod(factors), len(factors)
        self.mix = conv(dims, inputs * block, outputs, 1) if self.down else conv(dims, inputs, outputs * block, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            folded: Tensor = self.mix(fold(x, self.factors))
            return folded
        return unfold(self.mix(x), self.factors)
