"""Condition on where in a recording a clip lies, so that beginnings, middles and ends can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hiss.conditioners.base import Conditioner, ConditionerConfig
from hiss.networks.layers import Fourier
from hiss.types import Condition, Prompt


@dataclass(frozen=True)
class TimingConfig(ConditionerConfig, name="timing"):
    """Start and total seconds as a vector."""

    longest: float = 600.0
    """Seconds that map to 1; longer recordings count as this long."""
    features: int = 64

    def build(self) -> "Timing":
        return Timing(self)


class Timing(Conditioner):
    """Fourier features of start and total time, each with a learned vector for "any".

    Source: Evans et al. 2024, "Fast Timing-Conditioned Latent Audio Diffusion", section 3.1.
    """

    def __init__(self, config: TimingConfig) -> None:
        super().__init__()
        self.config: TimingConfig = config
        self.vector = 2 * config.features
        self.fourier = Fourier(config.features, lowest=0.5, highest=64.0)
        self.start = nn.Linear(config.features, config.features)
        self.total = nn.Linear(config.features, config.features)
        self.any = nn.Parameter(torch.zeros(2, config.features))

    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        start = self._embed(self.start, [prompt.start for prompt in prompts], self.any[0])
        total = self._embed(self.total, [prompt.total for prompt in prompts], self.any[1])
        return Condition(vector=torch.cat([start, total], dim=1))

    def _embed(self, layer: nn.Module, seconds: Sequence[float | None], absent: Tensor) -> Tensor:
        known = torch.tensor([value is not None for value in seconds], device=absent.device)
        value = torch.tensor([min(value or 0.0, self.config.longest) for value in seconds], device=absent.device)
        embedded: Tensor = layer(self.fourier(value / self.config.longest))
        return torch.where(known[:, None], embedded, absent)
