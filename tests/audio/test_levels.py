"""Levels are exact, loudness follows the standard, and silence stays silence."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sines import RATE, decibels, sine

from hiss.audio import Audio, normalize_audio
from hiss.errors import UsageError


@pytest.mark.parametrize("level", [None, -6.0, 3.0])
def test_peak_and_rms_levels_are_exact(level: float | None) -> None:
    noise = Audio(torch.randn(2, 5000, generator=torch.Generator().manual_seed(0)) * 0.01, RATE)
    assert decibels(noise.normalize("peak", level).peak) == pytest.approx(-1 if level is None else level, abs=1e-4)
    assert decibels(noise.normalize("rms", level).rms) == pytest.approx(-20 if level is None else level, abs=1e-4)


@pytest.mark.parametrize("seconds", [0.01, 0.39, 0.4, 1.0, 3.3])
def test_loudness_of_a_sine_follows_the_standard_at_any_length(seconds: float) -> None:
    # BS.1770: a 997 Hz sine at 0 dBFS in one channel has -3.01 LUFS.
    tone = sine(997, seconds, rate=48000, amplitude=0.001).normalize("lufs", -23.0)
    assert decibels(tone.peak) == pytest.approx(-23 + 3.01, abs=0.25 if seconds < 0.1 else 0.05)


@pytest.mark.parametrize("seconds", [0.07, 0.14, 0.28, 0.34])
def test_a_short_clip_is_one_block_also_where_its_seconds_are_rounded_up(seconds: float) -> None:
    tone = sine(997, seconds, rate=44100, amplitude=0.001).normalize("lufs", -23.0)
    assert decibels(tone.peak) == pytest.approx(-23 + 3.01, abs=0.25)


@pytest.mark.parametrize("rate", [4000, 8000, 44100])
def test_loudness_does_not_depend_on_the_rate(rate: int) -> None:
    assert decibels(sine(997, rate=rate).normalize("lufs", -23.0).rms) == pytest.approx(-23, abs=0.2)


@pytest.mark.parametrize("mode", ["peak", "rms", "lufs", "none"])
@pytest.mark.parametrize("samples", [0, 1, 100, 20000])
def test_silence_stays_silence(mode: Any, samples: int) -> None:
    silence = Audio(torch.zeros(2, samples), RATE).normalize(mode)
    assert silence.samples.shape == (2, samples)
    assert silence.peak == 0


@pytest.mark.parametrize("mode", ["peak", "rms", "lufs"])
def test_one_sample_and_a_lone_click_can_be_normalized(mode: Any) -> None:
    click = torch.zeros(60000)
    click[30000] = 1e-3
    assert Audio(torch.tensor([0.01]), RATE).normalize(mode).peak > 0.01
    assert bool(torch.isfinite(Audio(click, RATE).normalize(mode).samples).all())


def test_mode_none_changes_nothing_and_an_unknown_one_is_refused() -> None:
    audio = sine()
    assert audio.normalize("none") is audio
    with pytest.raises(UsageError, match="unknown normalization 'loud'; valid are: lufs, none, peak, rms"):
        audio.normalize("loud")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1 to 5 channels, not 6"):
        sine(channels=6).normalize("lufs")


def test_normalize_audio_returns_the_type_that_came() -> None:
    array: NDArray[np.float64] = np.array([[0.1, 0.2], [0.3, -0.4], [0.0, 0.0]])
    normalized = normalize_audio(array, "peak", level=0.0)
    assert normalized.dtype == np.float64
    np.testing.assert_allclose(normalized, array / 0.4, atol=1e-6)
    assert normalize_audio(array[:, 0]).shape == (3,)
    assert isinstance(normalize_audio(sine()), Audio)


def test_loudness_of_an_array_needs_its_rate() -> None:
    array = np.asarray(sine())
    with pytest.raises(UsageError, match="needs its sample_rate"):
        normalize_audio(array, "lufs")
    by_rate = normalize_audio(array, "lufs", sample_rate=RATE)
    np.testing.assert_allclose(by_rate, np.asarray(sine().normalize("lufs")), atol=1e-6)
