"""Mel filters and log-mel spectra: what most networks that listen are given."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hiss.errors import UsageError
from hiss.once import once
from hiss.signal.stft import stft
from hiss.spec import Spec


@once
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
    high = sample_rate / 2 if high is None else high
    if not 0 <= low < high <= sample_rate / 2:
        raise UsageError(f"mel filters from {low} to {high} Hz do not fit into 0 to {sample_rate / 2} Hz")
    first, last = _mels(torch.tensor([low, high], dtype=torch.float64)).tolist()
    corners = _hertz(torch.linspace(first, last, bins + 2, dtype=torch.float64))
    hertz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    left, top, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = torch.minimum((hertz - left) / (top - left), (right - hertz) / (right - top)).clamp(min=0)
    filters = (2 / (right - left) * triangles).float()
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


@dataclass(frozen=True)
class MelProfile(Spec):
    """How sound becomes a log-mel spectrum: what a representation, an autoencoder and a vocoder must agree on.

    The defaults are those of AudioLDM. For full band, for example: sample_rate 48000, n_fft 2048, hop 480, bins 128 and
    high 20000.
    """

    sample_rate: int = 16_000
    """Hz."""
    n_fft: int = 1024
    """Samples in a window, an even number."""
    hop: int = 160
    """Samples from one window to the next, at most half a window."""
    bins: int = 64
    """Mel bands."""
    low: float = 0.0
    """Hz, where the first band begins."""
    high: float = 8000.0
    """Hz, where the last band ends."""
    floor: float = 1e-5
    """The smallest magnitude that is told from silence."""

    def __post_init__(self) -> None:
        if self.n_fft < 4 or self.n_fft % 2 or not 1 <= self.hop <= self.n_fft // 2 or self.bins < 1:
            raise UsageError(
                "a mel spectrum needs an even n_fft of at least 4, a hop of at most half of it and a positive number "
                f"of bins, not {self.n_fft}, {self.hop} and {self.bins}"
            )
        if not 0 <= self.low < self.high <= self.sample_rate / 2 or not self.floor > 0:
            raise UsageError(
                f"mel bands lie between 0 Hz and half of the sample rate, {self.sample_rate / 2} Hz, and have a "
                f"positive floor; {self.low} to {self.high} Hz and {self.floor} do not"
            )

    def __call__(self, audio: Tensor) -> Tensor:
        """Returns the log-mel [..., bins, frames] of audio [..., samples], as `log_mel` does but for its frames.

        There are ceil(samples / hop) of them, and frame k is centred on the middle of its own hop, sample
        k * hop + hop // 2: so that a vocoder makes as many samples as it hears. Outside the recording there is silence.
        """
        # The window before the first frame is left out.
        with torch.autocast(audio.device.type, enabled=False):
            mel = log_mel(
                functional.pad(audio.float(), (self.hop - self.hop // 2, 0)),
                sample_rate=self.sample_rate,
                n_fft=self.n_fft,
                hop=self.hop,
                bins=self.bins,
                low=self.low,
                high=self.high,
                floor=self.floor,
            )
        return mel[..., 1 : self.frames(audio.shape[-1]) + 1]

    def frames(self, samples: int) -> int:
        """Returns how many frames that many samples have."""
        return math.ceil(samples / self.hop)


def _mels(hertz: Tensor) -> Tensor:
    """Returns Slaney's mels: 3 for 200 Hz, in proportion up to 1000 Hz, then 27 for each factor of 6.4."""
    return torch.where(hertz < 1000, 3 * hertz / 200, 15 + 27 * torch.log(hertz / 1000) / math.log(6.4))


def _hertz(mels: Tensor) -> Tensor:
    """Returns the inverse of `_mels`."""
    return torch.where(mels < 15, 200 * mels / 3, 1000 * torch.exp((mels - 15) * (math.log(6.4) / 27)))
