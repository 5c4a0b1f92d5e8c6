"""How much less of speech is understood: ESTOI, differentiable."""

import torch
from torch import Tensor
from torch.nn import functional

from hiss.once import once
from hiss.signal.resampling import resample_period

_RATE = 10_000
"""Hz at which is listened."""
_WINDOW, _HOP, _N_FFT = 256, 128, 512
_BANDS, _LOWEST = 15, 150.0
"""How many third octaves there are, and the middle in Hz of the lowest."""
_SEGMENT = 30
"""Frames that are compared with each other: 384 ms, as long as modulations are that matter for understanding."""
_RANGE = 40.0
"""dB below the loudest frame of the target from which on a frame is silence, and left out."""


def intelligibility_error(estimate: Tensor, target: Tensor, *, sample_rate: int) -> Tensor:
    """Returns 1 - ESTOI [batch]: how much a listener is kept from understanding the target, from 0 to about 1.

    ESTOI is the correlation of short spectrograms in third octaves, each band and then each frame without its mean and
    at one norm. Silence in the target is left out: here frames of the spectrogram, where the usual measure cuts the
    audio itself. A target with less than 0.4 s of sound has no error. Several channels are one sound, their mean.

    Args:
        estimate: [batch, channels, samples].
        target: [batch, channels, samples].
        sample_rate: Hz.

    Source: Jensen, Taal 2016, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers", equations 1 to 8.
    """
    samples = round(target.shape[-1] * _RATE / sample_rate)
    with torch.autocast(target.device.type, enabled=False):
        ours, theirs = (_frames(resample_period(one.float().mean(dim=1), samples)) for one in (estimate, target))
        energy = theirs.square().sum(dim=-1)
        spoken = energy > 10 ** (-_RANGE / 10) * energy.amax(dim=-1, keepdim=True).clamp(min=1e-8)
        order = spoken.logical_not().to(torch.uint8).argsort(dim=-1, stable=True)  # what is spoken comes first
        heard, wanted = (_segments(_bands(one), order) for one in (ours, theirs))
        ends = torch.arange(_SEGMENT, _SEGMENT + heard.shape[1], device=heard.device)
        there = ends <= spoken.sum(dim=-1, keepdim=True)
        likeness = (heard * wanted).sum(dim=(-2, -1)) / _SEGMENT
        return ((1 - likeness) * there).sum(dim=-1) / there.sum(dim=-1).clamp(min=1)


def _frames(audio: Tensor) -> Tensor:
    """Returns windowed frames [batch, frames, window] of audio [batch, samples], at least as many as in a segment."""
    shortest = _WINDOW + (_SEGMENT - 1) * _HOP
    audio = functional.pad(audio, (0, max(0, shortest - audio.shape[-1])))
    return audio.unfold(-1, _WINDOW, _HOP) * _window().to(audio)


def _bands(frames: Tensor) -> Tensor:
    """Returns the magnitude [batch, bands, frames] in third octaves."""
    spectrum = torch.fft.rfft(frames, n=_N_FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.einsum("bf,nkf->nbk", _filters().to(power), power).add(1e-10).sqrt()


def _segments(bands: Tensor, order: Tensor) -> Tensor:
    """Returns normalized segments [batch, segments, bands, frames] of spectrograms with their frames in an order."""
    ordered = bands.gather(-1, order[:, None].expand_as(bands))
    segments = ordered.unfold(-1, _SEGMENT, 1).transpose(1, 2)
    for dim in (-1, -2):
        centered = segments - segments.mean(dim=dim, keepdim=True)
        segments = centered / (centered.square().sum(dim=dim, keepdim=True) + 1e-12).sqrt()
    return segments


@once
def _window() -> Tensor:
    return torch.hann_window(_WINDOW + 2, periodic=False)[1:-1]


@once
def _filters() -> Tensor:
    """Returns which bin [bands, bins] belongs to which third octave, as ones and zeros."""
    edges = _LOWEST * 2 ** ((2 * torch.arange(_BANDS + 1) - 1) / 6)
    first, behind = (edges[:-1] * _N_FFT / _RATE).round()[:, None], (edges[1:] * _N_FFT / _RATE).round()[:, None]
    bins = torch.arange(_N_FFT // 2 + 1)
    return ((bins >= first) & (bins < behind)).float()
