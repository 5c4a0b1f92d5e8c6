"""hiss evaluate denoise: how well a model cleans noisy speech."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hiss.cli.completion import complete_model
from hiss.cli.extras import need
from hiss.cli.outputs import check_writable
from hiss.cli.terminal import Terminal, terminal
from hiss.errors import UsageError

if TYPE_CHECKING:
    from hiss.evaluation.denoising import By, DenoisingReport

EXAMPLE = "Example: hiss evaluate denoise --clean gt_audio --noisy gl_audio --model denoise-16k --steps 1,2,4"

GROUPS: "tuple[By, ...]" = ("snr", "noise")


def denoise(
    context: typer.Context,
    clean: Annotated[Path, typer.Option(help="Folder of clean speech.")],
    noisy: Annotated[Path, typer.Option(help="Folder of the same with noise: NAME or noisy_NAME.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A bundled model or a folder.", autocompletion=complete_model)
    ],
    steps: Annotated[str | None, typer.Option(help="Steps to compare, such as 1,2,4.")] = None,
    measure: Annotated[
        list[str] | None, typer.Option(help="pesq, stoi, distances, dnsmos, levels or bands; repeat; all by default.")
    ] = None,
    dnsmos: Annotated[Path | None, typer.Option(help="DNSMOS network (ONNX); that of speechmos by default.")] = None,
    causal: Annotated[bool, typer.Option("--causal", help="As in a stream: hear nothing of what is to come.")] = False,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda or mps.")] = None,
    image: Annotated[Path | None, typer.Option("--picture", help="Draw the first recording into this PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report everything, also per file, as JSON.")] = False,
) -> None:
    """Compare denoised speech with clean speech: quality, intelligibility, distortion, speed.

    Shows means over all recordings, and the main figures by SNR and by kind of noise where these are known: from a JSON
    file beside the noisy recording (snr_db, noise) or from its name (street_5dB). "noisy" is the input as it is.
    """
    screen = terminal(context)
    counts = [None] if steps is None else _counts(steps)
    if image is not None:
        check_writable(image.parent)
        need("matplotlib", "librosa")

    from hiss.evaluation.denoising import DenoiseSystem, draw, evaluate_denoising
    from hiss.evaluation.measures import measures
    from hiss.evaluation.pairs import find_pairs, read_pairs
    from hiss.pipeline import load

    chosen = measures(measure or None, dnsmos=dnsmos)
    files = find_pairs(clean, noisy)
    pipeline = load(model, device=device)
    name = Path(model).name
    systems = [
        DenoiseSystem(_title(name, count), partial(pipeline.denoise, steps=count, causal=causal)) for count in counts
    ]
    with screen.bar("denoising", len(files)) as bar:
        report = evaluate_denoising(read_pairs(files), systems, chosen=chosen, watch=bar.update)
    if as_json:
        screen.json(report.to_dict())
    else:
        _show(screen, report)
    if image is not None:
        image.parent.mkdir(parents=True, exist_ok=True)
        draw(next(read_pairs(files[:1])), systems, image)
        screen.say(f"picture: {image}")


def _show(screen: Terminal, report: "DenoisingReport") -> None:
    """Shows the tables of a report, and for how many recordings a figure is not defined."""
    from hiss.evaluation.measures import HEADLINE

    screen.show(_table([list(row) for row in zip(*report.table(), strict=True)]))
    for by in GROUPS:
        if getattr(report.systems[0], by):
            screen.show("")
            screen.show(_table(report.table(by, shown=HEADLINE), words=2))
    for system in report.systems:
        for figure, count in system.missing.items():
            screen.say(f"{figure} of {system.name} is not defined for {count} of {report.files} recordings")


def _table(cells: list[list[str]], *, words: int = 1) -> Table:
    """Returns a table of `cells`, heads first, with that many columns of words before the figures."""
    heads, *rows = cells
    table = Table(box=None, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < words else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _title(model: str, steps: int | None) -> str:
    return model if steps is None else f"{model}, {steps} step{'' if steps == 1 else 's'}"


def _counts(steps: str) -> list[int]:
    """Returns the whole numbers in A,B,C.

    Raises:
        UsageError: they are none, not above 0, or one is there twice.
    """
    try:
        counts = [int(part) for part in steps.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1 or len(set(counts)) < len(counts):
        raise UsageError(f"--steps must be different whole numbers above 0, such as 1,2,4, not {steps!r}")
    return counts
