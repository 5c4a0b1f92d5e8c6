"""The short-time Fourier transform and its exact inverse, for signals of any length."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hiss.once import once

Window = Literal["hann", "sine"]
"""A periodic Hann window, or its square root, whose squares sum to one at a hop of half the window."""


def stft(audio: Tensor, *, n_fft: int, hop: int, window: Window = "hann") -> Tensor:
    """Returns the complex spectrum [..., bins, frames]: n_fft // 2 + 1 bins, ceil(samples / hop) + 1 frames.

    Frame k is centred on sample k * hop and weighted by the window; outside the recording there is silence.

    Args:
        audio: [..., samples].
        n_fft: Samples in a window; even.
        hop: Samples from one window to the next; at most n_fft // 2.
        window: Its shape.
    """
    samples = audio.shape[-1]
    # A whole number of hops, so that the last samples are not left to the vanishing end of a window.
    whole = functional.pad(audio.reshape(-1, samples), (0, -samples % hop))
    weights = _weights(window, n_fft, whole)
    spectrum = torch.stft(whole, n_fft, hop, window=weights, pad_mode="constant", return_complex=True)
    return spectrum.reshape(*audio.shape[:-1], *spectrum.shape[-2:])


def istft(spectrum: Tensor, *, hop: int, samples: int, window: Window = "hann") -> Tensor:
    """Returns the audio [..., samples] that `stft` was given; for an altered spectrum, the nearest in least squares.

    Source: Griffin and Lim 1984, "Signal estimation from modified short-time Fourier transform", eq. 6.

    Args:
        spectrum: [..., bins, frames], complex.
        hop: Samples from one window to the next.
        samples: Length of the result, at most (frames - 1) * hop.
        window: That of `stft`.
    """
    bins, frames = spectrum.shape[-2:]
    flat = spectrum.reshape(-1, bins, frames)
    weights = _weights(window, 2 * (bins - 1), flat.real)
    audio = torch.istft(flat, 2 * (bins - 1), hop, window=weights)
    return audio[:, :samples].reshape(*spectrum.shape[:-2], samples)


class StftStream:
    """`stft` of a signal that comes in pieces: a frame is ready half a window after the sample it is centred on."""

    def __init__(self, *, n_fft: int, hop: int, window: Window = "hann") -> None:
        self.n_fft, self.hop, self.window = n_fft, hop, window
        self._heard: Tensor | None = None

    def push(self, audio: Tensor, *, last: bool = False) -> Tensor:
        """Returns the frames [..., bins, frames], maybe none, that the next samples [..., samples] complete."""
        before = audio.new_zeros(*audio.shape[:-1], self.n_fft // 2) if self._heard is None else self._heard
        heard = torch.cat([before, audio], dim=-1)
        if last:
            # The samples so far, half a window of silence before them, are a whole number of hops longer than this.
            over = heard.shape[-1] - self.n_fft // 2
            heard = functional.pad(heard, (0, -over % self.hop + self.n_fft // 2))
        frames = max(0, (heard.shape[-1] - self.n_fft) // self.hop + 1)
        self._heard = heard[..., frames * self.hop :].clone()
        if not frames:
            none = audio.new_zeros(*audio.shape[:-1], self.n_fft // 2 + 1, 0)
            return torch.complex(none, none)
        flat = heard.reshape(-1, heard.shape[-1])
        weights = _weights(self.window, self.n_fft, flat)
        spectrum = torch.stft(flat, self.n_fft, self.hop, window=weights, center=False, return_complex=True)
        return spectrum.reshape(*audio.shape[:-1], *spectrum.shape[-2:])


class IstftStream:
    """`istft` of a spectrum that comes in pieces: a sample is ready with the last frame that covers it."""

    def __init__(self, *, n_fft: int, hop: int, window: Window = "hann") -> None:
        self.n_fft, self.hop, self.window = n_fft, hop, window
        self._open: Tensor | None = None
        self._ahead = n_fft // 2
        """Samples to come that lie before the signal."""

    def push(self, spectrum: Tensor, *, last: bool = False) -> Tensor:
        """Returns the samples [..., samples], maybe none, that the next frames [..., bins, frames] complete.

        The last piece holds at least one frame; with it there are (frames - 1) * hop samples in all.
        """
        *batch, bins, frames = spectrum.shape
        if not frames:
            return spectrum.real.new_zeros(*batch, 0)
        flat = spectrum.reshape(-1, bins, frames)
        weights = _weights(self.window, self.n_fft, flat.real)[:, None]
        pieces = torch.fft.irfft(flat, self.n_fft, dim=1) * weights
        # The squares of the windows, which the sum is divided by, overlap as the pieces do: one more row of them.
        pieces = torch.cat([pieces, weights.square().expand(1, -1, frames)])
        span = (frames - 1) * self.hop + self.n_fft
        added = functional.fold(pieces, (1, span), (1, self.n_fft), stride=(1, self.hop))[:, 0, 0]
        if self._open is not None:
            added = added + functional.pad(self._open, (0, span - self._open.shape[-1]))
        end = frames * self.hop + (self.n_fft // 2 - self.hop if last else 0)
        start = min(self._ahead, end)
        self._ahead -= start
        self._open = added[:, end:].clone()
        done = added[:, start:end]
        return (done[:-1] / done[-1]).reshape(*batch, -1)


def compress(spectrum: Tensor, exponent: float, *, floor: float = 1e-12) -> Tensor:
    """Returns z |z|^(exponent - 1) of a complex spectrum z [...]: magnitudes raised to `exponent`, phases kept.

    Powers below `floor` are all treated as `floor`, so that the slope is finite at 0. The exact inverse is
    `compress(y, 1 / exponent, floor=floor**exponent)`.
    """
    power = spectrum.real.square() + spectrum.imag.square()
    return spectrum * power.clamp(min=floor) ** ((exponent - 1) / 2)


def _weights(window: Window, n_fft: int, like: Tensor) -> Tensor:
    return _made(window, n_fft, like.dtype, like.device)


@once
def _made(window: Window, n_fft: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    hann = torch.hann_window(n_fft, dtype=dtype, device=device)
    return hann if window == "hann" else hann.sqrt()
