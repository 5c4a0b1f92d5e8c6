"""What a run minimises, and what an adversary adds to it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hiss.types import Batch


class Objective(nn.Module, ABC):
    """What a run minimises. What it learns of, but does not change, is a submodule too, without gradients."""

    model: nn.Module
    """What is trained, and saved at the end."""
    measured: tuple[str, ...] = ()
    """Names in the state of the model that `fit` measures; a whole model to start from makes it needless."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Returns tensors without dimensions by name: "loss" is minimised and judged, the rest is only noted."""

    def fit(self, batches: Iterable[Tensor]) -> None:  # most have something to measure, not all
        """Measures statistics of the whole training set, audio [batch, channels, samples], before the first step."""


class AdversarialObjective(Objective):
    """An objective with an adversary: it learns to tell the work of the model from the real, and the model to fool it.

    While it plays, `forward` also returns "contest", what the model loses to it, and "adversary", what it loses itself.
    Both are minimised with the loss, in one step: the first is made with the weights of the adversary as they are,
    the second with the work of the model as it is. The loss itself does not change when the adversary joins.
    """

    adversary: nn.Module
    joins: float
    """The share of the run that is over when it does."""
    plays: bool = False
    """Whether it has joined; told before each step."""
