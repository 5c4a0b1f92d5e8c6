"""What a server can be asked to make, and how several requests for the same are made together."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import frexp
from typing import Any, Self

import torch
from torch.nn import functional

from hiss.audio import Audio, Form
from hiss.denoising import BLOCK, coding_by_frames
from hiss.diffusion.sampling import sampler
from hiss.errors import UsageError
from hiss.generation import STRENGTH, samples_asked
from hiss.web.asks import Denoise, Edit, Generate
from hiss.web.decoding import Upload
from hiss.web.limits import LONGEST
from hiss.web.shelf import Model, Shelf, Task
from hiss.web.transcript import Transcript, of_denoising, of_making

Progress = Callable[[int, int], None]
"""(done, of how many), called while the work goes on; it raises to stop it."""


@dataclass(frozen=True, eq=False)
class Work(ABC):
    """A request that was checked and can be done."""

    model: Model

    @property
    def key(self) -> Hashable:
        """Works of one key are done together; without one of its own, a work is done alone."""
        return id(self)

    @property
    def held(self) -> int:
        """Samples that stay in memory until it is done."""
        return 0

    @property
    def form(self) -> Form | None:
        """That of a recording whose sample format the result keeps."""
        return None

    @property
    @abstractmethod
    def transcript(self) -> Transcript:
        """How to do the same without a server."""

    @abstractmethod
    def make(self, works: Sequence[Self], watch: Progress) -> list[list[Audio]]:
        """Returns the sounds of each of several works of this key."""


@dataclass(frozen=True, eq=False)
class Generation(Work):
    """Sounds from noise."""

    ask: Generate
    seed: int

    @classmethod
    def of(cls, shelf: Shelf, ask: Generate) -> "Generation":
        """Returns what was asked for.

        Raises:
            UsageError: the models of the shelf cannot make it.
        """
        return cls(_checked(shelf, ask, "generate"), ask, _seed(ask))

    @property
    def key(self) -> Hashable:
        # A CPU evaluates one sound after the other: together they gain nothing, and the first waits for the last.
        if self.model.pipeline.model.device.type == "cpu":
            return id(self)
        return self.model.name, self.ask.model_copy(update=dict.fromkeys(("prompt", "seed", "format", "normalize")))

    @property
    def transcript(self) -> Transcript:
        return of_making(self.model.source, self.ask, self.seed)

    def make(self, works: Sequence[Self], watch: Progress) -> list[list[Audio]]:
        count = self.ask.count
        sounds = self.model.pipeline.generate(
            [self.model.pipeline.prompt(work.ask.prompt) for work in works],
            count=count,
            seed=[work.seed for work in works],
            loop=self.ask.loop,
            watch=lambda done, total, _: watch(done, total),
            **_settings(self.ask),
        )
        own = [sounds[first : first + count] for first in range(0, len(sounds), count)]
        return [[one.normalize(work.ask.level) for one in part] for work, part in zip(works, own, strict=True)]


@dataclass(frozen=True, eq=False)
class Editing(Work):
    """Sounds from a recording."""

    ask: Edit
    seed: int
    upload: Upload

    @classmethod
    def of(cls, shelf: Shelf, ask: Edit, upload: Upload) -> "Editing":
        """Returns what was asked for.

        Raises:
            UsageError: the models of the shelf cannot make it, it would be too long, the span is missing, or there
                is a strength and nothing to vary.
        """
        if ask.how == "inpaint" and (ask.start is None or ask.end is None):
            raise UsageError("to inpaint takes start and end, in seconds")
        if ask.how != "vary" and ask.strength != STRENGTH:
            raise UsageError(f"strength belongs to how=vary; leave it out of how={ask.how}")
        model = _checked(shelf, ask, "edit")
        config = model.pipeline.model.config
        samples = samples_asked(config, ask.length, upload.audio, extend=ask.how == "continue")
        if samples > LONGEST * config.sample_rate:
            raise UsageError(f"a sound lasts at most {LONGEST:g} s here, not {samples / config.sample_rate:.1f} s")
        return cls(model, ask, _seed(ask), upload)

    @property
    def held(self) -> int:
        return self.upload.audio.samples.numel()

    @property
    def transcript(self) -> Transcript:
        return of_making(self.model.source, self.ask, self.seed)

    def make(self, works: Sequence[Self], watch: Progress) -> list[list[Audio]]:
        ask, recording = self.ask, self.upload.audio
        of: dict[str, dict[str, Any]] = {
            "vary": {"init": recording, "strength": ask.strength},
            "continue": {"continue_from": recording},
            "inpaint": {"inpaint": recording, "span": (ask.start, ask.end)},
        }
        sounds = self.model.pipeline.generate(
            ask.prompt,
            count=ask.count,
            seed=self.seed,
            watch=lambda done, total, _: watch(done, total),
            **_settings(ask),
            **of[ask.how],
        )
        return [[one.normalize(ask.level) for one in sounds]]


@dataclass(frozen=True, eq=False)
class Denoising(Work):
    """A recording without its noise."""

    ask: Denoise
    upload: Upload

    @classmethod
    def of(cls, shelf: Shelf, ask: Denoise, upload: Upload) -> "Denoising":
        """Returns what was asked for.

        Raises:
            UsageError: there is no such model, or the number of steps does not go with it.
        """
        model = shelf.of(ask.model, "denoise", sample_rate=upload.audio.sample_rate)
        model.pipeline.stream(upload.audio.sample_rate, steps=ask.steps, keep_db=ask.keep_db)
        return cls(model, ask, upload)

    @property
    def key(self) -> Hashable:
        # Shorter ones are filled up with silence: below half the length that costs more than it gains. And a model
        # that sees recordings as a whole would take it for a part of them.
        samples = self.upload.audio.samples.shape[1]
        size = samples if coding_by_frames(self.model.pipeline.model) is None else frexp(samples)[1]
        return self.model.name, self.ask.steps, self.ask.keep_db, self.upload.audio.sample_rate, size

    @property
    def held(self) -> int:
        return self.upload.audio.samples.numel()

    @property
    def form(self) -> Form | None:
        return self.upload.form

    @property
    def transcript(self) -> Transcript:
        return of_denoising(self.model.source, self.ask)

    def make(self, works: Sequence[Self], watch: Progress) -> list[list[Audio]]:
        # By length, so that those that are worked on side by side end at about the same time.
        order = sorted(range(len(works)), key=lambda place: works[place].upload.audio.samples.shape[1])
        recordings = [works[place].upload.audio for place in order]
        channels, rate = [one.channels for one in recordings], recordings[0].sample_rate
        longest = max(one.samples.shape[1] for one in recordings)
        noisy = torch.cat([functional.pad(one.samples, (0, longest - one.samples.shape[1])) for one in recordings])
        ask = self.ask
        stream = self.model.pipeline.stream(rate, len(noisy), steps=ask.steps, keep_db=ask.keep_db, ahead=True)
        # The more channels, the shorter the pieces: what is worked on at once stays small enough for caches.
        pieces, clean = noisy.split(max(1, round(BLOCK * rate / len(noisy))), dim=1), []
        left = [one.samples.shape[1] for one in recordings for _ in range(one.channels)]
        for number, piece in enumerate(pieces, 1):
            clean.append(stream.push(piece, lengths=[min(piece.shape[1], samples) for samples in left]))
            left = [max(0, samples - piece.shape[1]) for samples in left]
            watch(number, len(pieces))
        parts = torch.cat([*clean, stream.finish()], dim=1).split(channels)
        made = {
            place: [Audio(part[:, : one.samples.shape[1]], rate)]
            for place, part, one in zip(order, parts, recordings, strict=True)
        }
        return [made[place] for place in range(len(works))]


def _checked(shelf: Shelf, ask: Generate | Edit, task: Task) -> Model:
    """Returns the model that was asked for; refuses what it cannot make before any work."""
    model = shelf.of(ask.model, task)
    model.pipeline.prompt(ask.prompt)
    model.pipeline.unwanted(ask.negative, ask.guidance)
    sampler(ask.sampler or model.pipeline.model.config.sampling.sampler)
    return model


def _seed(ask: Generate | Edit) -> int:
    return secrets.randbits(32) if ask.seed is None else ask.seed


def _settings(ask: Generate | Edit) -> dict[str, Any]:
    """Returns the arguments of `Pipeline.generate` that are called the same."""
    return ask.model_dump(include={"length", "steps", "sampler", "guidance", "negative", "temperature"})
