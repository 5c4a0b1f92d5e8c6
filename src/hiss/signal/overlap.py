"""Long signals in windows that overlap and cross-fade: bounded memory, no seam."""

from collections.abc import Callable

import torch
from torch import Tensor


class Windows:
    """A process over windows of a signal [..., samples] that comes in pieces.

    Neighbours pass into each other by a linear cross-fade over the middle half of their overlap. The outer quarters are
    left to the neighbour that has heard more: a window's own start and end lack what came before and comes after.
    """

    def __init__(self, process: Callable[[Tensor], Tensor], *, size: int, overlap: int, grows: int = 1) -> None:
        """`process` gets `size` samples, of which neighbours share `overlap`, or at the end fewer, and gives back
        `grows` for each of them."""
        self.process, self.size, self.overlap, self.grows = process, size, overlap, grows
        self._heard: Tensor | None = None
        self._before: Tensor | None = None
        """What the window before says of the overlap."""

    def push(self, samples: Tensor, *, last: bool = False) -> Tensor:
        """Returns what has become of the samples, maybe none, that the next ones complete."""
        heard = samples if self._heard is None else torch.cat([self._heard, samples], dim=-1)
        hop, done = self.size - self.overlap, list[Tensor]()
        while heard.shape[-1] >= self.size:
            made = self._blended(heard[..., : self.size])
            done.append(made[..., : hop * self.grows])
            self._before, heard = made[..., hop * self.grows :], heard[..., hop:]
        if last and (self._before is None or heard.shape[-1] > self.overlap):
            done.append(self._blended(heard))
        elif last and self._before is not None:
            done.append(self._before)
        self._heard = heard.clone()
        return torch.cat(done, dim=-1) if done else samples[..., :0]

    def _blended(self, window: Tensor) -> Tensor:
        made = self.process(window)
        if self._before is None:
            return made
        shared = self.overlap * self.grows
        fade = ((torch.arange(shared) + 0.5) / max(shared, 1) * 2 - 0.5).clamp(0, 1)
        blended = torch.lerp(self._before, made[..., :shared], fade.to(made))
        return torch.cat([blended, made[..., shared:]], dim=-1)
