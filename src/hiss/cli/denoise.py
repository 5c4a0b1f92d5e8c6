"""hiss denoise: recordings without their noise."""

import os
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiss.cli.completion import complete_model
from hiss.cli.outputs import check_writable
from hiss.cli.terminal import Terminal, terminal
from hiss.errors import HissError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hiss.denoise_files import Job, Outcome
    from hiss.denoise_folders import Way

EXAMPLE = "Example: hiss denoise noisy.wav -o clean.wav"

_TOGETHER = 32  # channels on a GPU: more is hardly faster
_PATIENCE = timedelta(days=365)  # for other processes, whose shares may take much longer
_OF_FILES = {
    "output": "--output",
    "file_format": "--format",
    "as_json": "--json",
    "jobs": "--jobs",
    "overwrite": "--overwrite",
}
_OF_RAW_STREAMS = {"rate": "--rate", "channels": "--channels", "encoding": "--encoding"}


def denoise(
    context: typer.Context,
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="INPUT...", help="Files, or folders with all in them.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A bundled model or a folder; what fits the rate by default.",
            autocompletion=complete_model,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; the model's own choice, 1, by default.")] = None,
    keep_db: Annotated[
        float | None, typer.Option(metavar="DB", help="Lower the noise by at most so many dB; by all by default.")
    ] = None,
    causal: Annotated[bool, typer.Option("--causal", help="As in a stream: hear nothing of what is to come.")] = False,
    file_format: Annotated[str | None, typer.Option("--format", help="wav, flac, ogg, opus or mp3.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make anew what is there, also the input.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Processes; by default as many as are worth it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda or mps.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="From stdin to stdout, as it comes.")] = False,
    rate: Annotated[int | None, typer.Option(help="Hz of a raw stream; a WAV stream says it.")] = None,
    channels: Annotated[int, typer.Option(help="Channels of a raw stream.")] = 1,
    encoding: Annotated[str, typer.Option(help="Samples of a raw stream: s16, f32, u8, s24, s32 or f64.")] = "s16",
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file, or a folder for several.")] = Path("out"),
) -> None:
    """Take the noise out of recordings of any rate, length and number of channels.

    Prints the path of each file. What is there already is skipped, so the same
    line goes on where it was stopped. Under torchrun or accelerate launch each
    process takes its share, and ends when all have ended.

    --stream reads a WAV file or raw samples from stdin and writes the same to
    stdout: ffmpeg -i talk.mp4 -f wav - | hiss denoise --stream > clean.wav
    """
    screen = terminal(context)
    if stream:
        if inputs:
            raise UsageError(f"--stream reads from stdin, not from {inputs[0]}; leave one of them out")
        if option := _given(context, _OF_FILES):
            raise UsageError(f"{option} is for files; --stream writes the same to stdout, so leave one of them out")
        if rate is None and (option := _given(context, _OF_RAW_STREAMS)):
            raise UsageError(f"{option} is for raw streams; a WAV stream says it, so leave it out or add --rate HZ")
        from hiss.audio.pcm import Pcm
        from hiss.cli.streaming import denoise_stdin
        from hiss.denoise_folders import Way

        raw = None if rate is None else Pcm(rate, channels, encoding)
        denoise_stdin(screen, Way(model, device, steps, keep_db), raw)
        return
    if not inputs:
        raise UsageError("nothing to denoise; name files or folders, or --stream for stdin")
    if option := _given(context, _OF_RAW_STREAMS):
        raise UsageError(f"{option} is for raw streams; files say it themselves, so leave it out or add --stream")
    local, rank, world = (_number(name, least) for name, least in (("LOCAL_RANK", 0), ("RANK", 0), ("WORLD_SIZE", 1)))
    on_gpu = device is not None and device != "cpu"
    if on_gpu and jobs is not None:
        raise UsageError(f"--jobs is for the CPU; on {device} one process takes several files at once")

    from hiss.denoise_folders import Way, plan, share, worthwhile

    planned = plan(inputs, output, file_format=file_format)
    for job in planned:
        if not overwrite and job.target.resolve() == job.source.resolve():
            raise UsageError(
                f"{job.target} would replace the recording itself; name another place with -o, or add --overwrite"
            )
    mine = share(planned, rank=rank, world=world)
    pending = [job for job in mine if overwrite or not job.target.exists()]
    left = set(pending)
    if len(pending) < len(mine):
        screen.say(f"{len(mine) - len(pending)} of {len(mine)} are there already; --overwrite makes them anew")
    check_writable(planned[0].target.parent if len(planned) == 1 else output)
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{local}"
    way = Way(model, device, steps, keep_db, causal)
    own = max(1, cores() // _number("LOCAL_WORLD_SIZE", 1))
    workers = 1 if on_gpu else min(jobs, len(pending)) if jobs else worthwhile(pending, cores=own)
    with _ending_together(screen, world):
        outcomes = _denoised(screen, pending, way, workers=workers, together=_TOGETHER if on_gpu else 1)
        _report(screen, outcomes, skipped=[job for job in mine if job not in left], as_json=as_json)


@contextmanager
def _ending_together(screen: Terminal, world: int) -> "Iterator[None]":
    """Waits at the end, or with an error, until all processes are as far: torchrun stops all when one fails.

    Processes that nothing connects do not wait.
    """
    if world == 1 or not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        yield
        return
    try:
        yield
    except Exception as error:
        screen.complain(f"this process failed and waits for the others: {error}")
        _wait(world)
        raise
    _wait(world)


def _wait(world: int) -> None:
    """Waits for all processes of a launch, of which there are `world`."""
    from torch import distributed

    try:
        # Only now: a process that has not started yet keeps no other from its share, and no connection lies idle.
        distributed.init_process_group("gloo", timeout=_PATIENCE)
        distributed.barrier()
    except RuntimeError as error:
        raise HissError(
            f"another of the {world} processes was lost; what is finished is kept: repeat the line to do the rest"
        ) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _given(context: typer.Context, options: "Mapping[str, str]") -> str | None:
    """Returns the first of some options, by their parameters, that was written on the command line."""
    for parameter, option in options.items():
        source = context.get_parameter_source(parameter)
        if source is not None and source.name == "COMMANDLINE":
            return option
    return None


def _denoised(screen: Terminal, jobs: "Sequence[Job]", way: "Way", *, workers: int, together: int) -> "list[Outcome]":
    """Returns what became of the jobs, by source, while a bar tells how far it is."""
    from hiss.audio import Form
    from hiss.denoise_folders import denoise_files

    if not jobs:
        return []
    way.pipeline(16_000)  # says what is wrong with the model before any work
    alone = len(jobs) == 1
    total = Form.of(jobs[0].source).seconds if alone else len(jobs)
    begun = time.monotonic()
    with screen.bar("denoising", total) as bar:

        def watch(files: int, seconds: float) -> None:
            speed = seconds / max(time.monotonic() - begun, 1e-3)
            bar.update(seconds if alone else files, total, f"{speed:.1f} s of sound per s")

        outcomes = denoise_files(jobs, way, workers=workers, together=together, watch=watch)
    if alone and outcomes[0].error is not None:
        raise outcomes[0].error
    return sorted(outcomes, key=lambda one: one.job.source)


def _report(screen: Terminal, outcomes: "Sequence[Outcome]", *, skipped: "Sequence[Job]", as_json: bool) -> None:
    """Prints what was written; fails if something was not."""
    failed = [one for one in outcomes if one.error is not None]
    if as_json:
        screen.json(
            {
                "done": [
                    {"source": str(one.job.source), "file": str(one.job.target), "seconds": one.seconds}
                    for one in outcomes
                    if one.error is None
                ],
                "skipped": [{"source": str(job.source), "file": str(job.target)} for job in skipped],
                "failed": [{"source": str(one.job.source), "reason": str(one.error)} for one in failed],
            }
        )
    else:
        for one in outcomes:
            if one.error is None:
                screen.result(str(one.job.target))
    for one in failed:
        screen.complain(f"failed: {one.job.source}: {one.error}")
    if failed:
        raise HissError(f"{len(failed)} of {len(outcomes)} recordings failed, as listed above; all others are done")


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _number(variable: str, least: int) -> int:
    """Returns the whole number in an environment variable; `least` if it is not set."""
    text = os.environ.get(variable, str(least))
    if not text.isdigit() or int(text) < least:
        raise UsageError(f"the environment variable {variable} must be a whole number from {least} on, not {text!r}")
    return int(text)
