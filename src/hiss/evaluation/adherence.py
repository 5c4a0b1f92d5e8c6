"""What a caption says of pitch, tempo and loudness, and what is heard of these in a recording, without any ears."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hiss.audio import Audio
from hiss.captions import notes
from hiss.signal.mel import log_mel

_TWO_NOTES = re.compile(r"\b(trills?|leaps|two)\b")
_MANY_NOTES = re.compile(r"\b(scales?|melody|tune|chords?|arpeggios?|arpeggiates)\b")
_CHORD = re.compile(r"\bchords?\b")
_BROKEN = re.compile(r"\b(broken|arpeggios?|arpeggiates)\b")
_TEMPO = {"slow": 0, "unhurried": 0, "moderate": 1, "steady": 1, "quick": 2, "fast": 2, "rapid": 3}
_LOUDNESS = {
    **{"quiet": 0, "quietly": 0, "soft": 0, "softly": 0, "far away": 0},
    **{"loud": 1, "loudly": 1, "hard": 1, "close by": 1},
}

FRAME = 0.01
"""Seconds from one frame to the next in which onsets are looked for."""


@dataclass(frozen=True)
class Said:
    """What a caption says that can be measured."""

    notes: tuple[int, ...] = ()
    """Pitch classes that are named, 0 for C to 11 for B; of a key, a scale or a chord, the root."""
    among: int = 1
    """The named notes are to be among so many pitch classes that are heard most: 1 for a single note, 2 for two, 3 for
    what has many."""
    chord: bool = False
    """Whether the notes sound together."""
    tempo: int | None = None
    """From 0, slow, to 3, rapid."""
    loudness: int | None = None
    """0, quiet, or 1, loud."""


def said(caption: str) -> Said:
    """Returns what a caption says of notes, tempo and loudness.

    Of several words of tempo or loudness the first counts.
    """
    small = caption.lower()
    return Said(
        notes=tuple(dict.fromkeys(pitch for _, pitch in notes(caption))),
        among=3 if _MANY_NOTES.search(small) else 2 if _TWO_NOTES.search(small) else 1,
        chord=bool(_CHORD.search(small)) and not _BROKEN.search(small),
        tempo=_first(_TEMPO, small),
        loudness=_first(_LOUDNESS, small),
    )


def _first(scale: Mapping[str, int], text: str) -> int | None:
    found = re.search(rf"\b({'|'.join(scale)})\b", text)
    return None if found is None else scale[found[1]]


def melodic(audio: Audio) -> Tensor:
    """Returns how long each pitch class [12] sounds, in frames, where one note at a time is played.

    Source: Mauch and Dixon 2014, "pYIN: a fundamental frequency estimator using probabilistic threshold distributions".
    """
    from librosa import pyin

    samples = audio.mono().resample(16000).samples[0]
    if len(samples) < 2048:
        return torch.zeros(12)
    pitch, _, _ = pyin(samples.numpy(), sr=16000, fmin=32, fmax=2100, frame_length=2048, hop_length=512, resolution=0.2)
    heard = torch.from_numpy(pitch)
    semitones = (12 * torch.log2(heard[heard.isfinite()] / 440) + 9).round().long()
    return torch.bincount(semitones % 12, minlength=12).float()


def harmonic(audio: Audio) -> Tensor:
    """Returns how strong each pitch class [12] is, also where several notes sound together: a sum of the chroma.

    Source: Brown 1991, "Calculation of a constant Q spectral transform"; chroma after Fujishima 1999.
    """
    from librosa.feature import chroma_cqt, rms

    samples = audio.mono().resample(16000).samples[0]
    if not samples.any():
        return torch.zeros(12)
    samples = functional.pad(samples, (0, max(0, 48000 - len(samples))))  # the lowest octaves need long windows
    # C2 and five octaves; in tune with 440 Hz, as guessing the tuning of a short clip goes wrong.
    chroma = chroma_cqt(y=samples.numpy(), sr=16000, hop_length=512, fmin=65.406, n_octaves=5, tuning=0.0)
    level = rms(y=samples.numpy(), frame_length=2048, hop_length=512)[0]
    frames = min(chroma.shape[1], len(level))
    return torch.from_numpy(chroma[:, :frames]).float() @ torch.from_numpy(level[:frames]).float()


def plays(notes: Sequence[int], among: int, heard: Tensor) -> bool:
    """Returns whether all of `notes` are among the pitch classes [12] that are heard most."""
    most = heard.argsort(descending=True, stable=True)[:among].tolist()
    return bool(heard.any()) and set(notes[:among]) <= set(most)


def onset_rate(audio: Audio) -> float:
    """Returns how many notes or strokes begin in a second: 1 / the median time from one to the next.

    They are peaks of the spectral flux. Where there are fewer than two, it is their number over the whole length.
    Source: Dixon 2006, "Onset detection revisited", section 2.1.
    """
    from scipy.signal import find_peaks

    samples = audio.mono().resample(16000).samples[0]
    if not samples.any():
        return 0.0
    mel = log_mel(
        functional.pad(samples / samples.abs().max(), (1024, 0)),  # what begins at once begins, too
        sample_rate=16000,
        n_fft=1024,
        hop=round(16000 * FRAME),
        bins=40,
        low=60,
        floor=0.03,
    )
    flux = functional.pad(mel.diff(dim=-1).clamp(min=0).mean(dim=0), (1, 1))
    peaks, _ = find_peaks(flux.numpy(), prominence=max(0.03, 0.2 * float(flux.max())), distance=round(0.05 / FRAME))
    if len(peaks) < 2:
        return len(peaks) / audio.seconds
    return 1 / (FRAME * float(np.median(np.diff(peaks))))


def concordance(order: Sequence[int | None], values: Sequence[float]) -> float | None:
    """Returns the share of pairs of different order in which the higher one has the higher value; ties count half.

    0.5 is chance, 1 is perfect; None where there is no such pair. What has no order is left out.
    Source: Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating characteristic curve".
    """
    kept = [(one, value) for one, value in zip(order, values, strict=True) if one is not None]
    ranks, heights = (torch.tensor([pair[place] for pair in kept], dtype=torch.float64) for place in (0, 1))
    higher = ranks[:, None] > ranks
    if not higher.any():
        return None
    apart = heights[:, None] - heights
    return float(((apart > 0).double() + 0.5 * (apart == 0))[higher].mean())
