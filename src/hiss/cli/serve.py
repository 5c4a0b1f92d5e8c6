"""hiss serve: the page and the HTTP interface."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from hiss.cli.extras import need
from hiss.cli.terminal import terminal

if TYPE_CHECKING:
    from hiss.types import Precision

EXAMPLE = "Example: hiss serve --open"


def serve(
    context: typer.Context,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A model to offer, may be repeated; all by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 is the whole network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any that is free.")] = 7860,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    token: Annotated[
        str | None, typer.Option(envvar="HISS_TOKEN", help="What requests must bring: Authorization: Bearer TOKEN.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Requests at a time; more are answered 429.")] = 64,
    together: Annotated[int, typer.Option(min=1, help="Requests of one model that are one batch.")] = 16,
    seconds: Annotated[float, typer.Option(min=1, help="The longest recording.")] = 600.0,
    megabytes: Annotated[float, typer.Option(min=0.1, help="The largest request.")] = 64.0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds to finish what runs when stopped.")] = 30.0,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda or mps.")] = None,
    precision: Annotated[
        str, typer.Option(help="bf16 or fp16: the networks compute in 16 bits, faster on GPUs; no by default.")
    ] = "no",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Offer the models on a page and over HTTP, on this machine.

    Prints where. Nothing is sent anywhere else; uploads are forgotten with
    their requests. Stops on Ctrl-C, when what runs is done.
    """
    screen = terminal(context)
    need("fastapi", "uvicorn")

    import torch

    from hiss.web.limits import Limits
    from hiss.web.server import Listener
    from hiss.web.shelf import Shelf

    if threads is not None:
        torch.set_num_threads(threads)

    def ready(url: str) -> None:
        screen.result(url)
        if open_page:
            typer.launch(url if token is None else f"{url}/#{token}")

    limits = Limits(queue=queue, together=together, recording=seconds, body=round(megabytes * 2**20), grace=grace)
    shelf = Shelf(model or (), device=device, precision=cast("Precision", precision))
    listener = Listener(shelf, host=host, port=port, token=token, limits=limits, ready=ready)
    if token is None and host not in ("127.0.0.1", "localhost", "::1"):
        screen.say(f"warning: anybody who reaches {host} can use this server; --token keeps them out")
    listener.serve_forever()
    screen.say("stopped")
