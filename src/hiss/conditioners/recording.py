"""Condition on a recording that runs along with what is made, such as the noisy speech of a denoiser."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.conditioners.base import Conditioner, ConditionerConfig
from hiss.errors import UsageError
from hiss.types import Condition, Prompt, State

_FAINTEST = 1e-2
"""The lowest level that is made up for, with 1 for that of the training set: fainter recordings stay fainter."""


@dataclass(frozen=True)
class RecordingConfig(ConditionerConfig, name="recording"):
    """A recording as a signal.

    Its level is taken out of everything that the network sees, and put back in the end: how loud a recording is does
    not matter.
    """

    memory: int | None = None
    """Frames of the representation over which the level is measured, a running mean of those so far, as a stream needs
    it; None for all frames alike."""
    bins: int = 0
    """How many of the lowest bins of a spectrum the level is measured on; 0 for all of the representation."""

    def __post_init__(self) -> None:
        if self.bins < 0:
            raise UsageError(f"the level must be measured on at least 1 bin, or all (0), not {self.bins}")
        if self.memory is not None and self.memory < 1:
            raise UsageError(f"the memory for the level must be at least 1 frame, or none, not {self.memory}")

    def build(self) -> "Recording":
        return Recording(self)


class Recording(Conditioner):
    """`Prompt.recording`, as it is; a prompt without one is silence."""

    place: Tensor

    def __init__(self, config: RecordingConfig) -> None:
        super().__init__()
        self.config: RecordingConfig = config
        self.signal = True
        self.register_buffer("place", torch.empty(0), persistent=False)  # knows the device

    def forward(self, prompts: Sequence[Prompt]) -> Condition:
        given = [prompt.recording for prompt in prompts if prompt.recording is not None]
        channels = max((one.shape[0] for one in given), default=1)
        samples = max((one.shape[1] for one in given), default=0)
        signal = torch.zeros(len(prompts), channels, samples)
        for row, prompt in zip(signal, prompts, strict=True):
            if prompt.recording is not None:
                row[:, : prompt.recording.shape[1]] = prompt.recording
        return Condition(signal=signal.to(self.place.device))

    def level(self, prompts: Sequence[Prompt], encoded: Tensor) -> Tensor:
        """Returns the levels of recordings [batch, 1, ..., frames or 1]: 0 in silence, 1 where there is no recording.

        A level is the root of the mean square of the encoded recording [batch, channels, *space]. With `memory`, that
        of the frames so far, in which a frame counts e times less after `memory` more frames.
        """
        if self.config.memory is None:
            level = _level(self._power(encoded).mean(dim=-1, keepdim=True), encoded.ndim)
        else:
            level, _ = self.running_level(encoded)
        given = torch.tensor([prompt.recording is not None for prompt in prompts], device=level.device)
        return torch.where(given.reshape(-1, *[1] * (level.ndim - 1)), level, 1.0)

    def running_level(self, encoded: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Returns the levels of the next frames of recordings, and the state for the frames after them.

        Pieces [batch, channels, *space], each with the state that came with the one before, have the levels of the
        whole. The state is the mean square so far and how many frames' weight it carries. Only with `memory`.
        """
        assert self.config.memory is not None
        power = self._power(encoded)
        mean, carried = state or (power.new_zeros(len(power), 1), power.new_zeros(1))
        frames = torch.arange(power.shape[-1], device=power.device)
        age = (frames - frames[:, None]) / self.config.memory
        weight = torch.exp(-age).masked_fill(age < 0, 0)
        past = carried * torch.exp(-(frames + 1) / self.config.memory)
        total = weight.sum(dim=0) + past
        means = power @ (weight / total) + mean * (past / total)
        return _level(means, encoded.ndim), (means[:, -1:], total[-1:])

    def _power(self, encoded: Tensor) -> Tensor:
        """Returns the mean square of each frame [batch, frames]."""
        if self.config.bins:
            encoded = encoded[..., : self.config.bins, :]
        return encoded.float().square().mean(dim=tuple(range(1, encoded.ndim - 1)))


def _level(mean: Tensor, dims: int) -> Tensor:
    """Returns the root of a mean square [batch, frames or 1], with as many dimensions as what it will multiply."""
    level = torch.where(mean > 0, mean.sqrt().clamp(min=_FAINTEST), 0.0)
    return level.reshape(len(level), *[1] * (dims - 2), -1)
