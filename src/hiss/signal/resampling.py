"""Another sample rate for a signal that is there as a whole, comes in pieces, or goes round in a circle."""

from math import ceil, gcd, pi

import numpy as np
import soxr
import torch
from torch import Tensor

from hiss.signal.noises import smooth_length

_FULL = 0.97
"""Share of half the lower rate up to which `resample_wide` leaves everything as it is."""

_RINGS, _PIECE = 0.04, 30.0  # seconds


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


def resample_wide(audio: Tensor, rate: int, to: int) -> Tensor:
    """Returns [..., round(samples * to / rate)] of a sound [..., samples] with nearly all that the lower rate can hold.

    `Audio.resample` and streams lose what lies above 0.93 of half that rate, this what lies above 0.97 of it, where it
    falls as a cosine does. It takes Fourier transforms of half a minute or so at most, and rings for 0.03 s. `rate` and
    `to` are in Hz.
    """
    samples = audio.shape[-1]
    if rate == to or not samples:
        return audio
    own, new = rate // gcd(rate, to), to // gcd(rate, to)
    # Counted in the shortest times that are whole numbers of samples at both rates; what rings is cut off again.
    whole, rings = ceil(samples / own), ceil(_RINGS * rate / own)
    size = smooth_length(min(whole, ceil(_PIECE * rate / own)) + 2 * rings)
    step = size - 2 * rings
    behind = -(-whole // step) * step * own - samples
    padded = torch.nn.functional.pad(audio, (rings * own, rings * own + behind))
    pieces = padded.unfold(-1, size * own, step * own).unbind(-2)
    kept = slice(rings * new, (rings + step) * new)
    resampled = torch.cat([_through_spectrum(piece, size, own, new)[..., kept] for piece in pieces], dim=-1)
    return resampled[..., : (2 * samples * to + rate) // (2 * rate)]


def _through_spectrum(piece: Tensor, size: int, own: int, new: int) -> Tensor:
    """Returns [..., size * new] of a piece [..., size * own], as if it went round in a circle."""
    spectrum = torch.fft.rfft(piece)[..., : size * min(own, new) // 2]
    share = torch.arange(spectrum.shape[-1], device=piece.device) / spectrum.shape[-1]
    edge = 0.5 + 0.5 * torch.cos(pi * (share.clamp(min=_FULL) - _FULL) / (1 - _FULL))
    resampled: Tensor = torch.fft.irfft(spectrum * edge * (new / own), n=size * new)
    return resampled


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
