"""hiss train: a model from a recipe."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hiss.cli.completion import complete_model, complete_recipe
from hiss.cli.extras import need
from hiss.cli.outputs import check_writable
from hiss.cli.terminal import Bar, Terminal, terminal

EXAMPLE = "Example: hiss train tones --minutes 5 --out runs/tones trainer.batch_size=16"

STATUS = {"SIGINT": 130, "SIGTERM": 143}
"""Exit status of a run that was asked to end."""


def train(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="Name of a bundled recipe, or a YAML file.", autocompletion=complete_recipe)
    ],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values to change in the recipe.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Recordings to train on, in place of the recipe's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE by default.")] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Bundled model or folder whose weights to start from.", autocompletion=complete_model),
    ] = None,
    lora: Annotated[
        int | None, typer.Option(metavar="RANK", help="Train only adapters of that rank, of the model in --init.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Of a recipe with stages, train only this one.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it was left.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Save and end after this time.")] = None,
) -> None:
    """Train a model as a recipe says.

    A recipe may have stages, such as an autoencoder and what is built on it: they are trained one after the other, each
    in a folder of its own in --out, and those that are finished are left out.

    Ctrl-C saves and ends; --resume continues exactly there.
    """
    screen = terminal(context)
    folder = out or Path("runs") / Path(recipe).stem
    check_writable(folder)
    need("accelerate", "tensorboard")

    from hiss.errors import UsageError
    from hiss.training.reading import Stages, read_recipe
    from hiss.training.recipe import load_recipe, run_recipe
    from hiss.training.stages import run_stages

    @contextmanager
    def watch(name: str) -> Iterator["TrainingBar"]:
        with screen.bar(f"training {name}") as bar:
            yield TrainingBar(screen, bar)

    changes = changes or []
    said = read_recipe(recipe, changes)
    if lora is not None:
        if "stages" in said and stage is None:
            raise UsageError(f"{recipe} has stages; name the one that --lora is for, --stage")
        changes = [*changes, f"stages.{stage}.lora.rank={lora}" if "stages" in said else f"lora.rank={lora}"]
        said = read_recipe(recipe, changes)
    made = folder
    if "stages" in said:
        stages = Stages(said)
        results = run_stages(
            stages, out=folder, only=stage, data=data, init=init, resume=resume, minutes=minutes, watch=watch
        )
        made = folder / [*stages.names, *results][-1]
    elif stage is not None:
        raise UsageError(f"{recipe} has no stages; leave --stage {stage} out")
    else:
        chosen = load_recipe(recipe, changes=changes)
        with watch(Path(recipe).stem) as progress:
            result = run_recipe(
                chosen, data=data, out=folder, init=init, resume=resume, minutes=minutes, progress=progress
            )
        results = {"": result}
    for name, result in results.items():
        screen.say(f"{name}: " * bool(name) + f"{result.step} steps, loss {result.loss:.4g}")
    ended = [result.ended for result in results.values() if result.ended in STATUS]
    if ended:
        screen.say("stopped on request, and saved; --resume continues exactly there")
    screen.result(str(made / "model"))
    raise typer.Exit(STATUS.get(ended[0], 0) if ended else 0)


class TrainingBar:
    """What the trainer tells about every step; a line now and then where no bar can be drawn."""

    def __init__(self, screen: Terminal, bar: Bar, *, every: float = 60.0) -> None:
        self.screen = screen
        self.bar = bar
        self.every = every
        self.started = self.said = time.monotonic()

    def update(self, step: int, loss: float, examples_per_second: float, seconds_left: float) -> None:
        """Moves the bar by time, since a run may end by time as well as by steps."""
        now = time.monotonic()
        note = f"step {step}, loss {loss:.4g}, {examples_per_second:.3g} examples/s"
        self.bar.update(now - self.started, now - self.started + seconds_left, note)
        if not self.screen.messages.is_terminal and now - self.said >= self.every:
            self.said = now
            self.screen.say(f"{note}, {seconds_left:.0f} s left")
