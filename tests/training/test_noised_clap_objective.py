"""Training a noised CLAP by a recipe, alone and as the stage before a model that is steered by it."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from toy_stages import STAGES, captioned_tones, saved

from hiss.clap import NoisedClap, NoisedClapConfig
from hiss.conditioners.words import Words
from hiss.errors import UsageError
from hiss.pipeline import Pipeline
from hiss.saved import read_part
from hiss.training import checkpoints
from hiss.training.objectives.noised_clap import NoisedClapRecipe
from hiss.training.reading import Stages, read_recipe
from hiss.training.recipe import load_recipe, run_recipe
from hiss.training.stages import run_stages

TONES = {"low": 120, "middle": 320, "high": 550, "shrill": 800}
HEARD = {
    "sample_rate": 2000,
    "seconds": 0.24,
    "representation": {
        "name": "mel",
        "vocoder": {"name": "griffin_lim", "mel": STAGES["stages"]["vae"]["model"]["mel"]},
    },
    "training": {"name": "lognormal", "mean": -1.0, "std": 0.5},
}
NOISED: dict[str, Any] = {
    "kind": "noised_clap",
    "model": {"channels": [8, 16], "embedding": 16, "features": 16, "withheld": 0.0},
    "objective": HEARD,
    "trainer": {"steps": 150, "batch_size": 8, "learning_rate": 5e-3, "warmup": 2, "ema": [0.1]},
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones of four pitches with a text file beside each."""
    folder = tmp_path_factory.mktemp("captioned") / "tones"
    return captioned_tones(folder, TONES, samples=600, sample_rate=2000)


def test_a_trained_noised_clap_finds_what_belongs_together(sounds: Path, tmp_path: Path) -> None:
    recipe = load_recipe(saved(NOISED | {"data": {"name": "folder", "path": str(sounds)}}, tmp_path))
    assert isinstance(recipe, NoisedClapRecipe)
    assert run_recipe(recipe, out=tmp_path / "run").step == 150
    clap = cast(NoisedClap, read_part(tmp_path / "run" / "model", "noised_clap")).eval()
    assert clap.config.words == ("a", "high", "low", "middle", "shrill", "tone")
    representation = recipe.objective.representation.build(2000, 1)
    (batch,) = recipe.data.open(sample_rate=2000, channels=1, samples=480, split="all").once(32)
    representation.fit([batch.audio])
    captions = [f"a {word} tone" for word in TONES]
    heard = clap.embed(representation.encode(batch.audio), torch.full((32,), 0.3))
    nearest = (heard @ clap.embed_texts(captions).T).argmax(dim=1).tolist()
    right = [captions[near] == prompt.text for near, prompt in zip(nearest, batch.prompts, strict=True)]
    assert sum(right) >= 30


def test_it_is_a_stage_before_a_model_that_it_steers(sounds: Path, tmp_path: Path) -> None:
    parts = dict(STAGES["stages"])
    diffusion = parts.pop("diffusion")
    model = diffusion["model"] | {
        "conditioners": [{"name": "words", "noised_clap": {"from": "noised_clap"}}],
        "sampling": {"steps": 2, "steer": 1.0},
    }
    latent = HEARD | {"representation": model["representation"]}
    recipe = STAGES | {
        "data": {"name": "folder", "path": str(sounds), "holdout": 0.25},
        "stages": parts
        | {"noised_clap": NOISED | {"objective": latent, "encoded": 1, "trainer": {"steps": 8, "batch_size": 8}}}
        | {"diffusion": {"model": model, "encoded": 1}},
    }
    results = run_stages(Stages(read_recipe(saved(recipe, tmp_path))), out=tmp_path / "run")
    assert [result.step for result in results.values()] == [8, 8, 8, 8]
    pipeline = Pipeline.from_pretrained(tmp_path / "run" / "diffusion" / "model")
    words = pipeline.model.conditioners[0]
    assert isinstance(words, Words)
    state, _ = checkpoints.load(tmp_path / "run" / "noised_clap" / "state", 8)
    scales = {name: tensor for name, tensor in pipeline.model.representation.state_dict().items() if "vae" not in name}
    assert {"mean", "scale"} <= set(scales)
    # It hears what the model works on: scaled alike.
    for name, tensor in scales.items():
        torch.testing.assert_close(state[f"model/representation.{name}"], tensor)
    trained = read_part(tmp_path / "run" / "noised_clap" / "model", "noised_clap").state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in words.noised_clap.state_dict().items())
    low, high = (pipeline.generate(f"a {word} tone", seed=0) for word in ("low", "high"))
    assert low.samples.shape == (1, 480)
    assert not torch.equal(low.samples, high.samples)


def test_its_sizes_may_be_left_to_hiss(sounds: Path, tmp_path: Path) -> None:
    part = {key: value for key, value in NOISED.items() if key != "model"}
    words = {"name": "words", "noised_clap": {"from": "noised_clap"}}
    model = STAGES["stages"]["diffusion"]["model"] | {
        "representation": HEARD["representation"],
        "conditioners": [words],
    }
    recipe = {
        "data": {"name": "folder", "path": str(sounds)},
        "stages": {"noised_clap": part, "diffusion": {"model": model}},
    }
    stages = Stages(read_recipe(saved(recipe, tmp_path)))
    assert stages.recipe("noised_clap").model == NoisedClapConfig()


def test_passes_are_not_fewer_than_none(sounds: Path, tmp_path: Path) -> None:
    recipe = NOISED | {"data": {"name": "folder", "path": str(sounds)}, "encoded": -1}
    with pytest.raises(UsageError, match="0 or more"):
        load_recipe(saved(recipe, tmp_path))
