"""What every data set is: a frozen configuration that opens into batches."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from hiss.errors import HissError, UsageError
from hiss.spec import Spec
from hiss.types import Batch, Prompt

Split = Literal["train", "validation", "all"]
"""Which recordings: those to learn from, those held out, or both."""


@dataclass(frozen=True)
class Recording:
    """What is known of one recording before it is read."""

    key: str
    """Its name in the data set, for reports."""
    samples: int
    """Its length at the rate of the data set."""
    rms: float
    """Root mean square of all of it."""
    prompt: Prompt = field(default_factory=Prompt)
    """What it is called, with its total seconds; of a part of a recording, also where it starts."""
    group: str = ""
    """Recordings of one group are held out together; empty: alone, by its key."""


class NothingLeftError(HissError):
    """There is no recording that can be used."""


@dataclass
class Report:
    """Which recordings a data set uses, and which it does not, and why."""

    used: int = 0
    seconds: float = 0.0
    """Of all that are used."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(recording, reason) of each that was left out."""

    def none_left(self, what: str) -> "NothingLeftError":
        """Returns the error for a data set without a single recording."""
        remedy = "give more recordings, or another holdout (0 holds nothing out)"
        if not self.skipped:
            return NothingLeftError(f"{what} has no recording to use; {remedy}")
        (name, reason), count = self.skipped[0], len(self.skipped)
        skipped = f"{count} were skipped; the first: {name}: {reason}"
        return NothingLeftError(f"{what} has no recording to use, {skipped}; {remedy}")


class Dataset(ABC):
    """Clips of one length, rate and channel count."""

    sample_rate: int
    """Hz."""
    channels: int
    samples: int
    """Of every clip."""
    report: Report
    size: int | None = None
    """Clips of one pass; None where that is not known before all is read."""

    @abstractmethod
    def batches(
        self, batch_size: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        """Returns endless batches, shuffled anew for every pass over the data, cut and augmented at random.

        They are fixed by (seed, position): `start=k` goes on exactly as if k batches had been taken. Process `rank` of
        `world` gets examples that no other gets in the same pass. `workers` processes read ahead; 0 reads in place.
        """

    @abstractmethod
    def once(self, batch_size: int) -> Iterator[Batch]:
        """Returns every recording once, in order, always cut at the same place, not augmented; the last batch may be
        smaller."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Spec, ABC):
    """Family of data sets; a member lives in one file of this folder.

    A clip shorter than the window is followed by zeros (`Batch.lengths`), a longer one is cut.
    """

    crop: Literal["random", "start", "skip"] = "random"
    """What becomes of a recording longer than the window: cut anywhere, cut at its start, or left out."""
    each: Literal["recording", "second"] = "recording"
    """What is equally likely: each recording, which is cut once in a pass, or each second: a recording as long as n
    windows is cut n times."""
    offset: float = 0.0
    """Seconds, at most, of silence before a clip that is shorter than the window (at random)."""
    level: float | None = None
    """dBFS that the RMS of each whole recording is brought to; None leaves it. Peaks stay within [-1, 1]."""
    gain: float = 0.0
    """dB, at most, by which a clip is made louder or softer (at random)."""
    polarity: bool = False
    """Every other clip is turned upside down (at random)."""
    pitch: float = 0.0
    """Semitones, at most, by which a clip is played higher and faster, or lower and slower, like a tape (at random).
    What its caption says of notes and beats per minute goes along."""
    tuned: bool = False
    """Whether `pitch` is drawn in whole semitones, so that what is in tune stays so."""
    min_seconds: float = 0.0
    """Shorter recordings are left out."""
    max_seconds: float | None = None
    """Longer recordings are left out."""
    holdout: float = 0.0
    """Share of the recordings that split="validation" gets and split="train" does not; the choice never changes."""

    def __post_init__(self) -> None:
        for name in ("offset", "gain", "pitch", "min_seconds"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative, and is {getattr(self, name)}")
        if not 0 <= self.holdout < 1:
            raise UsageError(f"holdout is a share from 0 to below 1, not {self.holdout}")

    @property
    @abstractmethod
    def validates(self) -> bool:
        """Whether there is a split="validation"."""

    @abstractmethod
    def open(self, *, sample_rate: int, channels: int, samples: int, split: Split = "train") -> Dataset:
        """Returns clips of that many channels and samples at `sample_rate` Hz.

        Raises:
            HissError: there is nothing to read, or nothing that can be used.
            UsageError: split="validation" of data that holds nothing out.
        """

    def skip(self, recording: Recording, *, sample_rate: int, samples: int) -> str | None:
        """Returns why a recording is left out of clips of that many samples; None if it is not."""
        seconds = recording.samples / sample_rate
        if recording.samples < 1:
            return f"has no sample at {sample_rate} Hz"
        if seconds < self.min_seconds:
            return f"lasts {seconds:.3f} s, less than min_seconds {self.min_seconds}"
        if self.max_seconds is not None and seconds > self.max_seconds:
            return f"lasts {seconds:.3f} s, more than max_seconds {self.max_seconds}"
        if self.crop == "skip" and recording.samples > samples:
            return f"lasts {seconds:.3f} s, more than the {samples / sample_rate:.3f} s of a clip, and crop is 'skip'"
        return None

    def cuts(self, recording: Recording, samples: int) -> int:
        """Returns how many clips of that many samples a pass takes from a recording."""
        return 1 if self.each == "recording" else max(1, round(recording.samples / samples))

    @property
    def held_out(self) -> float:
        """Share that split="validation" gets by chance, so that of a few recordings it may get none."""
        return self.holdout

    def within(self, group: str, split: Split) -> bool:
        """Returns whether the recordings of a group belong to a split: its hash against `holdout`."""
        if split == "all":
            return True
        digest = hashlib.sha256(group.encode()).digest()
        held_out = int.from_bytes(digest[:8], "big") < self.holdout * 2**64
        return held_out == (split == "validation")
