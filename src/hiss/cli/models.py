"""hiss models: what comes with the package."""

from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.table import Table

from hiss.cli.completion import complete_model
from hiss.cli.terminal import terminal

EXAMPLE = "Example: hiss models digits"


def models(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="Print the model card of this model or folder.", autocompletion=complete_model),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """List the bundled models, or print the card of one."""
    screen = terminal(context)

    from hiss.pipeline import bundled, folder_of
    from hiss.saved import card_of, read_config, summary

    folders = {one: folder_of(one) for one in ([name] if name else bundled())}
    for folder in folders.values():
        read_config(folder)  # says what is wrong with a folder that holds no model
    cards = {one: card_of(folder) for one, folder in folders.items()}
    if as_json:
        screen.json([{"name": one, "summary": summary(card), "card": card} for one, card in cards.items()])
    elif name:
        screen.show(Markdown(cards[name]))
    else:
        table = Table("model", "what it does", box=None, pad_edge=False)
        for one, card in cards.items():
            table.add_row(one, summary(card))
        screen.show(table)
