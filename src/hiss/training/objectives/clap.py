"""CLAP: recordings find their captions, and captions their recordings."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.clap import Clap, ClapConfig, begin, recall
from hiss.data import Dataset
from hiss.training.objective import Objective
from hiss.training.objectives.base import Clips, Recipe
from hiss.types import Batch

_READ = 64
"""Recordings that are read at a time when their captions are gathered."""


class ContrastiveObjective(Objective):
    """The symmetric cross-entropy of `Clap.compute_loss`, and how often the right one is found in a batch."""

    model: Clap

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        loss = self.model.compute_loss(batch, generator=generator)
        outputs = {"loss": loss, "temperature": self.model.log_temperature.exp().detach()}
        if self.training:
            return outputs
        captions = [prompt.text or "" for prompt in batch.prompts]
        texts = self.model.embed_texts(captions)
        sounds = self.model.embed_audio(batch.audio.to(texts.device).mean(dim=1))
        found = recall(texts, sounds, captions)
        return outputs | {f"recall {way}": loss.new_tensor(share) for way, share in found.items()}


@dataclass(frozen=True, kw_only=True)
class ClapRecipe(Recipe, name="clap"):
    """How a CLAP is trained; it learns its vocabulary from the captions of the recordings."""

    model: ClapConfig

    @property
    def clips(self) -> Clips:
        return Clips(self.model.audio.sample_rate, 1, self.model.audio.samples)

    def objective_for(self, examples: Dataset) -> ContrastiveObjective:
        captions = [prompt.text or "" for batch in examples.once(_READ) for prompt in batch.prompts]
        return ContrastiveObjective(begin(self.model, captions))
