"""A recipe: the data, the model and the training of one task, in one YAML file."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from hiss.data import DataConfig
from hiss.data.base import NothingLeftError
from hiss.data.files import FileConfig
from hiss.data.folder import AudioFolder
from hiss.data.mixtures import Mixtures
from hiss.data.pairs import NOISY, Pairs
from hiss.data.shards import Shards
from hiss.errors import UsageError
from hiss.pipeline import load
from hiss.saved import read_part, write_model
from hiss.training import checkpoints
from hiss.training.objective import Objective
from hiss.training.objectives import Recipe
from hiss.training.reading import Stages, read_part_config, read_recipe, recipes, to_recipe
from hiss.training.trainer import Progress, Result, train

__all__ = ["Recipe", "adopt", "card", "load_recipe", "recipes", "relocated", "run_recipe", "weights_of", "with_data"]

log = logging.getLogger(__name__)

NAMED = 20
"""Recordings that are named, of those left out."""
FEW = 3
"""Weights that are named, of those that begin anew."""


def load_recipe(name_or_path: str | Path, *, changes: Sequence[str] = ()) -> Recipe:
    """Returns a bundled recipe by name, or that of a YAML file, with `changes` such as `trainer.steps=100` applied.

    Values are read as YAML; a part of a list is meant by its number, as in `model.conditioners.0.dropout=0.2`, or by a
    name that it alone has, as in `model.losses.phase.weight=0.02`; null takes out what is meant by name. Of a recipe
    with stages the last one is returned, as `Stages.recipe` returns it before the others were trained.

    Raises:
        UsageError: there is no such recipe, it is no valid YAML, or a key or value does not fit.
        HissError: what it takes {from: a folder} is not there.
    """
    data = read_recipe(name_or_path, changes)
    if "stages" in data:
        stages = Stages(data)
        return stages.recipe(stages.names[-1])
    return to_recipe(data, read_part_config, where="recipe")


def run_recipe(
    recipe: Recipe,
    *,
    out: str | Path,
    data: str | Path | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> Result:
    """Returns how the training that a recipe describes ended.

    `out/model` is the model: with the weights of the lowest validation loss (then `out/last` has the newest), or
    without validation data, or where the run ends before the first validation, the newest. Where noise has to be mixed
    into clean recordings that lie in `data` itself, the result is kept in `out/gl_audio`. Everything else in `out` is
    described at `train`.

    With a `lora` in the recipe, it has only the adapters, for `Pipeline.adapt`; the model in `init` stays as it is.

    Args:
        recipe: what to train, on what.
        out: where everything is written.
        data: a folder of recordings, or of WebDataset shards, in place of the recipe's data.
        init: a bundled model or a folder, whose weights the run starts from: all of those whose name and shape fit. If
            these are not all of the model, a warning says so, and scales are measured anew. A resumed run has its own.
        resume: continue the run in `out`, if there is one.
        minutes: the run saves and ends by itself after this time.
        progress: told about every step.

    Raises:
        UsageError: no weight of `init` fits, or an argument of the recipe is wrong.
        HissError: the data or `init` cannot be read, or what the recipe needs besides them is missing.
    """
    recipe.check()
    folder = Path(out)
    recipe = with_data(recipe, data, folder)
    if recipe.adapts and init is None and "model" not in recipe.parts and not checkpoints.steps(folder / "state"):
        raise UsageError("a LoRA adapts a model that is trained; name that model as the one to start from, --init")
    clips = recipe.clips._asdict()
    examples = recipe.data.open(**clips, split="train")
    name_skipped("recordings", examples.report.skipped)
    judged = None
    if recipe.validation is not None:
        judged = recipe.validation.open(**clips, split="all")
    elif recipe.data.validates:
        try:
            judged = recipe.data.open(**clips, split="validation")
        except NothingLeftError:
            if not recipe.data.held_out:
                raise
            # Of a few recordings chance may hold none out.
            log.warning(
                "nothing is held out for validation, so the newest model is kept, not the best one; "
                "with a larger share, such as data.holdout=0.2, or more recordings there would be"
            )
    if judged is not None:
        # What is held out lies in the same place, whose broken files are named already.
        named = set(examples.report.skipped) if recipe.validation is None and recipe.data.held_out else set()
        name_skipped("validation recordings", [each for each in judged.report.skipped if each not in named])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.trainer.seed)
        objective = recipe.objective_for(examples)
    for place, source in recipe.parts.items():
        take_part(objective, recipe, place, source)
    if steps := checkpoints.steps(folder / "state"):  # a resumed run has its scales, like its weights, in the state
        if recipe.parts:
            tensors, _ = checkpoints.load(folder / "state", steps[-1])
            state = {name.removeprefix("model/"): tensor for name, tensor in tensors.items()}
            check_parts(objective, recipe, state, f"the run in {folder}")
    else:
        whole = "model" in recipe.parts
        if init is not None:
            whole = begin(objective, recipe, init)
        if not objective.measured or not whole:  # weights that begin anew have seen no scale yet
            if torch.accelerator.is_available():  # what is encoded by a network is encoded there faster
                objective.to(torch.accelerator.current_accelerator())
            objective.fit(batch.audio for batch in examples.once(recipe.trainer.batch_size))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.trainer.seed)
        made = recipe.adapted(objective)

    def export(place: Path, objective: nn.Module) -> None:
        del objective  # has the weights of what was made of it
        write_model(made, place, card=card(recipe))

    return train(
        objective,
        recipe.trainer,
        recipe.prepared(examples, objective, folder),
        judged,
        folder,
        resume=resume,
        minutes=minutes,
        progress=progress,
        demo=recipe.demo(objective, examples if judged is None else judged) if recipe.trainer.demo_every else None,
        export=export,
    )


def name_skipped(what: str, skipped: Sequence[tuple[str, str]]) -> None:
    """Warns of each (recording, reason) that was left out, up to a number of them."""
    for number, (name, reason) in enumerate(skipped[:NAMED]):
        if number == 0:
            log.warning("%s left out: %d; the first: %s: %s", what, len(skipped), name, reason)
        else:
            log.warning("%s left out: %s: %s", what, name, reason)
    if len(skipped) > NAMED:
        log.warning("%s left out: %d more", what, len(skipped) - NAMED)


def take_part(objective: Objective, recipe: Recipe, place: str, source: str) -> None:
    """Gives a part of an objective the weights in a folder; `place` is that of its configuration in the recipe.

    The tree of modules is that of configurations: what `model.representation.vae` says becomes the module of that name.
    """
    module = objective.get_submodule(_module(place))
    module.load_state_dict(read_part(Path(source), _kind(recipe, place)).state_dict())


def check_parts(objective: Objective, recipe: Recipe, tensors: Mapping[str, Tensor], what: str) -> None:
    """Makes sure that what was trained before is the same in `tensors`, those of an objective by name.

    Raises:
        UsageError: a part is another one, so that what was learned would not fit it.
    """
    for place, source in recipe.parts.items():
        if place == "model":
            continue
        for name, tensor in objective.get_submodule(_module(place)).state_dict().items():
            theirs = tensors.get(f"{_module(place)}.{name}")
            if theirs is not None and (theirs.shape != tensor.shape or not torch.equal(theirs, tensor)):
                raise UsageError(
                    f"{what} has another {_kind(recipe, place)} than {source}; take that one, or train anew elsewhere"
                )


def begin(objective: Objective, recipe: Recipe, init: str | Path) -> bool:
    """Gives an objective the weights of `init` that fit, and returns whether its whole model has them; warns if not.

    Raises:
        UsageError: none fits, not all fit for a LoRA, or a part is another one than the recipe says.
        HissError: `init` cannot be read.
    """
    theirs = weights_of(init, str(recipe.name))
    check_parts(objective, recipe, {f"model.{name}": tensor for name, tensor in theirs.items()}, str(init))
    known, own = adopt(objective.model, theirs, init), objective.model.state_dict()
    lacking = [name for name in own if name not in known and "uncertainty" not in name]
    if recipe.adapts and lacking:
        raise UsageError(
            f"a LoRA adapts a whole model, and {init} lacks {len(lacking)} weights of that of the recipe, "
            f"the first {lacking[0]}; take the recipe that it was trained by, unchanged"
        )
    if lacking:
        share, some = f"{len(lacking)} of {len(own)}", ", ".join(lacking[:FEW])
        log.warning("%s weights begin anew, as %s lacks them or has another shape; the first: %s", share, init, some)
    return not lacking


def weights_of(source: str | Path, kind: str) -> dict[str, Tensor]:
    """Returns the weights, by name, of a bundled model or of a folder of that kind; students are diffusion models.

    Raises:
        UsageError: there is no such model.
        HissError: it cannot be read, or is of another kind.
    """
    model = load(source).model if kind in ("diffusion", "distillation") else read_part(Path(source), kind)
    return model.state_dict()


def adopt(model: nn.Module, theirs: Mapping[str, Tensor], source: str | Path) -> set[str]:
    """Gives a model all of the weights from a source whose name and shape fit, and returns their names.

    Raises:
        UsageError: none fits.
    """
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in theirs.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise UsageError(f"no weight of the model {source} fits that of the recipe")
    model.load_state_dict(fitting, strict=False)
    log.info("weights taken from %s: %d of %d", source, len(fitting), len(own))
    return set(fitting)


def card(recipe: Recipe) -> str:
    """Returns a first model card: what the recipe says it is, and the recipe itself."""
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
    description = recipe.description.strip() or f"A model of the kind {recipe.name}."
    return f"{description}\n\nTrained by this recipe:\n\n```yaml\n{text}```\n"


def with_data(recipe: Recipe, path: str | Path | None, folder: Path) -> Recipe:
    """Returns a recipe with the recordings at `path`, if there is one, in place of its own, to be run in `folder`.

    Where it had other data to judge by, a twentieth of the new data is held out instead.
    """
    if path is None:
        return recipe
    moved = relocated(recipe.data, Path(path), judged=recipe.validation is not None)
    if isinstance(moved, Pairs) and moved.homeless:
        moved = dataclasses.replace(moved, noisy=str(folder / NOISY))
    return dataclasses.replace(recipe, data=moved, validation=None)


def relocated(data: DataConfig, path: Path, *, judged: bool = False) -> DataConfig:
    """Returns the configuration of recordings or shards at `path`, read as `data` is read.

    Where `data` had a validation set elsewhere, or was `judged` by other data, a twentieth of the new data is held out
    instead. Of mixtures, `path` takes the place of the speech.
    """
    if isinstance(data, Mixtures):
        return dataclasses.replace(data, speech=relocated(data.speech, path, judged=judged))
    shards = not isinstance(data, Pairs) and (path.suffix == ".tar" or any(path.glob("*.tar")))
    kind: type[FileConfig] = Shards if shards else Pairs if isinstance(data, Pairs) else AudioFolder
    common = type(data) if type(data) is kind else FileConfig if isinstance(data, FileConfig) else DataConfig
    kept = {field.name: getattr(data, field.name) for field in dataclasses.fields(common)}
    if (data.validates or judged) and not data.holdout:
        kept["holdout"] = 0.05
    return kind(**(kept | {"path": str(path), "validation": None}))


def _module(place: str) -> str:
    """Returns the name, in the objective, of the module whose configuration is at a place of the recipe."""
    return place.removeprefix("objective.")


def _kind(recipe: Recipe, place: str) -> str:
    """Returns the kind of what is needed at a place of the recipe."""
    return str(recipe.name) if place == "model" else place.rpartition(".")[2]
