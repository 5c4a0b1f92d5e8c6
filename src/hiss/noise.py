"""Gaussian noise that depends on (seed, item) alone, never on the batch size or the device."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from hiss.types import Generator


def seeded(*keys: int | str) -> torch.Generator:
    """Returns a CPU generator whose stream is fixed by `keys`, such as (seed, item)."""
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def generators(seed: int, items: Sequence[int]) -> list[torch.Generator]:
    """Returns one generator per item: item 3 hears the same noise alone and in a crowd."""
    return [seeded(seed, item) for item in items]


def normal(like: Tensor, generator: Generator | None = None) -> Tensor:
    """Returns standard normal noise of the shape, device and dtype of `like` [batch, ...].

    Drawn on the CPU in float32, so that a seed means the same on every device.
    """
    if isinstance(generator, Sequence):
        rows = [torch.randn(like.shape[1:], generator=one) for one in generator]
        noise = torch.stack(rows)
    else:
        noise = torch.randn(like.shape, generator=generator)
    return noise.to(device=like.device, dtype=like.dtype)
