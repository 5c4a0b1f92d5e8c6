"""Running the stages of a recipe: one after the other, those left out that are done."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hiss.audio import replacing
from hiss.errors import UsageError
from hiss.training import checkpoints
from hiss.training.objectives import Recipe
from hiss.training.reading import FINISHED, Stages
from hiss.training.recipe import run_recipe, with_data
from hiss.training.stopping import check_minutes
from hiss.training.trainer import Progress, Result

log = logging.getLogger(__name__)

Watch = Callable[[str], AbstractContextManager[Progress | None]]
"""(name of a stage) -> who is told about its steps while the context lasts."""


def run_stages(
    stages: Stages,
    *,
    out: str | Path,
    only: str | None = None,
    data: str | Path | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    minutes: float | None = None,
    watch: Watch | None = None,
) -> dict[str, Result]:
    """Returns how the training of each stage ended that was run.

    A stage runs in `out/NAME`, as `run_recipe` says, and is finished when its steps, or its time, are over. A finished
    one is left out, unless its recipe has changed or one of its parts was trained anew. The first one that a signal
    ends is the last.

    Args:
        stages: what to train.
        out: where everything is written.
        only: the name of a stage, to train only this one, whether it is finished or not.
        data: recordings in place of those of every stage.
        init: as for `run_recipe`, for the first stage that is run.
        resume: continue a run that is there and not finished.
        minutes: for all stages together: each gets its `share` of what is left.
        watch: told which stage begins.

    Raises:
        UsageError: there is no such stage, there is a run and `resume` is False, or a finished stage has another recipe
            that leaves nothing to train; see also `train`.
        HissError: an earlier stage is missing, or the work failed.
    """
    if minutes is not None:
        check_minutes(minutes)
    out, begun = Path(out), time.monotonic()
    results: dict[str, Result] = {}
    waiting = list(stages.names) if only is None else [only]
    while waiting:
        name = waiting.pop(0)
        folder = out / name
        recipe = with_data(stages.recipe(name, out), data, folder)
        if only is None and finished(folder, recipe):
            log.warning("stage %s is finished: %s", name, folder / "model")
            continue
        left = None if minutes is None else max(minutes - (time.monotonic() - begun) / 60, 1e-3)
        if left is not None:
            left *= recipe.share / (recipe.share + sum(stages.recipe(other).share for other in waiting))
        before = checkpoints.steps(folder / "state")
        with nullcontext() if watch is None else watch(name) as progress:
            result = run_recipe(recipe, out=folder, init=init, resume=resume, minutes=left, progress=progress)
        init, results[name] = None, result
        if result.ended not in ("steps", "minutes"):
            break
        # Only now is it known how many steps `epochs` are, and that the parts are those that it was trained on.
        if result.step in before and (folder / FINISHED).is_file() and not finished(folder, recipe):
            raise UsageError(
                f"stage {name} has nothing left to train: its recipe changed after it had finished, at step "
                f"{result.step}; give it more steps, remove {folder} to train it anew, or only {FINISHED} "
                "in it to keep it"
            )
        finish(folder, recipe)
    return results


def finished(folder: Path, recipe: Recipe) -> bool:
    """Whether a stage was trained to its end in a folder by this recipe, with the parts as they are now."""
    try:
        noted = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(noted, dict) and noted.get("key") == key(recipe)


def finish(folder: Path, recipe: Recipe) -> None:
    """Notes that a stage was trained to its end."""
    with replacing(folder / FINISHED) as beside:
        beside.write_text(json.dumps({"key": key(recipe)}) + "\n", encoding="utf-8")


def key(recipe: Recipe) -> str:
    """Returns a digest of a recipe and of the weights of its parts, wherever these lie."""
    weights = {place: (Path(folder) / "model.safetensors").read_bytes() for place, folder in recipe.parts.items()}
    parts = {place: hashlib.sha256(content).hexdigest() for place, content in weights.items()}
    said = json.dumps(recipe.to_dict() | {"parts": parts}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
