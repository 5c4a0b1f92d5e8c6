"""Another sample rate for a signal that comes in pieces, or that goes round in a circle."""

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


def resample_period(audio: Tensor, samples: int) -> Tensor:
    """Returns a period of a sound [..., samples] in another number of samples: the end still leads back to the start.

    The Fourier series stays what it is, as far as the new rate can hold it.
    """
    before, fewer = audio.shape[-1], min(audio.shape[-1], samples)
    if before == samples:
        return audio
    spectrum = torch.fft.rfft(audio)[..., : fewer // 2 + 1] * (samples / before)
    if fewer % 2 == 0:  # half the lower rate: one bin at that rate, two at the other
        spectrum[..., -1] *= 0.5 if samples > before else 2.0
    resampled: Tensor = torch.fft.irfft(spectrum, n=samples)
    return resampled


def turned(x: Tensor, *, start: int, size: int) -> Tensor:
    """Returns `size` values along the last axis of a circle, from place `start` on."""
    return x.index_select(-1, torch.arange(start, start + size, device=x.device) % x.shape[-1])
