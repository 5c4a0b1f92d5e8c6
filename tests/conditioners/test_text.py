"""The text conditioner: its parts, its CLAP, what it hears in training, what it warns of, and a model that reads."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.clap import AudioTowerConfig, Clap, ClapConfig, TextTowerConfig, begin
from hiss.conditioners.label import LabelConfig
from hiss.conditioners.text import Text, TextConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.errors import UsageError
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline, load
from hiss.representations.waveform import WaveformConfig
from hiss.types import Batch, Prompt

CAPTIONS = ["a low flute note", "a guitar plays a chord", "a drum roll, loudly"]


def scattered(module: torch.nn.Module) -> torch.nn.Module:
    """Returns a module whose matrices are random, those that start at zero as well."""
    for number, parameter in enumerate(module.parameters()):
        if parameter.ndim > 1 or not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3, generator=seeded("weights", number))
    return module


@pytest.fixture(scope="module")
def clap() -> Clap:
    config = ClapConfig(
        audio=AudioTowerConfig(
            sample_rate=1000,
            n_fft=256,
            hop=16,
            bins=32,
            image=32,
            patch=4,
            window=4,
            width=4,
            depths=(1, 1),
            heads=(1, 1),
        ),
        text=TextTowerConfig(tokens=300, length=40, width=8, layers=1, heads=2),
        features=16,
    )
    clap = begin(config, CAPTIONS)
    scattered(clap)
    return clap.eval()


def conditioner(clap: Clap, **changes: object) -> Text:
    text = TextConfig(clap=clap.config, **changes).build()  # type: ignore[arg-type]
    text.adopt(clap)
    return text.eval()


def prompts(*texts: str | None) -> list[Prompt]:
    return [Prompt(text=text) for text in texts]


def test_each_part_can_be_left_out(clap: Clap) -> None:
    both = conditioner(clap)(prompts(*CAPTIONS))
    film = conditioner(clap, tokens=False)(prompts(*CAPTIONS))
    attention = conditioner(clap, vector=False)(prompts(*CAPTIONS))
    assert both.vector is not None
    assert both.tokens is not None
    assert film.vector is not None
    assert torch.equal(film.vector, both.vector)
    assert film.tokens is film.mask is None
    assert attention.tokens is not None
    assert torch.equal(attention.tokens, both.tokens)
    assert attention.vector is None


def test_the_vector_is_that_of_clap_and_the_tokens_are_the_states_of_gpt_2(clap: Clap) -> None:
    condition = conditioner(clap)(prompts(CAPTIONS[0]))
    reading = clap.read([CAPTIONS[0]])
    assert condition.vector is not None
    assert condition.tokens is not None
    assert condition.mask is not None
    torch.testing.assert_close(condition.vector, 4 * reading.vector)
    assert condition.tokens.shape == (1, 40, 8)
    torch.testing.assert_close(condition.tokens[condition.mask], reading.tokens[0])
    assert not condition.tokens[~condition.mask].any()


def test_a_prompt_means_the_same_to_the_bit_alone_and_in_a_crowd(clap: Clap) -> None:
    text = conditioner(clap)
    crowd, alone = text(prompts(*CAPTIONS, None)), text(prompts(CAPTIONS[0]))
    for one, other in ((crowd.vector, alone.vector), (crowd.tokens, alone.tokens), (crowd.mask, alone.mask)):
        assert one is not None
        assert other is not None
        assert torch.equal(one[:1], other)


def test_a_batch_in_training_says_the_same_as_one_by_one(clap: Clap) -> None:
    text = conditioner(clap)
    one_by_one, together = text(prompts(*CAPTIONS, None)), text.train()(prompts(*CAPTIONS, None))
    assert not text.clap.training
    for one, other in ((one_by_one.vector, together.vector), (one_by_one.tokens, together.tokens)):
        torch.testing.assert_close(one, other)
    assert torch.equal(one_by_one.mask, together.mask)


def test_anything_is_one_token(clap: Clap) -> None:
    condition = conditioner(clap)(prompts(None, ""))
    assert condition.mask is not None
    assert condition.mask.sum(dim=1).tolist() == [1, 1]


def test_clap_is_trained_along_only_where_that_is_asked(clap: Clap) -> None:
    def trained(**changes: object) -> set[str]:
        names = (name for name, one in conditioner(clap, **changes).named_parameters() if one.requires_grad)
        return {".".join(name.split(".")[:2]) for name in names}

    assert trained() == {"any_vector", "any_token"}
    assert trained(frozen=False) == {"any_vector", "any_token", "clap.text", "clap.text_projection"}
    assert trained(frozen=False, vector=False) == {"any_token", "clap.text"}


def test_in_training_a_share_of_the_vectors_is_heard(clap: Clap) -> None:
    audio = torch.randn(40, 1, 500, generator=seeded("audio"))
    batch = Batch(audio, 1000, tuple(prompts(CAPTIONS[0]) * 40), torch.full((40,), 500))
    text = conditioner(clap, audio=0.5)
    own = text.listen(batch, seeded(0))
    heard = [prompt.recording is not None for prompt in own]
    assert 10 < sum(heard) < 30
    vector = text(own).vector
    assert vector is not None
    expected = torch.where(torch.tensor(heard)[:, None], clap.embed_audio(audio[:, 0]), clap.embed_texts(CAPTIONS[:1]))
    torch.testing.assert_close(vector, 4 * expected)
    torch.testing.assert_close(text.train()(own).vector, vector)
    assert conditioner(clap).listen(batch, seeded(0)) is batch.prompts


def test_in_training_texts_lose_some_of_their_words(clap: Clap) -> None:
    words = [f"w{number}" for number in range(50)]
    given = (*[Prompt(text=" ".join(words))] * 200, Prompt(text="flute"), Prompt())
    batch = Batch(torch.zeros(202, 1, 500), 1000, given, torch.full((202,), 500))
    *long, short, none = conditioner(clap, withheld=0.6).listen(batch, seeded(0))
    left = [(prompt.text or "").split() for prompt in long]
    assert all(some == [word for word in words if word in some] for some in left)
    lost = torch.tensor([1 - len(some) / len(words) for some in left])
    assert lost.mean() == pytest.approx(0.3, abs=0.04)
    assert lost.min() < 0.05
    assert 0.5 < lost.max() < 0.8
    assert (short.text, none.text) == ("flute", None)


def test_clips_of_another_rate_are_not_heard(clap: Clap) -> None:
    batch = Batch(torch.zeros(1, 1, 10), 8000, (Prompt(),), torch.tensor([10]))
    with pytest.raises(UsageError, match="CLAP hears 1000 Hz, and the model makes 8000 Hz"):
        conditioner(clap, audio=0.5).listen(batch, seeded(0))


def test_a_conditioner_without_parts_or_with_a_wrong_share_is_refused() -> None:
    with pytest.raises(UsageError, match="vector, tokens or both"):
        TextConfig(vector=False, tokens=False)
    with pytest.raises(UsageError, match="share from 0 to 1"):
        TextConfig(audio=1.5)
    with pytest.raises(UsageError, match="vector must be true"):
        TextConfig(audio=0.5, vector=False)
    with pytest.raises(UsageError, match="share from 0 to below 1"):
        TextConfig(withheld=1)


def test_a_clap_of_another_configuration_is_not_adopted(clap: Clap) -> None:
    with pytest.raises(UsageError, match="not the one that the model was configured for"):
        TextConfig(clap=replace(clap.config, temperature=0.5)).build().adopt(clap)


@pytest.fixture(scope="module")
def pipeline(clap: Clap) -> Pipeline:
    config = ModelConfig(
        sample_rate=1000,
        seconds=0.2,
        representation=WaveformConfig(),
        network=UNetConfig(channels=(8, 16), patch=8, factors=(2,), attention=(False, True), embedding=16),
        conditioners=(TextConfig(clap=clap.config, audio=0.5), LabelConfig(field="digit", classes=("7", "8"))),
        sampling=SamplingConfig(steps=2, guidance=1.5),
    )
    model = AudioDiffusionModel(config)
    scattered(model)
    text = model.conditioners[0]
    assert isinstance(text, Text)
    text.adopt(clap)
    return Pipeline(model)


def same(one: Audio, other: Audio) -> bool:
    return torch.equal(one.samples, other.samples)


def test_a_model_that_reads_takes_any_sentence(pipeline: Pipeline) -> None:
    assert pipeline.reads
    assert pipeline.prompt(" a low flute note ") == Prompt(text="a low flute note")
    assert pipeline.prompt({"text": "a drum roll", "digit": 7}) == Prompt(text="a drum roll", labels={"digit": "7"})
    assert pipeline.prompt("") == pipeline.prompt("  ") == Prompt()
    with pytest.raises(UsageError, match="unknown label 'digits'"):
        pipeline.prompt({"text": "a drum roll", "digits": 7})


def test_what_is_generated_depends_on_the_text_and_not_on_the_crowd(pipeline: Pipeline) -> None:
    flute, drum = (pipeline.generate(text, seed=0) for text in (CAPTIONS[0], CAPTIONS[2]))
    assert not same(flute, drum)
    crowd = pipeline.generate([CAPTIONS[2], CAPTIONS[0]], count=1, seed=0)
    assert same(crowd[0], drum)
    assert not same(pipeline.generate(CAPTIONS[0], seed=0, negative=CAPTIONS[2]), flute)


def test_of_several_candidates_the_one_that_suits_its_text_best_is_kept(pipeline: Pipeline) -> None:
    text = pipeline.model.conditioners[0]
    assert isinstance(text, Text)
    rate = text.config.clap.audio.sample_rate
    fits = []
    for turn in range(3):
        sound = pipeline.model.sample(
            [Prompt(text=CAPTIONS[0])],
            200,
            generator=[seeded(5, 0, *([turn] if turn else []))],
        )
        heard = Audio(sound[0], 1000).resample(rate).samples
        with torch.no_grad():
            fits.append((float(text.clap.score([CAPTIONS[0]], heard)), Audio(sound[0], 1000).normalize().samples))
    best = max(fits, key=lambda pair: pair[0])[1]
    assert torch.allclose(pipeline.generate(CAPTIONS[0], seed=5, candidates=3).normalize().samples, best, atol=1e-6)
    assert torch.allclose(
        pipeline.generate(CAPTIONS[0], seed=5, candidates=1).normalize().samples, fits[0][1], atol=1e-6
    )
    crowd = pipeline.generate([CAPTIONS[2], CAPTIONS[0]], count=1, seed=[1, 5], candidates=3, batch_size=2)
    assert torch.allclose(crowd[1].normalize().samples, best, atol=1e-6)


def test_candidates_are_counted_while_they_are_made(pipeline: Pipeline) -> None:
    seen: list[tuple[int, int]] = []
    pipeline.generate(
        CAPTIONS[0], count=2, seed=0, candidates=2, steps=2, watch=lambda done, total, _: seen.append((done, total))
    )
    assert seen[-1] == (seen[-1][1], seen[-1][1])
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize("candidates", [0, 101])
def test_an_impossible_number_of_candidates_is_refused(pipeline: Pipeline, candidates: int) -> None:
    with pytest.raises(UsageError, match="candidates must be from 1 to 100"):
        pipeline.generate(CAPTIONS[0], candidates=candidates)


def test_a_model_without_a_clap_has_no_candidates() -> None:
    with pytest.raises(UsageError, match="only a model with a CLAP"):
        load("tones").generate(candidates=2)


def test_a_saved_model_brings_its_reader_along(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    assert same(again.generate(CAPTIONS[1], seed=3), pipeline.generate(CAPTIONS[1], seed=3))
    with pytest.warns(UserWarning, match="never read 'gitar' \\(it knows 'guitar'\\)"):
        again.prompt("a gitar")


@pytest.fixture
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ein Klavier", "never read 'ein', 'klavier'"),
        ("🎸🔥", "never read '🎸🔥'"),
        ("one two three four five six seven", "'five' and 2 more"),
        ("a drum " * 1000, "of its words, about 1% are read"),
    ],
)
def test_what_the_reader_cannot_make_sense_of_is_said_and_still_works(pipeline: Pipeline, text: str, says: str) -> None:
    with pytest.warns(UserWarning, match=says):
        audio = pipeline.generate(text, seed=0)
    assert audio.samples.isfinite().all()


@pytest.mark.usefixtures("no_warning")
def test_a_known_sentence_is_no_cause_for_a_warning(pipeline: Pipeline) -> None:
    pipeline.prompt("A drum, a LOW guitar note!")
    pipeline.prompt(None)


def test_a_model_that_reads_learns_from_captions_and_clips(pipeline: Pipeline) -> None:
    model = AudioDiffusionModel(pipeline.model.config)
    audio = torch.randn(8, 1, 200, generator=seeded("audio"))
    batch = Batch(audio, 1000, tuple(prompts(*CAPTIONS, None) * 2), torch.full((8,), 200))
    optimizer = torch.optim.AdamW((one for one in model.parameters() if one.requires_grad), lr=3e-3)
    losses: list[Tensor] = []
    before = {name: value.clone() for name, value in model.conditioners[0].state_dict().items()}
    for step in range(30):
        loss = model.compute_loss(batch, generator=seeded(step % 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    assert torch.stack(losses[-3:]).mean() < 0.9 * torch.stack(losses[:3]).mean()
    after = model.conditioners[0].state_dict()
    assert {name for name, value in before.items() if not torch.equal(after[name], value)} == {
        "any_vector",
        "any_token",
    }
