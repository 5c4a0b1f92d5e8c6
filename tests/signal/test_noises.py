"""Noises that are computed: their spectra, their level, and that a seed fixes them."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hiss.noise import seeded
from hiss.signal.noises import NOISES, Noise, babble, coloured, convolve, curve, smooth_length, white

RATE = 16000

every = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())


def octave_levels(noise: Tensor, lowest: float = 62.5, octaves: int = 6) -> list[float]:
    """Returns the mean power in dB per Hz in octaves from `lowest` Hz on."""
    power = torch.fft.rfft(noise.double()).abs().square().mean(0)
    hz = torch.fft.rfftfreq(noise.shape[-1], 1 / RATE)
    edges = [lowest * 2**octave for octave in range(octaves + 1)]
    bands = [power[(hz >= low) & (hz < high)].mean() for low, high in pairwise(edges)]
    return [float(10 * band.log10()) for band in bands]


@pytest.mark.parametrize("slope", [-6.02, -3.01, 0.0, 3.01])
def test_coloured_noise_has_its_slope_in_decibels_an_octave(slope: float) -> None:
    levels = octave_levels(coloured(1, 16 * RATE, RATE, seeded(0), slope=slope))
    for one, other in pairwise(levels):
        assert other - one == pytest.approx(slope, abs=0.4)


def test_white_noise_is_flat_and_gaussian() -> None:
    noise = white(1, 16 * RATE, RATE, seeded(0))
    assert max(octave_levels(noise)) - min(octave_levels(noise)) < 0.6
    assert float(noise.pow(4).mean()) == pytest.approx(3.0, abs=0.05)


@every
@pytest.mark.parametrize(("samples", "rate"), [(32000, 16000), (48000, 48000), (777, 8000), (1, 8000)])
def test_every_noise_has_its_shape_and_a_level_of_one(noise: Noise, samples: int, rate: int) -> None:
    for seed in range(6):
        made = noise(2, samples, rate, seeded(seed))
        assert made.shape == (2, samples)
        assert made.dtype == torch.float32
        assert bool(torch.isfinite(made).all())
        assert float(made.square().mean()) == pytest.approx(1, rel=1e-3) or samples == 1


@every
def test_a_seed_fixes_a_noise_and_another_one_makes_another(noise: Noise) -> None:
    assert torch.equal(noise(1, 4000, RATE, seeded(1)), noise(1, 4000, RATE, seeded(1)))
    others = [noise(1, 4000, RATE, seeded(seed)) for seed in range(2, 10)]  # an offset is one of two
    assert not all(torch.equal(noise(1, 4000, RATE, seeded(1)), other) for other in others)


def test_clicks_come_at_random_or_at_a_pace() -> None:
    irregular = []
    for seed in range(40):
        clicks = NOISES["clicks"](1, 2 * RATE, RATE, seeded(seed))[0]
        level = clicks.abs().unfold(0, 16, 16).amax(dim=1)
        begun = (level[1:] > 0.3 * level.amax()) & (level[:-1] < 0.1 * level.amax())
        gaps = begun.nonzero().flatten().diff().double()
        if len(gaps) > 8:
            irregular.append(float(gaps.std() / gaps.mean()))
    paced = [one for one in irregular if one < 0.35]
    assert 0.2 < len(paced) / len(irregular) < 0.8  # at random, the deviation of the gaps is as large as their mean


def test_thumps_are_low_and_come_one_by_one() -> None:
    made = [NOISES["thumps"](1, 4 * RATE, RATE, seeded(seed)) for seed in range(20)]
    levels = torch.tensor([octave_levels(noise) for noise in made])
    assert float((levels[:, :2].amax(dim=1) - levels[:, -1]).median()) > 20  # 62 to 250 Hz against 2 to 4 kHz
    frames = torch.cat(made).square().unfold(1, 320, 320).mean(dim=2)
    assert float((frames.amax(dim=1) / frames.median(dim=1).values).median()) > 10


def test_babble_has_all_voices_at_about_the_same_level() -> None:
    time = torch.arange(RATE) / RATE
    voices = torch.stack([gain * torch.sin(2 * torch.pi * hz * time) for gain, hz in ((1, 200), (0.01, 500), (0, 900))])
    power = torch.fft.rfft(babble(voices[:, None], seeded(0))[0]).abs()
    assert 0.2 < float(power[200] / power[500]) < 5
    assert float(power[900] / power[200]) < 1e-3


def test_a_curve_goes_through_its_octaves_and_stays_level_outside() -> None:
    decibels = curve(seeded(0), deviation=4.0, sample_rate=RATE)
    low, middle, high = decibels(torch.tensor([100.0, 150.0, 200.0])).tolist()
    assert min(low, high) <= middle <= max(low, high)
    assert decibels(torch.tensor([0.0])) == decibels(torch.tensor([50.0]))
    assert decibels(torch.tensor([6400.0])) == decibels(torch.tensor([8000.0]))


def test_filtering_equals_the_sum_over_taps() -> None:
    audio, response = torch.randn(2, 50, generator=seeded(0)), torch.randn(7, generator=seeded(1))
    padded = torch.nn.functional.pad(audio, (6, 0)).unfold(1, 7, 1)
    torch.testing.assert_close(convolve(audio, response), padded @ response.flip(0), atol=1e-5, rtol=0)


def test_lengths_for_fast_transforms_are_enough_and_at_most_a_third_more() -> None:
    for samples in range(1, 3000):
        length = smooth_length(samples)
        assert samples <= length <= max(2, samples * 4 / 3)
