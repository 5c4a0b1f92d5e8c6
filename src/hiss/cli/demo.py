"""hiss demo: from nothing to sounds in a few minutes."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiss.cli.extras import need
from hiss.cli.outputs import check_writable, slug
from hiss.cli.terminal import Terminal, terminal
from hiss.cli.train import STATUS, TrainingBar

if TYPE_CHECKING:
    from hiss.audio import Audio
    from hiss.pipeline import Pipeline

EXAMPLE = "Example: hiss demo -o demo"
SOUNDS = 4
"""From each model."""


def demo(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sounds of the bundled models.")] = 0,
) -> None:
    """Train a small model, generate with it and with the bundled ones, denoise, and draw what came out.

    Takes about two minutes on two cores. A second demo in the same folder
    trains the same model further.
    """
    screen = terminal(context)
    check_writable(output)
    need("accelerate", "tensorboard", "matplotlib", "librosa")

    from hiss.audio import Audio
    from hiss.pipeline import bundled, load
    from hiss.plot import picture
    from hiss.training.recipe import load_recipe, run_recipe

    own = output / "tones-model"
    with screen.bar("training tones") as bar:
        result = run_recipe(
            load_recipe("tones"), out=own, resume=True, minutes=minutes, progress=TrainingBar(screen, bar)
        )
    if result.ended in STATUS:
        screen.say(f"stopped on request; the model so far is in {own / 'model'}")
        raise typer.Exit(STATUS[result.ended])
    rows: dict[str, Audio] = {}
    for name, pipeline in [("my tones", load(own / "model")), *((name, load(name)) for name in bundled())]:
        rows |= _denoised(screen, name, pipeline) if pipeline.denoises else _sounds(screen, name, pipeline, seed)
    for title, sound in rows.items():
        file = output / f"{slug(title)}.wav"
        sound.save(file)
        screen.result(str(file))
    picture(list(rows.items()), output / "sounds.png")
    screen.result(str(output / "sounds.png"))
    screen.say(
        f"\nThe model you trained is in {own / 'model'}. What to try next:\n"
        f"  hiss generate --model {own / 'model'} --count 8 -o out\n"
        "  hiss generate 7 --model digits --count 8 --plot -o out\n"
        "  hiss denoise noisy.wav -o clean.wav\n"
        "  hiss train tones --minutes 10\n"
        "  hiss models"
    )


def _sounds(screen: Terminal, name: str, pipeline: "Pipeline", seed: int) -> "dict[str, Audio]":
    """Returns some sounds of a model by their titles: of different classes, where it knows any."""
    classes = next(iter(pipeline.labels.values()), ())
    prompts = classes[:: max(1, len(classes) // SOUNDS)][:SOUNDS]
    titles = [f"{name} {which}" for which in prompts or range(SOUNDS)]
    with screen.bar(f"generating {name}") as bar:
        sounds = pipeline.generate(
            prompts or None,
            count=1 if prompts else SOUNDS,
            seed=seed,
            watch=lambda done, total, _: bar.update(done, total),
        )
    return {title: sound.normalize() for title, sound in zip(titles, sounds, strict=True)}


def _denoised(screen: Terminal, name: str, pipeline: "Pipeline") -> "dict[str, Audio]":
    """Returns a noisy recording, and what a model makes of it, by their titles."""
    from hiss.audio import Audio

    with as_file(files("hiss") / "recordings" / "noisy-speech.flac") as path:
        noisy = Audio.load(path)
    with screen.bar(f"denoising with {name}"):
        return {"noisy speech": noisy, f"{name} speech": pipeline.denoise(noisy)}
