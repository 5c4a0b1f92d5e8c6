"""Demos: of a model that denoises, examples that it cleaned; what others generate is in the test of recipes."""

from pathlib import Path
from typing import Any

import denoisers
import pytest
import torch
import yaml

from hiss.audio import Audio
from hiss.errors import UsageError
from hiss.training.recipe import load_recipe, run_recipe

TONES = {"name": "tones", "examples": 8, "low": 200.0, "high": 900.0}
RECIPE: dict[str, Any] = {
    "data": {"name": "mixtures", "speech": TONES | {"holdout": 0.25}, "chances": {"babble": 0.0}},
    "model": denoisers.CONFIG.to_dict(),
    "trainer": {"steps": 3, "batch_size": 2, "validate_every": 3, "demo_every": 1},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "denoiser.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def test_the_demo_of_a_denoiser_is_what_becomes_of_the_same_examples(recipe: Path, tmp_path: Path) -> None:
    assert run_recipe(load_recipe(recipe), out=tmp_path / "run").step == 3
    first, *_, last = sorted((tmp_path / "run" / "demos").iterdir())
    made = sorted(path.name for path in last.iterdir())
    count = len(made) // 3
    expected = [f"{number:02d}-{what}.wav" for number in range(1, count + 1) for what in ("clean", "estimate", "noisy")]
    assert 1 <= count <= 4
    assert made == [*expected, "sounds.png"]

    def sounds(what: str) -> list[torch.Tensor]:
        return [Audio.load(folder / f"01-{what}.wav").samples for folder in (first, last)]

    for what in ("noisy", "clean"):
        assert torch.equal(*sounds(what))
    early, late = sounds("estimate")
    assert early.shape == late.shape == (1, denoisers.CONFIG.samples)
    assert not torch.equal(early, late)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("prompts=[seven]", "takes no prompts"),
        ("data={name: tones, examples: 8, high: 900.0}", "needs noisy recordings"),
    ],
)
def test_a_demo_that_a_denoiser_cannot_give_is_refused(recipe: Path, tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run_recipe(load_recipe(recipe, changes=[change]), out=tmp_path / "run")
