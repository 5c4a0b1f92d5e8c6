"""Long signals in windows that overlap and cross-fade: bounded memory, no seam."""

from collections.abc import Callable

import torch
from torch import Tensor


class Windows:
    """A process over windows of a signal [..., samples] that comes in pieces.

    Neighbours pass into each other by a linear cross-fade over the middle half of their overlap. The outer quarters are
    left to the neighbour that has heard more: a window's own start and end lack what came before and comes after.
    """

    def __init__(self, process: Callable[[Tensor], Tensor], *, size: int, overlap: int) -> None:
        """`process` gives back as many samples as it gets: `size`, of which neighbours share `overlap`, or at the end
        fewer."""
        self.process, self.size, self.overlap = process, size, overlap
        self._heard: Tensor | None = None
        self._before: Tensor | None = None
        """What the window before says of the overlap."""

    def push(self, samples: Tensor, *, last: bool = False) -> Tensor:
        """Returns what has become of the samples, maybe none, that the next ones complete."""
        heard = samples if self._heard is None else torch.cat([self._heard, samples], dim=-1)
        hop, done = self.size - self.overlap, [samples[..., :0]]
        while heard.shape[-1] >= self.size:
            made = self._blended(heard[..., : self.size])
            done.append(made[..., :hop])
            self._before, heard = made[..., hop:], heard[..., hop:]
        if last and (self._before is None or heard.shape[-1] > self.overlap):
            done.append(self._blended(heard))
        elif last and self._before is not None:
            done.append(self._before)
        self._heard = heard.clone()
        return torch.cat(done, dim=-1)

    def _blended(self, window: Tensor) -> Tensor:
        made = self.process(window)
        if self._before is None:
            return made
        fade = ((torch.arange(self.overlap) + 0.5) / max(self.overlap, 1) * 2 - 0.5).clamp(0, 1)
        blended = torch.lerp(self._before, made[..., : self.overlap], fade.to(made))
        return torch.cat([blended, made[..., self.overlap :]], dim=-1)
