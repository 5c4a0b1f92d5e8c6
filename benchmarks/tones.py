"""Counts how many tones of the bundled model are on the note that was asked for.

    python benchmarks/tones.py

Each note is asked for four times. A tone counts as the note whose first four harmonics hold most of its spectrum.
"""

import math
import statistics

import torch
from torch import Tensor

import hiss
from hiss.audio import Audio
from hiss.data.tones import SyntheticTones

COUNT = 4
POINTS = 1 << 17
"""Of the Fourier transform: far finer than a cent at these pitches."""


def spectrum(audio: Audio) -> Tensor:
    """Returns magnitudes [POINTS / 2 + 1] of a mono recording."""
    wave = audio.samples[0]
    transform: Tensor = torch.fft.rfft(wave * torch.hann_window(len(wave)), n=POINTS)
    return transform.abs()


def strength(magnitudes: Tensor, hertz: float, rate: int) -> float:
    """Returns how much of a spectrum lies on the first four harmonics of a pitch; the first ones count most."""
    harmonics = [k for k in (1, 2, 3, 4) if k * hertz < rate / 2]
    return sum(float(magnitudes[round(k * hertz * POINTS / rate)]) / math.sqrt(k) for k in harmonics)


def cents(magnitudes: Tensor, hertz: float, rate: int) -> float:
    """Returns how far the strongest partial within a semitone of a pitch is from it, in hundredths of a semitone."""
    low, high = (round(hertz * factor * POINTS / rate) for factor in (0.944, 1.059))
    peak = low + int(magnitudes[low:high].argmax())
    return abs(1200 * math.log2(peak * rate / (POINTS * hertz)))


def main() -> None:
    pipeline = hiss.load("tones")
    pitches = SyntheticTones(low=110, high=880).notes()
    right, off = 0, []
    for note, hertz in pitches.items():
        for audio in pipeline.generate(note, count=COUNT, seed=0):
            magnitudes = spectrum(audio)
            heard = max(pitches, key=lambda other: strength(magnitudes, pitches[other], audio.sample_rate))
            right += heard == note
            off.append(cents(magnitudes, hertz, audio.sample_rate))
    print(f"{right} of {len(off)} tones are on the note; the median is {statistics.median(off):.1f} cents off")


if __name__ == "__main__":
    main()
