"""The recipe music-gtzan in miniature: trained on one genre of a folder laid out like GTZAN, resumed, and heard."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from hiss.diffusion.schedules import LogNormal
from hiss.errors import HissError, UsageError
from hiss.model import AudioDiffusionModel
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.training import checkpoints
from hiss.training.recipe import Recipe, load_recipe, run_recipe
from hiss.types import Batch, Prompt

RATE = 4000
SMALL = [
    f"model.sample_rate={RATE}",
    "model.seconds=0.5",
    "model.representation.bins=64",
    "model.network.channels=[8, 16]",
    "model.network.factors=[2]",
    "model.network.attention=[false, true]",
    "model.network.embedding=16",
    "trainer.steps=30",
    "trainer.batch_size=8",
    "trainer.learning_rate=3e-3",
    "trainer.validate_every=15",
    "trainer.save_every=15",
    "trainer.log_every=1",
]


def small(*changes: str) -> Recipe:
    return load_recipe("music-gtzan", changes=[*SMALL, *changes])


def chord(index: int) -> Tensor:
    """Returns 1.5 s [samples] of a decaying chord of three tones."""
    time = torch.arange(int(1.5 * RATE)) / RATE
    root = 110 * 2 ** (index % 12 / 12)
    waves = [torch.sin(2 * math.pi * root * ratio * time) for ratio in (1, 1.25, 1.5)]
    return 0.2 * torch.exp(-time) * torch.stack(waves).sum(dim=0)


@pytest.fixture(scope="module", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns genres_original with two genres and the broken file of the original."""
    folder = tmp_path_factory.mktemp("gtzan") / "genres_original"
    for genre, ending in (("classical", "wav"), ("jazz", "au")):
        (folder / genre).mkdir(parents=True)
        for index in range(12):
            soundfile.write(
                folder / genre / f"{genre}.{index:05d}.{ending}", chord(index).numpy(), RATE, subtype="PCM_16"
            )
    (folder / "jazz" / "jazz.00054.wav").write_bytes(b"no header" * 99)
    return folder


@dataclass(frozen=True)
class Trained:
    """A run from beginning to end."""

    out: Path
    folder: Path


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = tmp_path_factory.mktemp("run")
    assert run_recipe(small(), data=folder, out=out).ended == "steps"
    return Trained(out, folder)


def test_it_learns_from_one_genre_and_holds_out_files_of_it(trained: Trained) -> None:
    recipe = small(f"data.path={trained.folder}")
    parts = [
        recipe.data.open(sample_rate=RATE, channels=1, samples=2000, split=split).report.used
        for split in ("train", "validation")
    ]
    assert sum(parts) == 12
    assert min(parts) > 0
    rows = [json.loads(line) for line in (trained.out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_broken_file_is_named(trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    changes = ["trainer.steps=1", "data.only.folder=[jazz]"]
    run_recipe(small(*changes), data=trained.folder, out=tmp_path / "run")
    assert "recordings left out: 1; the first: jazz/jazz.00054.wav" in caplog.text


def test_a_run_in_two_parts_ends_with_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    changes = ["trainer.steps=8", "trainer.save_every=4", "trainer.decay=constant"]
    run_recipe(small(*changes), data=trained.folder, out=tmp_path / "whole")
    run_recipe(small(*changes, "trainer.steps=4"), data=trained.folder, out=tmp_path / "parts")
    run_recipe(small(*changes), data=trained.folder, out=tmp_path / "parts", resume=True)
    whole, parts = (checkpoints.load(tmp_path / name / "state", 8)[0] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_it_makes_sound_of_any_length(trained: Trained) -> None:
    pipeline = Pipeline.from_pretrained(trained.out / "model")
    assert (pipeline.model.representation.state_dict()["scale"] != 1).all()
    sound = pipeline.generate(steps=8, seed=0)
    assert sound.samples.shape == (1, 2000)
    assert bool(sound.samples.isfinite().all())
    assert sound.rms > 0
    assert pipeline.generate(steps=4, length=1.2, seed=0).samples.shape == (1, 4800)


def recordings(folder: Path, count: int, *, seconds: float = 1.5, rate: int = RATE) -> Path:
    """Writes chords of one genre and returns the folder of genres."""
    (folder / "classical").mkdir(parents=True)
    for index in range(count):
        audio = chord(index)[: round(seconds * RATE)]
        soundfile.write(folder / "classical" / f"{index}.wav", audio.numpy(), rate, subtype="PCM_16")
    return folder


def test_a_genre_that_is_not_there_is_refused_with_those_that_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown folder in only 'rock'; valid are: classical, jazz"):
        run_recipe(small("data.only.folder=[rock]"), data=folder, out=tmp_path)
    conditioner = "model.conditioners=[{name: label, field: genre, classes: [classical, rock], features: 4}]"
    with pytest.raises(UsageError, match="unknown genre 'jazz'; valid are: classical, rock"):
        run_recipe(small("data.only={}", "data.labels.genre=folder", conditioner), data=folder, out=tmp_path)


def test_several_genres_are_a_label(folder: Path, tmp_path: Path) -> None:
    conditioner = "model.conditioners=[{name: label, field: genre, classes: [classical, jazz], features: 4}]"
    changes = ["data.only.folder=[classical, jazz]", "data.labels.genre=folder", conditioner, "trainer.steps=2"]
    run_recipe(small(*changes), data=folder, out=tmp_path)
    pipeline = Pipeline.from_pretrained(tmp_path / "model")
    assert pipeline.labels == {"genre": ("classical", "jazz")}
    assert pipeline.generate("jazz", steps=2, seed=0).samples.shape == (1, 2000)
    with pytest.raises(UsageError, match="unknown label 'rock'; valid are: classical, jazz"):
        pipeline.generate("rock")


def test_genres_that_do_not_lie_in_folders_are_refused(tmp_path: Path) -> None:
    flat = recordings(tmp_path / "genres", 3) / "classical"
    with pytest.raises(UsageError, match=r"no recording lies in a folder below.*data\.only=\{\}"):
        run_recipe(small(), data=flat, out=tmp_path / "run")


def test_a_single_file_cannot_be_held_out_but_be_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    single = recordings(tmp_path / "genres", 1)
    result = run_recipe(small("trainer.steps=1"), data=single, out=tmp_path / "run")
    assert "nothing is held out for validation" in caplog.text
    assert result.step == 1
    assert result.best is None
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(("seconds", "rate"), [(0.1, RATE), (1.5, 11_025), (1.5, 1500)])
def test_files_shorter_than_a_crop_are_padded_and_other_rates_resampled(
    seconds: float, rate: int, tmp_path: Path
) -> None:
    folder = recordings(tmp_path / "genres", 2, seconds=seconds, rate=rate)
    assert run_recipe(small("trainer.steps=1", "data.holdout=0"), data=folder, out=tmp_path / "run").step == 1


def test_a_broken_au_file_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "genres" / "classical").mkdir(parents=True)
    (tmp_path / "genres" / "classical" / "classical.00000.au").write_bytes(b".snd" + bytes(30))
    with pytest.raises(HissError, match=r"1 were skipped; the first: classical/classical\.00000\.au: cannot read"):
        run_recipe(small("data.holdout=0"), data=tmp_path / "genres", out=tmp_path / "run")


@pytest.mark.parametrize("length", [0.0, -3.0, math.nan, 1e6])
def test_a_length_that_cannot_be_is_refused(trained: Trained, length: float) -> None:
    with pytest.raises(UsageError, match="length must be above 0 and at most 86400 seconds"):
        Pipeline.from_pretrained(trained.out / "model").generate(length=length)


def test_an_hour_can_be_made() -> None:
    changes = [
        "model.sample_rate=100",
        "model.seconds=82",
        "model.network.patch=[8, 4]",
        "model.network.channels=[4, 4]",
    ]
    sound = Pipeline(AudioDiffusionModel(small(*changes).model)).generate(length=3600, steps=1, seed=0)
    assert sound.samples.shape == (1, 360_000)
    assert bool(sound.samples.isfinite().all())


@pytest.mark.parametrize("loss", [0, 1])
def test_the_gradient_of_either_auxiliary_loss_reaches_every_weight(loss: int) -> None:
    config = small().model
    term = config.losses[loss]
    assert term.trusted
    # At a noise level of about 1 trust is a half; there the main loss is left out altogether.
    config = replace(
        config, losses=(term,), weighting="none", training=LogNormal(mean=0.0, std=0.1, sigma_min=0.5, sigma_max=2)
    )
    model = AudioDiffusionModel(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(name))
    audio = torch.stack([chord(index)[None, :2000] for index in range(2)])
    model.compute_loss(Batch(audio, RATE, (Prompt(),) * 2, torch.tensor([2000, 2000])), generator=seeded(0)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
