"""Recipes as they are written: YAML files, by name or path, with single values changed."""

import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hiss.data.files import expand_variable
from hiss.errors import HissError, UsageError, unknown
from hiss.pipeline import bundled, folder_of
from hiss.saved import read_config
from hiss.training.objectives import Recipe

FINISHED = "finished.json"
"""In the folder of a stage whose training has come to its end."""

Source = Callable[[str, str], tuple[Any, str]]
"""(what `from` says, the kind that is needed) -> its configuration, and its folder or "" if it is not trained yet."""


def recipes() -> list[str]:
    """Returns the names of the bundled recipes."""
    return sorted(path.stem for path in _shelf().glob("*.yaml"))


def recipe_text(name_or_path: str | Path) -> str:
    """Returns a bundled recipe, by name, or a YAML file as it is.

    Raises:
        UsageError: there is no such recipe, or it is no UTF-8 text.
    """
    path = Path(name_or_path)
    if str(name_or_path) in recipes():
        path = _shelf() / f"{name_or_path}.yaml"
    elif not path.is_file():
        raise unknown("recipe", str(name_or_path), [*recipes(), "the path of a YAML file"])
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def read_recipe(name_or_path: str | Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Returns what a bundled recipe or a YAML file says, with `changes` such as `trainer.steps=100` applied.

    Raises:
        UsageError: there is no such recipe, it is no UTF-8 text or valid YAML, or a change has no place in it.
    """
    data = _apart(_parse(recipe_text(name_or_path), str(name_or_path)))
    if not isinstance(data, dict):
        raise UsageError(f"{name_or_path} is no recipe: it must hold the keys data and model, or stages")
    for change in changes:
        _apply(data, change)
    return data


def changes_of(changes: Sequence[str]) -> dict[str, Any]:
    """Returns what changes KEY.KEY=VALUE, with values in YAML, say together.

    Raises:
        UsageError: one of them is no such change.
    """
    said: dict[str, Any] = {}
    for change in changes:
        _apply(said, change)
    return said


def filled(recipe: dict[str, Any], source: Source) -> dict[str, Any]:
    """Returns a recipe with the configuration of what was trained before in place of each {from: WHERE}.

    Which folders that was found in is noted under `parts`. A part is needed of the kind that its key says, such as
    `vae: {from: WHERE}`; `model: {from: WHERE}` goes on with one of the kind of the recipe.
    """
    parts: dict[str, str] = {}

    def fill(value: Any, place: str, kind: str) -> Any:
        if isinstance(value, list):
            return [fill(item, f"{place}.{number}", str(number)) for number, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if "from" not in value:
            return {key: fill(item, f"{place}.{key}", str(key)) for key, item in value.items()}
        if len(value) > 1:
            raise UsageError(f"{place} says from, so it must say nothing else; remove the other keys")
        config, folder = source(str(value["from"]), kind)
        if folder:
            parts[place] = folder
        return config

    found = {
        key: fill(value, key, str(recipe["kind"])) if key in ("model", "objective") else value
        for key, value in recipe.items()
    }
    return found | {"parts": parts} if parts else found


def to_recipe(data: dict[str, Any], source: Source, *, where: str) -> Recipe:
    """Returns the recipe that `data` means; `where` is what errors call it. Without a kind it is `diffusion`."""
    return Recipe.from_dict(filled({"kind": "diffusion"} | data, source), where=where)


def read_part_config(folder: str, kind: str) -> tuple[Any, str]:
    """Returns the configuration of the model of that kind in a folder, which may begin with $VARIABLE, and the folder.

    A bundled model may be named in place of a folder.

    Raises:
        HissError: there is none, or one of another kind.
    """
    place = str(folder_of(folder)) if folder in bundled() else expand_variable(folder)
    return read_config(Path(place), kind).to_dict(), place


class Stages:
    """A recipe with `stages`: a recipe for each, which may take {from: an earlier stage}.

    What stands beside `stages` is said of every stage that does not say otherwise itself.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        """Takes what `read_recipe` returned.

        Raises:
            UsageError: one of the stages is no recipe.
        """
        stages = data["stages"]
        if not isinstance(stages, dict) or not stages or not all(isinstance(stage, dict) for stage in stages.values()):
            raise UsageError("stages must hold recipes by name, at least one")
        common = {key: value for key, value in data.items() if key != "stages"}
        self._recipes = {str(name): {"kind": "diffusion"} | _merged(common, stage) for name, stage in stages.items()}
        self.names = tuple(self._recipes)
        for name in self.names:
            self.recipe(name)

    def recipe(self, name: str, out: Path | None = None) -> Recipe:
        """Returns the recipe of a stage.

        Args:
            name: of the stage.
            out: where the run of each stage has its folder. Without it, the parts that come from earlier stages are
                those of their recipes: without weights, but good enough to see whether all fits together.

        Raises:
            UsageError: there is no such stage, or a key or value does not fit.
            HissError: a part is missing, or of another kind.
        """
        if name not in self._recipes:
            raise unknown("stage", name, self._recipes)
        where = f"recipe.stages.{name}"
        return Recipe.from_dict(filled(self._recipes[name], self._source(name, out)), where=where)

    def _source(self, stage: str, out: Path | None) -> Source:
        earlier = self.names[: self.names.index(stage)]

        def source(name: str, kind: str) -> tuple[Any, str]:
            if name not in earlier:
                return read_part_config(name, kind)
            if (theirs := self._recipes[name]["kind"]) != kind:
                raise UsageError(f"stage {stage} takes a {kind} from stage {name}, which trains a {theirs}")
            if out is None:
                return filled(self._recipes[name], self._source(name, out)).get("model", {}), ""
            if not (out / name / FINISHED).is_file():
                raise HissError(
                    f"stage {stage} needs stage {name}, which is not finished in {out / name}; train it first"
                )
            return read_part_config(str(out / name / "model"), kind)

        return source


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Returns both, with what is above in place of what is below wherever both say something."""
    both = [key for key in below if isinstance(below[key], dict) and isinstance(above.get(key), dict)]
    return below | above | {key: _merged(below[key], above[key]) for key in both}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as people read it: 1e-4 is a number, and `no` is a word, such as the precision `no`."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false|True|False)$"), list("tfTF"))


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is no valid YAML: {' '.join(str(error).split())}") from error


def _apart(data: Any) -> Any:
    """Returns the same with a value of its own wherever YAML repeats one by an alias, so that each can be changed."""
    if isinstance(data, dict):
        return {key: _apart(value) for key, value in data.items()}
    return [_apart(value) for value in data] if isinstance(data, list) else data


def _apply(data: dict[str, Any], change: str) -> None:
    """Changes one value of a nested mapping, `KEY.KEY=VALUE`; whether the keys exist is for `Recipe` to say.

    An entry of a list that is called by its name is taken out by null.
    """
    keys, sign, value = change.partition("=")
    *parents, last = keys.strip().split(".")
    if not sign or not all([*parents, last]):
        raise UsageError(f"a change must be KEY=VALUE, such as trainer.steps=100, not {change!r}")
    place: Any = data
    for depth, key in enumerate([*parents, last]):
        where = ".".join(["recipe", *parents[:depth]])
        if isinstance(place, list):
            numbers = _numbers(place)
            if key not in numbers:
                raise unknown(f"place in {where}", key, numbers)
        elif not isinstance(place, dict):
            raise UsageError(f"{change}: {where} has no parts, it is {place!r}")
        index = numbers[key] if isinstance(place, list) else key
        if depth == len(parents):
            new = _parse(value, change)
            if new is None and isinstance(place, list) and not key.isdigit():
                del place[numbers[key]]
            else:
                place[index] = new
        elif isinstance(place, dict):
            place = place.setdefault(key, {})
        else:
            place = place[index]


def _numbers(entries: list[Any]) -> dict[str, int]:
    """Returns the numbers of the entries of a list by what they may be called: the number, or a name that one has."""
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    named = {str(name): number for number, name in enumerate(names) if name is not None and names.count(name) == 1}
    return named | {str(number): number for number in range(len(entries))}


def _shelf() -> Path:
    return Path(str(files("hiss"))) / "recipes"
