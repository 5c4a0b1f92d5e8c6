"""The CLAP that judges how well sounds go with their captions: its size, and what it finds among real recordings."""

import os
from typing import cast

import pytest
import torch

from hiss.clap import Clap
from hiss.data.shards import Shards
from hiss.evaluation.retrieval import retrieval
from hiss.evaluation.text_to_audio import INDEPENDENT
from hiss.pipeline import load
from hiss.saved import read_part


@pytest.fixture(scope="module")
def clap() -> Clap:
    return cast(Clap, read_part(INDEPENDENT, "clap")).eval()


def test_it_is_small_and_none_of_its_weights_are_those_that_condition_a_model(clap: Clap) -> None:
    assert (INDEPENDENT / "model.safetensors").stat().st_size < 6e6
    conditions = load("sounds").model.state_dict()
    assert not any(torch.equal(conditions[f"conditioners.0.clap.{name}"], p) for name, p in clap.named_parameters())


def test_it_hears_what_a_caption_says(clap: Clap) -> None:
    time = torch.arange(48_000) / 16_000
    strokes = torch.randn(48_000, generator=torch.Generator().manual_seed(0)) * torch.exp(-25 * (time % 0.25))
    captions = ["a snare drum roll, repeated strokes", "a church organ holds a low C"]
    with torch.no_grad():
        scores = clap.score(captions, 0.3 * strokes[None])
    assert scores[0] > scores[1]


def test_it_finds_captions_and_recordings() -> None:
    if "HISS_DATA" not in os.environ:
        pytest.skip("HISS_DATA is not set: the sounds pack is not at hand")
    clap = cast(Clap, read_part(INDEPENDENT, "clap")).eval()
    tower = clap.config.audio
    pack = Shards(path="$HISS_DATA/sounds/sounds-test-*.tar")
    data = pack.open(sample_rate=tower.sample_rate, channels=1, samples=tower.samples, split="all")
    found = retrieval(clap, data)
    assert found["text to audio@1"] >= 0.38
    assert found["audio to text@10"] >= 0.9
