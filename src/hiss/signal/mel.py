"""Mel filters and log-mel spectra: what most networks that listen are given."""

import warnings
from functools import lru_cache

import torch
from torch import Tensor

from hiss.errors import UsageError
from hiss.signal.stft import stft


@lru_cache(maxsize=32)
def mel_filters(sample_rate: int, n_fft: int, bins: int, low: float = 0.0, high: float | None = None) -> Tensor:
    """Returns triangular mel filters [bins, n_fft // 2 + 1] on Slaney's scale, each of unit area over Hz.

    The tensor is shared between callers: clone it before writing to it.

    Source: Slaney 1998, "Auditory Toolbox", as in `librosa.filters.mel`.

    Args:
        sample_rate: Hz.
        n_fft: Samples in a window.
        bins: How many filters.
        low: Hz, where the first filter begins.
        high: Hz, where the last filter ends; half of the sample rate if not given.

    Raises:
        UsageError: the filters do not fit between 0 Hz and half of the sample rate, or one of them is so narrow that
            no bin of the Fourier transform falls into it.
    """
    from librosa.filters import mel

    high = sample_rate / 2 if high is None else high
    if not 0 <= low < high <= sample_rate / 2:
        raise UsageError(f"mel filters from {low} to {high} Hz do not fit into 0 to {sample_rate / 2} Hz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa warns of empty filters, which are an error here
        filters = torch.from_numpy(mel(sr=sample_rate, n_fft=n_fft, n_mels=bins, fmin=low, fmax=high))
    if not bool((filters > 0).any(dim=1).all()):
        raise UsageError(f"{bins} mel bins are too many for n_fft={n_fft} at {sample_rate} Hz; take fewer")
    return filters


def log_mel(
    audio: Tensor,
    *,
    sample_rate: int,
    n_fft: int,
    hop: int,
    bins: int,
    low: float = 0.0,
    high: float | None = None,
    floor: float = 1e-5,
) -> Tensor:
    """Returns log(max(mel, floor)) [..., bins, frames], natural logarithm of the mel magnitudes (not powers).

    Args:
        audio: [..., samples].
        sample_rate: Hz.
        n_fft: Samples in a window of `stft`.
        hop: Samples from one window to the next.
        bins: Mel bands.
        low: Hz, where the first band begins.
        high: Hz, where the last band ends; half of the sample rate if not given.
        floor: The smallest magnitude that is told from silence.
    """
    filters = mel_filters(sample_rate, n_fft, bins, low, high).to(audio)
    return torch.log(torch.clamp(filters @ stft(audio, n_fft=n_fft, hop=hop).abs(), min=floor))
