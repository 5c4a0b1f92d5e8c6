"""A recipe: the data, the model and the training of one task, in one YAML file."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from hiss.data import DataConfig
from hiss.data.files import FileConfig
from hiss.data.folder import AudioFolder
from hiss.data.mixtures import Mixtures
from hiss.data.pairs import NOISY, Pairs
from hiss.data.shards import Shards
from hiss.errors import UsageError, unknown
from hiss.model import AudioDiffusionModel, ModelConfig
from hiss.pipeline import Pipeline, load
from hiss.spec import Spec
from hiss.training import checkpoints
from hiss.training.config import TrainerConfig
from hiss.training.demo import AudioDemo
from hiss.training.objectives import DiffusionObjective
from hiss.training.trainer import Progress, Result, train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe(Spec):
    """Everything that `hiss train` needs to know."""

    data: DataConfig
    model: ModelConfig
    trainer: TrainerConfig = TrainerConfig()
    validation: DataConfig | None = None
    """Other data to judge by; without it, what `data` holds out."""
    description: str = ""
    """For the model card."""
    prompts: tuple[str, ...] = ()
    """Of the demos made every `trainer.demo_every` steps; without any, four sounds are made freely."""


def recipes() -> list[str]:
    """Returns the names of the bundled recipes."""
    return sorted(path.stem for path in _shelf().glob("*.yaml"))


def load_recipe(name_or_path: str | Path, *, changes: Sequence[str] = ()) -> Recipe:
    """Returns a bundled recipe by name, or that of a YAML file, with `changes` such as `trainer.steps=100` applied.

    Values are read as YAML; a part of a list is meant by its number, as in `model.conditioners.0.dropout=0.2`.

    Raises:
        UsageError: there is no such recipe, it is no valid YAML, or a key or value does not fit.
    """
    path = Path(name_or_path)
    if str(name_or_path) in recipes():
        path = _shelf() / f"{name_or_path}.yaml"
    elif not path.is_file():
        raise unknown("recipe", str(name_or_path), [*recipes(), "the path of a YAML file"])
    data = _parse(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(data, dict):
        raise UsageError(f"{path} is no recipe: it must hold the keys data and model")
    for change in changes:
        _apply(data, change)
    return Recipe.from_dict(data, where="recipe")


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
    without validation data the newest. Where noise has to be mixed into clean recordings that lie in `data` itself, the
    result is kept in `out/gl_audio`. Everything else in `out` is described at `train`.

    Args:
        recipe: what to train, on what.
        out: where everything is written.
        data: a folder of recordings, or of WebDataset shards, in place of the recipe's data.
        init: a bundled model or a folder, whose weights the run starts from: all of those whose name and shape fit. A
            resumed run has its own.
        resume: continue the run in `out`, if there is one.
        minutes: the run saves and ends by itself after this time.
        progress: told about every step.

    Raises:
        UsageError: no weight of `init` fits, or an argument of the recipe is wrong.
        HissError: the data or `init` cannot be read.
    """
    folder = Path(out)
    if data is not None:
        moved = relocated(recipe.data, Path(data))
        if isinstance(moved, Pairs) and moved.homeless:
            moved = dataclasses.replace(moved, noisy=str(folder / NOISY))
        recipe = dataclasses.replace(recipe, data=moved, validation=None)
    config = recipe.model
    clips = {"sample_rate": config.sample_rate, "channels": config.channels, "samples": config.samples}
    examples = recipe.data.open(**clips, split="train")
    if skipped := examples.report.skipped:
        (name, reason), count = skipped[0], len(skipped)
        log.warning("recordings left out: %d; the first: %s: %s (hiss data stats lists all)", count, name, reason)
    judged = None
    if recipe.validation is not None:
        judged = recipe.validation.open(**clips, split="all")
    elif recipe.data.validates:
        judged = recipe.data.open(**clips, split="validation")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.trainer.seed)
        model = AudioDiffusionModel(config)
    if not checkpoints.steps(folder / "state"):  # a resumed run has its scales, like its weights, in the state
        known = set() if init is None else adopt(model, init)
        if not known >= {f"representation.{name}" for name in model.representation.state_dict()}:
            model.representation.fit(batch.audio for batch in examples.once(recipe.trainer.batch_size))

    def export(place: Path, objective: nn.Module) -> None:
        Pipeline(model, card=card(recipe)).save_pretrained(place)

    return train(
        DiffusionObjective(model),
        recipe.trainer,
        examples,
        judged,
        folder,
        resume=resume,
        minutes=minutes,
        progress=progress,
        demo=AudioDemo(model, recipe.prompts, seed=recipe.trainer.seed) if recipe.trainer.demo_every else None,
        export=export,
    )


def adopt(model: AudioDiffusionModel, source: str | Path) -> set[str]:
    """Gives a model all weights of a bundled or saved one whose name and shape fit, and returns their names.

    Raises:
        UsageError: there is no such model, or none of its weights fits.
        HissError: it cannot be read.
    """
    own = model.state_dict()
    theirs = load(source).model.state_dict()
    fitting = {name: tensor for name, tensor in theirs.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise UsageError(f"no weight of the model {source} fits that of the recipe")
    model.load_state_dict(fitting, strict=False)
    log.info("weights taken from %s: %d of %d", source, len(fitting), len(own))
    return set(fitting)


def card(recipe: Recipe) -> str:
    """Returns a first model card: what the recipe says it is, and the recipe itself."""
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
    description = recipe.description.strip() or "An audio diffusion model."
    return f"{description}\n\nTrained by this recipe:\n\n```yaml\n{text}```\n"


def relocated(data: DataConfig, path: Path) -> DataConfig:
    """Returns the configuration of recordings or shards at `path`, read as `data` is read.

    Where `data` had a validation set elsewhere, a twentieth of the new data is held out instead. Of mixtures, `path`
    takes the place of the speech.
    """
    if isinstance(data, Mixtures):
        return dataclasses.replace(data, speech=relocated(data.speech, path))
    shards = not isinstance(data, Pairs) and (path.suffix == ".tar" or any(path.glob("*.tar")))
    kind: type[FileConfig] = Shards if shards else Pairs if isinstance(data, Pairs) else AudioFolder
    common = type(data) if type(data) is kind else FileConfig if isinstance(data, FileConfig) else DataConfig
    kept = {field.name: getattr(data, field.name) for field in dataclasses.fields(common)}
    if data.validates and not data.holdout:
        kept["holdout"] = 0.05
    return kind(**(kept | {"path": str(path), "validation": None}))


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as everywhere else; YAML 1.1 asks for 1.0e-4."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is no valid YAML: {' '.join(str(error).split())}") from error


def _apply(data: dict[str, Any], change: str) -> None:
    """Changes one value of a nested mapping, `KEY.KEY=VALUE`; whether the keys exist is for `Recipe` to say."""
    keys, sign, value = change.partition("=")
    *parents, last = keys.strip().split(".")
    if not sign or not all([*parents, last]):
        raise UsageError(f"a change must be KEY=VALUE, such as trainer.steps=100, not {change!r}")
    place: Any = data
    for depth, key in enumerate([*parents, last]):
        where = ".".join(["recipe", *parents[:depth]])
        if isinstance(place, list):
            if not key.isdigit() or int(key) >= len(place):
                raise unknown(f"place in {where}", key, map(str, range(len(place))))
        elif not isinstance(place, dict):
            raise UsageError(f"{change}: {where} has no parts, it is {place!r}")
        index = int(key) if isinstance(place, list) else key
        if depth == len(parents):
            place[index] = _parse(value, change)
        elif isinstance(place, dict):
            place = place.setdefault(key, {})
        else:
            place = place[int(key)]


def _shelf() -> Path:
    return Path(str(files("hiss"))) / "recipes"
