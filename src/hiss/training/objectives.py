"""What is minimised: modules whose forward turns a batch into tensors by name, "loss" among them."""

import torch
from torch import Tensor, nn

from hiss.model import AudioDiffusionModel
from hiss.types import Batch


class DiffusionObjective(nn.Module):
    """The weighted denoising error of an audio diffusion model, which stays reachable as `.model`."""

    def __init__(self, model: AudioDiffusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Returns {"loss": tensor without dimensions}."""
        return {"loss": self.model.compute_loss(batch, generator=generator)}
