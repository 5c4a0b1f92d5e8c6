"""Condition on the words of a text, and steer to them: what a CLAP makes of it that hears through noise."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hiss.clap import NoisedClap, NoisedClapConfig
from hiss.conditioners.base import Conditioner, ConditionerConfig
from hiss.types import Condition, Prompt


@dataclass(frozen=True)
class WordsConfig(ConditionerConfig, name="words"):
    """The words of `Prompt.text` as a vector, and as an aim for `SamplingConfig.steer`."""

    noised_clap: NoisedClapConfig = NoisedClapConfig()
    """What knows the words; its weights become a part of the model."""
    vector: bool = True
    """Whether the network is told the vector (FiLM); else the words only steer."""

    def build(self) -> "Words":
        return Words(self)


class Words(Conditioner):
    """A noised CLAP's vector of a text, with a learned one where it knows none of the words, and its ear."""

    reads = True

    def __init__(self, config: WordsConfig) -> None:
        super().__init__()
        self.config: WordsConfig = config
        self.noised_clap = NoisedClap(config.noised_clap).requires_grad_(False)
        features = config.noised_clap.features
        self.vector = features if config.vector else 0
        self.any_vector = nn.Parameter(torch.zeros(features)) if config.vector else None

    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        self.noised_clap.eval()
        aim = self.noised_clap.embed_texts([prompt.text or "" for prompt in prompts])
        if self.any_vector is None:
            return Condition(aim=aim)
        known = aim.any(dim=-1, keepdim=True)
        scale = self.vector**0.5  # CLAP's vectors have length 1
        return Condition(vector=torch.where(known, scale * aim, self.any_vector), aim=aim)

    def check(self, prompt: Prompt) -> None:
        if prompt.text and not self.noised_clap.embed_texts([prompt.text]).any():
            warnings.warn("this model can steer to none of the words of the prompt: expect anything", stacklevel=4)

    def gradient(self, x: Tensor, sigma: Tensor, aim: Tensor) -> Tensor:
        """Returns how the logarithm of the likelihood of texts grows with x [batch, channels, *space].

        Up to what is the same for all x: the likeness to the text, over the temperature.
        Source: Nichol et al. 2022, "GLIDE", section 2.4.

        Args:
            x: clean + sigma * noise.
            sigma: the level, without dimension.
            aim: the vectors [batch, features] of the texts.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            heard = self.noised_clap.embed(x, sigma.expand(len(x)))
            likeness = (heard * aim).sum() / self.noised_clap.log_temperature.exp()
            (slope,) = torch.autograd.grad(likeness, x)
        return slope
