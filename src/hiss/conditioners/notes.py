"""Condition on the notes that a text names, so that what is played can be told apart from what plays it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.captions import notes
from hiss.conditioners.base import Conditioner, ConditionerConfig
from hiss.types import Condition, Prompt


@dataclass(frozen=True)
class NotesConfig(ConditionerConfig, name="notes"):
    """The pitch classes in `Prompt.text` as a vector.

    What is learned from captions as a whole hardly knows of notes: a flute that plays C and one that plays D are nearly
    the same to a CLAP, whose training seldom has to tell them apart.
    """

    def build(self) -> "Notes":
        return Notes(self)


class Notes(Conditioner):
    """[batch, 12]: 1 for each pitch class, C to B, that is named; all 0 where none is."""

    vector = 12
    place: Tensor

    def __init__(self, config: NotesConfig) -> None:
        super().__init__()
        self.config: NotesConfig = config
        self.register_buffer("place", torch.empty(0), persistent=False)  # knows the device

    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        named = torch.zeros(len(prompts), self.vector)
        for row, prompt in zip(named, prompts, strict=True):
            row[[pitch for _, pitch in notes(prompt.text or "")]] = 1
        return Condition(vector=named.to(self.place.device))
