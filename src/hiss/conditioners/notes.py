"""Condition on the notes that a text names, as a tone that shows where they lie in the spectrum."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.captions import notes
from hiss.conditioners.base import Conditioner, ConditionerConfig
from hiss.errors import UsageError
from hiss.types import Batch, Condition, Prompt

_OCTAVES = 8
"""From C1, 32.7 Hz, up."""
_SECONDS = 4
"""Of a tone, after which it begins again: every partial is a whole number of waves, and at most 7 cents out of tune."""
_LEVEL = 0.1
"""Root of the mean square of a tone."""


@dataclass(frozen=True)
class NotesConfig(ConditionerConfig, name="notes"):
    """The pitch classes in `Prompt.text`, each as sines in all octaves, as a signal.

    What is learned from captions as a whole hardly knows of notes: a flute that plays C and one that plays D are nearly
    the same to a CLAP, whose training seldom has to tell them apart. And to know the name of a note is not yet to know
    where its partials lie: of a tone, a model sees that in the same picture as the sound that it makes.

    Source: Shepard 1964, "Circularity in judgments of relative pitch", for tones without an octave.
    """

    sample_rate: int = 16000
    """Hz, that of the model."""

    def __post_init__(self) -> None:
        if self.sample_rate < 1000:
            raise UsageError(f"notes need a sample rate of 1000 Hz or more, not {self.sample_rate}")

    def build(self) -> "Notes":
        return Notes(self)


class Notes(Conditioner):
    """[batch, 1, samples]: a tone of all notes that are named, silence where none is."""

    signal = True
    repeats = True
    place: Tensor

    def __init__(self, config: NotesConfig) -> None:
        super().__init__()
        self.config: NotesConfig = config
        self.register_buffer("place", torch.empty(0), persistent=False)  # knows the device

    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        named = [{pitch for _, pitch in notes(prompt.text or "")} for prompt in prompts]
        tones = {pitch: self._tone(pitch) for pitch in set().union(*named)}
        silence = torch.zeros(1, _SECONDS * self.config.sample_rate)
        rows = []
        for pitches in named:
            tone = torch.stack([silence, *(tones[pitch] for pitch in sorted(pitches))]).sum(dim=0)
            rows.append(tone * (_LEVEL / max(1, len(pitches)) ** 0.5))
        return Condition(signal=torch.stack(rows).to(self.place.device))

    def listen(self, batch: Batch, generator: torch.Generator | None) -> Sequence[Prompt]:
        if batch.sample_rate != self.config.sample_rate:
            raise UsageError(
                f"the notes are played at {self.config.sample_rate} Hz, and the model makes {batch.sample_rate} Hz; "
                "give both the same sample rate"
            )
        return super().listen(batch, generator)

    def _tone(self, pitch: int) -> Tensor:
        """Returns a pitch class in all octaves below half the sample rate [1, samples], with a mean square of 1."""
        rate = self.config.sample_rate
        lowest = 440 * 2 ** ((pitch - 45) / 12)
        waves = [round(lowest * 2**octave * _SECONDS) for octave in range(_OCTAVES)]
        heard = torch.tensor([count for count in waves if count < rate * _SECONDS / 2])
        # Whole numbers, so that long tones are exact, too; phases against peaks, as Schroeder 1970 has them.
        turns = heard[:, None] * torch.arange(_SECONDS * rate) % (_SECONDS * rate) / (_SECONDS * rate)
        shift = torch.arange(len(heard)).square()[:, None] / (2 * len(heard))
        tone: Tensor = torch.sin(2 * math.pi * (turns + shift)).sum(dim=0, keepdim=True) * (2 / len(heard)) ** 0.5
        return tone
