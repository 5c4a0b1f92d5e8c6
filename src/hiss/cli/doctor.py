"""hiss doctor: whether everything that hiss needs is there and works."""

import io
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import as_file, files
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.table import Table

from hiss.cli.denoise import cores
from hiss.cli.extras import EXTRAS
from hiss.cli.terminal import terminal
from hiss.errors import HissError, MissingPackageError

EXAMPLE = "Example: hiss doctor --json"

STEPS = 2
"""Of the sounds that are made to try a model: enough to pass through all of it."""


@dataclass(frozen=True)
class Check:
    """What was found of one thing, and whether it is as hiss needs it."""

    name: str
    found: str
    ok: bool = True


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Tell what is installed, and try it: write and read sounds, generate, denoise.

    Takes a few seconds. The exit status is 1 if something essential is broken;
    extras that are not installed are none of that.
    """
    screen = terminal(context)
    with screen.bar("looking") as bar:
        checks = []
        for check in _checks():
            checks.append(check)
            bar.update(len(checks))
    if as_json:
        screen.json([asdict(check) for check in checks])
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for check in checks:
            table.add_row(check.name, "ok" if check.ok else "BROKEN", check.found)
        screen.show(table)
    if broken := [check.name for check in checks if not check.ok]:
        raise HissError(f"broken: {', '.join(broken)}, as listed above; installing hiss afresh mends most of it")


def _checks() -> Iterator[Check]:
    """Yields one check after the other, the quick ones first."""
    yield Check("hiss", version("hiss"))
    yield Check("Python", f"{platform.python_version()} on {platform.platform(terse=True)}, {platform.machine()}")
    yield _tried("torch", _torch)
    yield _tried("threads", _threads)
    yield _tried("bf16", _bf16)
    yield _tried("formats", _formats)
    yield _tried("cache", _cache)
    for extra in sorted(set(EXTRAS.values())):
        gone = [package for package, where in EXTRAS.items() if where == extra and find_spec(package) is None]
        yield Check(f"extra {extra}", f"not installed: {', '.join(gone)}" if gone else "installed")
    yield from _models()


def _tried(name: str, examine: Callable[[], str]) -> Check:
    """Returns what `examine` found, or how it failed; an extra that is not installed is no failure."""
    try:
        return Check(name, examine())
    except MissingPackageError as error:
        return Check(name, str(error))
    except Exception as error:
        kind = "" if isinstance(error, HissError) else f"{type(error).__name__}: "
        return Check(name, kind + " ".join(str(error).split()), ok=False)


def _torch() -> str:
    import torch

    graphics = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return f"{torch.__version__}, computes on the CPU" + (f" and on {graphics.type}" if graphics is not None else "")


def _threads() -> str:
    import torch

    said = os.environ.get("OMP_NUM_THREADS")
    return f"{torch.get_num_threads()} on {cores()} cores" + (f" (OMP_NUM_THREADS={said})" if said else "")


def _bf16() -> str:
    from hiss.training.engine import computes_bf16

    return "the CPU computes in it" if computes_bf16() else "not on this CPU, which trains in float32"


def _formats() -> str:
    """Writes and reads a short sound in every format."""
    import soundfile
    import torch

    from hiss.audio import FORMATS, Audio

    sound = Audio(0.1 * torch.sin(torch.arange(4800) / 10), 48_000)
    for name in FORMATS:
        Audio.load(io.BytesIO(sound.encode(name)))
    return f"{', '.join(FORMATS)} (libsndfile {soundfile.__libsndfile_version__})"


def _cache() -> str:
    from hiss.data.index import cache_folder

    return f"{cache_folder()}, {'there' if cache_folder().is_dir() else 'not needed so far'}"


def _models() -> Iterator[Check]:
    """Yields what came of trying each bundled model."""
    from hiss.pipeline import bundled

    names = bundled()
    if not names:
        yield Check("models", "none came with the package", ok=False)
    for name in names:
        yield _tried(f"model {name}", partial(_use, name))


def _use(name: str) -> str:
    """Makes a sound with a model, and says what it did and how long that took.

    Raises:
        HissError: there is no model, or what it makes is silent or not finite.
    """
    import torch

    from hiss.audio import Audio
    from hiss.pipeline import load

    begun = time.monotonic()
    pipeline = load(name)
    if pipeline.denoises:
        with as_file(files("hiss") / "recordings" / "noisy-speech.flac") as path:
            made, did = pipeline.denoise(Audio.load(path, seconds=2.0)), "denoises"
    else:
        made, did = pipeline.generate(seed=0, steps=STEPS), "generates"
    if not made.rms > 0 or not bool(torch.isfinite(made.samples).all()):
        raise HissError(f"what it {did} is silent or not finite")
    return f"{did}; {made.seconds:.1f} s of sound took {time.monotonic() - begun:.1f} s, with loading"
