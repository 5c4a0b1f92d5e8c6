"""What can be chosen about a training run, and the learning rate that follows from it."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

from hiss.errors import UsageError
from hiss.spec import Spec
from hiss.training.ema import exponent
from hiss.types import Precision


@dataclass(frozen=True)
class TrainerConfig(Spec):
    """How a model is trained: optimiser, learning rate, averages, and what is done how often.

    The learning rate rises linearly for `warmup` steps and then follows `decay`. `rise`, `start` and `final` are
    factors of `learning_rate`: "5 % linear warm-up, then OneCycle that rises for 30 %, final 1/1000" is
    `warmup: 0.05, decay: onecycle, rise: 0.3, final: 0.001`.
    """

    steps: int = 10_000
    """Optimiser steps of the whole run."""
    epochs: int = 0
    """Passes over the training data, in place of `steps`; 0 where `steps` counts."""
    batch_size: int = 32
    """Examples in each forward pass of each process."""
    accumulate: int = 1
    """Forward passes per optimiser step."""
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    """Decoupled (AdamW), on matrices and kernels only: never on biases, gains or embeddings."""
    warmup: int | float = 0.05
    """Steps, or a share of `steps` where it is below 1."""
    decay: Literal["constant", "cosine", "onecycle", "inverse_sqrt"] = "cosine"
    rise: float = 0.3
    """onecycle: the share of the steps after the warm-up in which the rate rises."""
    start: float = 0.04
    """onecycle: the factor at which the rise begins; the warm-up leads up to it."""
    final: float = 0.05
    """cosine and onecycle: the factor at the last step."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 for no limit."""
    only: tuple[str, ...] = ()
    """Patterns such as `*.split.*`: only weights with a name that matches one of them are trained, the rest stay as
    they are; all are trained where there is no pattern. The names are those in the state of a run."""
    precision: Precision = "no"
    """Autocast of the forward pass; weights, averages and optimiser stay float32."""
    compile: bool = False
    """Whether the network is compiled (torch.compile): a minute or two first, then each step may be faster. Measure it:
    `bands` gains on CPUs and a `unet` loses, and with bf16 gets gradients that are not finite there (torch 2.13)."""
    ema: tuple[float, ...] = (0.05, 0.1)
    """Lengths (sigma_rel) of the moving averages of the weights that are kept; see `hiss.training.ema`."""
    log_every: int = 10
    validate_every: int = 500
    save_every: int = 500
    demo_every: int = 0
    """0 for no demos."""
    keep_best: bool = False
    """Whether the model of the lowest validation loss is also kept as `best_model_YYYYMMDD_HHMMSS`, the time it was
    found: with it are the state of its optimiser, its step, epoch, learning rate and loss."""
    snapshots: int = 0
    """How many times in the run the averages are kept in a file, for `hiss.training.ema.reconstruct`."""
    seed: int = 0
    workers: int = 0
    """Processes that read data."""
    divergence: float = 10.0
    """The run stops when the smoothed loss is this much worse than its best (see `Health`); 0 for never."""
    patience: int = 10
    """The run stops after so many steps in a row whose loss or gradient is not finite."""

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise UsageError(f"{key} must be a finite number, not {number}")
        for key in ("steps", "batch_size", "accumulate", "log_every", "patience"):
            if getattr(self, key) < 1:
                raise UsageError(f"{key} must be at least 1, not {getattr(self, key)}")
        for key in (
            "epochs",
            "validate_every",
            "save_every",
            "demo_every",
            "snapshots",
            "workers",
            "learning_rate",
            "weight_decay",
            "warmup",
            "start",
            "final",
            "clip",
            "divergence",
        ):
            if getattr(self, key) < 0:
                raise UsageError(f"{key} must not be negative, not {getattr(self, key)}")
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise UsageError(f"betas must be from 0 to below 1, not {beta}")
        for length in self.ema:
            exponent(length)
        if isinstance(self.warmup, float) and self.warmup >= 1:
            raise UsageError(f"warmup must be whole steps or a share below 1, not {self.warmup}")
        if not 0 < self.rise < 1:
            raise UsageError(f"rise must be a share between 0 and 1, not {self.rise}")

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises linearly."""
        return self.warmup if isinstance(self.warmup, int) else round(self.warmup * self.steps)

    def counted(self, examples: int | None, *, world: int = 1) -> Self:
        """Returns this with the `steps` that `epochs` mean, if it has any, for a pass of that many examples.

        Args:
            examples: of the training data in one pass; None where that is not known.
            world: processes, which share a pass.

        Raises:
            UsageError: it is not known.
        """
        if not self.epochs:
            return self
        if examples is None:
            raise UsageError(
                "trainer.epochs needs data of known size, and these are read as a stream; give trainer.steps instead"
            )
        return replace(self, steps=math.ceil(self.epochs * examples / self.examples(world)))

    def examples(self, world: int) -> int:
        """Returns how many examples one optimiser step takes in that many processes."""
        return self.batch_size * self.accumulate * world

    def rate(self, step: int) -> float:
        """Returns the learning rate of optimiser step `step`, counted from 0.

        With w warm-up steps of n steps and t = (step - w) / (n - 1 - w), which runs from 0 to 1, the factors are:
        constant 1; cosine final + (1 - final) (1 + cos(pi t)) / 2; onecycle half a cosine from `start` up to 1 at
        t = `rise` and another half down to `final`; inverse_sqrt sqrt(w / (step + 1)). All are continued at their
        last value after the last step.
        """
        warmup = self.warmup_steps
        if step < warmup:
            peak = self.start if self.decay == "onecycle" else 1.0
            return self.learning_rate * peak * (step + 1) / warmup
        t = min((step - warmup) / max(self.steps - 1 - warmup, 1), 1.0)
        if self.decay == "cosine":
            factor = _ease(1.0, self.final, t)
        elif self.decay == "onecycle":
            if t < self.rise:
                factor = _ease(self.start, 1.0, t / self.rise)
            else:
                factor = _ease(1.0, self.final, (t - self.rise) / (1 - self.rise))
        elif self.decay == "inverse_sqrt":
            factor = math.sqrt(max(warmup, 1) / (step + 1))
        else:
            factor = 1.0
        return self.learning_rate * factor


def _ease(first: float, last: float, t: float) -> float:
    """Returns the value at t in [0, 1] of half a cosine from `first` to `last`."""
    return last + (first - last) * (1 + math.cos(math.pi * t)) / 2
