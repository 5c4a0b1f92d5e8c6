"""Damage: what microphones, lines and codecs take away or add."""

import pytest
import torch
from torch import Tensor

from hiss.noise import seeded
from hiss.signal.damage import band_limit, change_speed, clip, equalise, once_at, quantise

RATE = 16000


def tone(hz: float, samples: int = RATE) -> Tensor:
    return torch.sin(2 * torch.pi * hz / RATE * torch.arange(samples))[None]


def middle(audio: Tensor) -> float:
    """Returns the RMS away from the ends."""
    return float(audio[..., 2000:-2000].square().mean().sqrt())


@pytest.mark.parametrize(("hz", "passes"), [(150, False), (500, True), (3000, True), (4500, False)])
def test_a_band_keeps_what_is_inside_and_takes_sixty_decibels_from_the_rest(hz: float, passes: bool) -> None:
    out = band_limit(tone(hz), 300, 3400, sample_rate=RATE)
    assert out.shape == (1, RATE)
    if passes:
        torch.testing.assert_close(out[:, 2000:-2000], tone(hz)[:, 2000:-2000], atol=2e-3, rtol=0)
    else:
        assert middle(out) < 2e-3


def test_a_band_over_everything_changes_nothing() -> None:
    noise = torch.randn(2, 5000, generator=seeded(0))
    torch.testing.assert_close(band_limit(noise, 0, RATE / 2, sample_rate=RATE), noise, atol=1e-5, rtol=1e-4)


def test_equalising_multiplies_each_frequency_by_its_gain() -> None:
    out = equalise(tone(1000) + tone(4000), lambda hz: torch.where(hz < 2000, 6.0, -20.0), sample_rate=RATE)
    expected = 10**0.3 * tone(1000) + 0.1 * tone(4000)
    torch.testing.assert_close(out[:, 4000:-4000], expected[:, 4000:-4000], atol=2e-2, rtol=0)


def test_clipping_cuts_below_the_peak_and_leaves_the_rest() -> None:
    audio = 0.5 * tone(100)
    out = clip(audio, 6.0)
    limit = 0.5 * 10 ** (-6 / 20)
    assert float(out.amax()) == pytest.approx(limit)
    assert float(out.amin()) == pytest.approx(-limit)
    assert torch.equal(out[audio.abs() < limit], audio[audio.abs() < limit])
    assert not clip(torch.zeros(1, 9), 6.0).any()


def test_uniform_steps_are_at_most_half_a_step_off() -> None:
    audio = torch.linspace(-1, 1, 1001)[None]
    for bits in (4, 8, 12):
        steps = 2 ** (bits - 1) - 1
        out = quantise(audio, bits)
        assert float((out - audio).abs().amax()) <= 0.5 / steps + 1e-6
        assert len(out.unique()) <= 2 * steps + 1


def test_the_mu_law_has_255_levels_is_odd_and_fine_near_zero() -> None:
    audio = torch.linspace(-1, 1, 20001)[None]
    out = quantise(audio, 8, mu=255)
    assert len(out.unique()) == 255
    torch.testing.assert_close(out, -out.flip(1))
    assert float((out - audio).abs().amax()) < 0.025
    assert float((out - audio)[audio.abs() < 0.01].abs().amax()) < 5e-4
    assert quantise(torch.tensor([[-2.0, 0.0, 2.0]]), 8, mu=255)[0].tolist() == pytest.approx([-1, 0, 1])


@pytest.mark.parametrize("share", [0.5, 0.83, 0.99])
def test_what_was_at_a_lower_rate_once_has_nothing_above_half_of_it_and_keeps_its_place(share: float) -> None:
    below, above = tone(0.4 * share * RATE), tone(0.5 * (1 + share) / 2 * RATE)
    out = once_at(below + above, share)
    assert out.shape == below.shape
    inside = slice(800, -800)
    torch.testing.assert_close(out[:, inside], below[:, inside], atol=5e-3, rtol=0)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_a_faster_tone_is_shorter_and_higher(factor: float) -> None:
    out = change_speed(tone(1000), factor)
    assert out.shape[1] == pytest.approx(RATE / factor, abs=1)
    expected = tone(1000 * factor, out.shape[1])
    torch.testing.assert_close(out[:, 500:-500], expected[:, 500:-500], atol=2e-3, rtol=0)
