"""Distillation: the aim of a step is the exact solution's, and a student learns from a folder, stops and resumes."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from hiss.config import SamplingConfig
from hiss.diffusion.sampling import ddim
from hiss.diffusion.schedules import Karras
from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.training import checkpoints
from hiss.training.objectives.distillation import DistillationObjective, DistillationRecipe, Lesson, aim
from hiss.training.reading import Stages, read_recipe
from hiss.training.recipe import load_recipe, run_recipe
from hiss.training.stages import run_stages
from hiss.types import Batch, Prompt

FEW = SamplingConfig(schedule=Karras(sigma_min=0.3), sampler="ddim", steps=4)

STAGES: dict[str, Any] = {
    "description": "Tones, for a test.",
    "data": {"name": "tones", "examples": 24, "holdout": 0.25, "low": 200.0, "high": 900.0},
    "trainer": {"batch_size": 4, "validate_every": 30, "save_every": 30, "log_every": 1, "warmup": 1},
    "stages": {
        "teacher": {
            "model": {
                "sample_rate": 2000,
                "seconds": 0.128,
                "representation": {"name": "mdct", "bins": 16},
                "network": {"name": "unet", "channels": [8], "factors": [], "attention": [False], "embedding": 16},
                "uncertainty": True,
                "sampling": {"steps": 12},
            },
            "trainer": {"steps": 30, "learning_rate": 3e-3},
        },
        "student": {
            "kind": "distillation",
            "objective": {"diffusion": {"from": "teacher"}},
            "trainer": {"steps": 30, "learning_rate": 1e-3, "demo_every": 30},
        },
    },
}


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """Returns the exact estimate for clean signals that are Gaussian noise of unit variance."""
    return x / (1 + sigma**2)


def solved(x: Tensor, sigma: float, lower: float) -> Tensor:
    """Returns where the exact solution for these leads from sigma to `lower`."""
    return x * math.sqrt((1 + lower**2) / (1 + sigma**2))


@pytest.mark.parametrize(("sigma", "lower"), [(80.0, 10.0), (10.0, 1.0), (1.0, 0.1), (2.0, 0.0), (80.0, 0.0)])
def test_the_aim_of_a_step_is_that_of_the_exact_solution(sigma: float, lower: float) -> None:
    x = sigma * torch.randn(2, 1, 50, generator=seeded("x"))
    found = aim(gaussian, x, sigma, lower, Karras(sigma_min=1e-3).grid(400))
    stepped = found + lower / sigma * (x - found)
    torch.testing.assert_close(stepped, solved(x, sigma, lower), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_student_that_meets_its_aim_gets_in_few_steps_where_its_teacher_gets_in_many(steps: int) -> None:
    grid, many = replace(Karras(), sigma_min=0.3).grid(steps), Karras().grid(400)
    following = {float(sigma): float(lower) for sigma, lower in pairwise(grid)}
    x = 80 * torch.randn(2, 1, 50, generator=seeded("x"))
    made = ddim(lambda x, sigma: aim(gaussian, x, float(sigma), following[float(sigma)], many), x, grid)
    torch.testing.assert_close(made, solved(x, 80.0, 0.0), atol=2e-3, rtol=2e-3)


def lesson() -> Lesson:
    recipe = Stages(STAGES).recipe("student")
    assert isinstance(recipe, DistillationRecipe)
    return recipe.objective


def test_only_the_student_learns_and_the_aim_is_reached_from_every_step() -> None:
    objective = DistillationObjective(lesson(), FEW)
    for name, parameter in objective.diffusion.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(name))
    objective.fit([])
    batch = Batch(0.1 * torch.randn(4, 1, 256, generator=seeded("audio")), 2000, (Prompt(),) * 4, torch.full((4,), 256))
    theirs = objective.diffusion.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in objective.model.state_dict().items())
    starts: list[float] = []
    noted = objective.model.denoiser.register_forward_pre_hook(lambda _, given: starts.extend(given[1].tolist()))
    losses = [float(objective(batch, seeded(number))["loss"].detach()) for number in range(40)]
    noted.remove()
    assert sorted(set(starts), reverse=True) == FEW.schedule.grid(FEW.steps)[:-1].tolist()
    assert all(loss > 0 for loss in losses)
    objective.train()
    objective(batch, seeded(0))["loss"].backward()
    assert [name for name, p in objective.model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    assert all(p.grad is None for p in objective.diffusion.parameters())
    assert objective.model.config.sampling == FEW


def test_a_student_with_as_many_steps_as_its_teacher_has_nothing_to_learn() -> None:
    teacher = lesson().diffusion
    many = replace(teacher.sampling, sampler="ddim")
    objective = DistillationObjective(replace(lesson(), steps=many.steps), many)
    objective.fit([])
    batch = Batch(0.1 * torch.randn(4, 1, 256, generator=seeded("audio")), 2000, (Prompt(),) * 4, torch.full((4,), 256))
    assert all(float(objective(batch, seeded(number))["loss"].detach()) < 1e-6 for number in range(6))


def test_teacher_and_student_are_trained_one_after_the_other_and_a_student_resumes_exactly(tmp_path: Path) -> None:
    path = tmp_path / "fast.yaml"
    path.write_text(yaml.safe_dump(STAGES, sort_keys=False))
    results = run_stages(Stages(read_recipe(path)), out=tmp_path / "run")
    assert [result.step for result in results.values()] == [30, 30]
    student = Pipeline.from_pretrained(tmp_path / "run" / "student" / "model")
    assert student.model.config.sampling == FEW
    assert student.generate(seed=0).samples.shape == (1, 256)

    taught = f"stages.student.objective.diffusion.from={tmp_path / 'run' / 'teacher' / 'model'}"
    changes = [taught, "stages.student.trainer.decay=constant", "stages.student.trainer.demo_every=0"]

    def go(folder: str, steps: int, *, resume: bool = False) -> None:
        stages = Stages(read_recipe(path, [*changes, f"stages.student.trainer.steps={steps}"]))
        run_recipe(stages.recipe("student", tmp_path), out=tmp_path / folder, resume=resume)

    go("whole", 6)
    go("parts", 3)
    go("parts", 6, resume=True)
    whole, parts = (checkpoints.load(tmp_path / name / "state", 6)[0] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    begun = tmp_path / "run" / "student" / "model"
    again = Stages(read_recipe(path, [*changes, "stages.student.trainer.steps=1"])).recipe("student", tmp_path)
    assert run_recipe(again, out=tmp_path / "again", init=begun).step == 1


def test_the_teacher_of_the_bundled_recipe_is_that_of_classical() -> None:
    recipe, teacher = load_recipe("classical-fast"), load_recipe("classical")
    assert isinstance(recipe, DistillationRecipe)
    assert recipe.objective.diffusion == teacher.model
    assert recipe.data == teacher.data


def test_a_teacher_may_have_been_trained_by_other_losses_alone() -> None:
    DistillationObjective(Lesson(load_recipe("denoise-conv").model), replace(FEW, steps=2))


def test_what_a_student_cannot_learn_is_refused() -> None:
    with pytest.raises(UsageError, match="are those of ddim, not of heun"):
        DistillationObjective(lesson(), replace(FEW, sampler="heun"))
    with pytest.raises(UsageError, match="must be a weighting that counts, not 'none'"):
        replace(lesson(), weighting="none")
