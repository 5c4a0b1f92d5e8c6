"""Clips from recordings that can be read in any order: the data set behind tones, folders and packs in memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from math import ceil, log10
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hiss.captions import accelerate, transpose
from hiss.data.base import DataConfig, Dataset, Recording, Report, Split
from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.signal.damage import change_speed
from hiss.types import Batch, Prompt

Place = tuple[int, int]
"""(pass, clip)."""

_SILENCE = 1e-5  # RMS of -100 dBFS: there is no level to set


class Source(Protocol):
    """Recordings at the rate and with the channels of the data set."""

    @property
    def recordings(self) -> Sequence[Recording]:
        """What there is."""
        ...

    def read(self, index: int, start: int, samples: int) -> Tensor:
        """Returns [channels, samples] of one recording, from `start` on."""
        ...


@dataclass(frozen=True)
class Memory:
    """Recordings held in memory."""

    recordings: Sequence[Recording]
    waveforms: Sequence[Tensor]
    """[channels, samples] of each."""

    @classmethod
    def of(cls, source: Source, indices: Iterable[int]) -> Self:
        """Returns those recordings of a source, read."""
        recordings = [(index, source.recordings[index]) for index in indices]
        return cls([one for _, one in recordings], [source.read(index, 0, one.samples) for index, one in recordings])

    def read(self, index: int, start: int, samples: int) -> Tensor:
        """Returns [channels, samples] of one recording, from `start` on."""
        return self.waveforms[index][:, start : start + samples]


@dataclass(frozen=True)
class Example:
    """One clip."""

    audio: Tensor
    """[channels, samples]."""
    length: int
    prompt: Prompt


def cut(  # the one place where chance touches a clip
    config: DataConfig,
    recording: Recording,
    read: Callable[[int, int], Tensor],
    *,
    sample_rate: int,
    samples: int,
    generator: torch.Generator,
    augment: bool,
) -> Example:
    """Returns a clip of that many samples of a recording that `read(start, samples)` gives, cut and augmented."""
    place, ahead, loud, flip, high = torch.rand(5, dtype=torch.float64, generator=generator).tolist()
    semitones = config.pitch * (2 * high - 1) if augment else 0.0
    if config.tuned:
        semitones = round(semitones)
    speed = 2 ** (semitones / 12)
    taken = min(recording.samples, ceil(samples * speed))
    start = int(place * (recording.samples - taken + 1)) if config.crop == "random" else 0
    clip = change_speed(read(start, taken), speed)[:, :samples]
    real = clip.shape[1]
    decibels, lead, sign = 0.0, 0, 1.0
    if config.level is not None and recording.rms > _SILENCE:
        decibels = config.level - 20 * log10(recording.rms)
    if augment:
        decibels += config.gain * (2 * loud - 1)
        lead = int(ahead * (min(samples - real, round(config.offset * sample_rate)) + 1))
        sign = -1.0 if config.polarity and flip < 0.5 else 1.0
    peak = float(clip.abs().amax())
    gain = min(10 ** (decibels / 20), 1 / peak) if peak else 1.0
    audio = torch.zeros(clip.shape[0], samples)
    audio[:, lead : lead + real] = clip.mul(sign * gain).clamp(-1, 1)
    text = recording.prompt.text and accelerate(transpose(recording.prompt.text, round(semitones)), speed)
    begins = (recording.prompt.start or 0.0) + start / sample_rate
    return Example(audio, lead + real, replace(recording.prompt, text=text, start=begins))


def collate(examples: Sequence[Example], sample_rate: int) -> Batch:
    """Returns one batch of the examples."""
    return Batch(
        audio=torch.stack([example.audio for example in examples]),
        sample_rate=sample_rate,
        prompts=tuple(example.prompt for example in examples),
        lengths=torch.tensor([example.length for example in examples]),
    )


def check_clips(config: DataConfig, split: Split, sample_rate: int, channels: int, samples: int) -> None:
    """Refuses clips that cannot be, and a split that the data does not have."""
    if sample_rate < 1 or channels < 1 or samples < 1:
        raise UsageError(f"clips need a rate, channels and samples, not {sample_rate}, {channels} and {samples}")
    if split == "validation" and not config.holdout:
        raise UsageError("this data holds nothing out for validation: set holdout, or give validation data")


def check_batching(batch_size: int, start: int, rank: int, world: int, workers: int) -> None:
    """Refuses numbers that no series of batches can have."""
    if batch_size < 1 or start < 0 or workers < 0 or not 0 <= rank < world:
        raise UsageError(
            "batches need batch_size >= 1, start >= 0, workers >= 0 and 0 <= rank < world, "
            f"not {batch_size}, {start}, {workers}, {rank} and {world}"
        )


class Examples(Dataset):
    """Clips of the recordings of a source; clip `i` of pass `e` depends on (seed, e, i) alone."""

    def __init__(
        self,
        config: DataConfig,
        source: Source,
        *,
        what: str,
        sample_rate: int,
        channels: int,
        samples: int,
        split: Split,
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Keeps the recordings of `split` that `config` does not leave out; `what` names the data in errors."""
        check_clips(config, split, sample_rate, channels, samples)
        self.config, self.source = config, source
        self.sample_rate, self.channels, self.samples = sample_rate, channels, samples
        self.report = Report(skipped=list(skipped))
        self.used: list[int] = []
        for index, recording in enumerate(source.recordings):
            if not config.within(recording.group or recording.key, split):
                continue
            reason = config.skip(recording, sample_rate=sample_rate, samples=samples)
            if reason is not None:
                self.report.skipped.append((recording.key, reason))
                continue
            self.used.append(index)
            self.report.used += 1
            self.report.seconds += recording.samples / sample_rate
        if not self.used:
            raise self.report.none_left(what if split == "all" else f"the {split} split of {what}")
        self.clips = [index for index in self.used for _ in range(config.cuts(source.recordings[index], samples))]
        """The recording of each clip of a pass."""
        self.size = len(self.clips)

    def __len__(self) -> int:
        """Returns how many clips one pass has."""
        return len(self.clips)

    def batches(
        self, batch_size: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        check_batching(batch_size, start, rank, world, workers)
        order = Order(len(self), batch_size, seed, start, rank, world)
        return in_order(_Reader(self, seed), order, workers=workers)

    def once(self, batch_size: int) -> Iterator[Batch]:
        check_batching(batch_size, 0, 0, 1, 0)
        for first in range(0, len(self.used), batch_size):
            found = enumerate(self.used[first : first + batch_size], first)
            examples = [self.example(index, seeded("once", item), augment=False) for item, index in found]
            yield collate(examples, self.sample_rate)

    def batch(self, places: Sequence[Place], seed: int) -> Batch:
        """Returns the clips that `batches` makes of items in passes."""
        examples = [self.example(self.clips[item], seeded(seed, epoch, item), augment=True) for epoch, item in places]
        return collate(examples, self.sample_rate)

    def example(self, index: int, generator: torch.Generator, *, augment: bool) -> Example:
        """Returns a clip of a recording of the source."""
        return cut(
            self.config,
            self.source.recordings[index],
            lambda start, samples: self.source.read(index, start, samples),
            sample_rate=self.sample_rate,
            samples=self.samples,
            generator=generator,
            augment=augment,
        )


@dataclass(frozen=True)
class Order:
    """Endless lists of places, one a batch. A pass that ends within a batch goes over into the next."""

    size: int
    batch_size: int
    seed: int
    start: int
    rank: int
    world: int

    def __iter__(self) -> Iterator[list[Place]]:
        @lru_cache(maxsize=2)
        def shuffled(epoch: int) -> list[int]:
            return torch.randperm(self.size, generator=seeded(self.seed, "order", epoch)).tolist()

        for batch in count(self.start):
            first = (batch * self.world + self.rank) * self.batch_size
            places = (divmod(place, self.size) for place in range(first, first + self.batch_size))
            yield [(epoch, shuffled(epoch)[place]) for epoch, place in places]


@dataclass(frozen=True)
class _Reader:
    """Turns a list of places into a batch, here or in a worker."""

    data: Examples
    seed: int

    def __getitem__(self, places: list[Place]) -> Batch:
        return self.data.batch(places, self.seed)


class Reader(Protocol):
    """Makes batches of places; a process that reads ahead gets a copy of it."""

    def __getitem__(self, places: list[Place]) -> Batch: ...


def in_order(reader: Reader, order: Order, *, workers: int) -> Iterator[Batch]:
    """Returns the batches of a reader in an order; `workers` processes read ahead, or none."""
    if not workers:
        return map(reader.__getitem__, order)
    loader: DataLoader[Batch] = DataLoader(
        reader,  # type: ignore[arg-type]  # a list of places is what it is asked for
        sampler=order,
        batch_size=None,
        num_workers=workers,
        collate_fn=same,
        generator=torch.Generator(),
    )
    return iter(loader)


def same(batch: Any) -> Any:
    """Returns what comes: batches are made before the loader sees them."""
    return batch


class Readers(IterableDataset[Batch]):
    """Endless batches that several processes make in turn."""

    def __init__(self, read: Callable[[int, int], Iterator[Batch]]) -> None:
        """Keeps what returns the batches of one process out of so many, given (which, how many)."""
        self.read = read

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        assert worker is not None
        return self.read(worker.id, worker.num_workers)

    def start(self, workers: int) -> Iterator[Batch]:
        """Returns the batches of that many processes: one of the first, one of the second, and so on."""
        loader: DataLoader[Batch] = DataLoader(
            self, batch_size=None, num_workers=workers, collate_fn=same, generator=torch.Generator()
        )
        return iter(loader)
