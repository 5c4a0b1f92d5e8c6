"""Melodies of plucked notes, for tests that listen to music."""

import math

import torch

from hiss.audio import Audio
from hiss.noise import seeded


def melody(
    seed: int = 0, *, seconds: float = 4.0, pace: int = 4, lowest: float = 220.0, rate: int = 22_050, notes: int = 24
) -> Audio:
    """Returns `pace` notes a second, each out of so many semitones from `lowest` Hz on, which ring on a little."""
    samples, hop = round(seconds * rate), round(rate / pace)
    audio = torch.zeros(samples)
    steps = torch.randint(notes, (math.ceil(samples / hop),), generator=seeded("melody", seed))
    for start, step in zip(range(0, samples, hop), steps.tolist(), strict=True):
        time = torch.arange(samples - start) / rate
        angle = 2 * math.pi * lowest * 2 ** (step / 12) * time
        audio[start:] += 0.1 * torch.exp(-6 * time) * (angle.sin() + (2 * angle).sin() / 2 + (3 * angle).sin() / 3)
    return Audio(audio, rate)
