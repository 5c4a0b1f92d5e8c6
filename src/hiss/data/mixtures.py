"""Speech with noise, mixed while it is read: endless noisy recordings and what is wanted of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from hiss.data.base import DataConfig, Dataset, Split
from hiss.data.examples import Readers, check_batching
from hiss.data.mixer import Chances, Mixer, audible
from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.types import Batch

_CROWD = 64
"""Clips of speech that babble is made of."""


@dataclass(frozen=True, kw_only=True)
class Mixtures(DataConfig, name="mixtures"):
    """Pairs of a noisy recording, `Prompt.recording`, and the clean one, `Batch.audio`, at the same level.

    What is cut, held out or left out is said of `speech` and of `noise`. One pass is one of the speech.
    """

    speech: DataConfig
    """Clean recordings."""
    noise: DataConfig | None = None
    """Recorded noises; without them all noise is synthetic. Where none is held out, all splits share it."""
    chances: Chances = Chances()
    """How they are mixed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(DataConfig):
            if getattr(self, field.name) != field.default:
                raise UsageError(
                    f"{field.name} is said of the speech or of the noise of mixtures, not of both together"
                )

    @property
    def validates(self) -> bool:
        return self.speech.validates

    @property
    def held_out(self) -> float:
        return self.speech.held_out

    def open(self, *, sample_rate: int, channels: int, samples: int, split: Split = "train") -> Dataset:
        speech = self.speech.open(
            sample_rate=sample_rate, channels=channels, samples=Mixer.needed(self.chances, samples), split=split
        )
        noise = None
        if self.noise is not None:
            part: Split = split if self.noise.validates else "all"
            noise = self.noise.open(sample_rate=sample_rate, channels=channels, samples=samples, split=part)
        return Mixed(self.chances, speech, noise, samples=samples)


class Mixed(Dataset):
    """The mixtures of a set of speech and one of noise.

    The mixture in place `p` of the series is made of the speech in place `p`, the noises in places 2p and 2p + 1, and
    chance that depends on (seed, p).
    """

    def __init__(self, chances: Chances, speech: Dataset, noise: Dataset | None, *, samples: int) -> None:
        self.speech, self.noise = speech, noise
        self.sample_rate, self.channels, self.samples = speech.sample_rate, speech.channels, samples
        self.size, self.report = speech.size, speech.report
        if noise is not None:
            self.report.skipped.extend(noise.report.skipped)
        self.mixer = Mixer(
            chances,
            sample_rate=self.sample_rate,
            samples=samples,
            crowd=self._voices() if chances.babble else (),
        )

    def batches(
        self, batch_size: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        check_batching(batch_size, start, rank, world, workers)
        if workers:
            return Readers(partial(self._turns, batch_size, seed, start, rank, world)).start(workers)
        return self._mixed(batch_size, seed, start, rank, world)

    def once(self, batch_size: int) -> Iterator[Batch]:
        place, seed = 0, 0
        noises = None if self.noise is None else self.noise.batches(2, seed=seed)
        for clips in self.speech.once(batch_size):
            count = len(clips.audio)
            pairs = [_recorded(next(noises)) if noises is not None else [] for _ in range(count)]
            yield self._batch(clips, pairs, [seeded("once", place + row) for row in range(count)])
            place += count

    def _turns(
        self, batch_size: int, seed: int, start: int, rank: int, world: int, worker: int, workers: int
    ) -> Iterator[Batch]:
        """Returns the batches of a worker, which is one process among `workers` times as many."""
        first, part = divmod((start + worker) * world + rank, world * workers)
        return self._mixed(batch_size, seed, first, part, world * workers)

    def _mixed(self, batch_size: int, seed: int, start: int, rank: int, world: int) -> Iterator[Batch]:
        series = {"seed": seed, "start": start, "rank": rank, "world": world}
        speech = self.speech.batches(batch_size, **series)
        noises = None if self.noise is None else self.noise.batches(2 * batch_size, **series)
        place = (start * world + rank) * batch_size
        for clips in speech:
            found = _recorded(next(noises)) if noises is not None else []
            pairs = [found[2 * row : 2 * row + 2] for row in range(batch_size)]
            yield self._batch(clips, pairs, [seeded(seed, "mixture", place + row) for row in range(batch_size)])
            place += world * batch_size

    def _batch(self, clips: Batch, noises: Sequence[Sequence[Tensor]], generators: Sequence[torch.Generator]) -> Batch:
        mixed = [self.mixer(*one) for one in zip(clips.audio, noises, generators, strict=True)]
        clean, noisy = (torch.stack(part) for part in zip(*mixed, strict=True))
        prompts = tuple(replace(one, recording=row) for one, row in zip(clips.prompts, noisy, strict=True))
        # All of it is real: where the speech has ended, silence is wanted.
        return Batch(clean, clips.sample_rate, prompts, torch.full((len(clean),), self.samples))

    def _voices(self) -> list[Tensor]:
        """Returns audible clips of speech, drawn once."""
        drawn = next(self.speech.batches(_CROWD, seed=0)).audio[..., : self.samples]
        voices = [voice.clone() for voice in drawn if audible(voice)]
        if not voices:
            raise HissError("babble needs voices, but the speech is silent; give other speech, or chances.babble of 0")
        return voices


def _recorded(batch: Batch) -> list[Tensor]:
    """Returns the noises [channels, samples] of a batch, without the zeros behind them."""
    return [clip[:, :length] for clip, length in zip(batch.audio, batch.lengths.tolist(), strict=True)]
