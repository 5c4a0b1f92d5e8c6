"""Filters have their frequency and no delay; fades are raised cosines."""

import pytest
import torch
from sines import RATE, decibels, sine

from hiss.audio import Audio
from hiss.errors import UsageError


@pytest.mark.parametrize("hz", [200.0, 1000.0])
def test_filters_have_six_decibels_at_their_frequency_and_keep_phase(hz: float) -> None:
    audio = sine(hz)
    middle = slice(4000, 12000)
    for filtered in (audio.high_pass(hz), audio.low_pass(hz)):
        torch.testing.assert_close(filtered.samples[:, middle], audio.samples[:, middle] / 2, atol=2e-3, rtol=0)


def test_filters_pass_one_side_and_stop_the_other() -> None:
    # Order 4, there and back: 48 dB an octave.
    def gain(tone: Audio, filtered: Audio) -> float:
        return decibels(float(filtered.samples[:, 4000:12000].norm() / tone.samples[:, 4000:12000].norm()))

    low, high = sine(250), sine(2000)
    assert gain(low, low.high_pass(500)) == pytest.approx(-48.2, abs=1)
    assert gain(high, high.high_pass(500)) == pytest.approx(0, abs=0.1)
    assert gain(low, low.low_pass(1000)) == pytest.approx(0, abs=0.1)
    assert gain(high, high.low_pass(500)) < -90


@pytest.mark.parametrize("samples", [0, 1, 2, 20])
def test_very_short_audio_can_be_filtered_and_faded(samples: int) -> None:
    audio = Audio(torch.ones(2, samples), RATE)
    assert audio.high_pass(100).low_pass(1000).fade(1, 1).samples.shape == (2, samples)


@pytest.mark.parametrize("hz", [0, -5, 8000, 9000])
def test_filters_outside_the_band_are_refused(hz: float) -> None:
    with pytest.raises(UsageError, match=r"between 0 and half the sample rate, 8000\.0 Hz"):
        sine().high_pass(hz)


def test_fades_are_raised_cosines_at_both_ends() -> None:
    faded = Audio(torch.ones(1000), 1000).fade(0.1, 0.2).samples[0]
    assert faded[0] == faded[-1] == 0
    assert float(faded[50]) == pytest.approx(0.5)
    assert float(faded[-101]) == pytest.approx(0.5)
    assert torch.equal(faded[100:800], torch.ones(700))
    with pytest.raises(UsageError, match="0 seconds or more"):
        sine().fade(-1)
