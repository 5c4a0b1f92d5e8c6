"""Mixing: the SNR that was asked for, wherever it is measured, and silence."""

from math import log10

import pytest
import torch
from torch import Tensor

from hiss.noise import seeded
from hiss.signal.mixing import gain_for_snr, level, mix, repeat

RATE = 16000
FRAME = 320


def noise(seconds: float = 1.0, *, rows: int = 1, key: int = 0) -> Tensor:
    return torch.randn(rows, round(seconds * RATE), generator=seeded(key))


def decibels(ratio: Tensor) -> float:
    return 20 * log10(float(ratio))


def test_the_level_of_a_sine_is_its_amplitude_over_the_root_of_two() -> None:
    sine = 0.5 * torch.sin(torch.arange(RATE) * 2 * torch.pi * 100 / RATE)[None]
    for frame in (None, FRAME):
        assert float(level(sine, frame=frame)) == pytest.approx(0.5 / 2**0.5, rel=1e-6)


def test_pauses_do_not_change_the_active_level_but_halve_the_power_of_the_whole() -> None:
    speech = noise()
    paused = torch.cat([speech, 1e-3 * noise(key=1)], dim=1)
    assert float(level(paused, frame=FRAME)) == pytest.approx(float(level(speech)), rel=1e-6)
    assert float(level(paused)) == pytest.approx(float(level(speech)) / 2**0.5, rel=1e-4)


def test_a_last_frame_that_is_not_full_counts_as_much_as_it_has_samples() -> None:
    constant = torch.full((1, FRAME + 7), 0.25)
    assert float(level(constant, frame=FRAME)) == pytest.approx(0.25, rel=1e-9)


@pytest.mark.parametrize("asked", [-5.0, 0.0, 7.3, 20.0])
@pytest.mark.parametrize("frame", [None, FRAME])
def test_the_snr_is_the_one_asked_for_to_a_tenth_of_a_decibel(asked: float, frame: int | None) -> None:
    clean = 0.1 * noise() * (torch.arange(RATE) % 4000 < 2000)
    hiss = 3 * noise(key=1) * (torch.arange(RATE) < 9000)
    added = mix(clean, hiss, asked, frame=frame) - clean
    assert decibels(level(clean, frame=frame) / level(added, frame=frame)) == pytest.approx(asked, abs=0.01)


def test_a_batch_has_an_snr_for_each_item_and_one_gain_for_all_channels() -> None:
    clean = torch.stack([noise(rows=2, key=0), 0.1 * noise(rows=2, key=1)])
    hiss = torch.stack([noise(rows=2, key=2), noise(rows=2, key=3)])
    asked = torch.tensor([3.0, 12.0])
    added = mix(clean, hiss, asked) - clean
    torch.testing.assert_close(20 * torch.log10(level(clean) / level(added)).float(), asked, atol=0.01, rtol=0)
    assert torch.equal(gain_for_snr(clean, hiss, asked)[0], gain_for_snr(clean[0], hiss[0], 3.0))


@pytest.mark.parametrize("frame", [None, FRAME])
def test_silence_has_no_snr_and_changes_nothing(frame: int | None) -> None:
    silence, loud = torch.zeros(1, RATE), noise()
    assert torch.equal(mix(silence, loud, 5.0, frame=frame), loud)
    assert torch.equal(mix(loud, silence, 5.0, frame=frame), loud)
    assert torch.equal(mix(silence, silence, 5.0, frame=frame), silence)


def test_a_short_recording_begins_again() -> None:
    wave = torch.arange(5.0)[None]
    assert repeat(wave, 7).tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert repeat(wave, 4, start=3).tolist() == [[3, 4, 0, 1]]
    assert repeat(wave, 2).tolist() == [[0, 1]]
