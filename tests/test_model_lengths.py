"""Loops, continuations, gaps, variations and long pieces of models of spectrograms, by denoisers that are exact."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.config import ModelConfig, SamplingConfig
from hiss.model import AudioDiffusionModel, Denoiser, Edit
from hiss.networks import Network
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.representations import RepresentationConfig
from hiss.representations.mdct import MdctConfig
from hiss.representations.ring import Ring
from hiss.representations.stft import StftConfig
from hiss.types import Condition, Denoise, Prompt

RATE = 4000
KINDS = [MdctConfig(bins=64), MdctConfig(bins=32, window="kbd"), StftConfig(window=128, hop=32)]
NOBODY = [Prompt()]


def built(representation: RepresentationConfig, *, seconds: float = 0.512) -> AudioDiffusionModel:
    """Returns a model of random weights whose representation is fitted to tones."""
    config = ModelConfig(
        sample_rate=RATE,
        seconds=seconds,
        representation=representation,
        network=UNetConfig(channels=(4, 8), patch=(4, 2), factors=(2,), attention=(False, False), embedding=8),
        sampling=SamplingConfig(steps=3),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AudioDiffusionModel(config).eval()
    model.representation.fit([tones(4096), 0.1 * torch.randn(1, 1, 4096, generator=seeded("fit"))])
    return model


def tones(samples: int) -> Tensor:
    """Returns [1, 1, samples] of two tones that fit a whole number of times."""
    turns = torch.tensor([[round(samples / 20)], [round(samples / 7)]])
    waves = torch.sin(2 * math.pi * turns * torch.arange(samples) / samples + torch.tensor([[0.3], [1.0]]))
    return 0.2 * waves.sum(dim=0)[None, None]


def knows(model: AudioDiffusionModel, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a model always estimate `x`."""

    def denoise(*_: object) -> Denoise:
        return lambda state, _: x.expand_as(state)

    monkeypatch.setattr(model, "_denoise", denoise)


class Oracle(Network):
    """F of the exact denoiser of Gaussian data of unit variance: D = x / (1 + sigma^2), so F is 0 with `edm`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        return torch.zeros_like(x) + self.weight


@pytest.mark.parametrize("representation", KINDS)
@pytest.mark.parametrize("samples", [3072, 3011, 500])
def test_a_loop_of_a_model_that_knows_a_period_is_that_period(
    representation: RepresentationConfig, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, audio = built(representation), tones(samples)
    knows(model, Ring(model.representation, samples).encode(audio), monkeypatch)
    made = model.sample(NOBODY, samples, loop=True, generator=seeded(0))
    torch.testing.assert_close(made, audio, atol=1e-3, rtol=0)


@pytest.mark.parametrize("representation", KINDS)
@pytest.mark.parametrize("seconds", [0.2, 0.5, 2.0])
def test_a_loop_shorter_or_longer_than_a_window_has_the_length_that_was_asked_for(
    representation: RepresentationConfig, seconds: float
) -> None:
    made = Pipeline(built(representation)).generate(length=seconds, loop=True, seed=0)
    assert made.samples.shape == (1, round(seconds * RATE))
    assert bool(made.samples.isfinite().all())


def test_a_loop_stays_one_at_another_sample_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    model, audio = built(KINDS[0]), tones(2000)
    knows(model, Ring(model.representation, 2000).encode(audio), monkeypatch)
    made = Pipeline(model).generate(length=0.5, loop=True, seed=0, sample_rate=8000)
    expected = Audio(tones(2000).repeat(1, 1, 3)[0], RATE).resample(8000).samples[:, 4000:8000]
    torch.testing.assert_close(made.samples, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("representation", KINDS)
@pytest.mark.parametrize("heard", [1000, 1501, 2048])
def test_a_recording_goes_on_as_the_model_knows_it_does(
    representation: RepresentationConfig, heard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, audio = built(representation), tones(4096)
    knows(model, model.representation.encode(audio), monkeypatch)
    start = Audio(audio[0, :, :heard], RATE)
    made = Pipeline(model).generate(continue_from=start, length=4096 / RATE, seed=0)
    torch.testing.assert_close(made.samples[None], audio, atol=1e-3, rtol=0)


@pytest.mark.parametrize("representation", KINDS)
@pytest.mark.parametrize("span", [(0.0, 0.25), (0.3, 0.5), (0.301, 0.777), (0.9, 1.0235)])
def test_nothing_is_left_of_what_was_in_a_gap(
    representation: RepresentationConfig, span: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, audio = built(representation), tones(4096)
    knows(model, model.representation.encode(audio), monkeypatch)
    spoiled = audio[0].clone()
    spoiled[:, round(span[0] * RATE) : round(span[1] * RATE)] = 1.0
    made = Pipeline(model).generate(inpaint=Audio(spoiled, RATE), span=span, seed=0)
    torch.testing.assert_close(made.samples[None], audio, atol=1e-3, rtol=0)


@pytest.mark.parametrize("representation", KINDS)
def test_what_is_made_anew_begins_with_noise_alone(representation: RepresentationConfig) -> None:
    model, audio = built(representation), tones(4096)
    model.denoiser = Denoiser(Oracle(), "edm")
    pipeline, span, spoiled = Pipeline(model), (0.3, 0.5), audio[0].clone()
    spoiled[:, round(span[0] * RATE) : round(span[1] * RATE)] = 1.0
    one, other = (pipeline.generate(inpaint=Audio(x, RATE), span=span, seed=0) for x in (audio[0], spoiled))
    torch.testing.assert_close(one.samples, other.samples)
    forgotten = pipeline.generate(init=Audio(spoiled, RATE), strength=1.0, seed=0)
    torch.testing.assert_close(forgotten.samples, pipeline.generate(length=4096 / RATE, seed=0).samples)


@pytest.mark.parametrize("edit", ["continue", "start", "end"])
def test_what_is_made_anew_in_a_loop_fades_into_what_is_kept_at_both_ends(
    edit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, silence = built(KINDS[0]), Audio(torch.zeros(1, 4096), RATE)
    loud = torch.full((1, 1, 4096), 0.2)
    knows(model, Ring(model.representation, 4096).encode(loud), monkeypatch)
    made = Pipeline(model).generate(
        continue_from=Audio(torch.zeros(1, 2048), RATE) if edit == "continue" else None,
        inpaint=None if edit == "continue" else silence,
        span={"start": (0.0, 0.3), "end": (0.7, 4096 / RATE)}.get(edit),
        length=4096 / RATE,
        loop=True,
        seed=0,
    )
    around = torch.cat([made.samples, made.samples[:, :1]], dim=1)
    assert made.samples.amax() > 0.15
    assert around.diff().abs().amax() < 0.02


@pytest.mark.parametrize("representation", KINDS)
def test_a_variation_is_as_long_and_nearer_the_weaker_it_is(representation: RepresentationConfig) -> None:
    model, source = built(representation), Audio(tones(3000)[0], RATE)
    model.denoiser = Denoiser(Oracle(), "edm")
    pipeline = Pipeline(model)
    far = [
        float((pipeline.generate(init=source, strength=strength, seed=0).samples - source.samples).square().mean())
        for strength in (0.1, 0.4, 0.8)
    ]
    assert far == sorted(far)


@pytest.mark.parametrize("representation", KINDS)
def test_a_minute_made_in_windows_neither_swells_nor_fades(representation: RepresentationConfig) -> None:
    model = built(representation)
    model.denoiser = Denoiser(Oracle(), "edm")
    made = model.sample(NOBODY, 60 * RATE, steps=8, generator=seeded(0))[0, 0]
    levels = 10 * made.unflatten(0, (12, -1)).square().mean(dim=1).log10()  # of 5 s each
    assert float(levels.max() - levels.min()) < 1.0
    window = model.representation.shape(model.config.window)[-1] * model.representation.hop
    hops = made[: len(made) // window * window].unflatten(0, (-1, window)).square().mean(dim=0).unflatten(0, (16, -1))
    assert float(10 * (hops.mean(dim=1).max() / hops.mean(dim=1).min()).log10()) < 1.0


def test_a_part_of_a_loop_can_be_made_anew() -> None:
    model, audio = built(KINDS[0]), tones(2048)
    keep = torch.ones(2048)
    keep[900:1200] = 0
    made = model.sample(NOBODY, 2048, edit=Edit(audio, keep=keep), loop=True, generator=seeded(0))
    assert torch.equal(made[..., :900], audio[..., :900])
    assert torch.equal(made[..., 1200:], audio[..., 1200:])
    assert not torch.allclose(made, audio)


def test_windows_of_a_piece_may_be_longer_than_the_training_examples() -> None:
    model = built(KINDS[0])
    model.config = replace(model.config, sampling=replace(model.config.sampling, window=1.024))
    assert model.sample(NOBODY, 3 * RATE, generator=seeded(0)).shape == (1, 1, 3 * RATE)
