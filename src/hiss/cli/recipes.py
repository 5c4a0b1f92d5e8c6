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
) -> None:
    """List the bundled recipes, or print one, to change a copy of it."""
    screen = terminal(context)

    from hiss.saved import summary
    from hiss.training import reading

    if name is not None:
        screen.result(reading.recipe_text(name).removesuffix("\n"))
        return
    table = Table("recipe", "what it trains", box=None, pad_edge=False)
    for one in reading.recipes():
        sentence, stop, _ = summary(reading.read_recipe(one)["description"]).partition(". ")
        table.add_row(one, sentence + stop.strip())
    screen.show(table)
