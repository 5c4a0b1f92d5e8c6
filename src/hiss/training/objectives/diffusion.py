"""Audio diffusion models."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hiss.config import ModelConfig
from hiss.data import Dataset
from hiss.lora import LoraConfig, fresh
from hiss.model import AudioDiffusionModel
from hiss.training.demo import demo_of
from hiss.training.encoded import check_passes, encoded
from hiss.training.objective import Objective
from hiss.training.objectives.base import Clips, Recipe
from hiss.training.trainer import Demo
from hiss.types import Batch


class DiffusionObjective(Objective):
    """The weighted denoising error of an audio diffusion model."""

    model: AudioDiffusionModel

    def __init__(self, model: AudioDiffusionModel) -> None:
        super().__init__(model)
        self.measured = tuple(f"representation.{name}" for name in model.representation.state_dict())

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        return {"loss": self.model.compute_loss(batch, generator=generator)}

    def fit(self, batches: Iterable[Tensor]) -> None:
        self.model.representation.fit(batches)


@dataclass(frozen=True, kw_only=True)
class DiffusionRecipe(Recipe, name="diffusion"):
    """How a diffusion model is trained."""

    model: ModelConfig
    prompts: tuple[str, ...] = ()
    """Of the demos made every `trainer.demo_every` steps; without any, four sounds are made freely, or four examples
    cleaned by a model that denoises."""
    lora: LoraConfig | None = None
    """Trains adapters of the network in place of the model, which then has weights to start from."""
    encoded: int = 0
    """Passes over the data that are encoded once, before the first step, and then used again and again, for a
    representation that takes its time; 0 encodes in every step."""

    def __post_init__(self) -> None:
        check_passes(self.encoded)

    def check(self) -> None:
        for loss in self.model.losses:
            loss.check()

    @property
    def adapts(self) -> bool:
        return self.lora is not None

    @property
    def clips(self) -> Clips:
        return Clips(self.model.sample_rate, self.model.channels, self.model.samples)

    def objective_for(self, examples: Dataset) -> DiffusionObjective:
        return DiffusionObjective(AudioDiffusionModel(self.model))

    def adapted(self, objective: Objective) -> nn.Module:
        assert isinstance(objective, DiffusionObjective)
        if self.lora is None:
            return objective.model
        objective.requires_grad_(False)
        return fresh(self.lora, objective.model.denoiser.network)

    def prepared(self, examples: Dataset, objective: Objective, folder: Path) -> Dataset:
        assert isinstance(objective, DiffusionObjective)
        return encoded(examples, objective.model.representation, passes=self.encoded, folder=folder)

    def demo(self, objective: Objective, examples: Dataset) -> Demo:
        assert isinstance(objective, DiffusionObjective)
        return demo_of(objective.model, examples, prompts=self.prompts, seed=self.trainer.seed)
