"""Another sample rate for a signal that comes in pieces."""

import numpy as np
import soxr
import torch
from torch import Tensor


class ResampleStream:
    """Resampling [channels, samples] piece by piece: all pieces together are as long as the whole, and aligned."""

    def __init__(self, rate: int, to: int, channels: int) -> None:
        self.rate, self.to, self.channels = rate, to, channels
        self._stream = None if rate == to else soxr.ResampleStream(rate, to, channels)

    def push(self, samples: Tensor, *, last: bool = False) -> Tensor:
        """Returns the resampled samples, maybe none, that the next ones complete."""
        if self._stream is None:
            return samples
        made = self._stream.resample_chunk(np.ascontiguousarray(samples.T.numpy()), last=last)
        return torch.from_numpy(np.ascontiguousarray(made.reshape(-1, self.channels).T))


def resampling_delay(rate: int, to: int) -> float:
    """Returns by how many seconds a `ResampleStream` lags at worst, measured on silence that comes bit by bit."""
    stream, piece = ResampleStream(rate, to, 1), max(1, rate // 1000)
    taken, given, worst = 0, 0, 0.0
    while taken < rate:
        taken += piece
        given += stream.push(torch.zeros(1, piece)).shape[1]
        worst = max(worst, taken / rate - given / to)
    return worst
