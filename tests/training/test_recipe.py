"""Recipes: reading, changing, and running one from data to a model that makes sound."""

import json
import re
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy_run import SignalAt

from hiss.audio import Audio
from hiss.data import DataConfig
from hiss.data.mixtures import Mixtures
from hiss.data.tones import SyntheticTones
from hiss.errors import HissError, MissingPackageError, UsageError
from hiss.model import AudioDiffusionModel
from hiss.noise import seeded
from hiss.pipeline import Pipeline, load
from hiss.signal.opinions import opinion_network
from hiss.training import checkpoints
from hiss.training.recipe import adopt, load_recipe, recipes, relocated, run_recipe, weights_of, with_data
from hiss.training.trainer import Result

TINY: dict[str, Any] = {
    "description": "Tones, for a test.",
    "data": {"name": "tones", "examples": 24, "holdout": 0.25, "low": 200.0, "high": 900.0},
    "model": {
        "sample_rate": 2000,
        "seconds": 0.128,
        "representation": {"name": "waveform"},
        "network": {"name": "unet", "channels": [8, 16], "factors": [4], "attention": [False, False], "embedding": 16},
        "conditioners": [],
    },
    "trainer": {"steps": 6, "batch_size": 4, "validate_every": 3, "save_every": 3, "demo_every": 6, "log_every": 1},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def test_every_bundled_recipe_can_be_read() -> None:
    for name in recipes():
        assert load_recipe(name).description


def test_an_unknown_recipe_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'nothing-like-it'.*the path of a YAML file"):
        load_recipe("nothing-like-it")


def test_changes_are_read_as_yaml(tiny: Path) -> None:
    changes = ["trainer.learning_rate=1e-4", "trainer.ema=[0.1]", "trainer.precision=bf16", "data.examples=7"]
    recipe = load_recipe(tiny, changes=[*changes, "model.network.channels.1=32", "model.uncertainty=true"])
    assert recipe.trainer.learning_rate == 1e-4
    assert recipe.trainer.ema == (0.1,)
    assert recipe.trainer.precision == "bf16"
    assert recipe.model.uncertainty
    assert recipe.to_dict()["data"]["examples"] == 7
    assert recipe.to_dict()["model"]["network"]["channels"] == [8, 32]


def test_an_entry_of_a_list_is_changed_or_taken_out_by_its_name(tiny: Path) -> None:
    losses = "model.losses=[{name: waveform}, {name: phase, weight: 0.5}, {name: si_sdr}]"
    recipe = load_recipe(tiny, changes=[losses, "model.losses.phase.weight=0.05", "model.losses.waveform=null"])
    assert [(loss.name, loss.weight) for loss in recipe.model.losses] == [("phase", 0.05), ("si_sdr", 1.0)]
    two = "model.losses=[{name: phase}, {name: phase, weight: 0.5}]"
    for change, message in (
        (
            "model.losses.opinion=null",
            r"unknown place in recipe\.model\.losses 'opinion'; valid are: 0, 1, 2, phase, si_",
        ),
        ("model.losses.0=null", r"recipe\.model\.losses\[0\] must be a mapping"),
    ):
        with pytest.raises(UsageError, match=message):
            load_recipe(tiny, changes=[losses, change])
    with pytest.raises(UsageError, match=r"unknown place in recipe\.model\.losses 'phase'; valid are: 0, 1$"):
        load_recipe(tiny, changes=[two, "model.losses.phase=null"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "trainer.stepz=3",
            r"unknown key in recipe\.trainer 'stepz' \(did you mean 'steps'\?\); valid are: .*batch_size",
        ),
        ("trainr.steps=3", r"unknown key in recipe 'trainr' \(did you mean 'trainer'\?\)"),
        ("trainer.steps=many", r"recipe\.trainer\.steps must be int, not 'many'"),
        ("trainer.steps", "must be KEY=VALUE"),
        ("=3", "must be KEY=VALUE"),
        ("trainer.steps.more=3", r"recipe\.trainer\.steps has no parts"),
        ("model.network.channels.9=3", r"unknown place in recipe\.model\.network\.channels '9'"),
        ("data.name=tonez", "did you mean 'tones'"),
        ("trainer.ema=[", "no valid YAML"),
    ],
)
def test_a_change_that_does_not_fit_says_what_would(tiny: Path, change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe(tiny, changes=[change])


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("[1, 2]")
    with pytest.raises(UsageError, match="no recipe"):
        load_recipe(path)
    path.write_bytes("description: für Töne".encode("latin-1"))
    with pytest.raises(UsageError, match=r"list\.yaml is no UTF-8 text .*; save it as UTF-8"):
        load_recipe(path)


def test_a_recipe_runs_from_data_to_a_model_that_makes_sound(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    before = torch.get_rng_state()
    result = run_recipe(load_recipe(tiny), out=out)
    assert torch.equal(torch.get_rng_state(), before)
    assert (result.step, result.ended) == (6, "steps")
    assert result.best is not None
    pipeline = Pipeline.from_pretrained(out / "model")
    sound = pipeline.generate(steps=2, seed=1)
    assert sound.samples.shape == (1, 256)
    assert pipeline.model.representation.state_dict()["scale"] != 1
    assert "Tones, for a test." in pipeline.card
    assert (out / "last" / "config.json").is_file()
    demos = sorted(path.name for path in (out / "demos" / "000000006").iterdir())
    assert demos == ["01.wav", "02.wav", "03.wav", "04.wav", "sounds.png"]


def test_a_run_that_is_stopped_before_its_first_validation_leaves_a_model_until_there_is_a_best_one(
    tiny: Path, tmp_path: Path
) -> None:
    out, changes = tmp_path / "run", ["trainer.demo_every=0", "trainer.decay=constant", "trainer.steps=8"]

    def go(stop: int, every: int) -> tuple[Result, dict[str, torch.Tensor]]:
        recipe = load_recipe(tiny, changes=[*changes, f"trainer.validate_every={every}"])
        result = run_recipe(recipe, out=out, resume=True, progress=SignalAt(signal.SIGINT, stop))
        return result, Pipeline.from_pretrained(out / "model").model.state_dict()

    def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(first[name], second[name]) for name in second)

    first, early = go(2, 100_000)
    assert (first.ended, first.best) == ("SIGINT", None)
    assert Pipeline.from_pretrained(out / "model").generate(steps=1, seed=0).samples.shape == (1, 256)
    second, later = go(4, 100_000)
    newest = Pipeline.from_pretrained(out / "last").model.state_dict()
    assert second.best is None
    assert same(later, newest)
    assert not same(early, newest)
    third, judged = go(100, 3)
    assert third.ended == "steps"
    assert third.best is not None
    assert not same(judged, later)


def test_a_best_model_is_not_replaced_by_the_newest_when_a_run_is_stopped(tiny: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny, changes=["trainer.demo_every=0", "trainer.steps=100"])
    result = run_recipe(recipe, out=tmp_path, progress=SignalAt(signal.SIGINT, 4))
    assert result.best is not None
    assert result.step > result.best.step == 3
    best, newest = (Pipeline.from_pretrained(tmp_path / name).model.state_dict() for name in ("model", "last"))
    assert any(not torch.equal(best[name], newest[name]) for name in best)


def test_each_recording_that_is_left_out_is_named(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, good, broken in (("train", 4, 3), ("judged", 1, 1)):
        (tmp_path / folder).mkdir()
        for number in range(good):
            samples = 0.1 * torch.randn(1, 400, generator=seeded(number))
            Audio(samples, 2000).save(tmp_path / folder / f"{number}.wav")
        for number in range(broken):
            (tmp_path / folder / f"broken-{number}.wav").write_text("no sound")
    monkeypatch.setattr("hiss.training.recipe.NAMED", 2)
    data = f"{{name: folder, path: {tmp_path / 'train'}, holdout: 0.5}}"
    one = ["trainer.demo_every=0", "trainer.steps=1", f"data={data}"]
    run_recipe(load_recipe(tiny, changes=one), out=tmp_path / "one")
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert [line.split(": ")[0] for line in said] == ["recordings left out"] * 3, "those held out are no others"
    assert said[0].startswith("recordings left out: 3; the first: broken-0.wav: ")
    assert said[1].startswith("recordings left out: broken-1.wav: ")
    assert said[2] == "recordings left out: 1 more"
    caplog.clear()
    run_recipe(
        load_recipe(tiny, changes=[*one, f"data.validation={tmp_path / 'judged'}", "data.holdout=0.0"]),
        out=tmp_path / "two",
    )
    assert "validation recordings left out: 1; the first: broken-0.wav: " in caplog.text


def test_a_run_starts_from_the_weights_of_another_model(tiny: Path, tmp_path: Path) -> None:
    run_recipe(load_recipe(tiny), out=tmp_path / "first")
    first = Pipeline.from_pretrained(tmp_path / "first" / "model").model
    deeper = ["channels=[8, 16, 16]", "factors=[4, 2]", "attention=[false, false, false]"]
    grown = load_recipe(tiny, changes=[f"model.network.{change}" for change in deeper])
    with torch.random.fork_rng(devices=[]):
        model = AudioDiffusionModel(grown.model)
    taken = adopt(model, first.state_dict(), "first")
    own, theirs = model.state_dict(), first.state_dict()
    assert "representation.scale" in taken
    assert 0 < len(taken) < len(own)
    assert all(torch.equal(own[name], theirs[name]) for name in taken)
    still = load_recipe(tiny, changes=["trainer.steps=1", "trainer.learning_rate=0.0"])
    run_recipe(still, out=tmp_path / "second", init=tmp_path / "first" / "model")
    second = Pipeline.from_pretrained(tmp_path / "second" / "last").model.state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in theirs.items())


def test_weights_that_another_model_lacks_are_named_and_the_scale_is_measured_anew(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = ["trainer.demo_every=0", "trainer.steps=1"]
    run_recipe(load_recipe(tiny, changes=quiet), out=tmp_path / "first")
    first = Pipeline.from_pretrained(tmp_path / "first" / "model").model
    first.representation.get_buffer("scale").fill_(7.0)
    Pipeline(first).save_pretrained(tmp_path / "other")
    for name, changes in (("same", []), ("wider", ["model.network.channels=[12, 24]"])):
        caplog.clear()
        run_recipe(load_recipe(tiny, changes=[*quiet, *changes]), out=tmp_path / name, init=tmp_path / "other")
        second = Pipeline.from_pretrained(tmp_path / name / "model").model
        warned = [record.getMessage() for record in caplog.records if "begin anew" in record.getMessage()]
        assert (second.representation.get_buffer("scale") == 7.0) == (name == "same")
        assert len(warned) == (name == "wider")
    count = len(second.state_dict())
    assert re.fullmatch(
        rf"\d+ of {count} weights begin anew, as .*other lacks them .*: (denoiser\S+, ){{2}}\S+", warned[0]
    )


def test_a_run_does_not_start_from_a_model_that_has_nothing_in_common(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown model 'nobody'"):
        run_recipe(load_recipe(tiny), out=tmp_path / "run", init="nobody")
    other = load_recipe(tiny, changes=["model.network={name: diffwave, channels: 12, layers: 2}"])
    model = AudioDiffusionModel(other.model)
    model.representation = torch.nn.Identity()  # type: ignore[assignment]
    with pytest.raises(UsageError, match="no weight of the model tones fits"):
        adopt(model, weights_of("tones", "diffusion"), "tones")


def test_what_a_loss_needs_is_missed_before_any_data_are_read(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["model.losses=[{name: opinion, sample_rate: 2000}]", "data={name: folder, path: nowhere}"]
    opinion_network.cache_clear()
    for package in ("onnx", "speechmos"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)  # as if it were not installed
            with pytest.raises(
                MissingPackageError, match=r"the loss 'opinion' needs .* pip install onnx speechmos .*=null"
            ):
                run_recipe(load_recipe(tiny, changes=changes), out=tmp_path / "run")
    named = [*changes, f"model.losses.opinion.network={tmp_path / 'none.onnx'}"]
    with pytest.raises(HissError, match=r"there is no DNSMOS network .*none\.onnx"):
        run_recipe(load_recipe(tiny, changes=named), out=tmp_path / "run")
    with pytest.raises(HissError, match="nowhere"):
        run_recipe(load_recipe(tiny, changes=[*changes, "model.losses.opinion=null"]), out=tmp_path / "run")


def test_a_resumed_recipe_ends_with_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    quiet = ["trainer.demo_every=0", "trainer.decay=constant"]
    run_recipe(load_recipe(tiny, changes=quiet), out=tmp_path / "whole")
    run_recipe(load_recipe(tiny, changes=[*quiet, "trainer.steps=3"]), out=tmp_path / "parts")
    run_recipe(load_recipe(tiny, changes=quiet), out=tmp_path / "parts", resume=True)
    whole, parts = (checkpoints.load(tmp_path / name / "state", 6)[0] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_own_recordings_take_the_place_of_the_data(tiny: Path, tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for number in range(8):
        samples = 0.1 * torch.randn(1, 400, generator=seeded(number))
        Audio(samples, 2000).save(sounds / f"{number}.wav")
    result = run_recipe(load_recipe(tiny, changes=["trainer.demo_every=0"]), data=sounds, out=tmp_path / "run")
    assert result.step == 6
    assert "name: folder" in Pipeline.from_pretrained(tmp_path / "run" / "model").card


def test_data_elsewhere_is_read_as_before_and_holds_out_a_part(tmp_path: Path) -> None:
    old = DataConfig.from_dict({"name": "shards", "path": "a", "validation": "b", "level": -20.0, "labels": {"x": "y"}})
    new = relocated(old, tmp_path).to_dict()
    assert (new["name"], new["path"], new["level"], new["labels"]) == ("folder", str(tmp_path), -20.0, {"x": "y"})
    assert (new["validation"], new["holdout"]) == (None, 0.05)
    (tmp_path / "a.tar").touch()
    assert relocated(old, tmp_path).to_dict()["name"] == "shards"


def test_data_in_place_of_what_was_judged_by_other_data_holds_out_a_part(tiny: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny, changes=["data.holdout=0.0", "validation={name: tones, examples: 8, seed: 1}"])
    mixed = replace(recipe, data=Mixtures(speech=SyntheticTones()))
    for told, held_out in ((recipe, 0.05), (mixed, 0.05), (replace(recipe, validation=None), 0.0)):
        moved = with_data(told, tmp_path, tmp_path / "run")
        assert moved.validation is None
        assert moved.data.held_out == held_out


def test_of_few_recordings_of_speech_none_need_be_held_out(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    Audio(0.1 * torch.randn(1, 400, generator=seeded(0)), 2000).save(sounds / "0.wav")
    data = f"{{name: mixtures, speech: {{name: folder, path: {sounds}, holdout: 0.01}}, chances: {{babble: 0}}}}"
    changes = ["trainer.demo_every=0", "trainer.steps=1", f"data={data}"]
    assert run_recipe(load_recipe(tiny, changes=changes), out=tmp_path / "run").best is None
    assert "nothing is held out for validation" in caplog.text


def test_new_data_for_mixtures_is_new_speech(tmp_path: Path) -> None:
    noise = SyntheticTones()
    data = relocated(Mixtures(speech=SyntheticTones(holdout=0.1), noise=noise), tmp_path)
    assert isinstance(data, Mixtures)
    assert data.noise == noise
    assert data.speech.to_dict()["path"] == str(tmp_path)
    assert data.speech.holdout == 0.1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, g++, on a CPU")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # the compiler's own
def test_a_compiled_run_loses_as_much_as_a_plain_one(tiny: Path, tmp_path: Path) -> None:
    losses = []
    for compiled in ("false", "true"):
        folder = tmp_path / compiled
        run_recipe(load_recipe(tiny, changes=[f"trainer.compile={compiled}"]), out=folder)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([row[key] for row in rows for key in ("train/loss", "validation/loss") if key in row])
    assert len(losses[0]) == 8
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_the_precision_no_is_a_word_and_true_is_none() -> None:
    recipe = load_recipe("tones", changes=["trainer.precision=no", "trainer.compile=true"])
    assert recipe.trainer.precision == "no"
    assert recipe.trainer.compile is True


def test_a_lora_learns_on_a_model_that_stays_as_it_is_and_resumes_exactly(tiny: Path, tmp_path: Path) -> None:
    run_recipe(load_recipe(tiny, changes=["trainer.steps=2"]), out=tmp_path / "base")
    base, adapters = tmp_path / "base" / "model", tmp_path / "whole" / "model"
    changes = ["lora.rank=2", "trainer.learning_rate=0.01", "trainer.decay=constant"]
    run_recipe(load_recipe(tiny, changes=changes), out=tmp_path / "whole", init=base)
    run_recipe(load_recipe(tiny, changes=[*changes, "trainer.steps=3"]), out=tmp_path / "parts", init=base)
    run_recipe(load_recipe(tiny, changes=changes), out=tmp_path / "parts", resume=True)
    whole, parts = (checkpoints.load(tmp_path / name / "state", 6)[0] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)

    pipeline = Pipeline.from_pretrained(base)
    weights = {name.replace("parametrizations.weight.original", "weight"): whole[name] for name in whole}
    for name, tensor in pipeline.model.state_dict().items():
        assert torch.equal(weights[f"model/model.{name}"], tensor)
    plain = pipeline.generate(steps=2, seed=1).samples
    assert not torch.equal(pipeline.adapt(adapters).generate(steps=2, seed=1).samples, plain)
    assert torch.equal(pipeline.adapt(adapters).unadapt().generate(steps=2, seed=1).samples, plain)
    for name, tensor in pipeline.model.state_dict().items():
        assert torch.equal(weights[f"model/model.{name}"], tensor)


def test_a_lora_refuses_a_model_that_lacks_weights(tiny: Path, tmp_path: Path) -> None:
    run_recipe(load_recipe(tiny, changes=["trainer.steps=1"]), out=tmp_path / "base")
    wider = load_recipe(tiny, changes=["lora.rank=2", "model.network.coordinate=true"])
    with pytest.raises(UsageError, match=r"adapts a whole model, and .* lacks 1 weights"):
        run_recipe(wider, out=tmp_path / "run", init=tmp_path / "base" / "model")


def test_a_lora_needs_a_trained_model(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name that model as the one to start from"):
        run_recipe(load_recipe(tiny, changes=["lora.rank=2"]), out=tmp_path / "run")


def test_a_bundled_model_can_be_adapted_by_its_name(tmp_path: Path) -> None:
    data = {"name": "tones", "examples": 4, "high": 900.0}
    path = tmp_path / "adapt.yaml"
    path.write_text(yaml.safe_dump({"data": data, "model": {"from": "tones"}, "lora": {"rank": 1}}))
    run_recipe(load_recipe(path, changes=["trainer.steps=1", "trainer.batch_size=2"]), out=tmp_path / "run")
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_size < 1_000_000
    load("tones").adapt(tmp_path / "run" / "model")
