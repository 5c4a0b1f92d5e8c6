"""Training a CLAP by a recipe, alone and as the reader of a text-to-audio model."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from toy_stages import STAGES, captioned_tones, saved

from hiss.clap import Clap
from hiss.conditioners.text import Text
from hiss.evaluation.retrieval import retrieval
from hiss.pipeline import Pipeline
from hiss.saved import read_part
from hiss.training import checkpoints
from hiss.training.reading import Stages, read_recipe
from hiss.training.recipe import load_recipe, run_recipe
from hiss.training.stages import run_stages

TONES = {"low": 200, "middle": 600, "high": 1500, "shrill": 3000}
CLAP: dict[str, Any] = {
    "kind": "clap",
    "model": {
        "audio": {
            **{"sample_rate": 8000, "n_fft": 512, "hop": 128, "bins": 32, "image": 32, "patch": 4},
            **{"width": 8, "depths": [1, 1], "heads": [2, 2]},
        },
        "text": {"tokens": 300, "width": 16, "layers": 1, "heads": 2},
        "features": 16,
    },
    "trainer": {"steps": 80, "batch_size": 8, "learning_rate": 3e-3, "warmup": 2, "ema": [0.1]},
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones of four pitches with a text file beside each."""
    folder = tmp_path_factory.mktemp("captioned") / "tones"
    return captioned_tones(folder, TONES, samples=4000, sample_rate=8000)


def test_a_trained_clap_finds_what_belongs_together(sounds: Path, tmp_path: Path) -> None:
    recipe = load_recipe(saved(CLAP | {"data": {"name": "folder", "path": str(sounds)}}, tmp_path))
    result = run_recipe(recipe, out=tmp_path / "run")
    assert result.step == 80
    clap = cast(Clap, read_part(tmp_path / "run" / "model", "clap")).eval()
    assert clap.config.text.vocabulary.words == ("a", "high", "low", "middle", "shrill", "tone")
    clips = {"sample_rate": 8000, "channels": 1, "samples": clap.config.audio.samples}
    found = retrieval(clap, recipe.data.open(**clips, split="all"))
    assert set(found) == {f"{way}@{count}" for way in ("text to audio", "audio to text") for count in (1, 5, 10)}
    assert found["text to audio@1"] == 1


def test_text_to_audio_is_trained_in_four_stages_by_one_command(sounds: Path, tmp_path: Path) -> None:
    parts = dict(STAGES["stages"])
    diffusion = parts.pop("diffusion")
    network = diffusion["model"]["network"] | {"attention": [True]}
    conditioners = [{"name": "text", "clap": {"from": "clap"}}]
    model = diffusion["model"] | {"network": network, "conditioners": conditioners}
    recipe = STAGES | {
        "data": {"name": "folder", "path": str(sounds), "holdout": 0.25},
        "stages": {"clap": CLAP | {"trainer": {"steps": 8}}} | parts | {"diffusion": {"model": model}},
    }
    stages = Stages(read_recipe(saved(recipe, tmp_path)))
    results = run_stages(stages, out=tmp_path / "run")
    assert [result.step for result in results.values()] == [8, 8, 8, 8]
    pipeline = Pipeline.from_pretrained(tmp_path / "run" / "diffusion" / "model")
    reader = pipeline.model.conditioners[0]
    assert isinstance(reader, Text)
    trained = read_part(tmp_path / "run" / "clap" / "model", "clap").state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in reader.clap.state_dict().items())
    low, high = (pipeline.generate(f"a {word} tone", steps=2, seed=0) for word in ("low", "high"))
    assert low.samples.shape == (1, 480)
    assert not torch.equal(low.samples, high.samples)
    learned, _ = checkpoints.load(tmp_path / "run" / "diffusion" / "state", 8)
    assert any("any_vector" in name and bool(tensor.any()) for name, tensor in learned.items())
