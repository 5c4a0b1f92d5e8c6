"""Synthetic tones: a data set without a file, for tests, demonstrations and first steps."""

from dataclasses import dataclass
from math import ceil, floor, log2, pi

import torch
from torch import Tensor

from hiss.data.base import DataConfig, Recording, Split
from hiss.data.examples import Examples
from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.types import Prompt

_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True, kw_only=True)
class SyntheticTones(DataConfig, name="tones"):
    """Tones of random pitch (uniform on a log scale), amplitude and phase, as long as the clip; all fixed by `seed`."""

    examples: int = 1000
    """How many different tones there are."""
    seed: int = 0
    low: float = 100.0
    """Hz, lowest pitch."""
    high: float = 2000.0
    """Hz, highest pitch."""
    softest: float = 0.1
    """Least peak amplitude."""
    loudest: float = 0.8
    """Largest peak amplitude."""
    harmonics: int = 0
    """Overtones at 2, 3, ... times the pitch, as far as half the sample rate."""
    rolloff: float = 1.0
    """Overtone k has k ** -rolloff of the amplitude of the fundamental."""
    attack: float = 0.0
    """Seconds of linear rise at the start."""
    decay: float = 0.0
    """Seconds in which the tone falls to 1/e; 0: it lasts."""
    labelled: bool = False
    """Pitches are notes of the twelve-tone scale (A4 = 440 Hz), and prompts say {"note": "A4"}."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples < 1:
            raise UsageError(f"tones need at least one example, not {self.examples}")
        if not 0 < self.low <= self.high:
            raise UsageError(f"tones need 0 < low <= high in Hz, not {self.low} and {self.high}")
        if not 0 < self.softest <= self.loudest <= 1:
            raise UsageError(f"tones need 0 < softest <= loudest <= 1, not {self.softest} and {self.loudest}")
        if self.labelled and not self.notes():
            raise UsageError(f"there is no note between {self.low} and {self.high} Hz; widen the range")

    @property
    def validates(self) -> bool:
        return self.holdout > 0

    def open(self, *, sample_rate: int, channels: int, samples: int, split: Split = "train") -> Examples:
        if self.high >= sample_rate / 2:
            raise UsageError(f"tones up to {self.high} Hz need more than {2 * self.high} Hz, not {sample_rate} Hz")
        return Examples(
            self,
            Tones(self, sample_rate, channels, samples),
            what=f"{self.examples} tones",
            sample_rate=sample_rate,
            channels=channels,
            samples=samples,
            split=split,
        )

    def notes(self) -> dict[str, float]:
        """Returns name and Hz of the notes from `low` to `high`, lowest first."""
        first, last = ceil(69 + 12 * log2(self.low / 440) - 1e-9), floor(69 + 12 * log2(self.high / 440) + 1e-9)
        numbers = range(first, last + 1)
        return {f"{_NAMES[number % 12]}{number // 12 - 1}": 440 * 2 ** ((number - 69) / 12) for number in numbers}


class Tones:
    """The tones of a configuration at one rate and length."""

    def __init__(self, config: SyntheticTones, sample_rate: int, channels: int, samples: int) -> None:
        self.config, self.sample_rate, self.channels = config, sample_rate, channels
        draws = torch.rand(config.examples, 3, dtype=torch.float64, generator=seeded(config.seed, "tones"))
        pitch, self.amplitude, self.phase = draws.unbind(1)
        self.amplitude = config.softest + (config.loudest - config.softest) * self.amplitude
        if config.labelled:
            notes = config.notes()
            chosen = (pitch * len(notes)).long()
            self.frequency = torch.tensor(list(notes.values()), dtype=torch.float64)[chosen]
            names = list(notes)
            labels: list[dict[str, str]] = [{"note": names[index]} for index in chosen.tolist()]
        else:
            self.frequency = config.low * (config.high / config.low) ** pitch
            labels = [{} for _ in range(config.examples)]
        self.recordings = [
            Recording(
                key=f"tone {index}",
                samples=samples,
                rms=float(self.read(index, 0, samples).square().mean().sqrt()) if config.level is not None else 0.0,
                prompt=Prompt(labels=labels[index], total=samples / sample_rate),
            )
            for index in range(config.examples)
        ]

    def read(self, index: int, start: int, samples: int) -> Tensor:
        """Returns [channels, samples] of one tone, from `start` on; the same in every channel."""
        time = torch.arange(start, start + samples, dtype=torch.float64) / self.sample_rate
        pitch, phase = float(self.frequency[index]), float(self.phase[index])
        wave, full = torch.zeros_like(time), 0.0
        for multiple in range(1, self.config.harmonics + 2):
            if multiple * pitch < self.sample_rate / 2:
                weight = multiple**-self.config.rolloff
                wave += weight * torch.sin(2 * pi * multiple * (pitch * time + phase))
                full += weight
        if self.config.attack:
            wave *= (time / self.config.attack).clamp(max=1)
        if self.config.decay:
            wave *= torch.exp(-time / self.config.decay)
        return (wave * (float(self.amplitude[index]) / full)).float().expand(self.channels, -1)
