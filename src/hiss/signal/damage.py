"""What microphones, lines and codecs do to a recording."""

from collections.abc import Callable
from math import log

import soxr
import torch
from torch import Tensor

from hiss.signal.noises import smooth_length


def equalise(audio: Tensor, decibels: Callable[[Tensor], Tensor], *, sample_rate: int) -> Tensor:
    """Returns audio [..., samples] with every frequency made louder by `decibels`: Hz [bins] -> dB [bins].

    There is no delay; what rings beyond the ends is cut off.
    """
    samples = audio.shape[-1]
    length = smooth_length(samples + sample_rate // 50)
    gains = torch.pow(10.0, decibels(torch.fft.rfftfreq(length, 1 / sample_rate)) / 20)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(audio, length) * gains, length)
    return filtered[..., :samples]


def band_limit(audio: Tensor, low: float, high: float, *, sample_rate: int) -> Tensor:
    """Returns audio [..., samples] without what lies below `low` or above `high` Hz.

    The edges fall by 60 dB in a third of an octave outside the band, and then stay there.
    """

    def decibels(hz: Tensor) -> Tensor:
        outside = torch.maximum(low / hz.clamp(min=1), hz / high).clamp(min=1).log2()
        return -(180 * outside).clamp(max=60)

    return equalise(audio, decibels, sample_rate=sample_rate)


def clip(audio: Tensor, decibels: float) -> Tensor:
    """Returns audio [..., samples] cut off at that many dB below its peak; silence stays silence."""
    most = audio.abs().amax(dim=-1, keepdim=True) * 10 ** (-decibels / 20)
    return torch.minimum(torch.maximum(audio, -most), most)


def quantise(audio: Tensor, bits: int, *, mu: float = 0.0) -> Tensor:
    """Returns audio [..., samples] in [-1, 1] rounded to 2^bits - 1 steps, 0 among them; more than full scale is cut.

    With `mu` the steps are uniform on the scale sign(x) log(1 + mu |x|) / log(1 + mu): telephones have 8 bits and 255.
    Source: ITU-T G.711, 1988, for the law; its segments are left out.
    """
    steps = float(2 ** (bits - 1) - 1)
    audio = audio.clamp(-1, 1)
    if not mu:
        return (audio * steps).round() / steps
    scale = log(1 + mu)
    rounded = (torch.sign(audio) * torch.log1p(mu * audio.abs()) / scale * steps).round() / steps
    return torch.sign(rounded) * torch.expm1(rounded.abs() * scale) / mu


def once_at(audio: Tensor, share: float) -> Tensor:
    """Returns audio [channels, samples] that was at `share` of its sample rate once, and has nothing above that since.

    The edge is that of a real resampler: steep, and below half the lower rate.
    """
    samples = audio.shape[-1]
    lower = soxr.resample(audio.T.contiguous().numpy(), 1.0, share)
    back = torch.from_numpy(soxr.resample(lower, share, 1.0)).T[:, :samples]
    return torch.nn.functional.pad(back, (0, samples - back.shape[1]))


def change_speed(audio: Tensor, factor: float) -> Tensor:
    """Returns audio [channels, samples / factor] played `factor` times as fast, with a pitch as many times as high."""
    if factor == 1:
        return audio
    return torch.from_numpy(soxr.resample(audio.T.contiguous().numpy(), factor, 1.0)).T.contiguous()
