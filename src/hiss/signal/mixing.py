"""Speech and noise at a signal-to-noise ratio (SNR)."""

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

ACTIVE = 30.0
"""dB below its loudest frame down to which a frame of a recording is active."""

_SILENCE = 1e-7  # -140 dBFS: below this there is no level


def level(audio: Tensor, *, frame: int | None = None) -> Tensor:
    """Returns the root mean square [...] of audio [..., channels, samples]: of all of it, or where something is heard.

    Args:
        audio: the recordings.
        frame: samples of a frame, usually 20 ms. With it only those frames count whose own level is at most `ACTIVE`
            below that of the loudest one, so that pauses do not make speech softer; without it everything does.
    """
    power = audio.double().square().mean(dim=-2)
    if frame is None:
        return power.mean(dim=-1).sqrt()
    samples = power.shape[-1]
    frames = functional.pad(power, (0, -samples % frame)).unflatten(-1, (-1, frame)).sum(dim=-1)
    counts = torch.full_like(frames, frame)
    counts[..., -1] -= -samples % frame
    means = frames / counts
    active = means >= means.amax(dim=-1, keepdim=True) * 10 ** (-ACTIVE / 10)
    heard: Tensor = (frames * active).sum(dim=-1) / (counts * active).sum(dim=-1)
    return heard.sqrt()


def gain_for_snr(clean: Tensor, noise: Tensor, snr_db: float | Tensor, *, frame: int | None = None) -> Tensor:
    """Returns the factors [...] by which noise has to be multiplied to lie `snr_db` below the clean recordings.

    It is 1 where one of the two is silent. `frame` says how levels are measured, see `level`.

    Args:
        clean: [..., channels, samples].
        noise: [..., channels, samples].
        snr_db: dB; a tensor [...] for each pair its own.
        frame: samples.
    """
    speech, other = level(clean, frame=frame), level(noise, frame=frame)
    ratio = torch.as_tensor(snr_db, dtype=torch.float64)
    gain = speech / other.clamp(min=_SILENCE) * 10 ** (-ratio / 20)
    return torch.where((speech < _SILENCE) | (other < _SILENCE), 1.0, gain)


def mix(clean: Tensor, noise: Tensor, snr_db: float | Tensor, *, frame: int | None = None) -> Tensor:
    """Returns clean recordings with noise added at `snr_db` dB [..., channels, samples]; they may pass full scale.

    The arguments are those of `gain_for_snr`.
    """
    gain = gain_for_snr(clean, noise, snr_db, frame=frame)
    return clean + gain[..., None, None].to(noise.dtype) * noise


def repeat(audio: Tensor, samples: int, *, start: int = 0) -> Tensor:
    """Returns that many samples [..., samples] of a recording that begins again whenever it ends, from `start` on."""
    times = ceil((start + samples) / audio.shape[-1])
    if times > 1:
        audio = audio.repeat(*[1] * (audio.ndim - 1), times)
    return audio[..., start : start + samples]
