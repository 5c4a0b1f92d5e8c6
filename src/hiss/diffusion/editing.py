"""Edits: wrappers around a denoiser that keep a part, go on without end or close a loop, for every sampler."""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from hiss.errors import UsageError
from hiss.noise import normal
from hiss.types import Denoise, Generator


def start_from(known: Tensor, sigma: float, *, generator: Generator | None = None) -> Tensor:
    """Returns the state known + sigma * noise, from which a variation of `known` [batch, channels, *space] is sampled.

    `NoiseSchedule.level` turns a strength into the sigma; `NoiseSchedule.grid(steps, start=sigma)` leads down from it.
    """
    return known + sigma * normal(known, generator)


def inpaint(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """Returns a denoiser that already knows a part, so that a sampler keeps it exactly and fills in the rest.

    The state of the known part stays known + sigma * noise, which is what the network saw in training.

    Args:
        denoise: the denoiser of the whole.
        known: the clean signal [batch, channels, *space]; its values count where `mask` is above 0.
        mask: broadcasts over `known`: 1 where it is kept, 0 where it is filled in, between them a cross-fade.

    Source: Song et al. 2021, appendix I.2, with the estimate replaced instead of the state.
    """
    weight = mask.to(known)

    def keeping(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.lerp(denoise(x, sigma), known, weight.expand_as(known))

    return keeping


class DenoiseWindows(Protocol):
    """Denoises windows that were cut out of a batch of longer signals.

    `x` is [rows, channels, *space], its last axis one window long. Row k was cut from item `items[k]` of the batch at
    position `starts[k]` of the last axis, so that a condition goes by `vector[items]`, and a signal that runs along
    with x by `cut(signal, items, starts, size)`. `sigma` has no dimension or is [rows].
    """

    def __call__(self, x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor: ...


def windows(
    denoise: DenoiseWindows, size: int, *, overlap: int, rows: int | None = None, loop: bool = False
) -> Denoise:
    """Returns a denoiser for signals of any length that looks at them through overlapping windows.

    Where windows overlap, their estimates are averaged with weights that fall smoothly to the edges and sum to one, in
    every step of the sampler: they agree before anything is final, and no seam is left.

    Args:
        denoise: denoises a batch of windows.
        size: length of a window on the last axis of x; a shorter x is one window.
        overlap: by how much neighbours overlap at least; 0 <= overlap < size.
        rows: how many windows are denoised at once, which bounds the memory; as many as the batch has items where left
            out, so that a long signal needs no more than a short one.
        loop: whether the last axis is a circle, so that the end leads seamlessly back to the start.

    Source: Bar-Tal et al. 2023 (MultiDiffusion).

    Raises:
        UsageError: overlap or rows are out of their range.
    """
    if not 0 <= overlap < size:
        raise UsageError(f"the overlap of windows of {size} must be from 0 to {size - 1}, not {overlap}")
    if rows is not None and rows < 1:
        raise UsageError(f"at least 1 window must be denoised at once, not {rows}")

    def whole(x: Tensor, sigma: Tensor) -> Tensor:
        batch, length = x.shape[0], x.shape[-1]
        width = min(size, length)
        starts = window_starts(length, width, min(overlap, width - 1), loop=loop)
        index = (starts[:, None] + torch.arange(width)) % length
        bump = torch.sin(math.pi * (torch.arange(width) + 0.5) / width) ** 2
        total = torch.zeros(length).index_add_(0, index.flatten(), bump.repeat(len(starts)))
        weights, index = (bump / total[index]).to(x), index.to(x.device)

        estimate = torch.zeros_like(x)
        pairs = torch.cartesian_prod(torch.arange(batch), torch.arange(len(starts)))  # (item, window)
        together = rows or max(1, batch)
        for first in range(0, len(pairs), together):
            chunk = pairs[first : first + together]
            items, positions = chunk[:, 0].to(x.device), starts[chunk[:, 1]].to(x.device)
            level = sigma[items] if sigma.ndim else sigma
            parts = denoise(cut(x, items, positions, width), level, items, positions)
            for part, (item, window) in zip(parts, chunk.tolist(), strict=True):
                estimate[item][..., index[window]] += weights[window] * part
        return estimate

    return whole


def steady(denoise: Denoise, size: int, *, above: float, loop: bool = False) -> Denoise:
    """Returns a denoiser in whose estimates the mean over the whole takes the place of the moving mean over a window.

    Windows that do not overlap know nothing of each other, and would settle on levels and instruments of their own.
    While the noise is high, and the estimate says little else, this makes them settle on the same.

    Args:
        denoise: denoises the whole, such as `windows`.
        size: length of a window on the last axis of x [batch, channels, *space]. Near an end only what is there counts.
        above: the noise level above which it acts.
        loop: whether the last axis is a circle.
    """

    def even(x: Tensor, sigma: Tensor) -> Tensor:
        estimate = denoise(x, sigma)
        length = estimate.shape[-1]
        if float(sigma.max()) <= above or length <= size:
            return estimate
        lines, half = estimate.flatten(1, -2), size // 2
        if loop:
            lines = functional.pad(lines, (half, size - 1 - half), mode="circular")
        local = functional.avg_pool1d(lines, size, stride=1, padding=0 if loop else half, count_include_pad=False)
        return estimate - local[..., :length].reshape(estimate.shape) + estimate.mean(dim=-1, keepdim=True)

    return even


def cut(x: Tensor, items: Tensor, starts: Tensor, size: int) -> Tensor:
    """Returns windows of x [batch, channels, *space] along its last axis [rows, channels, ..., size], wrapping around.

    Row k comes from item items[k] and begins at starts[k].
    """
    span = torch.arange(size, device=x.device)
    pairs = zip(items.tolist(), starts, strict=True)
    return torch.stack([x[item].index_select(-1, (start.to(x.device) + span) % x.shape[-1]) for item, start in pairs])


def window_starts(length: int, size: int, overlap: int, *, loop: bool) -> Tensor:
    """Returns where the windows of `windows` begin [windows] on an axis of that length: evenly spread.

    `size` is at most the length, and `overlap` below it.
    """
    hop = size - overlap
    if loop:
        count = max(2, math.ceil(length / hop))  # even a window as long as the circle has an edge to be covered
        return torch.arange(count) * length // count
    count = math.ceil((length - size) / hop) + 1
    return torch.arange(count) * (length - size) // max(count - 1, 1)
