"""hiss generate: sounds from a model."""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hiss.cli.completion import complete_model
from hiss.cli.extras import need
from hiss.cli.outputs import check_writable, slug, sound_files
from hiss.cli.terminal import terminal
from hiss.errors import HissError, UsageError, unknown

if TYPE_CHECKING:
    from hiss.audio import Audio, Level
    from hiss.pipeline import Pipeline
    from hiss.prompting import Ask
    from hiss.types import Precision

EXAMPLE = "Example: hiss generate 7 --model digits --count 8 --seed 0 -o out/"

LEVELS: "tuple[Level, ...]" = ("peak", "rms", "lufs", "none")


def generate(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help="What to generate: '7 theo', or a sentence.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A name from hiss models, or a folder.", autocompletion=complete_model),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A text file with a prompt on each line, in place of one.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="A LoRA of hiss train --lora, FOLDER=0.5 for half of it; repeat."),
    ] = None,
    length: Annotated[float | None, typer.Option(help="Seconds; the model's own length by default.")] = None,
    start: Annotated[float | None, typer.Option(help="Seconds into a recording, for models with timing.")] = None,
    total: Annotated[float | None, typer.Option(help="How long that recording is, in seconds.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many sounds.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Sampling steps: more is slower and often better.")] = None,
    sampler: Annotated[str | None, typer.Option(help="How to walk from noise to sound.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How strictly to follow the prompt; 1 is as trained.")] = None,
    negative: Annotated[str | None, typer.Option(help="A prompt to stay away from; needs guidance above 1.")] = None,
    sampling: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Another choice of the model, such as rescale=0.7; repeat."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Scale of all noise; below 1 is tamer.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same sounds.")] = None,
    sample_rate: Annotated[int | None, typer.Option(help="Hz; the model's own by default.")] = None,
    normalize: Annotated[
        str | None,
        typer.Option(help="Level of each sound: peak, rms, lufs or none; peak, but none with --continue or --inpaint."),
    ] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="wav, flac, ogg, opus or mp3.")] = None,
    init: Annotated[Path | None, typer.Option(help="A recording to vary.")] = None,
    strength: Annotated[float, typer.Option(help="How far to leave --init; 1 forgets it.")] = 0.5,
    continue_from: Annotated[Path | None, typer.Option("--continue", help="A recording to continue.")] = None,
    inpaint: Annotated[Path | None, typer.Option(help="A recording to refill within --span.")] = None,
    span: Annotated[
        list[str] | None, typer.Option(help="Seconds A:B to refill, such as 0.5:1.25; repeat.", metavar="A:B")
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Make the end lead seamlessly to the start.")] = False,
    candidates: Annotated[
        int | None, typer.Option(help="Make so many of each sound, and keep the one that suits its text best.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sounds at a time; does not change them.")] = 8,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda or mps.")] = None,
    precision: Annotated[
        str, typer.Option(help="bf16 or fp16: the network computes in 16 bits, faster on GPUs; no by default.")
    ] = "no",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw a picture of the sounds beside them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file, or a folder for several.")] = Path("out"),
) -> None:
    """Generate sounds from a model and write them to files.

    Prints the path of each file, which is written as soon as its sound is made.
    In a folder the files are named after the prompt: 7-0.wav, 7-1.wav ... Of
    several prompts (--prompts) each gives what it would give alone.
    """
    screen = terminal(context)
    if not model:
        raise UsageError("no model was named; add --model NAME (hiss models lists them) or --model FOLDER")
    if normalize is not None and normalize not in LEVELS:
        raise unknown("value of --normalize", normalize, LEVELS)
    if count < 1:
        raise UsageError(f"--count must be at least 1, not {count}")
    asked: Sequence[str | None] = [prompt] if prompts is None else _lines(prompts, prompt)

    from hiss.generation import MOST_SOUNDS, level_asked
    from hiss.plot import MOST_ROWS, picture

    if count > MOST_SOUNDS:
        raise UsageError(f"count must be from 1 to {MOST_SOUNDS}, not {count}")
    if plot and len(asked) * count > MOST_ROWS:
        raise UsageError(
            f"--plot draws up to {MOST_ROWS} sounds, not {len(asked) * count}; make fewer, or leave it out"
        )
    owners = [one for one in asked for _ in range(count)]
    stems = [slug(one or Path(model).name) for one in owners]
    files = sound_files(output, stems=stems, file_format=file_format, sample_rate=sample_rate)
    spans = [_seconds(one) for one in span or ()]
    adapters = [_adapter(one) for one in lora or ()]
    check_writable(files[0].parent)
    if plot:
        need("matplotlib", "librosa")

    import torch

    from hiss.audio import Audio
    from hiss.pipeline import load

    if threads is not None:
        torch.set_num_threads(threads)
    if seed is None:
        seed = secrets.randbits(32)
        screen.say(f"seed {seed}")
    recordings = [None if path is None else Audio.load(path) for path in (init, continue_from, inpaint)]
    pipeline = load(model, device=device, precision=cast("Precision", precision), sampling=_changes(sampling or ()))
    for folder, much in adapters:
        pipeline.adapt(folder, strength=much)
    kept = _Kept(files, level_asked(normalize, keeps=continue_from is not None or inpaint is not None))
    with screen.bar("generating") as bar:
        pipeline.generate(
            _prompts(pipeline, asked, {"start": start, "total": total}),
            length=length,
            sample_rate=sample_rate,
            steps=steps,
            sampler=sampler,
            guidance=guidance,
            negative=negative,
            temperature=temperature,
            seed=[seed] * len(asked),
            count=count,
            init=recordings[0],
            strength=strength,
            continue_from=recordings[1],
            inpaint=recordings[2],
            span=spans,
            loop=loop,
            candidates=candidates,
            batch_size=batch_size,
            watch=lambda done, total, _: bar.update(done, total),
            each=kept.add,
        )
    if as_json:
        made = zip(files, kept.sounds, owners, strict=True)
        screen.json([_facts(file, sound, owner, seed) for file, sound, owner in made])
    else:
        for file in files:
            screen.result(str(file))
    if plot:
        image = files[0].with_suffix(".png") if files == [output] else files[0].with_name(f"{stems[0]}.png")
        picture([(file.name, sound) for file, sound in zip(files, kept.sounds, strict=True)], image)
        screen.say(f"picture: {image}")


class _Kept:
    """Sounds that are written as they come: what was made before an interruption is there."""

    def __init__(self, files: Sequence[Path], level: "Level") -> None:
        self.files, self.level = files, level
        self.sounds: list[Audio] = []

    def add(self, sound: "Audio") -> None:
        """Writes the next sound to the next file."""
        file = self.files[len(self.sounds)]
        file.parent.mkdir(parents=True, exist_ok=True)
        self.sounds.append(sound.normalize(self.level))
        self.sounds[-1].save(file, resample=True)


def _prompts(pipeline: "Pipeline", asked: Sequence[str | None], times: Mapping[str, float | None]) -> "list[Ask]":
    """Returns the prompts as the model takes them, all with the same times if some are given."""
    from hiss.types import Prompt

    known = {name: seconds for name, seconds in times.items() if seconds is not None}
    if not known:
        return [Prompt() if one is None else one for one in asked]
    timed = pipeline.prompt(known)
    return [replace(pipeline.prompt(one), start=timed.start, total=timed.total) for one in asked]


def _lines(path: Path, prompt: str | None) -> list[str]:
    """Returns the prompts in a file, one for each line that is not empty.

    Raises:
        UsageError: there is a prompt besides, or none in the file.
        HissError: the file cannot be read as text.
    """
    if prompt is not None:
        raise UsageError("give one prompt, or a file of them by --prompts; not both")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HissError(f"{path} cannot be read as text: {error}") from error
    if not (found := [line.strip() for line in lines if line.strip()]):
        raise UsageError(f"{path} holds no prompt; write one on each line")
    return found


def _facts(file: Path, sound: "Audio", prompt: str | None, seed: int) -> dict[str, object]:
    """Returns what --json tells about one file."""
    return {
        "file": str(file),
        "prompt": prompt,
        "seed": seed,
        "seconds": sound.seconds,
        "sample_rate": sound.sample_rate,
        "channels": sound.channels,
    }


def _changes(sampling: Sequence[str]) -> dict[str, object]:
    """Returns what KEY=VALUE, several times, says about sampling."""
    if not sampling:
        return {}
    from hiss.training.reading import changes_of  # brings all that can be trained along

    return changes_of(sampling)


def _adapter(lora: str) -> tuple[Path, float]:
    """Returns the folder and the strength in FOLDER or FOLDER=STRENGTH.

    Raises:
        UsageError: the strength is no number.
    """
    folder, equals, strength = lora.rpartition("=")
    if not equals or Path(lora).exists():
        return Path(lora), 1.0
    try:
        return Path(folder), float(strength)
    except ValueError as error:
        raise UsageError(f"--lora takes a folder, or FOLDER=STRENGTH such as voice=0.5, not {lora!r}") from error


def _seconds(span: str) -> tuple[float, float]:
    """Returns the two ends of A:B in seconds.

    Raises:
        UsageError: it is not two numbers, the first at least 0 and below the second.
    """
    try:
        start, end = (float(part) for part in span.split(":"))
    except ValueError:
        start, end = math.nan, math.nan
    if not 0 <= start < end < math.inf:
        raise UsageError(f"--span must be two times in seconds, A:B with A before B such as 0.5:1.25, not {span!r}")
    return start, end
