"""Weights that are stored in fewer bits than they are used with."""

from collections.abc import Collection, Mapping
from typing import Literal

import torch
from torch import Tensor

Bits = Literal[8, 16, 32]
"""Of each number of a weight in a file."""

_SCALE = ":scale"
"""What follows the name of a weight of 8 bits in that of its scales; no name of a weight holds a colon."""
_LEAST = 1024
"""Numbers in a weight of 8 bits; in smaller ones there is nothing to gain."""


def rounded(weights: Mapping[str, Tensor], bits: Bits, *, learned: Collection[str]) -> dict[str, Tensor]:
    """Returns weights as they are stored in so many bits a number: float32, float16, or whole numbers from -127 to 127.

    Of 8 bits are matrices and kernels that were `learned`, by their names, in units of 1/127 of the largest number of
    each row (output channel), which is kept beside them. What else is floating point keeps 16.

    Source: Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference", section 2.2.
    """
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if not weight.is_floating_point():
            found[name] = weight
        elif bits == 8 and name in learned and weight.ndim > 1 and weight.numel() >= _LEAST:
            scale = weight.float().flatten(1).abs().amax(dim=1).clamp(min=1e-12) / 127
            found[name] = (weight.float() / _rows(scale, weight)).round().to(torch.int8)
            found[name + _SCALE] = scale
        else:
            found[name] = weight.float() if bits == 32 else weight.half()
    return found


def restored(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights that `rounded` stored; others stay as they are."""
    found = {name: weight for name, weight in stored.items() if not name.endswith(_SCALE)}
    for name, scale in stored.items():
        whole = found.get(name.removesuffix(_SCALE))
        if name.endswith(_SCALE) and whole is not None and whole.ndim and scale.shape == whole.shape[:1]:
            found[name.removesuffix(_SCALE)] = whole * _rows(scale, whole)
    return found


def _rows(scale: Tensor, weight: Tensor) -> Tensor:
    """Returns scales [rows] in a shape that multiplies the rows of a weight [rows, ...]."""
    return scale.reshape(-1, *(1,) * (weight.ndim - 1))
