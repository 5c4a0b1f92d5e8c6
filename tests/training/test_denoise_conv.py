"""The recipe denoise-conv in miniature: it learns to remove noise, and keeps its best model with all to go on."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import hiss
from hiss.audio import Audio
from hiss.data.pairs import Pairs
from hiss.model import AudioDiffusionModel
from hiss.noise import seeded
from hiss.signal.losses import si_sdr
from hiss.training import Result, TrainerConfig, checkpoints
from hiss.training.recipe import Recipe, load_recipe, run_recipe

RATE = 8000
SMALL = [
    f"model.sample_rate={RATE}",
    "model.seconds=0.25",
    "model.network.channels=[16, 32, 64]",
    "model.network.strides=[2, 4, 4]",
    "model.network.embedding=16",
    "model.losses.0.n_fft=256",
    "model.losses.0.hop=64",
    "trainer.epochs=5",
    "trainer.batch_size=8",
    "trainer.learning_rate=3e-3",
    "trainer.validate_every=20",
    "data.cache=true",
]


def voice(index: int) -> Audio:
    """Returns 1.5 s of syllables of gliding harmonics."""
    pitch, vibrato, start = torch.rand(3, generator=seeded("voice", index)).tolist()
    time = torch.arange(int(1.5 * RATE)) / RATE
    glide = 1 + 0.2 * torch.sin(4 * math.pi * vibrato * time)
    phase = (2 * math.pi * (100 + 150 * pitch) * glide / RATE).cumsum(0)
    wave = torch.stack([torch.sin(k * phase) / k for k in range(1, 9)]).sum(dim=0)
    return Audio(0.1 * wave * torch.sin(6 * math.pi * time + 6 * start).clamp(min=0).sqrt(), RATE)


def small(*changes: str) -> Recipe:
    return load_recipe("denoise-conv", changes=[*SMALL, *changes])


@dataclass(frozen=True)
class Trained:
    """A run that nothing disturbed."""

    data: Path
    out: Path
    result: Result

    @property
    def best(self) -> Path:
        """The folder of the best model."""
        (found,) = self.out.glob("best_model_*")
        return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("denoise-conv")
    (folder / "data/gt_audio").mkdir(parents=True)
    for index in range(24):
        voice(index).save(folder / f"data/gt_audio/{index:02}.wav")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISS_CACHE", str(folder / "cache"))
        result = run_recipe(small(), data=folder / "data", out=folder / "run")
    return Trained(folder / "data", folder / "run", result)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISS_CACHE", str(tmp_path / "cache"))


def validation_losses(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["validation/loss"] for row in rows if "validation/loss" in row]


def test_the_recipe_is_the_described_system() -> None:
    recipe = load_recipe("denoise-conv")
    trainer, model, data = recipe.trainer, recipe.model, recipe.data
    assert model.samples == model.sample_rate == 48_000
    network = model.network.to_dict()
    assert (network["name"], network["skips"], network["matched"]) == ("conv", False, False)
    assert network["dropout"] > 0
    assert isinstance(data, Pairs)
    assert (data.noise, data.noisy) == ("white", None)
    assert [loss.name for loss in model.losses] == ["spectrum", "waveform"]
    assert (model.weighting, model.sampling.steps) == ("none", 1)
    assert (trainer.batch_size, trainer.learning_rate, trainer.weight_decay) == (32, 1e-4, 1e-2)
    assert (trainer.epochs, trainer.warmup, trainer.decay) == (1000, 0.05, "onecycle")
    assert (trainer.rise, trainer.final) == (0.3, 1e-3)
    assert trainer.clip > 0
    assert trainer.keep_best


def test_each_loss_sends_a_gradient_to_every_weight(trained: Trained) -> None:
    recipe = small(f"data.path={trained.data}")
    batch = next(recipe.data.open(sample_rate=RATE, channels=1, samples=2000).batches(4, seed=0))
    for kept in recipe.model.losses:
        config = recipe.to_dict()["model"] | {"losses": [kept.to_dict()]}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AudioDiffusionModel(hiss.ModelConfig.from_dict(config))
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.05)
            model.compute_loss(batch, generator=seeded(0)).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_the_validation_loss_falls(trained: Trained) -> None:
    losses = validation_losses(trained.out)
    assert len(losses) >= 4
    assert losses[-1] < 0.5 * losses[0]
    assert trained.result.best is not None
    assert trained.result.best.loss == min(losses)


def test_the_si_sdr_of_mixtures_that_were_held_out_rises_by_several_decibels(trained: Trained) -> None:
    recipe = small(f"data.path={trained.data}")
    data = recipe.data.open(sample_rate=RATE, channels=1, samples=RATE, split="validation")
    pipeline, gains = hiss.load(trained.best), []
    for batch in data.once(8):
        for clean, prompt in zip(batch.audio, batch.prompts, strict=True):
            noisy = prompt.recording
            assert noisy is not None
            made = pipeline.denoise(Audio(noisy, RATE)).samples
            gains.append(float(si_sdr(made[None], clean[None]) - si_sdr(noisy[None], clean[None])))
    assert len(gains) >= 2
    assert sum(gains) / len(gains) > 4


def test_the_best_model_is_kept_with_all_that_is_needed_to_go_on(trained: Trained) -> None:
    assert re.fullmatch(r"best_model_\d{8}_\d{6}", trained.best.name)
    state = json.loads((trained.best / "state.json").read_text())
    best = trained.result.best
    assert best is not None
    assert (state["step"], state["loss"]) == (best.step, best.loss)
    config = TrainerConfig.from_dict(state["config"])
    assert state["scheduler"] == {"step": best.step, "learning_rate": config.rate(best.step)}
    assert state["epoch"] == pytest.approx(5 * best.step / config.steps, rel=0.05)
    tensors, weights = load_file(trained.best / "tensors.safetensors"), load_file(trained.best / "model.safetensors")
    assert all(torch.equal(tensors[f"model/model.{name}"], value) for name, value in weights.items())
    learned = [name for name in weights if name.startswith("denoiser.network.")]
    assert all(f"optimizer/exp_avg/model.{name}" in tensors for name in learned)
    kept, _ = checkpoints.load(trained.out / "state", best.step)
    assert all(torch.equal(tensors[name], kept[name]) for name in tensors)
    assert hiss.load(trained.best).denoises


def test_a_run_that_was_stopped_resumes_to_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    steps = TrainerConfig.from_dict(json.loads((trained.best / "state.json").read_text())["config"]).steps
    short = [f"trainer.steps={steps}", "trainer.epochs=0"]
    first = run_recipe(small(*short), data=trained.data, out=tmp_path / "parts", minutes=1e-4)
    assert (first.ended, first.step < steps) == ("minutes", True)
    run_recipe(small(*short), data=trained.data, out=tmp_path / "parts", resume=True)
    whole, parts = (checkpoints.load(out / "state", steps)[0] for out in (trained.out, tmp_path / "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert len(list((tmp_path / "parts").glob("best_model_*"))) == 1


def test_clean_recordings_alone_are_mixed_into_the_folder_of_the_run(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / "plain").mkdir(exist_ok=True)
        voice(index).save(tmp_path / f"plain/{index}.wav")
    changes = ["trainer.epochs=0", "trainer.steps=1"]
    result = run_recipe(small(*changes), data=tmp_path / "plain", out=tmp_path / "run")
    assert result.best is not None, "at least one recording is held out"
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == ["0.wav", "1.wav", "2.wav"]
    assert len(list((tmp_path / "run/gl_audio").glob("noisy_*.wav"))) == 3


def test_matched_is_a_diffusion_model_of_the_same_recipe(trained: Trained, tmp_path: Path) -> None:
    changes = ["model.network.matched=true", "model.network.skips=true", "trainer.epochs=0", "trainer.steps=40"]
    run_recipe(small(*changes), data=trained.data, out=tmp_path / "run")
    losses = validation_losses(tmp_path / "run")
    assert losses[-1] < losses[0]
