"""Noise out of files of any length: one, or several at once as the channels of one stream."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from hiss.audio import BlockWriter, Form, read_blocks
from hiss.denoising import BLOCK
from hiss.errors import HissError
from hiss.pipeline import Pipeline, load

_LARGEST = 1 << 24  # samples of a block, all channels together: what a header says of rate and channels may be absurd


@dataclass(frozen=True)
class Job:
    """A recording, and where it goes without its noise."""

    source: Path
    target: Path
    """Its ending says of what format it will be."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    seconds: float = 0.0
    """Of sound that was read."""
    error: HissError | None = None


def denoise_audio(
    model_path: str | Path,
    noisy_audio_path: str | Path,
    output_path: str | Path,
    *,
    steps: int | None = None,
    keep_db: float | None = None,
    causal: bool = False,
) -> None:
    """Writes the recording in a file, without its noise, to another file or to the same.

    See `load` for the model, and `denoise_file` for the rest.
    """
    denoise_file(load(model_path), noisy_audio_path, output_path, steps=steps, keep_db=keep_db, causal=causal)


def denoise_file(
    pipeline: Pipeline,
    source: str | Path,
    target: str | Path,
    *,
    steps: int | None = None,
    keep_db: float | None = None,
    causal: bool = False,
    watch: Callable[[float], None] | None = None,
) -> None:
    """Writes the recording in a file, without its noise, to another file or to the same, whole or not at all.

    Works block by block, so that memory does not grow with the length. Sample rate, channels and length stay, and the
    sample format too if the format of `target`, named by its ending, knows it: 24 bits stay 24 bits.

    Args:
        pipeline: a model that denoises.
        source: a file that `Audio.load` reads.
        target: a file that `Audio.save` writes.
        steps: as `Pipeline.denoise`; so are `keep_db` and `causal`.
        keep_db: the noise is lowered by at most this many dB.
        causal: gives what a stream gives, which hears nothing of what is to come.
        watch: called after each block with the seconds of sound that are done.

    Raises:
        UsageError: as `Pipeline.denoise` and `Audio.save`.
        HissError: as `Audio.load` and `Audio.save`.
    """
    job = Job(Path(source), Path(target))
    (outcome,) = denoise_together(
        pipeline, [(job, Form.of(job.source))], steps=steps, keep_db=keep_db, causal=causal, watch=watch
    )
    if outcome.error is not None:
        raise outcome.error


def denoise_together(
    pipeline: Pipeline,
    jobs: Sequence[tuple[Job, Form]],
    *,
    steps: int | None = None,
    keep_db: float | None = None,
    causal: bool = False,
    watch: Callable[[float], None] | None = None,
) -> list[Outcome]:
    """Returns what became of files of one sample rate that are cleaned at once, as the channels of one stream.

    A file that ends or fails before the others is continued with silence, which only a model that sees recordings as a
    whole takes for a part of it. A file that fails does not harm the others. Arguments are those of `denoise_file`.

    Raises:
        UsageError: as `Pipeline.denoise`.
    """
    rate = jobs[0][1].sample_rate
    channels = [form.channels for _, form in jobs]
    # One size for all files: a shorter block is taken for the end of its file.
    samples = max(1, min(round(BLOCK * rate), _LARGEST // sum(channels)))
    stream = pipeline.stream(rate, sum(channels), steps=steps, keep_db=keep_db, ahead=not causal)
    with ExitStack() as stack:
        tracks = [stack.enter_context(_Track(job, form, samples)) for job, form in jobs]
        while longest := max(map(_length, blocks := [track.read() for track in tracks])):
            noisy = torch.cat([functional.pad(block, (0, longest - _length(block))) for block in blocks])
            lengths = [_length(block) for block in blocks for _ in block]
            for track, clean in zip(tracks, stream.push(noisy, lengths=lengths).split(channels), strict=True):
                track.write(clean)
            if watch is not None:
                watch(sum(track.samples for track in tracks) / rate)
        for track, clean in zip(tracks, stream.finish().split(channels), strict=True):
            track.write(clean)
            track.save()
        return [Outcome(track.job, track.samples / rate, track.error) for track in tracks]


class _Track:
    """A file on its way through a stream; after an error nothing comes from it, and nothing is written."""

    def __init__(self, job: Job, form: Form, block: int) -> None:
        """`block` is how many samples are read at once."""
        self.job, self.form, self.block = job, form, block
        self.samples = 0
        self.error: HissError | None = None
        self._blocks: Iterator[Tensor] = iter(())
        self._writer: BlockWriter | None = None

    def __enter__(self) -> "_Track":
        with self._noting():
            rate, target = self.form.sample_rate, self.job.target
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise HissError(f"cannot make the folder {target.parent}: {error.strerror}") from error
            subtype = self.form.kept_in(target.suffix.lstrip("."))
            self._writer = BlockWriter(target, sample_rate=rate, channels=self.form.channels, subtype=subtype)
            self._blocks = read_blocks(self.job.source, samples=self.block)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self) -> Tensor:
        """Returns the next block [channels, samples]: no samples after the end."""
        block = torch.zeros(self.form.channels, 0)
        with self._noting():
            block = next(self._blocks, block)
        self.samples += _length(block)
        return block

    def write(self, clean: Tensor) -> None:
        """Adds what came out of the stream, up to the length of what went in."""
        if self._writer is not None:
            with self._noting():
                self._writer.append(clean[:, : self.samples - self._writer.samples])

    def save(self) -> None:
        """Puts the file in its place."""
        if self._writer is not None:
            with self._noting():
                self._writer.save()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except HissError as error:
            self._fail(error)
        except MemoryError:
            self._fail(HissError(f"not enough memory for {self.job.source}; close other programs, or split the file"))

    def _fail(self, error: HissError) -> None:
        self.error = error
        self._end()

    def _end(self) -> None:
        self._blocks = iter(())
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _length(block: Tensor) -> int:
    return block.shape[1]
