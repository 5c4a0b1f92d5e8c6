"""Condition on a class out of a fixed list, such as the digit that is spoken."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from hiss.conditioners.base import Conditioner, ConditionerConfig
from hiss.errors import UsageError, unknown
from hiss.types import Condition, Prompt


@dataclass(frozen=True)
class LabelConfig(ConditionerConfig, name="label"):
    """A class label as a vector."""

    field: str = "label"
    """Which of `Prompt.labels` is meant."""
    classes: tuple[str, ...] = ()
    features: int = 64
    draw: bool = False
    """A prompt without this label gets a random class when sampling, so that a batch has variety."""
    shares: tuple[float, ...] = ()
    """How often each class is drawn, in proportion to the others; all alike where left out."""

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise UsageError(f"the label conditioner {self.field!r} needs a list of different classes")
        if self.shares and (len(self.shares) != len(self.classes) or not min(self.shares) >= 0 < sum(self.shares)):
            raise UsageError(
                f"the label conditioner {self.field!r} needs a share of 0 or more for each of its {len(self.classes)} "
                f"classes, and one above 0, not {list(self.shares)}"
            )

    def build(self) -> "Label":
        return Label(self)


class Label(Conditioner):
    """One learned vector a class and one more for "any"."""

    def __init__(self, config: LabelConfig) -> None:
        super().__init__()
        self.config: LabelConfig = config
        self.vector = config.features
        self.table = nn.Embedding(len(config.classes) + 1, config.features)

    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        rows = torch.tensor([self._row(prompt) for prompt in prompts], device=self.table.weight.device)
        return Condition(vector=self.table(rows))

    def complete(self, prompt: Prompt, generator: torch.Generator) -> Prompt:
        if not self.config.draw or self.config.field in prompt.labels:
            return prompt
        if self.config.shares:
            drawn = int(torch.multinomial(torch.tensor(self.config.shares, dtype=torch.float), 1, generator=generator))
        else:
            drawn = int(torch.randint(len(self.config.classes), (), generator=generator))
        return replace(prompt, labels={**prompt.labels, self.config.field: self.config.classes[drawn]})

    def _row(self, prompt: Prompt) -> int:
        label = prompt.labels.get(self.config.field)
        if label is None:
            return len(self.config.classes)
        if label not in self.config.classes:
            raise unknown(self.config.field, label, self.config.classes)
        return self.config.classes.index(label)
