"""CLAP: towers, loss, recall, files; it learns what belongs together."""

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from toy_clap import CONFIG, PITCHES, tones, toy_clap

from hiss.clap import (
    AudioTowerConfig,
    Clap,
    ClapConfig,
    TextTowerConfig,
    Vocabulary,
    begin,
    recall,
)
from hiss.clap.model import contrast
from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.saved import read_part, write_model
from hiss.types import Prompt


@pytest.fixture(scope="module")
def clap() -> Clap:
    return toy_clap().eval().requires_grad_(False)


def test_texts_and_audio_become_vectors_of_length_one(clap: Clap) -> None:
    audio = tones(seeded(0), count=3).audio[:, 0]
    for vectors in (clap.embed_texts(["a", "", "a very high tone 🎸"]), clap.embed_audio(audio)):
        assert vectors.shape == (3, CONFIG.features)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert clap.score(["a low tone"] * 3, audio).abs().max() <= 1


def test_a_text_is_read_alike_alone_and_beside_longer_ones(clap: Clap) -> None:
    texts = ["a low tone", "a very very very high tone", ""]
    reading = clap.read(texts)
    assert reading.tokens.shape[::2] == (3, CONFIG.text.width)
    assert reading.mask.sum(dim=1)[2] == 1
    for row, text in enumerate(texts):
        alone = clap.read([text])
        assert bool(alone.mask.all())
        torch.testing.assert_close(reading.vector[row : row + 1], alone.vector)
        torch.testing.assert_close(reading.tokens[row, reading.mask[row]], alone.tokens[0])


def test_what_stands_behind_the_longest_text_is_not_read(clap: Clap) -> None:
    long = " ".join(["tone"] * 2000)
    assert clap.read([long]).tokens.shape[1] == CONFIG.text.length
    torch.testing.assert_close(clap.embed_texts([long]), clap.embed_texts([long + " high"]))


def test_audio_of_any_length_is_heard(clap: Clap) -> None:
    audio = tones(seeded(1), count=2).audio[:, 0]
    padded = torch.nn.functional.pad(audio[:, :1000], (0, CONFIG.audio.samples - 1000))
    torch.testing.assert_close(clap.embed_audio(audio[:, :1000]), clap.embed_audio(padded))
    steady = audio.repeat(1, 3)[:, : 2 * CONFIG.audio.samples + 7]
    assert clap.embed_audio(steady).shape == (2, CONFIG.features)
    torch.testing.assert_close(clap.embed_audio(torch.cat([audio, audio], dim=1)), clap.embed_audio(audio))
    assert clap.embed_audio(audio[:, :0]).isfinite().all()


def test_the_spectrum_fills_the_image_exactly() -> None:
    for config in (CONFIG.audio, AudioTowerConfig()):
        assert -(-config.samples // config.hop) + 1 == config.frames
    assert AudioTowerConfig().samples / 16000 >= 3


def test_the_loss_is_the_symmetric_cross_entropy() -> None:
    likeness = torch.randn(4, 4, generator=seeded(2), dtype=torch.float64)
    rows = likeness.log_softmax(dim=1).diagonal().mean()
    columns = likeness.log_softmax(dim=0).diagonal().mean()
    torch.testing.assert_close(contrast(likeness, ["a", "b", "c", "d"]), -(rows + columns) / 2)


def test_equal_captions_are_no_wrong_answers() -> None:
    likeness = torch.zeros(4, 4)
    assert contrast(likeness, ["a", "b", "c", "d"]).item() == pytest.approx(math.log(4))
    assert contrast(likeness, ["a", "a", "c", "d"]).item() == pytest.approx((math.log(3) + math.log(4)) / 2)
    assert contrast(likeness, ["a"] * 4).item() == pytest.approx(0)


def test_the_gradient_reaches_every_weight() -> None:
    clap = toy_clap()
    clap.compute_loss(tones(seeded(3), count=4)).backward()
    untouched = [name for name, parameter in clap.named_parameters() if parameter.grad is None]
    assert untouched == []


def test_a_frozen_reader_stays_as_it_is() -> None:
    clap = toy_clap(replace(CONFIG, text=replace(CONFIG.text, frozen=True)))
    clap.compute_loss(tones(seeded(3), count=4)).backward()
    trained = {name.split(".")[0] for name, parameter in clap.named_parameters() if parameter.grad is not None}
    assert trained == {"audio", "audio_projection", "text_projection", "log_temperature"}


def test_training_finds_what_belongs_together() -> None:
    clap, generator = toy_clap(), seeded("train")
    optimizer = torch.optim.AdamW(clap.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = clap.compute_loss(tones(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    clap.eval()
    batch = tones(seeded("test"))
    captions = [prompt.text or "" for prompt in batch.prompts]
    with torch.no_grad():
        found = recall(clap.embed_texts(captions), clap.embed_audio(batch.audio[:, 0]), captions)
        right = clap.score(captions, batch.audio[:, 0]).mean()
        wrong = clap.score(captions[1:] + captions[:1], batch.audio[:, 0]).mean()
    assert found["text to audio@1"] == found["audio to text@1"] == 1
    assert right > wrong + 0.3


def test_the_temperature_stays_within_its_bounds() -> None:
    clap = toy_clap()
    for wild in (-9.0, 9.0):
        torch.nn.init.constant_(clap.log_temperature, wild)
        clap.compute_loss(tones(seeded(3), count=4))
        assert clap.log_temperature.exp().item() * 1.0001 >= 0.01
        assert clap.log_temperature.item() <= 0


def test_recall_counts_every_recording_with_the_caption() -> None:
    axes = torch.eye(12)
    captions = [f"tone {index}" for index in range(12)]
    assert set(recall(axes, axes, captions).values()) == {1.0}
    shifted = recall(axes, axes.roll(1, dims=0), captions)
    assert shifted["text to audio@1"] == 0
    twins = recall(axes[:2], axes[:2].flip(0), ["same", "same"])
    assert twins["audio to text@1"] == 1


def test_a_clap_survives_saving(clap: Clap, tmp_path: Path) -> None:
    write_model(clap, tmp_path / "clap", card="# A CLAP\n")
    again = read_part(tmp_path / "clap", "clap")
    assert again.config == clap.config
    for name, tensor in clap.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert (tmp_path / "clap" / "README.md").read_text() == "# A CLAP\n"


def test_a_clap_saved_in_half_precision_works_in_full(tmp_path: Path) -> None:
    clap = toy_clap().eval()
    expected = clap.embed_texts(list(PITCHES))
    write_model(clap.half(), tmp_path)
    again = cast(Clap, read_part(tmp_path, "clap")).eval().embed_texts(list(PITCHES))
    torch.testing.assert_close(again, expected, atol=0.01, rtol=0.01)


def test_a_clap_is_no_autoencoder(clap: Clap, tmp_path: Path) -> None:
    write_model(clap, tmp_path)
    with pytest.raises(HissError, match="holds a model of the kind clap, where one of the kind vae is needed"):
        read_part(tmp_path, "vae")


def test_recordings_without_captions_or_of_another_rate_are_refused() -> None:
    batch = tones(seeded(4), count=4)
    with pytest.raises(UsageError, match="1 of 4 recordings have none"):
        toy_clap().compute_loss(replace(batch, prompts=(*batch.prompts[:3], Prompt())))
    with pytest.raises(UsageError, match="hears 8000 Hz, not 16000 Hz"):
        toy_clap().compute_loss(replace(batch, sample_rate=16000))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"heads": (2, 4)}, "as many heads as depths"),
        ({"bins": 48}, "a whole number of times"),
        ({"window": 16}, "must be a multiple of the window"),
        ({"width": 50}, "cannot be shared out"),
    ],
)
def test_a_tower_that_cannot_be_built_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(AudioTowerConfig(), **changes)  # type: ignore[arg-type]


def test_a_reader_or_a_temperature_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="length must be 2 or more"):
        TextTowerConfig(length=1)
    with pytest.raises(UsageError, match="cannot be shared out"):
        TextTowerConfig(width=10, heads=4)
    with pytest.raises(UsageError, match="temperature must be from"):
        ClapConfig(temperature=0.0)


def test_the_size_known_from_the_literature_can_be_built() -> None:
    merges = tuple(f"Ġ {chr(ord('a') + index)}" for index in range(26))
    config = ClapConfig(
        audio=AudioTowerConfig(
            n_fft=1024,
            hop=160,
            bins=64,
            low=50,
            image=256,
            patch=4,
            window=8,
            width=96,
            depths=(2, 2, 6, 2),
            heads=(4, 8, 16, 32),
        ),
        text=TextTowerConfig(Vocabulary(merges), width=768, layers=12, heads=12),
        features=1024,
    )
    assert config.audio.features == 768
    assert config.audio.samples == 1023 * 160
    with torch.device("meta"):
        clap = Clap(config)
    assert 25e6 < sum(parameter.numel() for parameter in clap.audio.parameters()) < 35e6
    assert 80e6 < sum(parameter.numel() for parameter in clap.text.parameters()) < 90e6  # without 50,000 tokens


def released_gpt2(folder: Path) -> Path:
    """Writes a GPT-2 of random weights as others do."""
    from transformers import GPT2Config, GPT2Model

    vocabulary = toy_clap().config.text.vocabulary
    sizes = {"n_positions": 20, "n_embd": 8, "n_layer": 1, "n_head": 2}
    tokens = {"bos_token_id": vocabulary.end, "eos_token_id": vocabulary.end}
    GPT2Model(GPT2Config(vocab_size=vocabulary.size, **sizes, **tokens)).save_pretrained(folder)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(vocabulary.merges) + "\n", encoding="utf-8")
    return folder


def test_a_released_gpt_2_is_begun_with(tmp_path: Path) -> None:
    from transformers import GPT2Model

    folder = released_gpt2(tmp_path)
    clap = begin(replace(CONFIG, text=replace(CONFIG.text, released=str(folder))), PITCHES).eval()
    text = clap.config.text
    assert (text.width, text.layers, text.length, text.released) == (8, 1, CONFIG.text.length, None)
    assert "tone" in text.vocabulary.words
    tokens = torch.tensor([[*clap.text.tokenizer.encode("a low tone"), text.vocabulary.end]])
    expected = GPT2Model.from_pretrained(folder).eval()(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(clap.read(["a low tone"]).tokens, expected)


def test_what_is_no_released_gpt_2_is_refused(tmp_path: Path) -> None:
    def attempt() -> None:
        begin(replace(CONFIG, text=replace(CONFIG.text, released=str(tmp_path))), PITCHES)

    with pytest.raises(HissError, match="cannot read the GPT-2"):
        attempt()
    (released_gpt2(tmp_path) / "merges.txt").write_text("Ġ a\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"its merges\.txt makes 258"):
        attempt()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="is a bert"):
        attempt()
