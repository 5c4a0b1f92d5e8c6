"""Condition on a text as the CLAP of transformers reads it: the text encoder of AudioLDM."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.clap.towers import transformers_package
from hiss.clap.vocabulary import tokenizer_from
from hiss.conditioners.base import Conditioner, ConditionerConfig
from hiss.spec import Options
from hiss.types import Condition, Prompt


@dataclass(frozen=True, kw_only=True)
class ClapTextConfig(ConditionerConfig, name="clap_text"):
    """A text as a vector of length 1."""

    tokenizer: str
    """What the package tokenizers writes, in JSON: also the marks around a text, and how many tokens are read."""
    options: Options = field(default_factory=dict)
    """Arguments of transformers' `ClapTextConfig`."""

    def build(self) -> "ClapText":
        return ClapText(self)


class ClapText(Conditioner):
    """The projected state of RoBERTa at the start of `Prompt.text`; an empty text stands for "anything".

    It is trained before, and does not learn any more.
    Source: Wu et al. 2023, "Large-scale contrastive language-audio pretraining with feature fusion and
    keyword-to-caption augmentation", section 3.2.
    """

    place: Tensor
    reads = True

    def __init__(self, config: ClapTextConfig) -> None:
        super().__init__()
        self.config: ClapTextConfig = config
        self.tokenizer = tokenizer_from(config.tokenizer)
        transformers = transformers_package()
        sizes = transformers.ClapTextConfig(**config.options)
        self.vector = sizes.projection_dim
        self.reader: nn.Module = transformers.ClapTextModelWithProjection(sizes).requires_grad_(False)
        self.register_buffer("place", torch.empty(0), persistent=False)  # knows the device

    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        self.reader.eval()
        # One by one, so that a prompt means the same, to the bit, alone and in a crowd.
        return Condition(vector=torch.cat([self._read(prompt.text or "") for prompt in prompts]))

    def check(self, prompt: Prompt) -> None:
        if self.tokenizer.encode(prompt.text or "").overflowing:
            warnings.warn("the prompt is too long: its end is not read", stacklevel=4)

    def _read(self, text: str) -> Tensor:
        """Returns the vector [1, features] of a text."""
        tokens = torch.tensor([self.tokenizer.encode(text).ids], device=self.place.device)
        read: Tensor = self.reader(tokens, attention_mask=torch.ones_like(tokens)).text_embeds
        return functional.normalize(read, dim=-1)
