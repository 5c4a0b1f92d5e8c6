"""hiss recipes: what can be trained."""

from typing import Annotated

import typer
from rich.table import Table

from hiss.cli.completion import complete_recipe
from hiss.cli.terminal import terminal

EXAMPLE = "Example: hiss recipes digits > mine.yaml"


def recipes(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe as it is, in YAML.", autocompletion=complete_recipe)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="List them as JSON.")] = False,
) -> None:
    """List the bundled recipes, or print one, to change a copy of it."""
    screen = terminal(context)

    from hiss.saved import summary
    from hiss.training import reading

    if name is not None:
        screen.result(reading.recipe_text(name).removesuffix("\n"))
        return
    found = {one: _sentence(summary(reading.read_recipe(one)["description"])) for one in reading.recipes()}
    if as_json:
        screen.json([{"name": one, "summary": what} for one, what in found.items()])
        return
    table = Table("recipe", "what it trains", box=None, pad_edge=False)
    for row in found.items():
        table.add_row(*row)
    screen.show(table)


def _sentence(text: str) -> str:
    """Returns the first sentence of a text."""
    sentence, stop, _ = text.partition(". ")
    return sentence + stop.strip()
