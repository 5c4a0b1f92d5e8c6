"""Models that take a few steps where another one takes many."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hiss.config import ModelConfig, SamplingConfig
from hiss.data import Dataset
from hiss.diffusion.sampling import dpmpp_2m
from hiss.diffusion.schedules import Karras
from hiss.diffusion.weightings import WEIGHTINGS
from hiss.errors import UsageError
from hiss.model import AudioDiffusionModel, divided
from hiss.noise import normal
from hiss.spec import Spec
from hiss.training.demo import demo_of
from hiss.training.objective import Objective
from hiss.training.objectives.base import Clips, Recipe
from hiss.training.trainer import Demo
from hiss.types import Batch, Denoise

_APART = 1.01  # levels of the teacher that are nearer to one of the student's are left out


@dataclass(frozen=True)
class Lesson(Spec):
    """What a student learns from."""

    diffusion: ModelConfig
    """The teacher, a diffusion model."""
    steps: int | None = None
    """Of the teacher's walk from the highest level to the lowest; its own choice where left out."""
    weighting: str = "edm"
    """How much the error at each noise level counts."""

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS or self.weighting == "none":
            raise UsageError(f"objective.weighting must be a weighting that counts, not {self.weighting!r}")


class DistillationObjective(Objective):
    """How far each step of a student leads from where many steps of its teacher lead.

    The student starts as a copy of the teacher. A step of DDIM from x at sigma to `lower` leads to D + r (x - D), where
    r = lower / sigma; so D is compared with `aim`. Prompts are never withheld, and the teacher is not guided.
    Source: Salimans, Ho 2022, "Progressive distillation for fast sampling of diffusion models", algorithm 2, with all
    rounds in one.
    """

    model: AudioDiffusionModel

    def __init__(self, lesson: Lesson, sampling: SamplingConfig) -> None:
        # What the teacher was trained by is not what the student is.
        plain = replace(lesson.diffusion, sampling=sampling, uncertainty=False, weighting="edm", losses=())
        super().__init__(AudioDiffusionModel(plain))
        if sampling.sampler not in ("ddim", "euler"):
            raise UsageError(f"the steps that a student learns are those of ddim, not of {sampling.sampler}")
        self.lesson = lesson
        self.diffusion = AudioDiffusionModel(lesson.diffusion).requires_grad_(False)
        self.measured = tuple(self.model.state_dict())

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        samples, teacher = batch.audio.shape[-1], self.diffusion.eval()
        condition, level = self.model.condition(batch.prompts, samples)
        clean = divided(self.model.representation.encode(batch.audio.to(self.model.device)), level)
        best = self.model.config.sampling
        grid = best.schedule.grid(best.steps)
        step = int(torch.randint(best.steps, (), generator=generator))
        start, end = grid[step : step + 2].tolist()
        x = clean + start * normal(clean, generator)
        with torch.no_grad():
            told, _ = teacher.condition(batch.prompts, samples)
            theirs = self.diffusion.config.sampling
            levels = theirs.schedule.grid(self.lesson.steps or theirs.steps)
            wanted = aim(lambda x, sigma: teacher.denoiser(x, sigma, told), x, start, end, levels)
        sigma = x.new_full((len(x),), start)
        error = (self.model.denoiser(x, sigma, condition) - wanted).square().flatten(1).mean(dim=1)
        return {"loss": (WEIGHTINGS[self.lesson.weighting](sigma) * error).mean()}

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Takes over what the teacher knows, its statistics of the training set included."""
        del batches
        self.model.load_state_dict({name: self.diffusion.state_dict()[name] for name in self.model.state_dict()})


def aim(denoise: Denoise, x: Tensor, sigma: float, lower: float, levels: Tensor) -> Tensor:
    """Returns the estimate with which one step of DDIM gets where DPM-Solver++(2M) gets in many.

    With x' at the end of its walk, and r = lower / sigma, that is (x' - r x) / (1 - r).

    Args:
        denoise: the teacher.
        x: the state [batch, channels, *space] at the level `sigma`.
        sigma: where the step begins.
        lower: where it ends, maybe 0.
        levels: noise levels, of which the walk takes those between.
    """
    between = levels[(levels < sigma / _APART) & (levels > lower * _APART)]
    walked = dpmpp_2m(denoise, x, torch.cat([levels.new_tensor([sigma]), between, levels.new_tensor([lower])]))
    share = lower / sigma
    return (walked - share * x) / (1 - share)


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(Recipe, name="distillation"):
    """How a student is trained; it is what its teacher is, except in how it is sampled."""

    objective: Lesson
    model: SamplingConfig = SamplingConfig(schedule=Karras(sigma_min=0.3), sampler="ddim", steps=4)
    """How the student is sampled: which steps it learns."""
    prompts: tuple[str, ...] = ()
    """Of the demos made every `trainer.demo_every` steps; without any, four sounds are made freely."""

    @property
    def clips(self) -> Clips:
        teacher = self.objective.diffusion
        return Clips(teacher.sample_rate, teacher.channels, teacher.samples)

    def objective_for(self, examples: Dataset) -> DistillationObjective:
        return DistillationObjective(self.objective, self.model)

    def demo(self, objective: Objective, examples: Dataset) -> Demo:
        assert isinstance(objective, DistillationObjective)
        return demo_of(objective.model, examples, prompts=self.prompts, seed=self.trainer.seed)
