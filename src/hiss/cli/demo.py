"""hiss demo: a tour of the bundled models, and a first one of one's own, in under three minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiss.cli.extras import need
from hiss.cli.outputs import check_writable, slug
from hiss.cli.terminal import Terminal, terminal
from hiss.cli.train import STATUS, TrainingBar
from hiss.errors import MissingPackageError

if TYPE_CHECKING:
    from hiss.audio import Audio
    from hiss.cli.page import Section
    from hiss.pipeline import Pipeline

EXAMPLE = "Example: hiss demo -o demo"


@dataclass(frozen=True)
class Stop:
    """What the tour shows of a bundled model, if it is there."""

    model: str
    title: str
    about: str
    prompts: tuple[str, ...] = ()
    """Of a model that reads text; one with labels is asked for some of its classes, any other for nothing."""
    count: int = 4
    """Sounds, where there are no prompts."""


TOUR = (
    Stop("denoise-16k", "Noise out of speech", "A woman reads beside an exercise bike, and then without it."),
    Stop("denoise-48k", "The same, by the model for 48 kHz", "It hears up to 24 kHz; this recording ends at 8 kHz."),
    Stop("digits", "Spoken digits", "Made from noise and a digit, each in a voice drawn at random."),
    Stop("tones", "Tones", "The smallest model of all: a steady tone on the note that was asked for."),
    Stop("classical", "Classical music", "Pieces that nobody wrote, made from noise alone.", count=2),
    Stop(
        "sounds",
        "Sounds from words",
        "Each made from the sentence above it.",
        ("a church organ holds a low C major chord", "a fast rock beat on a drum kit"),
    ),
)
OWN = Stop("tones-model", "A model of your own", "What a model plays that learned it just now, on this computer.")


def demo(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sounds of the bundled models.")] = 0,
) -> None:
    """Hear what each bundled model does, then train a small one, and see it all on one page.

    Takes about two minutes on two cores and leaves sounds and a page with
    players and spectrograms. A second demo in the same folder trains the same
    model further.
    """
    screen = terminal(context)
    check_writable(output)
    need("accelerate", "tensorboard", "matplotlib", "librosa")

    from hiss.cli.page import write_page
    from hiss.pipeline import bundled, load
    from hiss.training.recipe import load_recipe, run_recipe

    output.mkdir(parents=True, exist_ok=True)
    sections, there, names = [], [], bundled()
    for stop in (one for one in TOUR if one.model in names):
        try:
            sections.append(_visited(screen, stop, load(stop.model), output, seed))
            there.append(stop.model)
        except MissingPackageError as error:
            screen.say(f"the model {stop.model} is left out: {error}")
    own = output / OWN.model
    with screen.bar("training tones") as bar:
        result = run_recipe(
            load_recipe("tones"), out=own, resume=True, minutes=minutes, progress=TrainingBar(screen, bar)
        )
    sections.append(_visited(screen, OWN, load(own / "model"), output, seed))
    next_steps = _next_steps(there, own / "model")
    page = output / "index.html"
    write_page(page, title="hiss: what the models make", sections=sections, commands=next_steps)
    screen.result(str(page))
    screen.say("\nOpen the last file in a browser. What to try next:\n" + "\n".join(f"  {line}" for line in next_steps))
    if result.ended in STATUS:
        screen.say("the training was stopped on request; another demo goes on with it")
        raise typer.Exit(STATUS[result.ended])


def _visited(screen: Terminal, stop: Stop, pipeline: "Pipeline", output: Path, seed: int) -> "Section":
    """Returns what a model makes, which is also written to files."""
    from hiss.cli.page import Section

    screen.say(f"{stop.title} ({stop.model})")
    sounds = _denoised(screen, pipeline) if pipeline.denoises else _generated(screen, stop, pipeline, seed)
    for title, sound in sounds.items():
        file = output / f"{slug(f'{stop.model} {title}')}.wav"
        sound.save(file)
        screen.result(str(file))
    return Section(stop.title, stop.about, sounds)


def _generated(screen: Terminal, stop: Stop, pipeline: "Pipeline", seed: int) -> "dict[str, Audio]":
    """Returns some sounds of a model by their titles: of different prompts, where it takes any."""
    classes = next(iter(pipeline.labels.values()), ())
    prompts = stop.prompts or classes[:: max(1, len(classes) // stop.count)][: stop.count]
    with screen.bar("generating") as bar:
        sounds = pipeline.generate(
            prompts or None,
            count=1 if prompts else stop.count,
            seed=seed,
            watch=lambda done, total, _: bar.update(done, total),
        )
    titles = prompts or [str(number) for number in range(1, stop.count + 1)]
    return {title: sound.normalize() for title, sound in zip(titles, sounds, strict=True)}


def _denoised(screen: Terminal, pipeline: "Pipeline") -> "dict[str, Audio]":
    """Returns the noisy recording that comes with the package, and what a model makes of it."""
    from hiss.audio import Audio

    with as_file(files("hiss") / "recordings" / "noisy-speech.flac") as path:
        noisy = Audio.load(path)
    with screen.bar("denoising"):
        return {"noisy": noisy, "clean": pipeline.denoise(noisy)}


def _next_steps(there: Sequence[str], own: Path) -> list[str]:
    """Returns commands that work with the models that are there."""
    steps = {
        "denoise-16k": "hiss denoise noisy.wav -o clean.wav",
        "digits": "hiss generate '7 theo' --model digits --count 8 --plot -o out",
        "classical": "hiss generate --model classical --length 10 -o piece.wav",
        "sounds": "hiss generate 'one high note, A, from a flute' --model sounds -o out",
    }
    return [
        *(command for model, command in steps.items() if model in there),
        f"hiss generate --model {own} --count 8 -o out",
        "hiss train recordings --data FOLDER --out runs/mine --minutes 60",
        "hiss models",
    ]
