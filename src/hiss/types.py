"""The few shapes that travel between modules: conditions, prompts, batches and what a sampler is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

Generator = torch.Generator | Sequence[torch.Generator]
"""Where randomness comes from: one generator for a whole batch, or one per item (see `hiss.noise`)."""

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x, sigma) -> expected clean x; `x` is [batch, channels, *space], `sigma` has no dimension or is [batch]."""

Watch = Callable[[int, int, Tensor], None]
"""(step done, steps in all, current estimate of the clean signal), called after each step of a sampler."""

Precision = Literal["no", "bf16", "fp16"]
"""What a network computes in: the numbers of its weights, or with autocast half as long ones."""

State = tuple[Tensor, ...]
"""What must be known of the frames so far to go on with those that follow; its size does not grow with their number."""


class Sampler(Protocol):
    """Walks from x = clean + sigmas[0] * noise along `sigmas` [steps + 1], which decrease to 0, to a clean x."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator | None = None,
        watch: Watch | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Condition:
    """What a network is told besides x and the noise level; every part is optional."""

    vector: Tensor | None = None
    """[batch, features]: joined to the noise embedding (FiLM)."""
    tokens: Tensor | None = None
    """[batch, length, features]: attended to."""
    mask: Tensor | None = None
    """[batch, length]: True where a token is real."""
    signal: Tensor | None = None
    """[batch, channels, *space]: concatenated to the input."""
    aim: Tensor | None = None
    """[batch, features]: what sampling may be steered to; networks do not see it."""

    def rows(self, index: slice | Tensor) -> "Condition":
        """Returns the condition of the items at `index`, a slice or whole numbers [rows], along the batch."""
        parts = (self.vector, self.tokens, self.mask, self.signal, self.aim)
        return Condition(*(None if part is None else part[index] for part in parts))


@dataclass(frozen=True)
class Prompt:
    """What a user asks for; an empty one asks for anything."""

    text: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Names of classes by field, such as {"digit": "7", "speaker": "theo"}."""
    start: float | None = None
    """Seconds from the start of the recording that a clip was, or shall be, cut from."""
    total: float | None = None
    """Seconds of that whole recording."""
    recording: Tensor | None = None
    """[channels, samples] at the rate of the model: sound to start from, such as noisy speech to be cleaned."""


@dataclass(frozen=True)
class Batch:
    """Examples for training: what every data set yields."""

    audio: Tensor
    """[batch, channels, samples] in [-1, 1], zero after `lengths`."""
    sample_rate: int
    """Hz."""
    prompts: tuple[Prompt, ...]
    """One per example."""
    lengths: Tensor
    """[batch]: samples of each example that are real."""
    encoded: Tensor | None = None
    """[batch, channels, *space]: what the representation of a model makes of the audio, where that was done before."""
