"""The modified discrete cosine transform, orthonormal, and its exact inverse, for signals of any length."""

import math
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hiss.audio import Audio
from hiss.errors import UsageError, unknown

MdctWindow = Literal["sine", "kbd", "vorbis"]
"""The sine window, the one derived from a Kaiser window (KBD), or that of Vorbis, which lies between them."""


def mdct(audio: Tensor, *, bins: int, window: MdctWindow = "sine", alpha: float = 4.0) -> Tensor:
    """Returns the real spectrum [..., bins, frames]: ceil(samples / bins) + 1 frames, with the energy of the audio.

    X[k] = sqrt(2 / bins) sum_n w[n] x[n] cos(pi / bins (n + 1/2 + bins / 2) (k + 1/2)), n from 0 to 2 bins - 1. Frame m
    begins at sample (m - 1) * bins; outside the recording there is silence. Bin k is centred on
    (k + 1/2) / (2 bins) of the sample rate.
    Source: Princen, Johnson, Bradley 1987, "Subband/transform coding using filter bank designs based on time domain
    aliasing cancellation"; Malvar 1992, "Signal processing with lapped transforms", chapter 5.

    Args:
        audio: [..., samples], float32 or float64.
        bins: Coefficients of a frame, an even number; also the hop in samples, half of a window.
        window: Its shape.
        alpha: Of the KBD window: the larger, the less it leaks far away and the wider is its main lobe.

    Raises:
        UsageError: `bins` is odd or below 2, there is no such window, or `alpha` is negative.
    """
    rising = slope(window, bins, alpha=alpha).to(audio)
    samples = audio.shape[-1]
    # A block of silence on either side, so that the first and the last block overlap with something, too.
    blocks = functional.pad(audio, (bins, bins + -samples % bins)).unflatten(-1, (-1, bins))
    # Four halves of a frame: its rising part, then its falling part.
    first, second = (blocks[..., :-1, :] * rising).chunk(2, dim=-1)
    third, fourth = (blocks[..., 1:, :] * rising.flip(0)).chunk(2, dim=-1)
    folded = torch.cat([-third.flip(-1) - fourth, first - second.flip(-1)], dim=-1)
    return _dct4(folded).transpose(-1, -2)


def imdct(spectrum: Tensor, *, samples: int, window: MdctWindow = "sine", alpha: float = 4.0) -> Tensor:
    """Returns the audio [..., samples] that `mdct` was given.

    Source: as for `mdct`.

    Args:
        spectrum: [..., bins, frames], of at least 2 frames.
        samples: Length of the result, at most (frames - 1) * bins.
        window: That of `mdct`.
        alpha: That of `mdct`.

    Raises:
        UsageError: as for `mdct`.
    """
    rising = slope(window, spectrum.shape[-2], alpha=alpha).to(spectrum)
    left, right = _dct4(spectrum.transpose(-1, -2)).chunk(2, dim=-1)
    ahead = torch.cat([right, -right.flip(-1)], dim=-1) * rising
    behind = torch.cat([-left.flip(-1), -left], dim=-1) * rising.flip(0)
    # The aliases of a frame in its falling part are those of the next in its rising part, turned: they cancel.
    return (behind[..., :-1, :] + ahead[..., 1:, :]).flatten(-2)[..., :samples]


def mdct_power(audio: Audio, *, bins: int = 256) -> NDArray[np.float32]:
    """Returns the squares of the MDCT [bins, frames], averaged over the channels: what `hiss.plot.picture` can draw."""
    power: NDArray[np.float32] = mdct(audio.samples, bins=bins).square().mean(dim=0).numpy()
    return power


def slope(window: MdctWindow, bins: int, *, alpha: float = 4.0) -> Tensor:
    """Returns the rising half [bins] of a window of 2 bins, float64: w[n]^2 + w[bins - 1 - n]^2 = 1.

    With x = (n + 1/2) / (2 bins): sine is sin(pi x), vorbis sin(pi / 2 sin^2(pi x)); kbd is the square root of the
    cumulative sum of a Kaiser window of bins + 1 points and beta pi * alpha, as a share of the whole sum.
    Source: Malvar 1992 (sine); Fielder et al. 1996, "AC-2 and AC-3: low-complexity transform-based audio coding" (KBD);
    Xiph.Org, "Vorbis I specification" (Vorbis).

    Raises:
        UsageError: `bins` is odd or below 2, there is no such window, or `alpha` is negative.
    """
    if bins < 2 or bins % 2:
        raise UsageError(f"an MDCT has an even number of bins, at least 2, not {bins}")
    if not 0 <= alpha < math.inf:
        raise UsageError(f"alpha of a KBD window must not be negative, and is {alpha}")
    sine = torch.sin(math.pi / (2 * bins) * (torch.arange(bins, dtype=torch.float64) + 0.5))
    if window == "sine":
        return sine
    if window == "vorbis":
        return torch.sin(math.pi / 2 * sine.square())
    if window == "kbd":
        kaiser = torch.kaiser_window(bins + 1, periodic=False, beta=math.pi * alpha, dtype=torch.float64).cumsum(0)
        return (kaiser[:-1] / kaiser[-1]).sqrt()
    raise unknown("MDCT window", window, get_args(MdctWindow))


def _dct4(x: Tensor) -> Tensor:
    """Returns the orthonormal DCT-IV over the last dimension, an even number; it is its own inverse.

    Computed by a complex FFT of half the length between two rotations.
    Source: Malvar 1992, section 2.5.
    """
    size = x.shape[-1]
    angle = -math.pi / size * (torch.arange(size // 2, dtype=torch.float64) + 0.125)
    pairs = torch.complex(x[..., ::2], x.flip(-1)[..., ::2])
    turn = torch.polar(torch.ones_like(angle), angle).to(pairs)
    rotated = torch.fft.fft(pairs * turn) * turn
    return torch.stack([rotated.real, -rotated.imag.flip(-1)], dim=-1).flatten(-2) * math.sqrt(2 / size)
