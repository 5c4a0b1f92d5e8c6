"""Recipes with stages: one command trains all, each is skipped when done, resumes exactly, and refuses what misfits."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy_stages import MEL, STAGES

from hiss.autoencoder import Vae, VaeConfig
from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.saved import read_part, write_model
from hiss.signal.mel_losses import multi_scale_mel_error
from hiss.training import checkpoints
from hiss.training.objective import AdversarialObjective
from hiss.training.objectives.vocoder import VocoderObjective
from hiss.training.reading import Stages, read_recipe
from hiss.training.recipe import load_recipe, recipes, run_recipe
from hiss.training.stages import run_stages
from hiss.types import Batch, Prompt


def recipe(tmp_path: Path, stages: dict[str, Any] | None = None, *changes: str) -> Stages:
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(stages or STAGES, sort_keys=False))
    return Stages(read_recipe(path, changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all stages."""
    folder = tmp_path_factory.mktemp("stages")
    results = run_stages(recipe(folder), out=folder / "run")
    assert [result.step for result in results.values()] == [8, 8, 8]
    return folder / "run"


def state(folder: Path, step: int = 8) -> dict[str, torch.Tensor]:
    return checkpoints.load(folder / "state", step)[0]


def test_every_bundled_recipe_with_stages_fits_together() -> None:
    for name in recipes():
        if "stages" in (said := read_recipe(name)):
            assert Stages(said).recipe(Stages(said).names[-1]) == load_recipe(name)


def test_all_stages_together_make_a_model_that_is_complete(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "diffusion" / "model", tmp_path / "alone")
    pipeline = Pipeline.from_pretrained(tmp_path / "alone")
    assert pipeline.generate(steps=2, seed=1).samples.shape == (1, 480)
    assert pipeline.generate(steps=2, seed=1, length=0.9).samples.shape == (1, 1800)
    inside, own = pipeline.model.representation.state_dict(), read_part(trained / "vae" / "model", "vae").state_dict()
    assert all(torch.equal(inside[f"vae.{name}"], tensor) for name, tensor in own.items())
    assert inside["vocoder.trained"]
    assert not torch.equal(inside["scale"], torch.ones(2, 1, 1))
    assert "Tones, for a test." in pipeline.card


@pytest.mark.parametrize("stage", ["vae", "vocoder", "diffusion"])
def test_a_run_that_was_stopped_ends_with_the_same_bits_adversary_and_all(
    stage: str, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for earlier in ("vae", "vocoder"):
        if earlier != stage:
            shutil.copytree(trained / earlier, out / earlier)
    # The learning rate is that of 8 steps for both, and the adversary has played two of them before the stop.
    changes = [f"stages.{stage}.trainer.decay=constant", f"stages.{stage}.trainer.ema=[0.1]"]
    if stage != "diffusion":
        changes.append(f"stages.{stage}.objective.joins=0.0")
    whole = recipe(tmp_path, None, *changes)
    run_stages(whole, out=out, only=stage)
    kept = state(out / stage)
    shutil.rmtree(out / stage)
    run_stages(recipe(tmp_path, None, *changes, f"stages.{stage}.trainer.steps=4"), out=out, only=stage)
    run_stages(whole, out=out, only=stage, resume=True)
    again = state(out / stage)
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    played = any(name.startswith("optimizer/exp_avg/adversary.") for name in kept)
    assert played == (stage != "diffusion")


@pytest.mark.parametrize("stage", ["vae", "vocoder"])
def test_the_adversary_joins_when_it_should_and_is_neither_averaged_nor_saved(stage: str, trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / stage / "metrics.jsonl").read_text().splitlines()]
    plays = {row["step"]: "train/adversary" in row for row in rows if "train/loss" in row}
    assert plays == {step: step > 4 for step in range(1, 9)}
    kept = state(trained / stage)
    learned = sum(v.numel() for name, v in kept.items() if name.startswith("optimizer/exp_avg/model."))
    assert all(len(vector) == learned for name, vector in kept.items() if name.startswith("ema/"))
    assert any(name.startswith("model/adversary.") for name in kept)
    assert not any("adversary" in name for name in read_part(trained / stage / "model", stage).state_dict())


@pytest.mark.parametrize("stage", ["vae", "vocoder", "diffusion"])
def test_every_weight_that_learns_gets_a_gradient_and_the_loss_falls(stage: str, trained: Path, tmp_path: Path) -> None:
    # Both halves of a hinge pull the last bias of an adversary equally hard, so squares are looked at.
    squares = () if stage == "diffusion" else (f"stages.{stage}.objective.gan=least_squares",)
    chosen = recipe(tmp_path, None, *squares).recipe(stage, trained)
    examples = chosen.data.open(**chosen.clips._asdict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = chosen.objective_for(examples)
        if stage == "diffusion":
            known = Pipeline.from_pretrained(trained / "diffusion" / "model").model.representation
            objective.model.get_submodule("representation").load_state_dict(known.state_dict())
        else:
            objective.fit(batch.audio for batch in examples.once(8))
        if isinstance(objective, AdversarialObjective):
            objective.plays = True
        optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
        batch, losses = next(iter(examples.once(8))), []
        for _ in range(40):
            optimizer.zero_grad()
            outputs = objective(batch, seeded(0))
            sum(outputs[name] for name in ("loss", "contest", "adversary") if name in outputs).backward()
            optimizer.step()
            losses.append(float(outputs["loss"].detach()))
    without = [
        name for name, p in objective.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not without
    frozen = [name for name, p in objective.named_parameters() if not p.requires_grad]
    assert all(name.startswith(("vae.", "model.representation.")) for name in frozen)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_what_is_finished_is_left_out_until_its_recipe_changes(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    assert run_stages(recipe(tmp_path), out=out) == {}
    assert "stage vae is finished" in caplog.text
    longer = recipe(tmp_path, None, "stages.vocoder.trainer.steps=9", "stages.vocoder.trainer.decay=constant")
    with pytest.raises(UsageError, match="already holds a run of 8 steps; resume it"):
        run_stages(longer, out=out)
    # The diffusion model was trained on what is now another vocoder, and says so.
    with pytest.raises(UsageError, match=r"the run in .*diffusion has another vocoder than .*train anew elsewhere"):
        run_stages(longer, out=out, resume=True)
    assert checkpoints.steps(out / "vocoder" / "state")[-1] == 9
    assert checkpoints.steps(out / "vae" / "state")[-1] == 8


def test_a_finished_stage_of_another_recipe_that_has_nothing_left_to_train_is_refused(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "vae", tmp_path / "run" / "vae")
    changed = recipe(tmp_path, None, "stages.vae.trainer.learning_rate=1e-3")
    with pytest.raises(UsageError, match=r"stage vae has nothing left to train: .* finished, at step 8; give it more"):
        run_stages(changed, out=tmp_path / "run", only="vae", resume=True)
    (tmp_path / "run" / "vae" / "finished.json").unlink()
    assert run_stages(changed, out=tmp_path / "run", only="vae", resume=True)["vae"].step == 8


def test_the_minutes_are_shared_out(tmp_path: Path) -> None:
    long = copy.deepcopy(STAGES)
    long["trainer"] |= {"steps": 10**6, "validate_every": 0}
    long["stages"].pop("diffusion")
    long["stages"]["vae"]["share"] = 3.0
    results = run_stages(recipe(tmp_path, long), out=tmp_path / "run", minutes=3 / 60)
    assert [result.ended for result in results.values()] == ["minutes", "minutes"]
    assert results["vae"].seconds > 1.5 * results["vocoder"].seconds


def test_no_time_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="minutes must be above 0, not -1"):
        run_stages(recipe(tmp_path), out=tmp_path / "run", minutes=-1)
    assert not (tmp_path / "run").exists()


def test_a_stage_alone_needs_those_that_it_is_built_on(tmp_path: Path) -> None:
    with pytest.raises(HissError, match=r"stage diffusion needs stage vae, .* not finished in .*; train it first"):
        run_stages(recipe(tmp_path), out=tmp_path / "run", only="diffusion")
    with pytest.raises(UsageError, match="unknown stage 'vea'"):
        run_stages(recipe(tmp_path), out=tmp_path / "run", only="vea")


def test_a_folder_of_another_kind_is_refused_in_one_sentence(trained: Path, tmp_path: Path) -> None:
    place = trained / "vocoder" / "model"
    wrong = f"stages.diffusion.model.representation.vae={{from: {place}}}"
    with pytest.raises(HissError, match="holds a model of the kind vocoder, where one of the kind vae is needed"):
        recipe(tmp_path, None, wrong)
    with pytest.raises(UsageError, match="stage diffusion takes a vae from stage vocoder, which trains a vocoder"):
        recipe(tmp_path, None, "stages.diffusion.model.representation.vae={from: vocoder}")
    with pytest.raises(HissError, match="kind vae, where one of the kind diffusion is needed"):
        Pipeline.from_pretrained(trained / "vae" / "model")
    with pytest.raises(HissError, match="nowhere is no model folder"):
        recipe(tmp_path, None, "stages.diffusion.model.representation.vae={from: nowhere}")


def test_parts_that_do_not_fit_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="different mel spectra: hop is 20 for one and 10 for the other"):
        recipe(tmp_path, None, "stages.vocoder.objective.vae=null", "stages.vocoder.model.mel.hop=10")
    with pytest.raises(UsageError, match=r"recipe\.stages\.vae\.trainer 'stepz'"):
        recipe(tmp_path, None, "stages.vae.trainer.stepz=3")
    with pytest.raises(UsageError, match="it must say nothing else"):
        recipe(tmp_path, None, "stages.diffusion.model.representation.vae={from: vae, groups: 2}")
    with pytest.raises(UsageError, match="must hold recipes by name"):
        recipe(tmp_path, None, "stages=[]")


def test_a_model_of_untrained_parts_is_not_trained(tmp_path: Path) -> None:
    plain = {"name": "mel", "vocoder": {"name": "istft", "mel": MEL, "channels": 8, "blocks": 1}}
    told = dict(STAGES["stages"]["diffusion"]["model"], representation=plain)
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump({"data": STAGES["data"], "model": told, "trainer": STAGES["trainer"]}))
    with pytest.raises(HissError, match=r"the vocoder of the representation is untrained.*vocoder: \{from: FOLDER\}"):
        run_recipe(load_recipe(path), out=tmp_path / "run")


def test_training_goes_on_from_what_a_folder_holds(trained: Path, tmp_path: Path) -> None:
    stage = copy.deepcopy(STAGES["stages"]["vocoder"])
    stage["model"] = {"from": str(trained / "vocoder" / "model")}
    stage["objective"]["vae"] = {"from": str(trained / "vae" / "model")}
    stage |= {"data": STAGES["data"], "trainer": {"steps": 1, "batch_size": 4, "learning_rate": 0.0}}
    path = tmp_path / "more.yaml"
    path.write_text(yaml.safe_dump(stage))
    run_recipe(load_recipe(path), out=tmp_path / "run")
    first, second = (read_part(folder / "model", "vocoder") for folder in (trained / "vocoder", tmp_path / "run"))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_a_saved_part_survives_the_round_trip(tmp_path: Path) -> None:
    vae = Vae(VaeConfig.from_dict(STAGES["stages"]["vae"]["model"]))
    write_model(vae, tmp_path / "vae", card="# A part\n")
    found = read_part(tmp_path / "vae", "vae")
    assert isinstance(found, Vae)
    assert found.config == vae.config
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), found.state_dict().values(), strict=True))
    assert json.loads((tmp_path / "vae" / "config.json").read_text())["kind"] == "vae"


def test_a_vocoder_hears_what_the_autoencoder_made_of_a_part_of_each_batch(trained: Path, tmp_path: Path) -> None:
    chosen = recipe(tmp_path, None, "stages.vocoder.objective.reconstructed=1.0").recipe("vocoder", trained)
    objective = chosen.objective_for(chosen.data.open(**chosen.clips._asdict())).eval()
    audio = torch.randn(2, 1, 480, generator=seeded("audio"))
    batch = Batch(audio, 2000, (Prompt(),) * 2, torch.full((2,), 480))
    assert isinstance(objective, VocoderObjective)
    assert objective.vae is not None
    with torch.no_grad():
        heard = objective.vae(objective.model.config.mel(audio[:, 0]))
        expected = objective(batch)["error"]
        made = objective.model(heard)
    torch.testing.assert_close(expected, multi_scale_mel_error(made, audio[:, 0], sample_rate=2000).mean())
