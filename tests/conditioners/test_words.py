"""Words as a condition and as an aim: the gradient that steers, and models that are sampled with it."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hiss.clap import NoisedClapConfig
from hiss.conditioners.words import Words, WordsConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.errors import UsageError
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.representations.waveform import WaveformConfig
from hiss.types import Prompt

CLAP = NoisedClapConfig(shape=(1,), words=("drum", "flute", "loud"), channels=(8, 8), embedding=8, features=8)
STEERED = ModelConfig(
    sample_rate=1000,
    seconds=0.064,
    representation=WaveformConfig(),
    network=UNetConfig(channels=(8,), factors=(), attention=(False,), embedding=8),
    conditioners=(WordsConfig(CLAP),),
    sampling=SamplingConfig(steps=4, steer=1.0, steered=(0.1, 10.0)),
)


def scattered(module: torch.nn.Module) -> torch.nn.Module:
    """Returns a module whose weights are all random, those that start at zero as well."""
    for number, parameter in enumerate(module.parameters()):
        if parameter.ndim > 1 or not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3, generator=seeded("weights", number))
    return module.eval()


def built(config: ModelConfig) -> AudioDiffusionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same weights each time, whatever ran before
        model = scattered(AudioDiffusionModel(config))
    assert isinstance(model, AudioDiffusionModel)
    return model


def made(model: AudioDiffusionModel, *texts: str, samples: int = 64, first: int = 0) -> Tensor:
    generators = [seeded("sample", first + row) for row in range(len(texts))]
    return model.sample([Prompt(text=text) for text in texts], samples, generator=generators)


def test_the_gradient_is_that_of_the_likeness_over_the_temperature() -> None:
    words = scattered(WordsConfig(CLAP).build()).double()
    assert isinstance(words, Words)
    x = torch.randn(2, 1, 12, dtype=torch.float64, generator=seeded("x"))
    aim = words([Prompt(text="a flute"), Prompt(text="a loud drum")]).aim
    assert aim is not None
    sigma = torch.tensor(0.8, dtype=torch.float64)
    slope = words.gradient(x, sigma, aim)
    temperature = words.noised_clap.log_temperature.exp()
    step = 1e-5 * torch.eye(12, dtype=torch.float64)[:, None]
    for row in range(2):
        sides = [words.noised_clap.embed(x[row] + way * step, sigma.expand(12)) @ aim[row] for way in (1, -1)]
        torch.testing.assert_close(slope[row, 0], (sides[0] - sides[1]) / 2e-5 / temperature, atol=1e-6, rtol=1e-5)


def test_what_is_steered_is_more_like_the_text_to_the_clap_that_steers() -> None:
    texts = ("a flute", "a loud drum") * 8
    steered, free = (built(replace(STEERED, sampling=replace(STEERED.sampling, steer=scale))) for scale in (2.0, 0.0))
    (words,) = steered.conditioners
    assert isinstance(words, Words)

    def likeness(audio: Tensor) -> Tensor:
        encoded = steered.representation.encode(audio)
        aim = words.noised_clap.embed_texts(texts)
        return (words.noised_clap.embed(encoded, torch.full((16,), 0.1)) * aim).sum(dim=-1)

    with torch.no_grad():
        gained = likeness(made(steered, *texts)) - likeness(made(free, *texts))
    assert float(gained.mean()) > 3 * float(gained.std()) / len(texts) ** 0.5


def test_a_steered_sound_is_the_same_alone_and_in_a_crowd() -> None:
    model = built(STEERED)
    together = made(model, "a flute", "a loud drum", samples=150)  # in windows
    assert torch.equal(together[1:], made(model, "a loud drum", samples=150, first=1))
    assert torch.isfinite(together).all()


def test_words_may_steer_without_being_told_to_the_network() -> None:
    model = built(replace(STEERED, conditioners=(WordsConfig(CLAP, vector=False),)))
    assert model.denoiser.network.ports.vector == 0  # type: ignore[union-attr]
    assert not torch.equal(made(model, "a flute"), made(model, "a drum"))
    silent = built(replace(model.config, sampling=SamplingConfig(steps=4)))
    assert torch.equal(made(silent, "a flute"), made(silent, "a drum"))


def test_the_words_stay_as_they_are_in_training() -> None:
    words = WordsConfig(CLAP).build()
    assert [name for name, one in words.named_parameters() if one.requires_grad] == ["any_vector"]


def test_a_text_of_unknown_words_may_be_anything_and_is_warned_of() -> None:
    words = scattered(WordsConfig(CLAP).build())
    assert isinstance(words, Words)
    vector = words([Prompt(text="ein Krug"), Prompt(), Prompt(text="ein loud Krug")]).vector
    assert vector is not None
    assert torch.equal(vector[0], vector[1])
    assert not torch.equal(vector[0], vector[2])
    with pytest.warns(UserWarning, match="none of the words"):
        words.check(Prompt(text="ein Krug"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words.check(Prompt(text="ein loud Krug"))
        words.check(Prompt())


@pytest.mark.parametrize("conditioners", [(), (WordsConfig(CLAP), WordsConfig(CLAP))])
def test_steering_needs_words_once(conditioners: tuple[WordsConfig, ...]) -> None:
    with pytest.raises(UsageError, match="needs one conditioner words"):
        replace(STEERED, conditioners=conditioners)
