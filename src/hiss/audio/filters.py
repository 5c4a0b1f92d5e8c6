"""What changes samples over frequency or over time: filters and fades."""

from typing import Literal

import torch
from torch import Tensor

from hiss.errors import UsageError


def butterworth(
    samples: Tensor, sample_rate: int, kind: Literal["highpass", "lowpass"], hz: float, order: int
) -> Tensor:
    """Returns samples [channels, samples] without what lies on one side of `hz`; forwards and backwards, so no delay.

    Raises:
        UsageError: `hz` is not between 0 and half the sample rate.
    """
    from scipy.signal import butter, sosfiltfilt

    if not 0 < hz < sample_rate / 2:
        raise UsageError(f"a filter needs between 0 and half the sample rate, {sample_rate / 2} Hz, not {hz}")
    if not samples.shape[1]:
        return samples
    sections = butter(order, hz, kind, fs=sample_rate, output="sos")
    edge = min(3 * (2 * len(sections) + 1), samples.shape[1] - 1)
    return torch.from_numpy(sosfiltfilt(sections, samples.double().numpy(), axis=1, padlen=edge).copy())


def fade(samples: Tensor, sample_rate: int, fade_in: float, fade_out: float) -> Tensor:
    """Returns samples [channels, samples] with raised-cosine ramps of that many seconds, each at most as long.

    Raises:
        UsageError: a fade is negative.
    """
    if fade_in < 0 or fade_out < 0:
        raise UsageError(f"fades last 0 seconds or more, not {fade_in} and {fade_out}")
    seconds = samples.shape[1] / sample_rate
    position = torch.arange(samples.shape[1], dtype=torch.float64) / sample_rate
    return samples * _ramp(position, min(fade_in, seconds)) * _ramp(position.flip(0), min(fade_out, seconds))


def _ramp(position: Tensor, seconds: float) -> Tensor:
    """Returns gains that rise from 0 at position 0 to 1 after that many seconds."""
    if seconds <= 0:
        return torch.ones_like(position)
    return 0.5 - 0.5 * torch.cos(torch.pi * (position / seconds).clamp(max=1))
