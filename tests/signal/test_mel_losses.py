"""Losses on mel spectra: zero where they should be, in nepers, and with slopes everywhere."""

import math

import pytest
import torch

from hiss.noise import seeded
from hiss.signal.mel_losses import multi_scale_mel_error, slope_error


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_gain_costs_its_logarithm_at_every_resolution(rate: int) -> None:
    audio = torch.randn(2, 1, 4096, generator=seeded("gain"))
    error = multi_scale_mel_error(2 * audio, audio, sample_rate=rate)
    torch.testing.assert_close(error, torch.full((2,), math.log(2)), atol=1e-4, rtol=0)
    assert not multi_scale_mel_error(audio, audio, sample_rate=rate).any()


def test_the_mel_error_of_silence_has_a_finite_slope() -> None:
    estimate = torch.zeros(1, 4096, requires_grad=True)
    multi_scale_mel_error(estimate, torch.randn(1, 4096), sample_rate=16_000).sum().backward()
    assert estimate.grad is not None
    assert bool(estimate.grad.isfinite().all())


def test_what_is_off_everywhere_by_the_same_has_the_right_slopes() -> None:
    mel = torch.randn(3, 16, 20, generator=seeded("slopes"))
    torch.testing.assert_close(slope_error(mel + 1, mel), torch.zeros(3), atol=1e-6, rtol=0)


def test_a_ramp_over_frames_costs_its_steepness_at_each_scale() -> None:
    flat = torch.zeros(1, 8, 16)
    ramp = 0.5 * torch.arange(16.0).expand(1, 8, 16)
    assert float(slope_error(ramp, flat, scales=(1,))) == pytest.approx(0.5)
    assert float(slope_error(ramp, flat, scales=(1, 4))) == pytest.approx((0.5 + 2.0) / 2)


def test_a_single_frame_has_slopes_over_bins_only() -> None:
    assert float(slope_error(torch.arange(4.0).reshape(1, 4, 1), torch.zeros(1, 4, 1), scales=(1,))) == 1.0
