"""Noised CLAP: signals under noise find their captions."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hiss.clap import NoisedClap, NoisedClapConfig, begin_noised, recall
from hiss.data import Dataset
from hiss.diffusion.schedules import LogNormal, NoiseSchedule
from hiss.representations import Representation, RepresentationConfig
from hiss.spec import Spec
from hiss.training.encoded import check_passes, encoded
from hiss.training.objective import Objective
from hiss.training.objectives.base import Clips, Recipe
from hiss.types import Batch

_READ = 64
"""Recordings that are read at a time when their captions are gathered."""


@dataclass(frozen=True, kw_only=True)
class Heard(Spec):
    """What a noised CLAP hears: that which a diffusion model works on."""

    sample_rate: int
    """Hz."""
    seconds: float
    """Length of the training examples."""
    representation: RepresentationConfig
    training: NoiseSchedule = LogNormal(mean=1.0, std=1.5)
    """Which noise levels training draws."""

    @property
    def samples(self) -> int:
        """Length of a training example in samples."""
        return max(1, round(self.seconds * self.sample_rate))


class NoisedContrastiveObjective(Objective):
    """The symmetric cross-entropy of `NoisedClap.compute_loss`, and how often the right one is found in a batch."""

    model: NoisedClap

    def __init__(self, model: NoisedClap, heard: Heard, representation: Representation) -> None:
        super().__init__(model)
        self.heard, self.representation = heard, representation

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        clean = batch.encoded
        device = self.model.rarity.device
        if clean is None:
            clean = self.representation.encode(batch.audio.to(device))
        clean = clean.to(device, torch.float32)
        sigma = self.heard.training.sample(len(clean), device=device, generator=generator)
        captions = [prompt.text or "" for prompt in batch.prompts]
        loss = self.model.compute_loss(clean, sigma, captions, generator=generator)
        outputs = {"loss": loss, "temperature": self.model.log_temperature.exp().detach()}
        if self.training:
            return outputs
        quiet = torch.full_like(sigma, 0.1)
        found = recall(self.model.embed_texts(captions), self.model.embed(clean, quiet), captions)
        return outputs | {f"recall {way}": loss.new_tensor(share) for way, share in found.items()}

    def fit(self, batches: Iterable[Tensor]) -> None:
        self.representation.fit(batches)


@dataclass(frozen=True, kw_only=True)
class NoisedClapRecipe(Recipe, name="noised_clap"):
    """How a noised CLAP is trained; it learns its words from the captions of the recordings."""

    model: NoisedClapConfig = NoisedClapConfig()
    objective: Heard
    encoded: int = 0
    """Passes over the data that are encoded once, before the first step, as for a diffusion model."""

    def __post_init__(self) -> None:
        check_passes(self.encoded)

    @property
    def clips(self) -> Clips:
        return Clips(self.objective.sample_rate, 1, self.objective.samples)

    def objective_for(self, examples: Dataset) -> NoisedContrastiveObjective:
        heard = self.objective
        representation = heard.representation.build(heard.sample_rate, 1)
        shape = representation.shape(heard.samples)[:-1]
        captions = [prompt.text or "" for batch in examples.once(_READ) for prompt in batch.prompts]
        return NoisedContrastiveObjective(begin_noised(self.model, shape, captions), heard, representation)

    def prepared(self, examples: Dataset, objective: Objective, folder: Path) -> Dataset:
        assert isinstance(objective, NoisedContrastiveObjective)
        return encoded(examples, objective.representation, passes=self.encoded, folder=folder)
