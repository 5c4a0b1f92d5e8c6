"""Mean and standard deviation of more numbers than memory holds."""

from collections.abc import Iterable

import torch
from torch import Tensor

from hiss.errors import HissError


def moments(batches: Iterable[Tensor], *, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Returns the mean and the standard deviation of all batches together, over the dimensions `over`, in float32.

    Raises:
        HissError: there is nothing to measure, or all of it is the same, as it is of silence.
    """
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    count = 0
    for batch in batches:
        values = batch.cpu().double()  # there are accelerators without float64
        count += values.numel()
        total = total + values.sum(dim=over)
        squares = squares + values.square().sum(dim=over)
    if not isinstance(total, Tensor) or not isinstance(squares, Tensor):
        raise HissError("there is no training audio to measure; check the data")
    share = total.numel() / count
    mean = total * share
    variance = (squares * share - mean.square()).clamp(min=0)
    if not bool((variance > 1e-12 * torch.maximum(mean.square(), torch.ones_like(mean))).any()):
        raise silent()
    return mean.float(), variance.sqrt().float()


def silent() -> HissError:
    """Returns the error for audio in which nothing can be heard."""
    return HissError("the training audio is empty or silent, so its level cannot be measured; check the data")
