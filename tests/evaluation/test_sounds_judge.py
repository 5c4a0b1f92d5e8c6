"""The bundled judge of instruments: its size, its classes, and its accuracy where the sounds pack is at hand."""

import os

import pytest
import torch

from hiss.audio import Audio
from hiss.evaluation.clips import read_clips
from hiss.evaluation.embeddings import find
from hiss.evaluation.judge import JUDGES, Judge


def test_the_bundled_judge_is_small_and_knows_families_and_instruments() -> None:
    judge = Judge.from_pretrained("sounds")
    assert {question: len(classes) for question, classes in judge.config.heads.items()} == {
        "family": 18,
        "instrument": 102,
    }
    assert {"brass", "percussion", "sound effect"} < set(judge.config.heads["family"])
    assert (JUDGES / "sounds" / "model.safetensors").stat().st_size < 1e6


def test_the_embedding_names_a_class_of_whatever_it_hears() -> None:
    heard = find("sounds")([Audio(torch.zeros(1), 8000), Audio(torch.randn(2, 44100).clamp(-1, 1), 44100)])
    assert heard.embeddings.shape == (2, 64)
    torch.testing.assert_close(heard.probabilities["family"].sum(dim=1), torch.ones(2))


def test_families_of_test_clips_are_recognised() -> None:
    if "HISS_DATA" not in os.environ:
        pytest.skip("HISS_DATA is not set: the sounds pack is not at hand")
    clips = read_clips("$HISS_DATA/sounds/sounds-test-*.tar")
    heard = find("sounds")([clip.audio for clip in clips])
    labels = [clip.labels(heard.classes) for clip in clips]
    assert all(set(label) == {"family", "instrument"} for label in labels)
    accuracy = heard.accuracy(labels)
    assert accuracy["family"] >= 0.92
    assert accuracy["instrument"] >= 0.89
