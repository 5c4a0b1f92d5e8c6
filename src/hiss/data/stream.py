"""Shards read forward only: a data set of any size, shuffled within a buffer."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, count, islice
from typing import TypeVar

import torch
from torch import Tensor

from hiss.data.base import DataConfig, Dataset, Recording, Report, Split
from hiss.data.examples import Example, Readers, check_batching, check_clips, collate, cut
from hiss.data.tars import Sample, samples
from hiss.errors import HissError
from hiss.noise import seeded
from hiss.types import Batch

Decode = Callable[[Sample, int, int, Split], tuple[Recording, Tensor] | None]
"""(sample, sample rate, channels, split) -> what is known of it, and its waveform [channels, samples]; None: not wanted
there."""

_CLIPS = 256
"""Clips, at most, among which the next is drawn where a recording gives several; they are larger than samples."""

Item = TypeVar("Item")


class Stream(Dataset):
    """Clips of the samples of shards, in an order fixed by (seed, world, workers).

    With as many shards as readers (processes times workers) each reader has shards of its own, else they take turns on
    the samples of every shard. `report` counts what this process has read so far; workers keep theirs to themselves.
    """

    def __init__(
        self,
        config: DataConfig,
        shards: Sequence[str],
        *,
        decode: Decode,
        shuffle: int,
        sample_rate: int,
        channels: int,
        samples: int,
        split: Split,
    ) -> None:
        """Reads nothing yet; `shuffle` is the size of the buffer."""
        check_clips(config, split, sample_rate, channels, samples)
        self.config, self.shards, self.decode, self.shuffle, self.split = config, shards, decode, shuffle, split
        self.sample_rate, self.channels, self.samples = sample_rate, channels, samples
        self.report = Report()

    def batches(
        self, batch_size: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        check_batching(batch_size, start, rank, world, workers)
        if not workers:
            return islice(self.part(batch_size, seed, rank, world), start, None)
        return Readers(partial(self._turns, batch_size, seed, start, rank, world)).start(workers)

    def once(self, batch_size: int) -> Iterator[Batch]:
        check_batching(batch_size, 0, 0, 1, 0)
        found = (self.examples(sample, seeded("once", sample.key), augment=False) for sample in self._read(self.shards))
        yield from _grouped(chain.from_iterable(found), batch_size, self.sample_rate)

    def part(self, batch_size: int, seed: int, part: int, parts: int) -> Iterator[Batch]:
        """Returns the endless batches of one reader out of `parts`."""
        return _grouped(self._endless(seed, part, parts), batch_size, self.sample_rate)

    def _turns(
        self, batch_size: int, seed: int, start: int, rank: int, world: int, worker: int, workers: int
    ) -> Iterator[Batch]:
        """Returns the batches of a worker: batch k comes from worker k % workers, wherever the series starts."""
        number = (worker + start) % workers
        taken = len(range(number, start, workers))
        return islice(self.part(batch_size, seed, rank * workers + number, world * workers), taken, None)

    def examples(
        self, sample: Sample, generator: torch.Generator, *, augment: bool, note: bool = True
    ) -> list[Example]:
        """Returns the clips of a sample in a pass, or the one that `once` asks for; none if it is left out.

        `note` says so in the report.
        """
        try:
            decoded = self.decode(sample, self.sample_rate, self.channels, self.split)
            if decoded is None:
                return []
            recording, waveform = decoded
            reason = self.config.skip(recording, sample_rate=self.sample_rate, samples=self.samples)
        except HissError as error:
            reason = str(error)
        if reason is not None:
            if note:
                self.report.skipped.append((sample.key, reason))
            return []
        if note:
            self.report.used += 1
            self.report.seconds += recording.samples / self.sample_rate
        return [
            cut(
                self.config,
                recording,
                lambda start, count: waveform[:, start : start + count],
                sample_rate=self.sample_rate,
                samples=self.samples,
                generator=generator,
                augment=augment,
            )
            for _ in range(self.config.cuts(recording, self.samples) if augment else 1)
        ]

    def _endless(self, seed: int, part: int, parts: int) -> Iterator[Example]:
        for epoch in count():
            order = torch.randperm(len(self.shards), generator=seeded(seed, "shards", epoch)).tolist()
            shards = [self.shards[index] for index in order]
            if len(shards) >= parts:
                own = self._read(shards[part::parts])
            else:
                own = islice(self._read(shards), part, None, parts)
            drawn = _shuffled(own, self.shuffle, seeded(seed, "buffer", epoch, part))
            clips = self._clips(drawn, seed, epoch)
            if self.config.each == "second":  # else a batch might hold one recording alone
                clips = _shuffled(clips, min(self.shuffle, _CLIPS), seeded(seed, "clips", epoch, part))
            found = False
            for clip in clips:
                found = True
                yield clip
            if not found:
                raise self.report.none_left(f"reader {part + 1} of {parts} of {len(self.shards)} shards")

    def _clips(self, drawn: Iterator[Sample], seed: int, epoch: int) -> Iterator[Example]:
        for sample in drawn:
            yield from self.examples(sample, seeded(seed, epoch, sample.key), augment=True, note=epoch == 0)

    def _read(self, shards: Sequence[str]) -> Iterator[Sample]:
        for shard in shards:
            try:
                yield from samples(shard)
            except HissError as error:  # the rest of a shard that breaks off
                self.report.skipped.append((shard, str(error)))


def _shuffled(source: Iterator[Item], size: int, generator: torch.Generator) -> Iterator[Item]:
    """Yields all of `source`, each drawn from the `size` items at hand."""
    buffer: list[Item] = []
    for item in source:
        buffer.append(item)
        if len(buffer) >= size:
            yield _draw(buffer, generator)
    while buffer:
        yield _draw(buffer, generator)


def _draw(buffer: list[Item], generator: torch.Generator) -> Item:
    index = int(torch.randint(len(buffer), (), generator=generator))
    buffer[index], buffer[-1] = buffer[-1], buffer[index]
    return buffer.pop()


def _grouped(examples: Iterator[Example], batch_size: int, sample_rate: int) -> Iterator[Batch]:
    while group := list(islice(examples, batch_size)):
        yield collate(group, sample_rate)
