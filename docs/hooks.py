"""Pages that are made while the site is built: the commands, the model cards, the Python reference."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.core import TyperGroup

from hiss.cli import app

SOURCE = Path(__file__).parents[1] / "src" / "hiss"
LEFT_OUT = {"cli", "pretrained", "recipes", "recordings"}
"""Of the source: the command line has its own page, and the others are no code."""


def on_config(config: MkDocsConfig) -> None:
    """Adds the reference to the navigation."""
    assert config.nav is not None
    config.nav.append({"Python": [{title: path} for title, path in reference_pages()]})


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages that no file holds."""
    pages = {"commands.md": commands(), "models.md": models()}
    pages |= {path: reference(title) for title, path in reference_pages()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))


def commands() -> str:
    """Returns a page with what every command says of itself."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return "# Commands\n\nWhat `hiss COMMAND --help` says.\n\n" + "\n".join(_command_lines(group, "hiss"))


def _command_lines(command: TyperGroup | typer.core.TyperCommand, name: str) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    yield f"## {name}\n\n{(command.help or '').strip()}\n"
    if command.epilog:
        yield f"```console\n$ {command.epilog.removeprefix('Example: ')}\n```\n"
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    yield "| option | meaning |\n|---|---|"
    for words, meaning in records:
        yield f"| `{words.replace('|', '/')}` | {_cell(meaning)} |"
    yield ""
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            assert isinstance(inner, TyperGroup | typer.core.TyperCommand)
            yield from _command_lines(inner, f"{name} {inner.name}")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def models() -> str:
    """Returns a page with the card of every bundled model, one heading deeper than in the card itself."""
    cards = (path.read_text() for path in sorted(SOURCE.glob("pretrained/*/README.md")))
    deeper = (re.sub(r"^#", "##", card, flags=re.MULTILINE) for card in cards)
    return "# Models\n\nWhat comes with the package, as `hiss models NAME` prints it.\n\n" + "\n\n".join(deeper)


def reference_pages() -> list[tuple[str, str]]:
    """Returns (module, page) for everything that stands directly in the package, the public names first."""
    houses = sorted({path.relative_to(SOURCE).with_suffix("").parts[0] for path in SOURCE.rglob("*.py")})
    modules = ["hiss", *(f"hiss.{house}" for house in houses if not house.startswith("__") and house not in LEFT_OUT)]
    return [(module, f"reference/{module}.md") for module in modules]


def reference(module: str) -> str:
    """Returns the page of a module and of all modules in it."""
    house = SOURCE.joinpath(*module.split(".")[1:])
    inner = sorted(house.rglob("*.py")) if module != "hiss" and house.is_dir() else []
    names = [".".join(["hiss", *path.relative_to(SOURCE).with_suffix("").parts]) for path in inner]
    deeper = (name for name in names if not name.endswith("__init__"))
    return f"# {module}\n\n::: {module}\n\n" + "\n\n".join(f"## {name}\n\n::: {name}" for name in deeper) + "\n"
