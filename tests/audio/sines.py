"""What the tests of audio share: sines, and how to measure them."""

from math import log10

import torch

from hiss.audio import Audio

RATE = 16000
"""Hz."""


def sine(
    hz: float = 440.0, seconds: float = 1.0, *, rate: int = RATE, amplitude: float = 0.5, channels: int = 1
) -> Audio:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return Audio((amplitude * torch.sin(2 * torch.pi * hz * time)).expand(channels, -1), rate)


def decibels(value: float) -> float:
    return 20 * log10(value)


def pitch(audio: Audio) -> float:
    """Returns the Hz of the highest peak of the spectrum."""
    samples = audio.samples[0] * torch.hann_window(audio.samples.shape[1])
    return int(torch.fft.rfft(samples).abs().argmax()) / audio.seconds
