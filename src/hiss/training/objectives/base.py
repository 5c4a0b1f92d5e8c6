"""What every recipe says: the data, the model and the training of one thing."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hiss.data import DataConfig, Dataset
from hiss.spec import Spec
from hiss.training.config import TrainerConfig
from hiss.training.objective import Objective
from hiss.training.trainer import Demo


class Clips(NamedTuple):
    """What the examples of a run are."""

    sample_rate: int
    """Hz."""
    channels: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class Recipe(Spec, ABC):
    """Everything that `hiss train` needs to know; a family with one member for each kind of thing to be trained."""

    tag = "kind"

    data: DataConfig
    model: Any
    """The configuration of what is trained."""
    trainer: TrainerConfig = TrainerConfig()
    validation: DataConfig | None = None
    """Other data to judge by; without it, what `data` holds out."""
    description: str = ""
    """For the model card."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Folders that weights are taken from, by the place in this recipe whose configuration was read from them."""
    share: float = 1.0
    """As a stage: how much of the time that is given to all, in relation to the others."""

    @property
    def adapts(self) -> bool:
        """Whether it trains adapters of a model that is already trained."""
        return False

    @property
    @abstractmethod
    def clips(self) -> Clips:
        """What the examples are."""

    @abstractmethod
    def objective_for(self, examples: Dataset) -> Objective:
        """Returns what is minimised, with fresh weights."""

    def adapted(self, objective: Objective) -> nn.Module:
        """Returns what of an objective is trained and saved, once the weights to start from are there."""
        return objective.model

    def prepared(self, examples: Dataset, objective: Objective, folder: Path) -> Dataset:
        """Returns the training examples, with what can be made of them before the first step; it may be kept in a
        folder."""
        del objective, folder
        return examples

    def check(self) -> None:  # most need nothing
        """Makes sure, before any data are read, that what the training needs besides them is there.

        Raises:
            HissError: it is not.
        """

    def demo(self, objective: Objective, examples: Dataset) -> Demo | None:
        """Returns what is made every `trainer.demo_every` steps, maybe of examples; None if nothing can be heard."""
        del objective, examples
        return None
