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


def streamed_flac(audio: Audio) -> bytes:
    """Returns a FLAC file that does not say how long it is, as what was written to a pipe."""
    content = bytearray(audio.encode("flac"))
    content[21] &= 0xF0  # the number of samples: the last 36 of the bits 108 to 143 of STREAMINFO
    content[22:26] = bytes(4)
    return bytes(content)
