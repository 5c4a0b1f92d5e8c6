"""The noised CLAP: what it learns, what it hears under noise, which words it knows, and its own file."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hiss.clap import NoisedClap, NoisedClapConfig, begin_noised
from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.saved import read_part, write_model

PLACES = ("low", "middle", "high", "shrill")
CAPTIONS = [f"a {place} tone, {way}" for place in PLACES for way in ("softly", "loudly")]
CONFIG = NoisedClapConfig(rarest=2, channels=(8, 16), embedding=8, features=16, dropout=0.0, withheld=0.2)


def signals(seed: int) -> Tensor:
    """Returns one spectrum [8, 1, 8, 6] for each caption: a band, strong or weak."""
    clean = 0.1 * torch.randn(8, 1, 8, 6, generator=seeded("signals", seed))
    for number in range(8):
        clean[number, 0, number // 2 * 2 : number // 2 * 2 + 2] += 4.0 if number % 2 else 1.5
    return clean


@pytest.fixture(scope="module")
def clap() -> NoisedClap:
    """One that was trained for some seconds."""
    torch.manual_seed(0)
    clap = begin_noised(CONFIG, (1, 8), CAPTIONS)
    optimizer = torch.optim.Adam(clap.parameters(), lr=1e-2)
    for step in range(200):
        sigma = torch.logspace(-1, 0.5, 8)[torch.randperm(8, generator=seeded("levels", step))]
        loss = clap.compute_loss(signals(step), sigma, CAPTIONS, generator=seeded("noise", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clap.eval()


def test_its_loss_reaches_every_weight() -> None:
    torch.manual_seed(0)
    clap = begin_noised(CONFIG, (1, 8), CAPTIONS)
    for parameter in clap.parameters():  # those that start at zero hide what lies before them
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    clap.compute_loss(signals(0), torch.full((8,), 0.5), CAPTIONS).backward()
    without = [
        name for name, parameter in clap.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_it_hears_through_noise_what_a_caption_says(clap: NoisedClap, sigma: float) -> None:
    noisy = signals(999) + sigma * torch.randn(8, 1, 8, 6, generator=seeded("noise", 999))
    likeness = clap.embed_texts(CAPTIONS) @ clap.embed(noisy, torch.full((8,), sigma)).T
    assert torch.equal(likeness.argmax(dim=0), torch.arange(8))


def test_its_gradient_leads_to_what_the_text_says(clap: NoisedClap) -> None:
    x = signals(5)[:1].requires_grad_()
    wanted = clap.embed_texts(["a high tone"]).detach()
    before = (clap.embed(x, torch.full((1,), 0.5)) * wanted).sum()
    (slope,) = torch.autograd.grad(before, x)
    assert slope[0, 0].mean(dim=-1).reshape(4, 2).mean(dim=1).argmax() == 2  # the band that is high
    after = (clap.embed(x + 2 * slope / slope.norm(), torch.full((1,), 0.5)) * wanted).sum()
    assert after > before + 0.1


def test_vectors_have_length_one_and_unknown_texts_none(clap: NoisedClap) -> None:
    heard = clap.embed(torch.randn(2, 1, 8, 7), torch.tensor([0.1, 10.0]))  # 7 frames: padded
    assert torch.allclose(heard.norm(dim=-1), torch.ones(2))
    vectors = clap.embed_texts(["a low tone", "Low, LOW: a tone!", "tuba", ""])
    assert torch.allclose(vectors.norm(dim=-1), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert torch.allclose(vectors[0], vectors[1])


def test_it_hears_signals_over_one_dimension() -> None:
    clap = begin_noised(CONFIG, (3,), CAPTIONS)
    assert clap.embed(torch.randn(2, 3, 9), torch.ones(2)).shape == (2, 16)


def test_rare_words_have_no_vector_and_the_rarer_of_the_others_count_more() -> None:
    clap = begin_noised(CONFIG, (1, 8), [*CAPTIONS, "a tuba"])
    assert clap.config.words == ("a", "high", "loudly", "low", "middle", "shrill", "softly", "tone")
    assert clap.rarity.tolist() == pytest.approx([math.log(1 + 9 / n) for n in (9, 2, 4, 2, 2, 2, 4, 8)])


def test_words_are_withheld_in_training_only() -> None:
    clap = begin_noised(replace(CONFIG, withheld=0.9), (1, 8), CAPTIONS)
    other = NoisedClap(replace(clap.config, withheld=0.0))
    other.load_state_dict(clap.state_dict())

    def loss(of: NoisedClap) -> float:
        return of.compute_loss(signals(0), torch.ones(8), CAPTIONS, generator=seeded("same")).item()

    # The noise is that of the seed, whatever share of the words is withheld.
    assert loss(clap) == loss(clap) != loss(other)
    assert loss(clap.eval()) == loss(other.eval())


def test_it_is_saved_and_read(clap: NoisedClap, tmp_path: Path) -> None:
    write_model(clap, tmp_path / "clap")
    again = read_part(tmp_path / "clap", "noised_clap").eval()
    assert isinstance(again, NoisedClap)
    assert torch.equal(again.embed_texts(CAPTIONS), clap.embed_texts(CAPTIONS))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: NoisedClap(NoisedClapConfig()), "is built for the shape of a representation"),
        (lambda: NoisedClapConfig(channels=()), "needs a level of channels"),
        (lambda: NoisedClapConfig(dropout=1.0), "shares from 0 to below 1"),
        (lambda: begin_noised(CONFIG, (1, 8), ["a tone", "one tuba"]), "no word that 2 captions have in common"),
        (
            lambda: begin_noised(CONFIG, (1, 8), CAPTIONS).compute_loss(signals(0), torch.ones(8), [*CAPTIONS[1:], ""]),
            "1 of 8 recordings have none",
        ),
    ],
)
def test_what_it_cannot_do_is_said(make: object, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()  # type: ignore[operator]
