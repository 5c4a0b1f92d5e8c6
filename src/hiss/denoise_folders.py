"""Noise out of thousands of files: which goes where, on many cores, in batches on a GPU, or shared by machines."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import torch

from hiss.audio import ENDINGS, FORMATS, UNREAD, Form, all_audio, visible
from hiss.denoise_files import Job, Outcome, denoise_together
from hiss.denoising import coding_by_frames
from hiss.errors import HissError, UsageError, unknown
from hiss.pipeline import Pipeline, bundled, load

WIDE = 32_000
"""Hz from which on a recording is cleaned by the model for 48 kHz, if it is bundled."""

_WORTH = 8 << 20  # bytes of recordings that are worth the start of another process
_PATIENCE = 5.0  # seconds in which a process may tidy up
_ALIKE = 0.5  # files are batched with those of at least this share of their length


@dataclass(frozen=True)
class Way:
    """How recordings are cleaned."""

    model: str | None = None
    """A bundled model or a folder; where left out, the bundled one that fits the rate of the recording."""
    device: str | None = None
    steps: int | None = None
    keep_db: float | None = None
    causal: bool = False
    """Whether nothing of what is to come is heard, as in a stream."""

    def pipeline(self, sample_rate: int) -> Pipeline:
        """Returns the model for recordings of that many Hz.

        Raises:
            UsageError: there is no such model, it does not denoise, or `steps` or `keep_db` are out of range.
        """
        pipeline = _loaded(self.model or fitting_model(sample_rate, bundled()), self.device)
        pipeline.stream(sample_rate, steps=self.steps, keep_db=self.keep_db)  # refuses before any work
        return pipeline


@cache
def _loaded(model: str, device: str | None) -> Pipeline:
    return load(model, device=device)


def fitting_model(sample_rate: int, names: Sequence[str]) -> str:
    """Returns which of the bundled models `names` denoises recordings of that many Hz best.

    Raises:
        UsageError: none denoises.
    """
    for name in ("denoise-48k", "denoise-16k") if sample_rate >= WIDE else ("denoise-16k", "denoise-48k"):
        if name in names:
            return name
    raise UsageError("no denoiser comes with this version of hiss; name the folder of one that was trained")


def plan(inputs: Sequence[Path], output: Path, *, file_format: str | None = None) -> list[Job]:
    """Returns what goes where, sorted by source.

    Folders are searched with all folders in them. One file goes to `output` if that has an ending and is no folder,
    otherwise everything goes into the folder `output`: what lies in one folder keeps its place in it, and with several
    inputs the name of the folder comes first. The format is `file_format`, else that of the source, else WAV.

    Raises:
        UsageError: unknown format; several recordings would become one file, or one would replace another.
        HissError: a folder holds no audio file.
    """
    if file_format is not None and file_format not in FORMATS:
        raise unknown("audio format", file_format, FORMATS)
    ending = output.suffix.lower().lstrip(".")
    if ending and not output.is_dir() and (ending in FORMATS or not _many(inputs)):
        if _many(inputs):
            raise UsageError(f"{output} is one file, but there may be several recordings; name a folder")
        if ending not in FORMATS:
            raise unknown("audio format", ending, FORMATS)
        if file_format not in (None, ending):
            raise UsageError(f"the format {file_format} contradicts the ending of {output}; drop one of them")
        return [Job(inputs[0], output)]
    jobs: list[Job] = []
    for one in inputs:
        if one.is_dir():
            place = output if len(inputs) == 1 else output / one.resolve().name
            places = {path: place / path.relative_to(one) for path in _found(one, output, file_format)}
        else:
            places = {one: output / one.name}
        jobs += [Job(source, _named(target, file_format)) for source, target in places.items()]
    _check(jobs)
    return sorted(jobs, key=lambda job: job.source)


def _many(inputs: Sequence[Path]) -> bool:
    return len(inputs) > 1 or inputs[0].is_dir()


def _found(folder: Path, output: Path, file_format: str | None) -> list[Path]:
    """Returns the audio files in a folder, without those of earlier runs if the output lies in it, or is it."""
    own, out = folder.resolve(), output.resolve()
    paths = visible(folder)
    if out != own and out.is_relative_to(own):
        paths = [path for path in paths if not path.resolve().is_relative_to(out)]
    paths = all_audio(paths)
    if out == own:
        targets = {path: _named(path, file_format) for path in paths}
        made = {target for path, target in targets.items() if target != path}
        paths = [path for path in paths if path not in made]
    if not paths:
        raise HissError(f"the folder {folder} holds no audio file; looked for {', '.join(ENDINGS)} in it and below")
    return paths


def _named(path: Path, file_format: str | None) -> Path:
    ending = path.suffix.lower().lstrip(".")
    if file_format is None and ending in FORMATS:
        return path
    if ending in UNREAD:  # nothing comes of it, so it shall not be in the way of a namesake
        path = path.with_name(f"{path.name}.{ending}")
    return path.with_suffix(f".{file_format or 'wav'}")


def _check(jobs: Sequence[Job]) -> None:
    for target, count in Counter(job.target for job in jobs).items():
        if count > 1:
            first, second = [job.source for job in jobs if job.target == target][:2]
            raise UsageError(f"{first} and {second} would both become {target}; denoise them one after the other")
    sources = {job.source.resolve(): job.source for job in jobs}
    for job in jobs:
        other = sources.get(job.target.resolve(), job.source)
        if other != job.source and other.resolve() != job.source.resolve():
            raise UsageError(f"{job.source} would replace {other}, which is to be denoised too; name another folder")


def share(jobs: Sequence[Job], *, rank: int, world: int) -> list[Job]:
    """Returns what process `rank` of `world` takes, which depends on the list alone.

    Raises:
        UsageError: there is no such process.
    """
    if not 0 <= rank < world:
        raise UsageError(f"rank must be from 0 to below the world size, not {rank} of {world}")
    return list(jobs[rank::world])


def worthwhile(jobs: Sequence[Job], *, cores: int) -> int:
    """Returns how many processes are worth their start: at most one per core, and one for some minutes of sound."""
    size = sum(job.source.stat().st_size for job in jobs if job.source.is_file())
    return max(1, min(cores, len(jobs), size // _WORTH))


def denoise_files(
    jobs: Sequence[Job],
    way: Way,
    *,
    workers: int = 1,
    together: int = 1,
    watch: Callable[[int, float], None] | None = None,
) -> list[Outcome]:
    """Returns what became of files, in no certain order; one that fails does not harm the others.

    Args:
        jobs: the files.
        way: how they are cleaned.
        workers: processes, each of one thread; 1 is this process as it is.
        together: how many channels are cleaned at once, of files of about the same length: worth it on a GPU.
        watch: called now and then with (files done, seconds of sound done).

    Raises:
        UsageError: the model or its arguments are wrong.
        HissError: a process died.
    """
    groups = _alike(jobs, way, together) if together > 1 else [[job] for job in jobs]
    outcomes: list[Outcome] = []

    def tell(seconds: float = 0.0) -> None:
        if watch is not None:
            watch(len(outcomes), sum(one.seconds for one in outcomes) + seconds)

    if workers == 1:
        for group in groups:
            outcomes += _denoised(group, way, tell)
            tell()
    else:
        with closing(_in_processes(groups, way, workers)) as results:
            for made, notes in results:
                outcomes += made
                tell()
                for note in notes:
                    warnings.warn(note, stacklevel=2)
    return outcomes


def _denoised(jobs: Sequence[Job], way: Way, watch: Callable[[float], None] | None = None) -> list[Outcome]:
    """Returns what became of a group of jobs of one sample rate."""
    readable: list[tuple[Job, Form]] = []
    failed: list[Outcome] = []
    for job in jobs:
        try:
            readable.append((job, Form.of(job.source)))
        except HissError as error:
            failed.append(Outcome(job, error=error))
    if not readable:
        return failed
    pipeline = way.pipeline(readable[0][1].sample_rate)
    return failed + denoise_together(
        pipeline, readable, steps=way.steps, keep_db=way.keep_db, causal=way.causal, watch=watch
    )


def _alike(jobs: Sequence[Job], way: Way, together: int) -> list[list[Job]]:
    """Returns the jobs in groups of one sample rate, similar length and, all in all, `together` channels.

    Shorter ones are filled up with silence, so the length is the same for a model that sees recordings as a whole.
    """
    groups: list[list[Job]] = []
    known: list[tuple[Form, Job]] = []
    for job in jobs:
        try:
            known.append((Form.of(job.source), job))
        except HissError:
            groups.append([job])  # fails again where its error is noted
    known.sort(key=lambda one: (one[0].sample_rate, -one[0].samples))
    room, least, first = 0, 0.0, None
    for form, job in known:
        room -= form.channels
        if room < 0 or first is None or form.sample_rate != first.sample_rate or form.samples < least:
            groups.append([])
            room, first = together - form.channels, form
            whole = coding_by_frames(way.pipeline(form.sample_rate).model) is None
            least = form.samples * (1.0 if whole else _ALIKE)
        groups[-1].append(job)
    return groups


def _in_processes(
    groups: Sequence[Sequence[Job]], way: Way, workers: int
) -> Generator[tuple[list[Outcome], list[str]], None, None]:
    """Yields what became of each group, and the warnings, as they come; stopped early, it leaves no process behind."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        try:
            with _deaf():  # an interruption is this process's to handle
                futures = [pool.submit(_work, group, way) for group in groups]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise HissError(
                "a process died, maybe for lack of memory; what is finished is kept: go on with fewer processes"
            ) from error
        except BaseException:
            _end(set(multiprocessing.active_children()) - before)
            raise  # the pool finds itself broken, and waits until none of its processes is left


def _end(processes: Collection[BaseProcess]) -> None:
    """Ends processes, by force those that do not listen."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE)
        process.kill()


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignores interruptions, and lets the processes that are started meanwhile ignore them for good."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _begin() -> None:
    """Prepares a process: one thread, and an end with its parent's."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(jobs: Sequence[Job], way: Way) -> tuple[list[Outcome], list[str]]:
    """Returns what became of a group, and what was warned of."""
    try:
        signal.signal(signal.SIGTERM, _stop)
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            outcomes = _denoised(jobs, way)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # between groups there is nothing to tidy up
        return outcomes, [str(one.message) for one in noted]
    except SystemExit:
        os._exit(1)  # all is tidied up; as a result it would only start the next job
