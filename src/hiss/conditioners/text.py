"""Condition on a text: what CLAP makes of it as a whole, and the states of GPT-2 at each of its tokens."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.clap import Clap, ClapConfig
from hiss.conditioners.base import Conditioner, ConditionerConfig, stack
from hiss.errors import UsageError
from hiss.types import Batch, Condition, Prompt

_NAMED = 5
"""New words of a prompt that a warning names; more are counted."""


@dataclass(frozen=True)
class TextConfig(ConditionerConfig, name="text"):
    """A text as a vector, as tokens, or both."""

    clap: ClapConfig = ClapConfig()
    """What reads the text; its weights become a part of the model."""
    vector: bool = True
    """Whether the joint vector of CLAP conditions the network (FiLM)."""
    tokens: bool = True
    """Whether the network attends to the states of GPT-2 (cross-attention)."""
    frozen: bool = True
    """Whether training leaves CLAP as it is; else the reading half is trained along."""
    audio: float = 0.0
    """Share of training examples whose vector is what CLAP hears in their own clip, in place of what it reads."""
    withheld: float = 0.0
    """The largest share of the words of a training text that are left out: each text loses a share between 0 and this.
    Of few captions, of which no two are the same, a network else learns which recording they belong to.
    Source: Wei and Zou 2019, "EDA: easy data augmentation techniques", random deletion."""

    def __post_init__(self) -> None:
        if not self.vector and not self.tokens:
            raise UsageError("the text conditioner needs vector, tokens or both")
        if not 0 <= self.audio <= 1:
            raise UsageError(f"audio is a share from 0 to 1, not {self.audio}")
        if self.audio and not self.vector:
            raise UsageError("what CLAP hears is a vector: with audio above 0, vector must be true")
        if not 0 <= self.withheld < 1:
            raise UsageError(f"withheld is a share from 0 to below 1, not {self.withheld}")

    def build(self) -> "Text":
        return Text(self)


class Text(Conditioner):
    """CLAP's reading of `Prompt.text`, with a learned vector and a learned token for "anything".

    With `config.audio`, a prompt with a recording, at the rate of CLAP, has the vector of that.
    Source: Liu et al. 2023, "AudioLDM: text-to-audio generation with latent diffusion models", section 3.1.
    """

    reads = True

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config: TextConfig = config
        self.clap = Clap(config.clap)
        self.clap.requires_grad_(False)
        self.clap.text.requires_grad_(not config.frozen)
        self.clap.text_projection.requires_grad_(config.vector and not config.frozen)
        if config.vector:
            self.vector = config.clap.features
            self.any_vector = nn.Parameter(torch.zeros(self.vector))
        if config.tokens:
            self.tokens = config.clap.text.width
            self.any_token = nn.Parameter(torch.zeros(self.tokens))

    def adopt(self, clap: Clap) -> None:
        """Takes the weights of a trained CLAP.

        Raises:
            UsageError: it is not the one that the configuration describes.
        """
        if clap.config != self.config.clap:
            raise UsageError("this CLAP is not the one that the model was configured for; begin with its configuration")
        self.clap.load_state_dict(clap.state_dict())

    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        if self.config.frozen:
            self.clap.eval()
        # In training all at once, which is quick; else one by one, so that a prompt means the same, to the bit, alone
        # and in a crowd.
        groups = [prompts] if self.training else [[prompt] for prompt in prompts]
        return stack([self._told(group) for group in groups])

    def listen(self, batch: Batch, generator: torch.Generator | None) -> Sequence[Prompt]:
        prompts = batch.prompts
        if self.config.withheld:
            prompts = tuple(replace(prompt, text=self._shortened(prompt.text, generator)) for prompt in prompts)
        if not self.config.audio:
            return prompts
        rate = self.config.clap.audio.sample_rate
        if batch.sample_rate != rate:
            raise UsageError(f"CLAP hears {rate} Hz, and the model makes {batch.sample_rate} Hz; set audio to 0")
        chosen = (torch.rand(len(prompts), generator=generator) < self.config.audio).tolist()
        return [
            replace(prompt, recording=clip) if heard else prompt
            for prompt, clip, heard in zip(prompts, batch.audio, chosen, strict=True)
        ]

    def check(self, prompt: Prompt) -> None:
        reader, text = self.config.clap.text, prompt.text or ""
        new = reader.vocabulary.new(text)
        if new:
            named = ", ".join(map(repr, list(new)[:_NAMED]))
            more = f" and {len(new) - _NAMED} more" if len(new) > _NAMED else ""
            near = dict.fromkeys(repr(word) for known in new.values() for word in known)
            hint = f" (it knows {', '.join(list(near)[:_NAMED])})" if near else ""
            warnings.warn(f"this model has never read {named}{more}{hint}: expect little of such words", stacklevel=4)
        tokens = len(self.clap.text.tokenizer.encode(text))
        if tokens >= reader.length:
            share = (reader.length - 1) / tokens
            warnings.warn(f"the prompt is too long: of its words, about {share:.0%} are read", stacklevel=4)

    def _shortened(self, text: str | None, generator: torch.Generator | None) -> str | None:
        """Returns a text without some of its words, but not without any."""
        words = (text or "").split()
        share = self.config.withheld * torch.rand(1, generator=generator)
        kept = (torch.rand(len(words), generator=generator) >= share).tolist()
        return " ".join(word for word, keep in zip(words, kept, strict=True) if keep) or text

    def _told(self, prompts: Sequence[Prompt]) -> Condition:
        """Returns the condition of a few prompts, with as many tokens as there can be."""
        texts = [prompt.text or "" for prompt in prompts]
        reading = self.clap.read(texts)
        given = torch.tensor([bool(text) for text in texts], device=reading.mask.device)
        vector = self._vector(prompts, reading.vector, given) if self.config.vector else None
        if not self.config.tokens:
            return Condition(vector=vector)
        first = torch.arange(reading.mask.shape[1], device=given.device) == 0
        mask = torch.where(given[:, None], reading.mask, first)
        tokens = torch.where(given[:, None, None], reading.tokens, self.any_token) * mask[..., None]
        missing = self.config.clap.text.length - mask.shape[1]
        return Condition(
            vector=vector, tokens=functional.pad(tokens, (0, 0, 0, missing)), mask=functional.pad(mask, (0, missing))
        )

    def _vector(self, prompts: Sequence[Prompt], read: Tensor, given: Tensor) -> Tensor:
        """Returns the vectors [batch, features] of prompts, about 1 in size, given what was read of their texts."""
        scale = self.vector**0.5  # CLAP's vectors have length 1
        vector = torch.where(given[:, None], scale * read, self.any_vector)
        if not self.config.audio:
            return vector
        clips = {row: prompt.recording for row, prompt in enumerate(prompts) if prompt.recording is not None}
        if not clips:
            return vector
        heard = self.clap.embed_audio(torch.stack([clip.mean(dim=0) for clip in clips.values()]).to(vector.device))
        return vector.index_copy(0, torch.tensor(list(clips), device=vector.device), scale * heard)
