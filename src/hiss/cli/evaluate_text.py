"""hiss evaluate text: how well sounds follow their captions."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from hiss.cli.extras import need, there
from hiss.cli.terminal import terminal
from hiss.errors import UsageError

if TYPE_CHECKING:
    from hiss.clap import Clap
    from hiss.evaluation.clips import Classes, Clip
    from hiss.evaluation.text_to_audio import Captioned, Figure, TextReport

READERS = ("transformers", "tokenizers")
"""Packages of a CLAP."""
EXAMPLE = "Example: hiss evaluate text --model sounds --reference 'sounds-test-*.tar' --count 100"


def text(
    context: typer.Context,
    reference: Annotated[str, typer.Option(help="Real captioned recordings: a folder, or tar shards.")],
    generated: Annotated[str | None, typer.Option(help="Folder of sounds, a .txt or .json beside each.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Make the sounds now, with this model.")] = None,
    clap: Annotated[
        Path | None, typer.Option(help="Folder of a CLAP that did not train the model; one comes with hiss.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Of --model: how many captions; all by default.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Of --model: sounds of each caption, 1 by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of --model: sampling steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Of --model: how to walk from noise to sound.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Of --model: weight of the prompt.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = 0,
    train: Annotated[str | None, typer.Option(help="Recordings the model learned from; finds copies.")] = None,
    embedding: Annotated[str, typer.Option(help="What listens: sounds, digits or logmel.")] = "sounds",
    by: Annotated[str, typer.Option(help="Metadata key of the kind of a prompt.")] = "kind",
    device: Annotated[str | None, typer.Option(help="Of --model: where to compute: cpu, cuda or mps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report everything as JSON.")] = False,
) -> None:
    """Compare sounds with their captions: instrument, pitch, tempo, loudness, likeness.

    Takes finished sounds (--generated) or makes them (--model) from the captions
    of the real ones. Finished sounds need their level: hiss generate
    --normalize none.
    """
    screen = terminal(context)
    if (generated is None) == (model is None):
        raise UsageError("give the sounds to judge, either by --generated FOLDER or by --model NAME")
    if model is None and any(option is not None for option in (count, seeds, steps, sampler, guidance, device)):
        raise UsageError(
            "--count, --seeds, --steps, --sampler, --guidance and --device are for --model; leave them out"
        )
    need("librosa", *(READERS if clap else ()))

    from hiss.evaluation.clips import read_clips
    from hiss.evaluation.embeddings import find, questions
    from hiss.evaluation.text_to_audio import INDEPENDENT, evaluate_text
    from hiss.saved import read_part

    classes = questions(embedding)
    if clap is None and embedding == "sounds" and all(map(there, READERS)):
        clap = INDEPENDENT
    listener = None if clap is None else cast("Clap", read_part(clap, "clap")).eval()
    with screen.bar("reading"):
        real = [_captioned(clip, classes, by) for clip in read_clips(reference)]
        learned = None if train is None else [clip.audio for clip in read_clips(train)]
        made = [] if generated is None else [_captioned(clip, classes, by) for clip in read_clips(generated)]
    if model is None:
        known = {clip.caption: clip for clip in real}
        sounds = [replace(known[clip.caption], audio=clip.audio) if clip.caption in known else clip for clip in made]
    else:
        from hiss.pipeline import load

        pipeline, asked = load(model, device=device), real[:count]
        if not pipeline.reads:
            raise UsageError(f"the model {model} reads no text; hiss evaluate generation judges it")
        with screen.bar("generating") as bar:
            audio = pipeline.generate(
                [clip.caption for clip in asked],
                count=seeds or 1,
                steps=steps,
                sampler=sampler,
                guidance=guidance,
                seed=seed,
                watch=lambda done, total, _: bar.update(done, total),
            )
        owners = [clip for clip in asked for _ in range(seeds or 1)]
        sounds = [replace(clip, audio=one) for clip, one in zip(owners, audio, strict=True)]
    with screen.bar("listening"):
        report = evaluate_text(sounds, real, embedding=find(embedding), clap=listener, train=learned, seed=seed)
    if as_json:
        screen.json(report.to_dict())
        return
    screen.show(_figures(report))
    if report.by_kind:
        screen.show("")
        screen.show(_kinds(report))
    screen.show(_notes(report))


def _captioned(clip: "Clip", classes: "Classes", by: str) -> "Captioned":
    from hiss.evaluation.text_to_audio import Captioned

    caption, kind = (str(clip.metadata.get(key, "")) for key in ("text", by))
    return Captioned(clip.audio, caption, clip.labels(classes), kind)


def _figures(report: "TextReport") -> Table:
    table = Table("", "generated", "real", "shuffled", box=None, pad_edge=False)
    table.add_row("recordings", *(str(report.generation.clips[sort]) for sort in ("generated", "reference")))
    for name, figure in report.figures.items():
        table.add_row(name, *(_shown(name, value) for value in (figure.generated, figure.real, figure.shuffled)))
    for name in ("fad", "kad"):
        floor = report.generation.floor[name]
        bounds = f"{floor.median:.3g} ({floor.low:.2g}..{floor.high:.2g})"
        table.add_row(name.upper(), f"{report.generation.figures[name]:.3g}", bounds)
    if report.diversity is not None:
        table.add_row("diversity", f"{report.diversity:.2f}")
    return table


def _kinds(report: "TextReport") -> Table:
    """Returns a row for each kind of prompt: generated/real, shares in percent."""
    names = list(dict.fromkeys(name for figures in report.by_kind.values() for name in figures))
    table = Table("kind", *names, box=None, pad_edge=False)
    for kind, figures in report.by_kind.items():
        cells = []
        for name in names:
            figure = figures.get(name)
            cells.append("" if figure is None else _pair(name, figure))
        table.add_row(kind, *cells)
    return table


def _notes(report: "TextReport") -> Table:
    """Returns what each column and row means, in a line each."""
    table = Table.grid("", "", padding=(0, 2))
    table.add_row()
    table.add_row("real", "real recordings with their captions: how far to trust a figure")
    table.add_row("shuffled", "sounds with each other's captions: what chance reaches")
    if report.by_kind:
        table.add_row("kind", "of prompt: generated/real, shares in percent")
    if "clap" in report.figures:
        table.add_row("clap", "likeness of sound and caption to the CLAP, from -1 to 1")
    for question in report.generation.accuracy:
        table.add_row(question, "share that the judge hears as it was meant")
    table.add_row("pitch", "share in which the named notes are heard")
    table.add_row("tempo, loudness", "share of pairs ordered as their captions: 50 % is chance")
    table.add_row("FAD, KAD", "distance to the real recordings; real: that of other real ones")
    if report.diversity is not None:
        table.add_row("diversity", "of one caption's sounds, over that of different captions")
    return table


def _pair(name: str, figure: "Figure") -> str:
    one, other = (_shown(name, value).rstrip("%") or "-" for value in (figure.generated, figure.real))
    return f"{one}/{other}"


def _shown(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if name == "clap" else f"{value:.0%}"
