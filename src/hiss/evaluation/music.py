"""What a listener notices in music, as numbers, and how alike two recordings of it are."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hiss.audio import Audio
from hiss.once import once
from hiss.signal.mel import log_mel
from hiss.signal.stft import stft

RATE = 22_050
"""Hz that recordings are heard at."""
TUNING = 440.0
"""Hz of the note A."""
CENTS = 25.0
"""How far from a note counts as on it: a quarter of the way to the next note on either side, so that noise is on a note
half of the time. The second to the sixth harmonic of a note are at most 14 cents from a note themselves."""
LOWEST, HIGHEST = 100.0, 4000.0
"""Hz between which partials are looked for: below, notes are too close to be told apart, above is mostly noise."""

_QUIET = 1e-3  # RMS of -60 dBFS
_FULL = 32767 / 32768
_NOTES = 60  # from 110 Hz on, five octaves
_AT_ONCE = 32  # recordings compared with as many


def grid(clip: Audio) -> float:
    """Returns the share of the energy of all partials that lies on the notes of the tempered scale; 0 in silence.

    A partial is a peak of the spectrum; between the bins a parabola through the logarithms tells where it is. White
    noise has a share of one half.
    """
    power = stft(_heard(clip), n_fft=8192, hop=2048).abs().double().square()
    bin_width = RATE / 8192
    first, last = math.ceil(LOWEST / bin_width), math.floor(HIGHEST / bin_width)
    below, here, above = (power[first + step : last + step].clamp(min=1e-20) for step in (-1, 0, 1))
    peak = (here > below) & (here >= above)
    # A frame in which nothing sounds has peaks of rounding errors, which weigh nothing beside those of a sound.
    bend = (below.log() + above.log() - 2 * here.log()).clamp(max=-1e-9)
    position = torch.arange(first, last)[:, None] + 0.5 * (below.log() - above.log()) / bend
    notes = 12 * torch.log2(position * bin_width / TUNING)
    on_grid = (notes - notes.round()).abs() <= CENTS / 100
    energy = here * peak
    total = float(energy.sum())
    return float((energy * on_grid).sum()) / total if total > 1e-12 else 0.0


def onsets(clip: Audio) -> float:
    """Returns how many notes begin in a second.

    The spectral flux is how much the logarithms of the mel bands rise in two hundredths of a second. An onset is where
    it is the highest within 50 ms and well above its mean within 150 ms.
    Source: Böck, Krebs, Schedl 2012, "Evaluating the online capabilities of onset detection methods", section 2.4.
    """
    audio = _heard(clip)
    rms = audio.square().mean().sqrt()
    if rms < 1e-6:
        return 0.0
    hop = RATE // 100
    mel = log_mel(audio / rms, sample_rate=RATE, n_fft=2048, hop=hop, bins=96, low=30.0, floor=1e-2)
    before = torch.cat([mel[:, :1], mel[:, :1], mel[:, :-2]], dim=1)
    flux = (mel - before).clamp(min=0).mean(dim=0)[None, None]
    highest = functional.max_pool1d(flux, 11, stride=1, padding=5)
    mean = functional.avg_pool1d(flux, 31, stride=1, padding=15, count_include_pad=False)
    found = (flux == highest) & (flux > mean + _RISE)
    return int(found.sum()) * RATE / len(audio)


def silence(clip: Audio) -> float:
    """Returns the share of time, in pieces of 50 ms, in which the RMS is below -60 dBFS."""
    audio = _heard(clip)
    size = RATE // 20
    pieces = functional.pad(audio, (0, -len(audio) % size)).unflatten(0, (-1, size))
    return float((pieces.square().mean(dim=1).sqrt() < _QUIET).float().mean())


def centroid(clip: Audio) -> float:
    """Returns the mean frequency in Hz, weighted by the magnitude of the spectrum; 0 in silence."""
    magnitudes = stft(_heard(clip), n_fft=2048, hop=512).abs().sum(dim=1)
    hertz = torch.linspace(0, RATE / 2, len(magnitudes))
    total = float(magnitudes.sum())
    return float(magnitudes @ hertz) / total if total > 1e-6 else 0.0


def level(clip: Audio) -> float:
    """Returns the RMS in dBFS, at least -120."""
    return 20 * math.log10(max(clip.rms, 1e-6))


def clipped(clip: Audio) -> float:
    """Returns the share of the samples that are at full scale or above."""
    return float((clip.samples.abs() >= _FULL).float().mean())


TRAITS: dict[str, Callable[[Audio], float]] = {
    "grid": grid,
    "onsets": onsets,
    "silence": silence,
    "centroid": centroid,
    "level": level,
    "clipped": clipped,
}
"""What a listener notices of a recording, by name."""


def colour(clip: Audio) -> Tensor:
    """Returns the logarithms of 32 mel bands [bands, frames], 43 frames a second, at an RMS of 1."""
    audio = _heard(clip)
    audio = audio / audio.square().mean().sqrt().clamp(min=1e-7)
    return log_mel(audio, sample_rate=RATE, n_fft=2048, hop=512, bins=32, low=30.0, floor=1e-3)


def chroma(clip: Audio) -> Tensor:
    """Returns how loud the twelve pitch classes are [12], with a sum of 1, the loudest one first: in any key."""
    heard = _semitones(_heard(clip)).square().mean(dim=1)
    classes = heard.unflatten(0, (-1, 12)).sum(dim=0).sqrt()
    turned: Tensor = (classes / classes.sum().clamp(min=1e-9)).roll(-int(classes.argmax()))
    return turned


def likeness(clips: Sequence[Audio], known: Sequence[Audio]) -> tuple[Tensor, Tensor]:
    """Returns how alike each clip is to what it is most alike in `known` [clips], and to which of them [clips].

    It is the largest correlation of how the semitones swell and fade, in dB, over all shifts in time and of a semitone
    up or down: 1 for a copy, wherever it is cut from, whatever its level, phase and sound colour, and also for one
    played a semitone higher. What stays the same over the clip in a band does not count.

    Args:
        clips: Of any length; nothing is found in silence.
        known: At least as long as a clip, or they are followed by silence.
    """
    queries, patterns = ([_pattern(audio) for audio in some] for some in (clips, known))
    best, which = torch.zeros(len(clips)), torch.zeros(len(clips), dtype=torch.long)
    for size in {query.shape[-1] for query in queries}:
        items = [item for item, query in enumerate(queries) if query.shape[-1] == size]
        best[items], which[items] = _most_alike(torch.stack([queries[item] for item in items]), patterns)
    return best, which


_RISE = 0.04  # of the logarithms of the mel bands, on average: notes of the sounds pack are found best with it
_SOFT = 1e-2  # magnitude, in a recording of RMS 1, below which a semitone counts as silent


def _most_alike(queries: Tensor, patterns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the largest correlation of each query [queries, notes, frames] with a pattern [notes, frames], and the
    index of that [queries]."""
    queries = queries - queries.mean(dim=-1, keepdim=True)
    size = queries.shape[-1]
    longest = max(size, *(pattern.shape[-1] for pattern in patterns))
    points = 1 << (longest - 1).bit_length()
    best, which = torch.zeros(len(queries)), torch.zeros(len(queries), dtype=torch.long)
    for first in range(0, len(patterns), _AT_ONCE):
        some = patterns[first : first + _AT_ONCE]
        there = torch.stack([_followed(pattern, longest) for pattern in some])
        theirs = torch.fft.rfft(there, n=points).permute(2, 1, 0)
        energy = _sums(there.square(), size) - _sums(there, size).square() / size
        for step in (-1, 0, 1):
            # What moves out of the range of notes is compared with nothing, and so are the notes that it leaves.
            moved = functional.pad(queries, (0, 0, step, -step))
            rows = slice(max(step, 0), _NOTES + min(step, 0))
            theirs_norm = energy[:, rows].sum(dim=1).clamp(min=1.0).sqrt()
            for place in range(0, len(queries), _AT_ONCE):
                items = slice(place, place + _AT_ONCE)
                ours = torch.fft.rfft(moved[items], n=points).conj().permute(2, 0, 1)
                products = torch.fft.irfft((ours @ theirs).permute(1, 2, 0), n=points)[..., : longest - size + 1]
                norm = moved[items].square().sum(dim=(1, 2)).clamp(min=1.0).sqrt()[:, None, None] * theirs_norm
                highest, index = (products / norm).amax(dim=-1).max(dim=-1)
                which[items] = torch.where(highest > best[items], first + index, which[items])
                best[items] = torch.maximum(best[items], highest)
    return best, which


def _pattern(clip: Audio) -> Tensor:
    """Returns log(max(magnitude, soft)) of the semitones [notes, frames], 43 frames a second, at an RMS of 1."""
    audio = _heard(clip)
    return _semitones(audio / audio.square().mean().sqrt().clamp(min=1e-6)).clamp(min=_SOFT).log()


def _followed(pattern: Tensor, frames: int) -> Tensor:
    """Returns the pattern [notes, frames] followed by silence."""
    return functional.pad(pattern, (0, frames - pattern.shape[-1]), value=math.log(_SOFT))


def _sums(pattern: Tensor, size: int) -> Tensor:
    """Returns the sums over `size` frames from each frame on [..., frames - size + 1]."""
    total = functional.pad(pattern.double().cumsum(dim=-1), (1, 0))
    return (total[..., size:] - total[..., :-size]).float()


def _semitones(audio: Tensor) -> Tensor:
    """Returns the magnitude in each of 60 semitones from 110 Hz on [notes, frames] of audio [samples]."""
    return _filters() @ stft(audio, n_fft=4096, hop=512).abs()


@once
def _filters() -> Tensor:
    """Returns filters [notes, bins]: each a triangle from one note to the next but one, or at least two bins wide."""
    hertz = torch.arange(2049) * (RATE / 4096)
    centre = 110 * 2 ** (torch.arange(_NOTES) / 12)
    width = (centre * (2 ** (1 / 12) - 1)).clamp(min=RATE / 4096)
    filters = (1 - (hertz - centre[:, None]).abs() / width[:, None]).clamp(min=0)
    return filters / filters.sum(dim=1, keepdim=True)


def _heard(clip: Audio) -> Tensor:
    """Returns the recording as mono [samples] at `RATE`."""
    return clip.mono().resample(RATE).samples[0]
