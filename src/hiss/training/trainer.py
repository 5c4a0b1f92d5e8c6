"""The training loop: one for every objective, on one process or many, that ends cleanly and resumes exactly."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from hiss.data import Dataset
from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.training import checkpoints
from hiss.training.config import TrainerConfig
from hiss.training.ema import PowerAverage, save_snapshots
from hiss.training.engine import Engine, release, uncompiled
from hiss.training.health import Health
from hiss.training.journal import Journal
from hiss.training.stopping import Stopping

Demo = Callable[[int, nn.Module, Journal], None]
"""(step, objective with averaged weights, where to note sounds): called every `demo_every` steps."""

Export = Callable[[Path, nn.Module], None]
"""(folder, objective with averaged weights): writes a model into the folder."""


class Progress(Protocol):
    """Told about every step, so that a command line can draw a bar."""

    def update(self, step: int, loss: float, examples_per_second: float, seconds_left: float) -> None:
        """Takes the steps done, the smoothed loss, the speed and the time to the end in seconds."""
        ...


@dataclass(frozen=True)
class Best:
    """The lowest validation loss so far; once an adversary plays the newest, since losses then say little."""

    step: int
    loss: float
    length: float | None
    """Of the average of the weights that had it (sigma_rel); None where no averages are kept."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    step: int
    """Optimiser steps done, those before a resume included."""
    ended: str
    """"steps" (all done), "minutes" (time over), "SIGTERM", "SIGINT" or "another process" (asked to leave)."""
    loss: float
    """Smoothed training loss."""
    best: Best | None
    """None without validation data."""
    skipped: int
    """Steps left out because the loss or the gradient was not finite."""
    seconds: float
    """Of this call."""
    state: Path
    """Folder of the saved state."""


def train(
    objective: nn.Module,
    config: TrainerConfig,
    data: Dataset,
    validation: Dataset | None,
    folder: str | Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
    progress: Progress | None = None,
    demo: Demo | None = None,
    export: Export | None = None,
) -> Result:
    """Returns how the training of `objective` ended; its parameters are trained in place.

    `objective(batch, generator)` returns tensors without dimensions by name; "loss" is minimised, the rest is logged.
    `folder` gets `state/` (to resume), `snapshots/`, `metrics.jsonl`, `tensorboard/`, and the models that `export`
    writes: `model/`, at each new lowest validation loss, and `last/`, at each save; without validation data, or where
    the run ends before any loss was judged, `model/` is the last. An objective with an adversary has its newest model
    in both, and the adversary is in no average. With `config.keep_best` there is also `best_model_YYYYMMDD_HHMMSS/`.
    Noise, dropout and data depend on (seed, step, process) alone, so a run that was killed and resumed ends with the
    same weights as one that was not; torch's global random state is left as it was found. Under `accelerate launch` or
    `torchrun` every process calls this function; `config.batch_size` is that of one process, and only the first one
    writes.

    SIGTERM and a first Ctrl-C save the state and end the run.

    Args:
        objective: what is trained.
        config: how.
        data: training examples.
        validation: examples to judge by, or None; every length of average is judged, and the best one handed out.
        folder: where everything is written.
        resume: continue from the state in `folder`, if there is one.
        minutes: the run ends by itself after this time, its last validation included where there was one before.
        progress: told about every step.
        demo: called every `config.demo_every` steps.
        export: called to write a model.

    Raises:
        UsageError: `folder` already holds a run and `resume` is False, the model does not fit that run, or nothing
            matches a pattern in `config.only`.
        HissError: the loss diverged or stayed non-finite (the last good state is kept), or the state is damaged.
    """
    folder = Path(folder)
    saved = checkpoints.steps(folder / "state")
    if saved and not resume:
        raise UsageError(f"{folder} already holds a run of {saved[-1]} steps; resume it or choose another folder")
    if config.only:
        _train_only(objective, config.only)
    try:
        engine = Engine(objective, config)
        engine.config = config.counted(data.size, world=engine.world)
        # Dropout draws from torch's global generators: they are ours in here, and given back afterwards.
        cuda = [engine.device] if engine.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), Stopping(minutes) as stopping:
            run = _Run(engine, data, validation, folder, stopping, progress, demo, export)
            try:
                if saved:
                    run.restore(saved[-1])
                else:
                    run.journal.rewind(0)  # what a run noted that failed before its first state
                return run.run()
            finally:
                run.journal.close()
    finally:
        release()


def _train_only(objective: nn.Module, patterns: Sequence[str]) -> None:
    """Makes the weights whose names match a pattern the only ones that are trained.

    Raises:
        UsageError: a pattern matches none.
    """
    names = [name for name, parameter in objective.named_parameters() if parameter.requires_grad]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"no weight matches {pattern} in trainer.only; their names are such as {names[0]}")
    for name, parameter in objective.named_parameters():
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)


class _Run:
    """The state of one call of `train`."""

    def __init__(
        self,
        engine: Engine,
        data: Dataset,
        validation: Dataset | None,
        folder: Path,
        stopping: Stopping,
        progress: Progress | None,
        demo: Demo | None,
        export: Export | None,
    ) -> None:
        self.engine, self.objective, self.config = engine, engine.objective, engine.config
        self.data, self.validation, self.folder, self.states = data, validation, folder, folder / "state"
        self.stopping, self.progress, self.demo, self.export = stopping, progress, demo, export
        rival = engine.rival
        self.average = PowerAverage(self.objective, self.config.ema, without=rival.adversary if rival else None)
        self.health = Health()
        self.best: Best | None = None
        self.step = 0
        self.journal = Journal(folder if engine.rank == 0 else None)

    def run(self) -> Result:
        """Returns the result, after the last step or when it is time to leave."""
        config, engine = self.config, self.engine
        start = self.step * config.accumulate
        batches = self.data.batches(
            config.batch_size,
            seed=config.seed,
            start=start,
            rank=engine.rank,
            world=engine.world,
            workers=config.workers,
        )
        self.objective.train()
        first, pace, ended = self.step, 0.0, "steps" if self.step >= config.steps else None
        prepared = self.stopping.elapsed  # data that are encoded beforehand may have taken long
        while ended is None:
            begun = time.monotonic()
            rate = config.rate(self.step)
            step = engine.step(self.step, batches, leave=self.stopping.reason)
            self.step += 1
            self.average.update(self.step)
            self.health.update(step.values["loss"], finite=step.finite)
            self.check()
            ended = step.leave or ("steps" if self.step >= config.steps else None)
            # Seconds per step, over about twenty of them, without validation and the like.
            pace += max(1 / (self.step - first), 0.05) * (time.monotonic() - begun - pace)
            speed = config.batch_size * config.accumulate * engine.world / pace
            if self.progress is not None and engine.rank == 0:
                each = (self.stopping.elapsed - prepared) / (self.step - first)
                left = min(each * (config.steps - self.step), self.stopping.seconds_left)
                self.progress.update(self.step, self.health.loss, speed, left)
            if self.due(config.log_every):
                values = {f"train/{name}": value for name, value in step.values.items()}
                values |= {"train/gradient_norm": step.norm, "train/learning_rate": rate}
                values |= {"train/skipped": self.health.skipped, "train/examples_per_second": speed}
                self.journal.scalars(self.step, values)
            judged = ended in ("steps", "minutes") or self.due(config.validate_every)
            improved = judged and self.validate()
            if ended or ((improved or self.due(config.save_every)) and not self.health.in_a_row):
                self.save(ended=ended is not None)
            # Whenever another part of the run is over, of as many as there are snapshots.
            if self.step * config.snapshots // config.steps > (self.step - 1) * config.snapshots // config.steps:
                self.on_main(lambda: save_snapshots(self.folder / "snapshots", self.average, self.step))
            if self.due(config.demo_every) and (demo := self.demo) is not None:
                self.lend(self.length, lambda: demo(self.step, self.objective, self.journal))
        state = checkpoints.path(self.states, self.step)
        health, seconds = self.health, self.stopping.elapsed
        return Result(self.step, ended, health.loss, self.best, health.skipped, seconds, state)

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps (0: never) happens now."""
        return every > 0 and self.step % every == 0

    def check(self) -> None:
        """Raises HissError if the run is not worth going on with."""
        config, health = self.config, self.health
        if health.in_a_row >= config.patience:
            what = f"the loss or its gradient was not finite in {health.in_a_row} steps in a row"
            remedy = "look for broken examples in the data, lower trainer.learning_rate or trainer.clip, or use bf16"
        elif health.diverged(config.divergence):
            what = f"the loss diverged (smoothed {health.loss:.4g}, its best was {health.best:.4g})"
            remedy = "lower trainer.learning_rate, lengthen trainer.warmup or lower trainer.clip"
        else:
            return
        saved = checkpoints.steps(self.states)
        kept = (
            f"the last good state is {checkpoints.path(self.states, saved[-1])}" if saved else "no state was saved yet"
        )
        raise HissError(f"training stopped at step {self.step}: {what}; {kept}; {remedy}")

    def validate(self) -> bool:
        """Returns whether the model is the best so far, by the best of its averages; False without validation data."""
        if self.validation is None:
            return False
        begun = time.monotonic()
        found: dict[float | None, dict[str, float]] = {}
        for length in self.config.ema or (None,):
            with self.average.applied(length), uncompiled():
                found[length] = self.judged(self.validation)
        self.stopping.reserve = time.monotonic() - begun
        losses = {length: values["loss"] for length, values in found.items()}
        length, loss = min(losses.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1])
        named = {f"validation/{name}": value for name, value in found[length].items()}
        named |= {f"validation/loss_ema_{length}": value for length, value in losses.items() if length is not None}
        self.journal.scalars(self.step, named)
        lowest = self.best is None or loss < self.best.loss
        contested = self.engine.rival is not None and self.engine.rival.plays
        if not math.isfinite(loss) or not (lowest or contested):
            return False
        self.best = Best(self.step, loss, length)
        self.lend(length, lambda: self.keep(loss))
        return True

    def keep(self, loss: float) -> None:
        """Writes the best model so far, whose weights the objective has now."""
        export = self.export
        if export is not None:
            export(self.folder / "model", self.objective)
        if self.config.keep_best:
            seen, size = self.step * self.config.examples(self.engine.world), self.data.size
            numbers = {
                "epoch": None if size is None else seen / size,
                "loss": loss,
                "scheduler": {"step": self.step, "learning_rate": self.config.rate(self.step)},
                "config": self.config.to_dict(),
            }
            model = None if export is None else lambda folder: export(folder, self.objective)
            checkpoints.save_best(self.folder, self.step, self.engine.tensors(), numbers, model=model)

    @torch.no_grad()
    def judged(self, validation: Dataset) -> dict[str, float]:
        """Returns the means over the validation examples of what the objective returns, with the same noise every
        time."""
        engine = self.engine
        self.objective.eval()
        names: list[str] = []
        total = torch.zeros((), device=engine.device)
        for index, batch in enumerate(validation.once(self.config.batch_size)):
            own = index % engine.world == engine.rank
            # All processes take the first batch, so that those without one of their own know the names too.
            if own or index == 0:
                values = engine.values(batch, seeded("validation", self.config.seed, index))
                names = list(values)
                row = torch.stack([value.float() for value in values.values()] + [torch.ones_like(values["loss"])])
                total = total + row * (len(batch.prompts) if own else 0)
        self.objective.train()
        if not names:
            raise UsageError("the validation data holds no example; give it some, or leave it out")
        *sums, examples = (engine.accelerator.reduce(total, "sum") if engine.world > 1 else total).tolist()
        return {name: value / examples for name, value in zip(names, sums, strict=True)}

    @property
    def length(self) -> float | None:
        """The average that did best in validation, else the shortest one."""
        return self.best.length if self.best is not None else min(self.config.ema, default=None)

    def lend(self, length: float | None, work: Callable[[], None]) -> None:
        """Does something in the first process while the objective has averaged weights and does not train."""
        self.objective.eval()
        with self.average.applied(length), torch.no_grad(), uncompiled():
            self.on_main(work)
        self.objective.train()

    def on_main(self, work: Callable[[], None]) -> None:
        """Does something in the first process while the others wait."""
        if self.engine.rank == 0:
            work()
        self.engine.accelerator.wait_for_everyone()

    def save(self, *, ended: bool) -> None:
        """Writes the state, and only then removes the one before it; then the newest model."""

        def write() -> None:
            averages = {f"ema/{length}": vector for length, vector in self.average.vectors.items()}
            scaler = self.engine.accelerator.scaler
            numbers = {
                "health": asdict(self.health),
                "best": asdict(self.best) if self.best else None,
                "scaler": scaler.state_dict() if scaler else None,
                "config": self.config.to_dict(),
            }
            checkpoints.save(self.states, self.step, self.engine.tensors() | averages, numbers)
            checkpoints.prune(self.states, {self.step, self.best.step if self.best else self.step})

        self.on_main(write)
        if (export := self.export) is not None:
            if self.validation is not None:
                self.lend(self.length, lambda: export(self.folder / "last", self.objective))
            # A run that is stopped before its first validation leaves a model too; the first best one replaces it.
            if self.validation is None or (ended and self.best is None):
                self.lend(self.length, lambda: export(self.folder / "model", self.objective))

    def restore(self, step: int) -> None:
        """Continues from the saved state of a step."""
        tensors, numbers = checkpoints.load(self.states, step)
        kept = {key: vector for key, vector in tensors.items() if key.startswith("ema/")}
        lengths = {f"ema/{length}": length for length in self.average.vectors}
        if set(kept) != set(lengths):
            old = ", ".join(key.removeprefix("ema/") for key in kept) or "none"
            raise UsageError(f"{self.folder} was trained with averages of length {old}; set trainer.ema to these")
        self.engine.restore(tensors)
        for key, length in lengths.items():
            self.average.vectors[length].copy_(kept[key])
        if self.engine.accelerator.scaler is not None and numbers["scaler"] is not None:
            self.engine.accelerator.scaler.load_state_dict(numbers["scaler"])
        self.step, self.health = numbers["step"], Health(**numbers["health"])
        self.best = Best(**numbers["best"]) if numbers["best"] else None
        self.journal.rewind(self.step)
