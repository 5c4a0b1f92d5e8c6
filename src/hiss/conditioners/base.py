"""What every conditioner is: prompts in, a `Condition` out, with something to say for an empty prompt too."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hiss.spec import Spec
from hiss.types import Batch, Condition, Prompt


@dataclass(frozen=True, kw_only=True)
class ConditionerConfig(Spec, ABC):
    """Family of conditioner configurations; a member lives in one file of this folder."""

    dropout: float = 0.0
    """Share of training prompts whose part is withheld from this conditioner alone, so that it may be left open."""

    @abstractmethod
    def build(self) -> "Conditioner":
        """Returns the conditioner with fresh weights."""


class Conditioner(nn.Module, ABC):
    """Turns prompts into a condition; what a prompt leaves open becomes a learned "anything"."""

    config: ConditionerConfig
    vector: int = 0
    """Features of the vector it gives; 0 for none."""
    tokens: int = 0
    """Features of each token it gives; 0 for none."""
    signal: bool = False
    """Whether it gives a signal: audio [batch, channels, samples], which the model encodes as it does its own."""
    repeats: bool = False
    """Whether its signal begins again where it ends, for as long as the sound is; else silence follows."""
    reads: bool = False
    """Whether it makes sense of `Prompt.text`, so that a prompt may be any sentence."""

    @abstractmethod
    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        """Returns the condition of a batch of prompts.

        All of its parameters must take part, whatever the prompts are: of those that do not there is no gradient, and
        training in several processes, whose prompts differ, would come to a halt.
        """

    def complete(self, prompt: Prompt, generator: torch.Generator) -> Prompt:
        """Returns the prompt with what it leaves open drawn at random, where the conditioner can; else unchanged."""
        del generator
        return prompt

    def listen(self, batch: Batch, generator: torch.Generator | None) -> Sequence[Prompt]:
        """Returns the prompts of a training batch, as the conditioner wants them: with their own clips, say."""
        del generator
        return batch.prompts

    def check(self, prompt: Prompt) -> None:
        """Warns of what the conditioner cannot make sense of in a user's prompt."""


def merge(conditions: Sequence[Condition]) -> Condition:
    """Returns one condition of several: vectors side by side, tokens in a row, signals as more channels."""
    tokens = [one for one in conditions if one.tokens is not None]
    return Condition(
        vector=_cat([one.vector for one in conditions], dim=1),
        tokens=_cat([one.tokens for one in tokens], dim=1),
        mask=_cat([_mask(one) for one in tokens], dim=1) if any(one.mask is not None for one in tokens) else None,
        signal=_cat([one.signal for one in conditions], dim=1),
        aim=_cat([one.aim for one in conditions], dim=1),
    )


def stack(conditions: Sequence[Condition]) -> Condition:
    """Returns one condition for the batches of several, one behind the other."""
    return Condition(
        vector=_cat([one.vector for one in conditions], dim=0),
        tokens=_cat([one.tokens for one in conditions], dim=0),
        mask=_cat([one.mask for one in conditions], dim=0),
        signal=_cat([one.signal for one in conditions], dim=0),
        aim=_cat([one.aim for one in conditions], dim=0),
    )


def _mask(condition: Condition) -> Tensor | None:
    if condition.mask is not None or condition.tokens is None:
        return condition.mask
    return torch.ones(condition.tokens.shape[:2], dtype=torch.bool, device=condition.tokens.device)


def _cat(parts: Sequence[Tensor | None], dim: int) -> Tensor | None:
    real = [part for part in parts if part is not None]
    return torch.cat(real, dim=dim) if real else None
