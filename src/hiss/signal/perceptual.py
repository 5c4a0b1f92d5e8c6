"""How much worse speech sounds: a differentiable sketch of PESQ, the measure of ITU-T P.862."""

import torch
from torch import Tensor
from torch.nn import functional

from hiss.once import once
from hiss.signal.stft import stft

_HIGHEST = 8000.0
"""Hz, up to which is listened."""
_WIDTH = 0.5
"""Bark of a band."""
_SCALE = 6.910853e-4
"""Makes Hann-weighted spectral power of speech with a mean square of 1e7 about 80 dB of sound pressure."""
_SPEECH = 325.0, 3250.0
"""Hz between which both sides are brought to the same power."""
_INTERVAL = 20
"""Frames that are put together before intervals are: about a syllable."""


def perceptual_error(estimate: Tensor, target: Tensor, *, sample_rate: int) -> Tensor:
    """Returns 0.1 D + 0.0309 A [batch]: the points that PESQ takes from its best score of 4.5.

    D is the disturbance of loudness over bands of half a bark and over time, A that of what was added: noise weighs
    more than what is lacking. Both sides are brought to one level; slow changes of tone and level count little, as does
    what the target masks. Unlike PESQ it takes both sides to be aligned in time, computes its bands and thresholds
    of hearing from formulas, does not smooth its gain over time, and leaves silence out. Silent targets have no error.

    Args:
        estimate: [batch, channels, samples].
        target: [batch, channels, samples].
        sample_rate: Hz.

    Source: ITU-T P.862 (2001) and Rix et al. 2001, "Perceptual evaluation of speech quality (PESQ)", section 3; as a
    loss Martin-Donas et al. 2018, "A deep learning loss function based on the perceptual evaluation of the speech
    quality". Bark by Traunmueller 1990, threshold by Terhardt 1979.
    """
    with torch.autocast(target.device.type, enabled=False):  # power of speech is beyond what float16 holds
        return _perceptual_error(estimate, target, sample_rate)


def _perceptual_error(estimate: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    batch, channels, samples = target.shape
    theirs, ours = (
        _bands(audio.float().reshape(batch * channels, samples), sample_rate) for audio in (target, estimate)
    )
    bark, threshold = (part.to(theirs) for part in _hearing(sample_rate))
    audible = (theirs * (theirs > 100 * threshold[:, None])).sum(dim=1, keepdim=True)
    spoken = audible > 1e7
    tone = _heard(ours, threshold, spoken) / _heard(theirs, threshold, spoken)
    theirs = theirs * tone.clamp(0.01, 100)
    loud = [(power * (power > threshold[:, None])).sum(dim=1, keepdim=True) + 5e3 for power in (theirs, ours)]
    ours = ours * (loud[0] / loud[1]).clamp(3e-4, 5)

    heard, wanted = (_loudness(power, bark, threshold) for power in (ours, theirs))
    gap = ((heard - wanted).abs() - 0.25 * torch.minimum(heard, wanted)).clamp(min=0)
    added = ((ours + 50) / (theirs + 50)) ** 1.2
    added = torch.where(added > 3, added.clamp(max=12), 0.0)
    total = _WIDTH * len(bark)
    disturbance = total * ((_WIDTH * gap).square().sum(dim=1) / total + 1e-8).sqrt()
    asymmetry = (_WIDTH * gap * added).sum(dim=1)
    emphasis = ((audible[:, 0] + 1e5) / 1e7) ** 0.04
    points = 0.1 * _over_time(disturbance / emphasis) + 0.0309 * _over_time(asymmetry / emphasis)
    return torch.where(spoken.any(dim=2)[:, 0], points, 0.0).reshape(batch, channels).mean(dim=1)


def _bands(audio: Tensor, sample_rate: int) -> Tensor:
    """Returns the power [batch, bands, frames] of audio [batch, samples] brought to the level of speech."""
    window = 2 * round(0.016 * sample_rate)
    spectrum = stft(audio, n_fft=window, hop=window // 2)
    power = spectrum.real.square() + spectrum.imag.square()
    hz = torch.arange(power.shape[1], device=power.device) * (sample_rate / window)
    speech = (hz >= _SPEECH[0]) & (hz <= _SPEECH[1])
    # The mean square of the samples between these frequencies, by Parseval's theorem with Hann weights.
    level = 2 * power[:, speech].sum(dim=1).mean(dim=-1) / (0.375 * window**2)
    # At another rate a window has another number of samples, and the power of a bin grows with its square.
    scaled = power * (_SCALE * 1e7 * (512 / window) ** 2 / (level + 1e-12))[:, None, None]
    return torch.einsum("bf,nft->nbt", _filters(sample_rate).to(power), scaled)


@once
def _filters(sample_rate: int) -> Tensor:
    """Returns which bin [bands, bins] belongs to which band, as ones and zeros."""
    window = 2 * round(0.016 * sample_rate)
    hz = torch.arange(window // 2 + 1, dtype=torch.float64) * (sample_rate / window)
    band = (_bark(hz) / _WIDTH).floor()
    inside = (hz > 0) & (hz <= _HIGHEST) & (band >= 0)
    bands = int(band[inside].max()) + 1
    filters = torch.stack([(band == index) & inside for index in range(bands)])
    return filters[filters.any(dim=1)].float()


@once
def _hearing(sample_rate: int) -> tuple[Tensor, Tensor]:
    """Returns the bark [bands] of the bands, and the power [bands] below which nothing is heard."""
    filters = _filters(sample_rate).double()
    hz = filters @ (torch.arange(filters.shape[1], dtype=torch.float64) * (0.5 * sample_rate / (filters.shape[1] - 1)))
    khz = hz / filters.sum(dim=1) / 1000
    quiet = 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    return _bark(1000 * khz).float(), (10 ** (quiet / 10)).float()


def _bark(hz: Tensor) -> Tensor:
    return 26.81 * hz / (1960 + hz) - 0.53


def _heard(power: Tensor, threshold: Tensor, spoken: Tensor) -> Tensor:
    """Returns the mean audible power [batch, bands, 1] while somebody speaks, with a floor."""
    counted = power * ((power > 100 * threshold[:, None]) & spoken)
    return counted.sum(dim=2, keepdim=True) / spoken.sum(dim=2, keepdim=True).clamp(min=1) + 1e3


def _loudness(power: Tensor, bark: Tensor, threshold: Tensor) -> Tensor:
    """Returns Zwicker's loudness density [batch, bands, frames] in sone per bark."""
    exponent = (0.23 * (6 / (bark + 2)).clamp(1, 2) ** 0.15)[:, None]
    limit = threshold[:, None]
    return 0.1866 * (limit / 0.5) ** exponent * ((0.5 + 0.5 * power / limit) ** exponent - 1).clamp(min=0)


def _over_time(frames: Tensor) -> Tensor:
    """Returns one number [batch] for frames [batch, frames]: the worst of a syllable counts, then all syllables do."""
    frames = frames.clamp(max=45)
    size = min(_INTERVAL, frames.shape[1])
    frames = functional.pad(frames, (0, -(frames.shape[1] - size) % max(1, size // 2)))
    syllables = frames.unfold(1, size, max(1, size // 2))
    worst = (syllables**6).mean(dim=2).clamp(min=1e-12) ** (1 / 6)
    return (worst.square().mean(dim=1) + 1e-12).sqrt()
