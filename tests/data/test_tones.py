"""Synthetic tones: pitch, amplitude, overtones, envelopes and notes in closed form."""

from itertools import islice
from math import exp

import pytest
import torch
from torch import Tensor

from hiss.data.tones import SyntheticTones, Tones
from hiss.errors import UsageError

RATE = 16000


def tones(config: SyntheticTones, samples: int = RATE) -> list[Tensor]:
    source = Tones(config, RATE, 1, samples)
    return [source.read(index, 0, samples)[0] for index in range(config.examples)]


def spectrum(samples: Tensor) -> Tensor:
    lines: Tensor = torch.fft.rfft(samples.double() * torch.hann_window(len(samples), dtype=torch.float64))
    return lines.abs()


def test_pitches_are_uniform_on_a_log_scale_and_heard_in_the_spectrum() -> None:
    config = SyntheticTones(examples=200, low=100, high=1600)
    source = Tones(config, RATE, 1, RATE)
    for index, samples in enumerate(tones(config)):
        assert abs(int(spectrum(samples).argmax()) - float(source.frequency[index])) <= 0.6
    octaves = torch.log2(source.frequency / 100)
    assert 0 <= octaves.min() < 0.2
    assert 3.8 < octaves.max() <= 4
    assert abs(octaves.mean() - 2) < 0.25


def test_amplitudes_fill_their_range() -> None:
    peaks = torch.stack(tones(SyntheticTones(examples=200, softest=0.2, loudest=0.6, low=500))).abs().amax(1)
    assert 0.19 < peaks.min() < 0.25
    assert 0.55 < peaks.max() <= 0.6


def test_overtones_fall_off_and_keep_the_peak_in_range() -> None:
    config = SyntheticTones(examples=1, low=200, high=200, harmonics=3, rolloff=2.0, softest=0.5, loudest=0.5)
    lines = spectrum(tones(config)[0])[torch.tensor([200, 400, 600, 800, 1000])]
    torch.testing.assert_close(
        (lines / lines[0])[:4], torch.tensor([1.0, 1 / 4, 1 / 9, 1 / 16]).double(), atol=1e-4, rtol=0
    )
    assert lines[4] < 1e-3 * lines[0]
    assert float(tones(config)[0].abs().max()) <= 0.5


def test_overtones_stop_at_half_the_sample_rate() -> None:
    config = SyntheticTones(examples=1, low=3000, high=3000, harmonics=5)
    assert int((spectrum(tones(config)[0]) > 100).sum()) <= 6  # two lines of three bins


def test_envelopes_rise_and_fall_as_they_should() -> None:
    config = SyntheticTones(examples=1, low=1000, high=1000, attack=0.1, decay=0.5, softest=0.5, loudest=0.5)
    samples = tones(config)[0]
    peaks = samples.view(-1, 160).abs().amax(1)  # every 10 ms, a multiple of the period
    assert float(peaks[50]) == pytest.approx(0.5 * exp(-0.5 / 0.5), rel=0.03)
    assert float(peaks[99]) == pytest.approx(0.5 * exp(-1 / 0.5), rel=0.03)
    assert float(peaks[4]) == pytest.approx(0.5 * 0.5 * exp(-0.05 / 0.5), rel=0.1)


def test_labelled_tones_are_notes_and_say_which() -> None:
    config = SyntheticTones(examples=50, labelled=True, low=220, high=440)
    assert list(config.notes()) == ["A3", "A#3", "B3", "C4", "C#4", "D4", "D#4", "E4", "F4", "F#4", "G4", "G#4", "A4"]
    assert config.notes()["A4"] == pytest.approx(440)
    assert config.notes()["C4"] == pytest.approx(261.6256, abs=1e-4)
    data = config.open(sample_rate=RATE, channels=1, samples=RATE)
    for batch in islice(data.batches(8, seed=0), 4):
        for audio, prompt in zip(batch.audio, batch.prompts, strict=True):
            assert abs(int(spectrum(audio[0]).argmax()) - config.notes()[prompt.labels["note"]]) <= 0.6


def test_the_seed_alone_decides_on_the_tones() -> None:
    one, same, other = (torch.stack(tones(SyntheticTones(examples=3, seed=seed))) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.stack(tones(SyntheticTones(examples=5, seed=1)))[:3], one)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"examples": 0}, "at least one example"),
        ({"low": 0.0}, "0 < low <= high"),
        ({"low": 500.0, "high": 400.0}, "0 < low <= high"),
        ({"loudest": 1.5}, "loudest <= 1"),
        ({"labelled": True, "low": 450.0, "high": 455.0}, "no note between 450.0 and 455.0 Hz"),
    ],
)
def test_tones_that_cannot_be_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SyntheticTones(**options)  # type: ignore[arg-type]


def test_tones_above_half_the_sample_rate_are_refused() -> None:
    with pytest.raises(UsageError, match=r"tones up to 2000.0 Hz need more than 4000.0 Hz, not 4000 Hz"):
        SyntheticTones().open(sample_rate=4000, channels=1, samples=100)
