"""What the shell offers after TAB: names that come with the package, found without loading torch."""

from collections.abc import Iterable
from importlib.resources import files


def complete_model(incomplete: str) -> list[str]:
    """Returns the bundled models whose names begin so; where none does, the shell offers folders."""
    folders = (files("hiss") / "pretrained").iterdir()
    return _fitting((folder.name for folder in folders if (folder / "config.json").is_file()), incomplete)


def complete_recipe(incomplete: str) -> list[str]:
    """Returns the bundled recipes whose names begin so; where none does, the shell offers files."""
    paths = (files("hiss") / "recipes").iterdir()
    return _fitting((path.name.removesuffix(".yaml") for path in paths if path.name.endswith(".yaml")), incomplete)


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
