"""How loud samples are, and how much to change that."""

from math import log10, nextafter
from typing import Literal

import soxr
from torch import Tensor

from hiss.errors import UsageError, unknown

Level = Literal["peak", "rms", "lufs", "none"]
"""What `Audio.normalize` can set."""

USUAL: dict[str, float] = {"peak": -1.0, "rms": -20.0, "lufs": -23.0}
"""dBFS, dBFS and LUFS that `Audio.normalize` sets."""

_SILENCE = 1e-7  # -140 dBFS: below this there is no level to set
_LUFS_BLOCK = 0.4  # seconds
_LUFS_RATE = 8000  # Hz; the loudness filters are not defined much below


def peak(samples: Tensor) -> float:
    """Returns the largest absolute value of samples [channels, samples]; 0 for zero length."""
    return max(abs(float(bound)) for bound in samples.aminmax()) if samples.numel() else 0.0


def rms(samples: Tensor) -> float:
    """Returns the root of the mean square of samples [channels, samples]; 0 for zero length."""
    return float(samples.double().square().mean().sqrt()) if samples.numel() else 0.0


def gain(samples: Tensor, sample_rate: int, mode: Level, level: float | None) -> float:
    """Returns the factor that brings samples [channels, samples] to a level, 1 for silence; see `Audio.normalize`.

    Raises:
        UsageError: unknown mode, or loudness of more than five channels.
    """
    if mode not in (*USUAL, "none"):
        raise unknown("normalization", mode, (*USUAL, "none"))
    if mode == "none" or peak(samples) < _SILENCE:
        return 1.0
    target = USUAL[mode] if level is None else level
    if mode == "lufs":
        return 10 ** ((target - _loudness(samples, sample_rate)) / 20)
    return 10 ** (target / 20) / (peak(samples) if mode == "peak" else rms(samples))


def _loudness(samples: Tensor, sample_rate: int) -> float:
    """Returns the integrated loudness in LUFS. Source: ITU-R BS.1770-4, 2015, equations 1 to 7."""
    import pyloudnorm

    if len(samples) > 5:
        raise UsageError(f"loudness is defined for 1 to 5 channels, not {len(samples)}; use rms or peak")
    # At full scale first: the meter's gate at -70 LUFS would drop all of a faint recording.
    data = (samples.double() / peak(samples)).T.numpy()
    rate = max(sample_rate, _LUFS_RATE)
    data = soxr.resample(data, sample_rate, rate)
    block = min(_LUFS_BLOCK, len(data) / rate)
    if block * rate > len(data):  # by rounding: the meter would find the clip shorter than its block
        block = nextafter(block, 0)
    meter = pyloudnorm.Meter(rate, block_size=block)
    loudness = float(meter.integrated_loudness(data))
    if loudness == float("-inf"):  # a lone click: its RMS is all there is
        loudness = 20 * log10(rms(samples) / peak(samples))
    return loudness + 20 * log10(peak(samples))
