"""WebDataset shards as a data set: in memory, or as a stream."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hiss.data.base import Dataset, Recording, Split
from hiss.data.examples import Examples, Memory
from hiss.data.files import FileConfig, fit
from hiss.data.stream import Stream
from hiss.data.tars import Sample, expand, is_remote, samples
from hiss.errors import HissError, UsageError


@dataclass(frozen=True, kw_only=True)
class Shards(FileConfig, name="shards"):
    """WebDataset tar files: `KEY.flac` (or wav, ogg, opus, mp3 ...) with `KEY.json` or `KEY.txt` beside it.

    `path` may hold {000000..000003}, {a,b} and *, or be a folder of tar files; http(s) and pipe: go through webdataset.
    """

    cache: bool | None = None
    """Decode all of a split into memory first, which makes resuming exact and quick; None: what is local, not what is
    remote. A stream (False) reads forward only, and resumes by reading again what came before."""
    shuffle: int = 1000
    """Samples of a stream among which the next is drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shuffle < 1:
            raise UsageError(f"shuffle is the size of a buffer, at least 1, not {self.shuffle}")

    def open(self, *, sample_rate: int, channels: int, samples: int, split: Split = "train") -> Dataset:
        path, part = self.place(split)
        shards = expand(path)
        cache = not any(map(is_remote, shards)) if self.cache is None else self.cache
        if not cache:
            return Stream(
                self,
                shards,
                decode=self.decode,
                shuffle=self.shuffle,
                sample_rate=sample_rate,
                channels=channels,
                samples=samples,
                split=part,
            )
        memory, skipped = self._load(shards, sample_rate, channels, part)
        return Examples(
            self,
            memory,
            what=f"the shards {path}",
            sample_rate=sample_rate,
            channels=channels,
            samples=samples,
            split=part,
            skipped=skipped,
        )

    def decode(self, sample: Sample, sample_rate: int, channels: int, split: Split) -> tuple[Recording, Tensor] | None:
        """Returns what is known of a sample, and its waveform [channels, samples].

        None if `only` leaves it out, or it is not of the split: then it is not decoded.

        Raises:
            HissError: it has no audio, its rate is too low, or something is damaged.
        """
        metadata = sample.metadata()
        group = self.group(sample.key, metadata)
        if not self.wants(metadata) or not self.within(group, split):
            return None
        audio = sample.audio()
        if (reason := self.check_rate(audio.sample_rate)) is not None:
            raise HissError(reason)
        waveform = fit(audio, sample_rate=sample_rate, channels=channels)
        recording = Recording(
            key=sample.key,
            samples=waveform.shape[1],
            rms=audio.rms,
            prompt=self.prompt(metadata, audio.seconds),
            group=group,
        )
        return recording, waveform

    def _load(
        self, shards: Iterable[str], sample_rate: int, channels: int, split: Split
    ) -> tuple[Memory, list[tuple[str, str]]]:
        """Returns the recordings of a split, and (key or shard, reason) of what of them is damaged."""
        found: list[Sample] = []
        skipped: list[tuple[str, str]] = []
        for shard in shards:
            try:
                for sample in samples(shard):
                    found.append(sample)
            except HissError as error:  # the rest of a shard that breaks off
                skipped.append((shard, str(error)))

        def attempt(sample: Sample) -> tuple[dict[str, Any], tuple[Recording, Tensor] | None] | str:
            try:
                return sample.metadata(), self.decode(sample, sample_rate, channels, split)
            except HissError as error:
                return str(error)

        readable: list[dict[str, Any]] = []
        recordings: list[Recording] = []
        waveforms: list[Tensor] = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding runs beside Python
            for sample, result in zip(found, pool.map(attempt, found), strict=True):
                if isinstance(result, str):
                    skipped.append((sample.key, result))
                    continue
                metadata, decoded = result
                readable.append(metadata)
                if decoded is not None:
                    recordings.append(decoded[0])
                    waveforms.append(decoded[1])
        self.check_metadata(readable)
        return Memory(recordings, waveforms), skipped
