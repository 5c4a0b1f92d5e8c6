"""Encoding before the training: the same batches, encoded once, read again from a file."""

import dataclasses
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from hiss.data.examples import Examples
from hiss.data.mixtures import Mixtures
from hiss.data.tones import SyntheticTones
from hiss.errors import UsageError
from hiss.model import AudioDiffusionModel
from hiss.representations import Representation
from hiss.representations.mdct import MdctConfig
from hiss.training.encoded import Encoded
from hiss.training.recipe import Recipe, load_recipe, run_recipe
from hiss.types import Batch

SAMPLES = 512


@pytest.fixture
def tones() -> Examples:
    data = SyntheticTones(examples=6, high=900.0, polarity=True, gain=6).open(
        sample_rate=2000, channels=1, samples=SAMPLES
    )
    assert isinstance(data, Examples)
    return data


def mdct() -> Representation:
    return MdctConfig(bins=32).build(2000, 1)


def taken(data: Encoded | Examples, count: int) -> list[Batch]:
    batches: Iterator[Batch] = data.batches(4, seed=3)
    return list(islice(batches, count))


def encoded(batch: Batch) -> torch.Tensor:
    assert batch.encoded is not None
    return batch.encoded


def test_batches_are_those_of_the_data_and_encoded(tones: Examples, tmp_path: Path) -> None:
    representation = mdct()
    for ours, theirs in zip(
        taken(Encoded(tones, representation, passes=2, folder=tmp_path), 3), taken(tones, 3), strict=True
    ):
        assert torch.equal(ours.audio, theirs.audio)
        assert ours.prompts == theirs.prompts
        torch.testing.assert_close(
            encoded(ours).float(), representation.encode(theirs.audio), rtol=2e-3, atol=1e-4, check_dtype=False
        )


def test_after_the_last_pass_the_first_is_used_again(tones: Examples, tmp_path: Path) -> None:
    batches = taken(Encoded(tones, mdct(), passes=1, folder=tmp_path), 3)
    rows = torch.cat([encoded(batch) for batch in batches])
    assert {tuple(row.flatten().tolist()) for row in rows[:6]} == {tuple(row.flatten().tolist()) for row in rows[6:]}


def test_what_is_encoded_is_read_again(tones: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    representation = mdct()
    first = taken(Encoded(tones, representation, passes=1, folder=tmp_path), 1)
    monkeypatch.setattr(Encoded, "encode", None)
    again = taken(Encoded(tones, representation, passes=1, folder=tmp_path), 1)
    assert torch.equal(encoded(first[0]), encoded(again[0]))


def test_another_representation_is_encoded_anew(tones: Examples, tmp_path: Path) -> None:
    representation = mdct()
    taken(Encoded(tones, representation, passes=1, folder=tmp_path), 1)
    for buffer in representation.buffers():
        if buffer.is_floating_point():
            buffer.mul_(2.0)
    taken(Encoded(tones, representation, passes=1, folder=tmp_path), 1)
    assert len(list(tmp_path.glob("encoded-*.npy"))) == 2


def test_workers_read_the_same(tones: Examples, tmp_path: Path) -> None:
    data = Encoded(tones, mdct(), passes=2, folder=tmp_path)
    here, there = next(data.batches(4, seed=0)), next(data.batches(4, seed=0, workers=1))
    assert torch.equal(encoded(here), encoded(there))


def test_the_loss_is_that_of_the_audio(tones: Examples, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AudioDiffusionModel(recipe(tmp_path).model)
    batch = next(tones.batches(4, seed=0))
    known = dataclasses.replace(batch, encoded=model.representation.encode(batch.audio))
    losses = [model.compute_loss(each, generator=torch.Generator().manual_seed(1)) for each in (batch, known)]
    torch.testing.assert_close(*losses)


def recipe(tmp_path: Path, **changes: object) -> Recipe:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        """
description: Tones, for a test.
data: {name: tones, examples: 6, holdout: 0.3, high: 900.0}
model:
  sample_rate: 2000
  seconds: 0.256
  representation: {name: mdct, bins: 32}
  network: {name: unet, channels: [8, 16], factors: [2], attention: [false, false], embedding: 16}
  conditioners: []
trainer: {steps: 4, batch_size: 2, validate_every: 2, save_every: 2}
encoded: 2
"""
    )
    return dataclasses.replace(load_recipe(path), **changes)  # type: ignore[arg-type]


def test_a_recipe_encodes_once_and_resumes(tmp_path: Path) -> None:
    ours = recipe(tmp_path)
    half = dataclasses.replace(ours, trainer=dataclasses.replace(ours.trainer, steps=2, decay="constant"))
    whole = dataclasses.replace(ours, trainer=dataclasses.replace(ours.trainer, decay="constant"))
    run_recipe(whole, out=tmp_path / "whole")
    run_recipe(half, out=tmp_path / "halves")
    run_recipe(whole, out=tmp_path / "halves", resume=True)
    assert len(list((tmp_path / "halves").glob("encoded-*.npy"))) == 1
    weights = [(tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("whole", "halves")]
    assert weights[0] == weights[1]


def test_data_without_an_order_is_refused(tmp_path: Path) -> None:
    tones = SyntheticTones(examples=6, high=900.0)
    with pytest.raises(UsageError, match="encoded needs recordings that can be read in any order"):
        run_recipe(recipe(tmp_path, data=Mixtures(speech=tones, noise=tones), validation=None), out=tmp_path / "run")


def test_a_negative_number_of_passes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="encoded is a number of passes"):
        recipe(tmp_path, encoded=-1)
