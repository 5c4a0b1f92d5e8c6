"""hiss evaluate: how good the results of a model are."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hiss.cli.completion import complete_model
from hiss.cli.extras import need
from hiss.cli.outputs import asked
from hiss.cli.terminal import Terminal, terminal
from hiss.errors import UsageError

if TYPE_CHECKING:
    from hiss.audio import Audio
    from hiss.evaluation.generation import GenerationReport, Listener, Spread
    from hiss.pipeline import Pipeline

EXAMPLE = "Example: hiss evaluate generation --model digits --reference 'test-*.tar' --train 'train-*.tar'"

TRAITS = {
    "grid": "on a note",
    "onsets": "onsets, 1/s",
    "silence": "silence, share",
    "centroid": "centroid, Hz",
    "level": "level, dBFS",
    "clipped": "clipped, share",
}
"""What a listener to music notices, in the order of the table."""

COUNT = 50
"""Sounds that --model makes, of each class where it has classes."""

app = typer.Typer(no_args_is_help=False, help="Measure how good the results of a model are.")


@app.command("generation", epilog=EXAMPLE)
def generation(
    context: typer.Context,
    reference: Annotated[str, typer.Option(help="Real recordings the model never saw: a folder, or tar shards.")],
    generated: Annotated[str | None, typer.Option(help="Folder of sounds that hiss generate wrote.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Make the sounds now, with this model.", autocompletion=complete_model),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="Of --model: sounds of each class, 50 by default.")
    ] = None,
    length: Annotated[float | None, typer.Option(help="Of --model: seconds of each sound.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of --model: sampling steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Of --model: how to walk from noise to sound.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Of --model: weight of the prompt.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = 0,
    train: Annotated[str | None, typer.Option(help="Recordings the model learned from; finds copies.")] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            help="What listens: digits, sounds, logmel, music or tonal. By default music with --music, digits where "
            "all of --reference is labelled as digits or speakers that its judge knows, and logmel elsewhere."
        ),
    ] = None,
    excerpt: Annotated[
        float | None, typer.Option(help="Seconds listened to at once; 3 for music and tonal, else whole recordings.")
    ] = None,
    music: Annotated[bool, typer.Option("--music", help="Also what a listener to music notices.")] = False,
    device: Annotated[str | None, typer.Option(help="Of --model: where to compute: cpu, cuda or mps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report everything as JSON.")] = False,
) -> None:
    """Compare generated sounds with real ones: as asked, like real, varied, no copies.

    Takes finished sounds (--generated) or makes them (--model). What was asked
    is read from names such as 7-0.wav; what a real recording is, from its
    metadata.
    """
    screen = terminal(context)
    if (generated is None) == (model is None):
        raise UsageError("give the sounds to judge, either by --generated FOLDER or by --model NAME")
    making = {
        "--count": count,
        "--length": length,
        "--steps": steps,
        "--sampler": sampler,
        "--guidance": guidance,
        "--device": device,
    }
    for option, value in making.items():
        if value is not None and model is None:
            raise UsageError(f"{option} is about the sounds that --model makes; leave it out with --generated")
    need("librosa")

    from hiss.evaluation.clips import read_clips
    from hiss.evaluation.embeddings import find, questions
    from hiss.evaluation.generation import evaluate_generation, usual

    if embedding is not None:
        find(embedding)  # an unknown one is refused before anything is read
    with screen.bar("reading"):
        real = read_clips(reference)
        learned = None if train is None else [clip.audio for clip in read_clips(train)]
        made = [] if generated is None else read_clips(generated)
    if embedding is None:
        digits = questions("digits")
        embedding = usual([clip.labels(digits) for clip in real], music=music)
    classes = questions(embedding)
    if model is None:
        sounds = [clip.audio for clip in made]
        wanted = [asked(clip.name, classes) for clip in made]
    else:
        from hiss.pipeline import load

        sounds, wanted = _make(
            screen,
            load(model, device=device),
            classes,
            count=COUNT if count is None else count,
            length=length,
            steps=steps,
            sampler=sampler,
            guidance=guidance,
            seed=seed,
        )
    with screen.bar("listening"):
        report = evaluate_generation(
            sounds,
            [clip.audio for clip in real],
            train=learned,
            embedding=embedding,
            excerpt=excerpt,
            music=music,
            asked=wanted,
            labels=[clip.labels(classes) for clip in real],
            seed=seed,
        )
    if as_json:
        screen.json(report.to_dict())
    else:
        screen.show(_figures(report))
        screen.show(_notes(report))


def _make(
    screen: Terminal,
    pipeline: "Pipeline",
    classes: Mapping[str, Sequence[str]],
    *,
    count: int,
    length: float | None,
    steps: int | None,
    sampler: str | None,
    guidance: float | None,
    seed: int,
) -> "tuple[list[Audio], list[dict[str, str]]]":
    """Returns new sounds, `count` of each class of the model's first label, and which of `classes` each shall be."""
    field, names = next(iter(pipeline.labels.items()), ("", ()))
    prompts: list[dict[str, str]] = [{field: name} for name in names]
    with screen.bar("generating") as bar:
        sounds = pipeline.generate(
            prompts or None,
            count=count,
            length=length,
            steps=steps,
            sampler=sampler,
            guidance=guidance,
            seed=seed,
            watch=lambda done, total, _: bar.update(done, total),
        )
    known = [prompt if prompt[field] in classes.get(field, ()) else {} for prompt in prompts] or [{}]
    return sounds, [prompt for prompt in known for _ in range(count)]


def _figures(report: "GenerationReport") -> Table:
    table = Table("", "generated", "real", "chance", box=None, pad_edge=False)
    ours, real = report.levels["generated"], report.levels["reference"]
    table.add_row("recordings", str(report.clips["generated"]), str(report.clips["reference"]))
    for name, share in report.accuracy.items():
        known = report.reference_accuracy.get(name)
        table.add_row(f"{name} as asked", f"{share:.1%}", "" if known is None else f"{known:.1%}")
    for name, value in report.figures.items():
        chance = report.chance.get(name)
        title = name.upper() if name in ("fad", "kad") else name
        table.add_row(title, f"{value:.3g}", _range(report.floor[name]), "" if chance is None else _range(chance))
    for name, value in report.effective_classes.items():
        table.add_row(f"{name} variety", f"{value:.1f} of {len(report.shares[name])}")
    if report.neighbours:
        table.add_row("likeness", *(_range(report.neighbours[one].correlation) for one in ("generated", "reference")))
    table.add_row("RMS, dBFS", _range(ours.rms), _range(real.rms))
    table.add_row("clipped", f"{ours.clipped:.1%}", f"{real.clipped:.1%}")
    table.add_row("silent", f"{ours.silent:.1%}", f"{real.silent:.1%}")
    for name, title in TRAITS.items():
        if report.traits:
            table.add_row(title, *(_ends(report.traits[one][name]) for one in ("generated", "reference")))
    return table


def _notes(report: "GenerationReport") -> Table:
    """Returns what listened, and what each column and row means, in a line each."""
    table = Table.grid("", "", padding=(0, 2))
    table.add_row()
    table.add_row("heard by", _hearing(report.listener))
    table.add_row("real", "what real recordings score instead: the best to hope for")
    table.add_row("chance", "what two random sets of real recordings score")
    table.add_row("( .. )", "where 90 % of the recordings, or of random draws, lie")
    for name, classes in report.class_accuracy.items():
        table.add_row(f"{name} as asked", ", ".join(f"{one} {share:.0%}" for one, share in classes.items()))
    table.add_row("FAD, KAD", "distance to the reference: lower is better")
    table.add_row("vendi", "how many different sounds they are worth: like real is best")
    if report.shares:
        table.add_row("inception", "clear, and of all classes: like real is best")
        table.add_row("variety", "how many classes are heard, in effect")
    if report.neighbours:
        table.add_row("likeness", "to the most similar training recording: 1 is a copy")
    if report.traits:
        table.add_row("on a note", "share of the energy; of noise it is one half")
        table.add_row("[ .. ]", "the least and the most of all recordings")
    return table


def _hearing(listener: "Listener") -> str:
    """Returns what listens, at which sample rate, and to what."""
    rate = "" if listener.sample_rate is None else f" at {listener.sample_rate / 1000:g} kHz"
    whole = "recording" if listener.excerpt is None else f"excerpt of {listener.excerpt:g} s"
    cut = listener.loudest is not None and (listener.excerpt is None or listener.excerpt > listener.loudest)
    part = f"the loudest {listener.loudest:g} s" if cut else "all"
    return f"{listener.embedding}{rate}: {part} of each {whole}"


def _range(spread: "Spread") -> str:
    """Returns the median and, in brackets, what 90 % lie between."""
    return f"{spread.median:.3g} ({spread.low:.2g}..{spread.high:.2g})"


def _ends(spread: "Spread") -> str:
    """Returns the median and, in square brackets, the least and the most."""
    return f"{spread.median:.3g} [{spread.least:.3g}..{spread.most:.3g}]"
