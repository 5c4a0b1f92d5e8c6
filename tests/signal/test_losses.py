"""Auxiliary losses: their closed forms, their zeros, and slopes that are finite and point the right way."""

import math

import pytest
import torch
from torch import Tensor

from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.signal.losses import (
    CompressedSpectrum,
    LossConfig,
    MultiResolution,
    Perceptual,
    Phase,
    SiSdr,
    SpectralNorm,
    Spectrum,
    TimeDerivative,
    Waveform,
    absolute_error,
    compressed_error,
    derivative_error,
    multi_resolution_error,
    norm_error,
    phase_error,
    si_sdr,
    spectrum_error,
)
from hiss.signal.stft import stft

KINDS: dict[str, LossConfig] = {
    "compressed_spectrum": CompressedSpectrum(n_fft=64, hop=32),
    "multi_resolution": MultiResolution(windows=(32, 64)),
    "si_sdr": SiSdr(),
    "phase": Phase(n_fft=64, hop=16),
    "spectrum": Spectrum(n_fft=64, hop=16),
    "waveform": Waveform(),
    "perceptual": Perceptual(),
    "spectral_norm": SpectralNorm(),
    "time_derivative": TimeDerivative(),
}
VARIANTS = KINDS | {
    "spectrum, phases alone": Spectrum(n_fft=64, hop=16, phase=100.0),
    "spectrum, wrapping": Spectrum(n_fft=64, hop=16, phase=1.0, wrapping=True),
}


def sound(*keys: int) -> Tensor:
    return 0.1 * torch.randn(3, 1, 500, generator=seeded("losses", *keys))


def test_every_registered_loss_is_tested_here() -> None:
    assert set(LossConfig.members) == {*KINDS, "opinion", "intelligibility"}  # which are tested on speech elsewhere


@pytest.mark.parametrize("loss", VARIANTS.values(), ids=VARIANTS)
class TestEveryLoss:
    def test_it_is_one_number_for_each_item_and_least_at_the_target(self, loss: LossConfig) -> None:
        target = sound(0)
        right, near, far = (loss.measure(target + share * sound(1), target) for share in (0.0, 0.1, 1.0))
        assert right.shape == (3,)
        assert (right < near).all()
        assert (near < far).all()

    def test_a_step_down_its_slope_lowers_it(self, loss: LossConfig) -> None:
        estimate, target = (sound(0) + 0.5 * sound(1)).requires_grad_(), sound(0)
        before = loss.measure(estimate, target).sum()
        (slope,) = torch.autograd.grad(before, estimate)
        assert bool(slope.isfinite().all())
        after = loss.measure(estimate - 1e-3 * slope / slope.norm(), target).sum()
        assert after < before

    def test_its_slope_is_finite_where_one_or_both_are_silent(self, loss: LossConfig) -> None:
        silence = torch.zeros(3, 1, 500)
        for estimate, target in ((silence, sound(0)), (sound(0), silence), (silence, silence)):
            leaf = estimate.clone().requires_grad_()
            measured = loss.measure(leaf, target)
            (slope,) = torch.autograd.grad(measured.sum(), leaf)
            assert bool(measured.isfinite().all())
            assert bool(slope.isfinite().all())

    def test_it_survives_json_and_refuses_a_weight_of_zero(self, loss: LossConfig) -> None:
        assert LossConfig.from_dict(loss.to_dict()) == loss
        with pytest.raises(UsageError, match="weight"):
            type(loss)(weight=0.0)


def test_the_weight_multiplies_and_trust_is_snr_over_one_plus_snr() -> None:
    target, sigma = sound(0), torch.tensor([0.0, 1.0, 3.0])
    plain = Waveform().measure(0 * target, target)
    torch.testing.assert_close(Waveform(weight=2.0)(0 * target, target, sigma), 2 * plain)
    torch.testing.assert_close(Waveform(trusted=True)(0 * target, target, sigma), plain / torch.tensor([1.0, 2, 10]))


def test_the_absolute_error_of_a_constant_offset_is_the_offset() -> None:
    assert absolute_error(sound(0) + 0.3, sound(0)).tolist() == pytest.approx([0.3] * 3)


def test_the_compressed_error_of_a_turned_sign_is_all_in_the_complex_part() -> None:
    target = sound(0)
    zero = compressed_error(0 * target, target, n_fft=64, hop=32, exponent=0.3, magnitude=0.0)
    turned = compressed_error(-target, target, n_fft=64, hop=32, exponent=0.3, magnitude=0.0)
    torch.testing.assert_close(turned, 4 * zero)
    assert not compressed_error(-target, target, n_fft=64, hop=32, exponent=0.3, magnitude=1.0).any()


def test_the_compressed_error_of_a_gain_is_that_of_the_compressed_gain() -> None:
    target = sound(0)
    errors = [
        compressed_error(gain * target, target, n_fft=64, hop=32, exponent=0.5, magnitude=1.0) for gain in (0.0, 16.0)
    ]
    torch.testing.assert_close(errors[1], (16**0.5 - 1) ** 2 * errors[0], rtol=1e-3, atol=0)


def test_an_asymmetric_compressed_error_counts_what_is_missing_more_and_what_is_too_much_as_before() -> None:
    target = sound(0)
    less, more = (
        [
            compressed_error(gain * target, target, n_fft=64, hop=32, exponent=0.5, magnitude=1.0, asymmetry=asymmetry)
            for asymmetry in (1.0, 3.0)
        ]
        for gain in (0.25, 4.0)
    )
    torch.testing.assert_close(less[1], 9 * less[0])
    torch.testing.assert_close(more[1], more[0])
    with pytest.raises(UsageError, match="asymmetry"):
        CompressedSpectrum(asymmetry=0.0)


def test_the_multi_resolution_error_of_a_gain_is_its_excess_and_its_logarithm() -> None:
    error = multi_resolution_error(3 * sound(0), sound(0), windows=(32, 64), floor=1e-9)
    assert error.tolist() == pytest.approx([2 + math.log(3)] * 3, rel=1e-3)


def test_si_sdr_of_an_orthogonal_error_is_the_ratio_of_the_energies() -> None:
    time = torch.arange(1000) / 1000 * 2 * math.pi
    target, error = torch.sin(5 * time)[None, None], torch.cos(9 * time)[None, None]
    assert float(si_sdr(target + 0.1 * error, target)) == pytest.approx(20.0, abs=1e-3)
    assert float(si_sdr(7 * (target + 0.1 * error), target)) == pytest.approx(20.0, abs=1e-3)
    limited = -10 * math.log10(0.01 + 0.001)
    assert float(si_sdr(target + 0.1 * error, target, limit=30.0)) == pytest.approx(limited, abs=1e-3)
    assert float(si_sdr(error, torch.zeros_like(target))) == 0


@pytest.mark.parametrize(("turn", "wrapped"), [(0.7, 0.7), (-3.0, 3.0), (4.0, 2 * math.pi - 4.0)])
def test_the_phase_error_of_one_turn_of_all_bins_is_that_turn_wrapped(turn: float, wrapped: float) -> None:
    time = torch.arange(512) * 2 * math.pi * 8 / 64
    tone, turned = torch.cos(time)[None, None], torch.cos(time + turn)[None, None]
    assert float(phase_error(turned, tone, n_fft=64, hop=16, floor=0.4)) == pytest.approx(wrapped, abs=0.05)
    assert phase_error(-sound(0), sound(0), n_fft=64, hop=16).tolist() == pytest.approx([math.pi] * 3, rel=1e-4)


def test_the_phase_error_of_a_delay_shows_in_the_group_delay() -> None:
    impulse = torch.zeros(1, 1, 512)
    impulse[..., 256] = 1.0
    delayed = impulse.roll(2, dims=-1)
    # Two samples of 64 turn neighbouring bins by 2 pi 2 / 64 against each other, and all frames alike.
    both = phase_error(delayed, impulse, n_fft=64, hop=16, floor=1e-3)
    phases = torch.remainder(torch.arange(33) * 2 * math.pi * 2 / 64 + math.pi, 2 * math.pi) - math.pi
    assert float(both) == pytest.approx(float(phases.abs().mean()) + 2 * math.pi * 2 / 64, rel=1e-3)


def test_the_spectrum_error_of_a_gain_is_its_excess_and_no_phase() -> None:
    magnitudes = stft(sound(0), n_fft=64, hop=16).abs().flatten(1).mean(dim=1)
    error = spectrum_error(3 * sound(0), sound(0), n_fft=64, hop=16, phase=100.0)
    torch.testing.assert_close(error, 2 * magnitudes, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("wrapping", "wanted"), [(False, 0.8), (True, 2 * math.pi - 0.8)])
def test_phases_of_almost_pi_and_minus_pi_are_near_unless_they_wrap(wrapping: bool, wanted: float) -> None:
    time = torch.arange(512) * 2 * math.pi * 8 / 64
    # Frames are 16 samples apart, two whole periods: all have the same phase.
    one, other = (torch.cos(time + math.pi + shift)[None, None] for shift in (-0.4, 0.4))
    error = spectrum_error(one, other, n_fft=64, hop=16, phase=1.0, wrapping=wrapping, floor=0.6)
    assert float(error) == pytest.approx(wanted, rel=0.1)


def test_phases_do_not_count_where_either_is_too_soft() -> None:
    target = sound(0)
    softer = spectrum_error(-1e-4 * target, target, n_fft=64, hop=16, phase=1.0, floor=1e-2)
    torch.testing.assert_close(softer, spectrum_error(-1e-4 * target, target, n_fft=64, hop=16, phase=0.0))


def test_a_spectrum_refuses_a_negative_weight_of_phases() -> None:
    with pytest.raises(UsageError, match="phases must not be negative"):
        Spectrum(phase=-1.0)


def test_the_norm_error_of_a_gain_is_its_excess_and_of_another_place_nothing() -> None:
    for gain in (0.0, 0.4, 3.0):
        assert norm_error(gain * sound(0), sound(0)).tolist() == pytest.approx([abs(gain - 1)] * 3, abs=1e-5)
    assert norm_error(-sound(0).roll(7, dims=-1), sound(0)).tolist() == pytest.approx([0] * 3, abs=1e-6)
    assert not norm_error(sound(0), torch.zeros(3, 1, 500)).any()


def test_the_norm_is_that_of_a_whole_item() -> None:
    target = torch.zeros(2, 2, 3, 4)
    target[:, 0, 1, 2], target[:, 1, 2, 3] = 3, 4  # of norm 5
    estimate = target.clone()
    estimate[1, 0, 0, 0] = 12  # of norm 13
    assert norm_error(estimate, target).tolist() == pytest.approx([0, 8 / 5])


def test_the_derivative_error_of_a_ramp_is_the_square_of_its_slope() -> None:
    spectrum = torch.randn(3, 2, 8, 10, generator=seeded("spectrum"))
    ramp = torch.tensor([0.5, 1.0, -2.0])[:, None, None, None] * torch.arange(10)
    assert derivative_error(spectrum + ramp + 7, spectrum).tolist() == pytest.approx([0.25, 1, 4], rel=1e-4)
    assert derivative_error(spectrum[..., :1] + 7, spectrum[..., :1]).tolist() == [0, 0, 0]
