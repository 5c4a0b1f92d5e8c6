"""ESTOI as a loss: it is the measure itself, but for the silence, and its slope is one to walk along."""

from importlib.resources import files

import pytest
import torch
from torch import Tensor

from hiss import Audio
from hiss.errors import UsageError
from hiss.evaluation.speech import stoi
from hiss.noise import seeded
from hiss.signal.intelligibility import intelligibility_error
from hiss.signal.losses import Intelligibility
from hiss.signal.mixing import mix

RATE = 16000


@pytest.fixture(scope="module")
def speech() -> Tensor:
    recording = Audio.load(str(files("hiss") / "recordings/speech.flac"))
    return recording.samples[None, :, : 4 * RATE]


def noisy(speech: Tensor, snr: float) -> Tensor:
    return mix(speech[0], torch.randn(speech[0].shape, generator=seeded("intelligibility")), snr)[None]


def error(estimate: Tensor, target: Tensor) -> float:
    return intelligibility_error(estimate, target, sample_rate=RATE).item()


@pytest.mark.parametrize("snr", [-5.0, 0.0, 5.0, 15.0])
def test_it_is_one_minus_what_pystoi_measures(speech: Tensor, snr: float) -> None:
    pytest.importorskip("pystoi", reason="the package pystoi is not installed")
    measured = stoi(Audio(speech[0], RATE), Audio(noisy(speech, snr)[0], RATE), extended=True)
    assert measured is not None
    assert error(noisy(speech, snr), speech) == pytest.approx(1 - measured, abs=0.01)


def test_speech_itself_at_any_level_is_understood(speech: Tensor) -> None:
    assert error(speech, speech) == pytest.approx(0, abs=1e-3)
    assert error(0.1 * speech, speech) == pytest.approx(0, abs=1e-3)
    assert error(-speech, speech) == pytest.approx(0, abs=1e-3)


def test_noise_that_knows_nothing_of_the_speech_says_nothing(speech: Tensor) -> None:
    assert error(torch.randn(speech.shape, generator=seeded("alone")), speech) == pytest.approx(1, abs=0.05)


def test_what_happens_while_nobody_speaks_does_not_count(speech: Tensor) -> None:
    pause = torch.zeros(1, 1, RATE)
    hum = 0.5 * torch.randn(1, 1, RATE, generator=seeded("pause"))
    with_pause, with_hum = (torch.cat([noisy(speech, 5), one], dim=-1) for one in (pause, hum))
    target = torch.cat([speech, pause], dim=-1)
    assert error(with_hum, target) == pytest.approx(error(with_pause, target), abs=0.01)


def test_items_are_judged_alone_and_channels_as_their_mean(speech: Tensor) -> None:
    pair = torch.cat([noisy(speech, 0), noisy(speech, 10)])
    both = intelligibility_error(pair, speech.expand(2, -1, -1), sample_rate=RATE)
    assert both.tolist() == pytest.approx([error(one[None], speech) for one in pair], abs=1e-5)
    stereo = torch.cat([pair[:1] + 0.1, pair[:1] - 0.1], dim=1)
    assert error(stereo, speech.expand(-1, 2, -1)) == pytest.approx(both[0].item(), abs=1e-4)


def test_silence_and_what_is_too_short_have_no_error(speech: Tensor) -> None:
    for estimate, target in (
        (noisy(speech, 0), torch.zeros_like(speech)),
        (torch.zeros(1, 1, 100), speech[..., :100]),
        (torch.zeros(1, 1, RATE // 4), speech[..., RATE : RATE + RATE // 4]),
    ):
        leaf = estimate.clone().requires_grad_()
        measured = intelligibility_error(leaf, target, sample_rate=RATE)
        (slope,) = torch.autograd.grad(measured.sum(), leaf)
        assert measured.item() == 0
        assert not slope.any()


@pytest.mark.parametrize("silent", [False, True])
def test_a_step_down_its_slope_is_understood_better(speech: Tensor, silent: bool) -> None:
    estimate = (torch.zeros_like(speech) if silent else noisy(speech, 0)).requires_grad_()
    before = intelligibility_error(estimate, speech, sample_rate=RATE)
    (slope,) = torch.autograd.grad(before.sum(), estimate)
    assert bool(slope.isfinite().all())
    if not silent:
        assert error(estimate.detach() - 0.1 * slope / slope.norm(), speech) < before.item()


def test_the_loss_weighs_it_and_refuses_a_rate_below_that_of_the_measure(speech: Tensor) -> None:
    loss = Intelligibility(weight=0.5)
    measured = loss(noisy(speech, 0), speech, torch.ones(1))
    assert measured.item() == pytest.approx(0.5 * error(noisy(speech, 0), speech))
    with pytest.raises(UsageError, match="10000 Hz"):
        Intelligibility(sample_rate=8000)
