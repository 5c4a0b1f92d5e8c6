"""Losses on mel spectra: of sounds at several resolutions, and of the slopes of a picture."""

import torch
from torch import Tensor
from torch.nn import functional

from hiss.signal.losses import absolute_error
from hiss.signal.mel import log_mel

WINDOWS = (128, 256, 512, 1024, 2048)
"""Samples; each has a hop of a quarter and a mel band for every 16 samples, but not more than 80."""


def multi_scale_mel_error(
    estimate: Tensor, target: Tensor, *, sample_rate: int, windows: tuple[int, ...] = WINDOWS
) -> Tensor:
    """Returns the mean over windows of mean |log-mel(estimate) - log-mel(target)| [batch], in nepers.

    Source: Kumar et al. 2023, "High-fidelity audio compression with improved RVQGAN", section 3.4.

    Args:
        estimate: audio [batch, ..., samples].
        target: the same.
        sample_rate: Hz.
        windows: samples.
    """
    total = torch.zeros(len(target), device=target.device)
    with torch.autocast(target.device.type, enabled=False):
        for window in windows:
            ours, theirs = (
                log_mel(
                    audio.float(), sample_rate=sample_rate, n_fft=window, hop=window // 4, bins=min(80, window // 16)
                )
                for audio in (estimate, target)
            )
            total = total + absolute_error(ours, theirs)
    return total / len(windows)


def slope_error(estimate: Tensor, target: Tensor, *, scales: tuple[int, ...] = (1, 2, 4)) -> Tensor:
    """Returns the mean over scales of how far the slopes of spectra [batch, bins, frames] are off [batch].

    A slope is the difference from one frame to the next, or from one bin to the next, of means over scale x scale
    places: what blurs edges costs, however small the difference at each place.
    """
    total = torch.zeros(len(target), device=target.device)
    for scale in scales:
        difference = functional.avg_pool2d((estimate - target)[:, None], scale)
        for dimension in (2, 3):
            if difference.shape[dimension] > 1:
                total = total + difference.diff(dim=dimension).abs().flatten(1).mean(dim=1)
    return total / len(scales)
