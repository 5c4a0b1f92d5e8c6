"""Clean recordings in one folder and the same ones with noise in another; the noisy ones are made if there are none."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from math import ceil
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from hiss.data.base import Dataset, Recording, Report, Split
from hiss.data.examples import Examples, Memory, Source, check_clips
from hiss.data.files import FileConfig, expand_variable
from hiss.data.folder import AudioFolder
from hiss.data.noisy import WHITE, write_noisy
from hiss.errors import HissError, UsageError
from hiss.types import Batch

CLEAN, NOISY = "gt_audio", "gl_audio"
"""Folders of clean and of noisy recordings below a `path`."""


@dataclass(frozen=True, kw_only=True)
class Pairs(FileConfig, name="pairs"):
    """Pairs of a clean recording, `Batch.audio`, and the noisy one, `Prompt.recording`.

    Clean recordings are those in the folder `gt_audio` below `path`, or in `path` itself where it has no such folder.
    To NAME belongs `noisy_NAME`, or else NAME, in `gl_audio`. Where that folder is missing, it is made: noise is mixed
    into every clean recording, as `hiss data mix` does.

    A pass takes about every second of every recording: each is cut into segments of the length of a clip, at random
    places (`crop: random`) or always the same ones (`crop: start`). All segments of a recording are held out together,
    and with a `holdout` those of at least one.
    """

    noisy: str | None = None
    """Where the noisy recordings are, or shall be made; `gl_audio` below `path` where left out."""
    noise: str = WHITE
    """What is mixed in: white, which is Gaussian, or a folder of noises."""
    snr: tuple[float, float] = (0.0, 15.0)
    """dB, from least to most, at which it is mixed in."""
    seed: int = 0
    """The same seed makes the same noisy recordings."""
    cache: bool = False
    """Keep all recordings in memory, at the rate they are used at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noisy is not None and self.validation is not None:
            raise UsageError("noisy belongs to path alone; hold out a share of that instead of giving validation")

    @property
    def homeless(self) -> bool:
        """Whether nothing says where to make noisy recordings: clean ones lie in `path` itself, a user's own folder."""
        path = Path(expand_variable(self.path))
        return self.noisy is None and not any((path / name).is_dir() for name in (CLEAN, NOISY))

    def open(self, *, sample_rate: int, channels: int, samples: int, split: Split = "train") -> "Paired":
        path, part = self.place(split)
        check_clips(self, part, sample_rate, channels, samples)
        clean, noisy = self._folders(Path(path))
        if clean.is_dir() and not noisy.is_dir():
            if self.homeless:
                raise UsageError(
                    f"{path} has no folder {CLEAN} and none of noisy recordings; "
                    "say where these are or shall be made, as in data.noisy=FOLDER"
                )
            self._mix(clean, noisy)
        clips = {"sample_rate": sample_rate, "channels": channels, "samples": samples}
        common = {field.name: getattr(self, field.name) for field in fields(FileConfig)}
        whole = AudioFolder(**(common | {"path": str(clean), "validation": None, "holdout": 0.0}))
        here = whole.open(**clips, split="all")
        there = AudioFolder(path=str(noisy)).open(**clips, split="all")
        couples, skipped = _couples(here, there, noisy, inside=_below(noisy, clean))
        if part != "all":
            held_out = self._held_out([one.recording for one in couples])
            couples = [one for one in couples if (one.recording.group in held_out) == (part == "validation")]
        sources: tuple[Source, Source] = (here.source, there.source)
        if self.cache:
            sources = (
                Memory.of(here.source, [one.clean for one in couples]),
                Memory.of(there.source, [one.noisy for one in couples]),
            )
            couples = [replace(one, clean=place, noisy=place) for place, one in enumerate(couples)]
        reach = 1 if self.crop == "start" else 2
        # What `each: second` asks for the segments do: a pass has one clip of each.
        cuts = replace(
            self, min_seconds=0.0, max_seconds=None, crop="start" if reach == 1 else "random", each="recording"
        )
        return Paired(
            Examples(
                cuts,
                Segments(*sources, couples, sample_rate=sample_rate, samples=samples, reach=reach),
                what=f"the pairs in {path}" if part == "all" else f"the {part} split of the pairs in {path}",
                sample_rate=sample_rate,
                channels=channels,
                samples=samples,
                split="all",
            ),
            Report(len(couples), sum(one.recording.samples for one in couples) / sample_rate, skipped),
        )

    def _folders(self, path: Path) -> tuple[Path, Path]:
        """Returns where clean and noisy recordings are, or the latter shall be."""
        clean = path / CLEAN
        if not clean.is_dir():
            clean = path
        noisy = path / NOISY if self.noisy is None else Path(expand_variable(self.noisy))
        return clean, noisy

    def _mix(self, clean: Path, noisy: Path) -> None:
        """Writes the folder of noisy recordings: it appears as a whole or not at all."""
        beside = noisy.with_name(f".{noisy.name}-{uuid.uuid4().hex[:12]}")
        try:
            write_noisy(clean, expand_variable(self.noise), beside, snr=self.snr, seed=self.seed)
            beside.rename(noisy)
        except OSError as error:
            if not noisy.is_dir():  # else another process was faster, and made the same
                raise HissError(f"cannot write {noisy}: {error.strerror or error}; choose another place") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _held_out(self, recordings: Sequence[Recording]) -> set[str]:
        """Returns the groups that are held out: by chance, and if it took none, the first of several."""
        drawn = {one.group for one in recordings if self.within(one.group, "validation")}
        groups = sorted({one.group for one in recordings})
        return drawn or set(groups[:1] if self.holdout and len(groups) > 1 else [])


@dataclass(frozen=True)
class Couple:
    """A clean recording and its noisy one, by their places in two sources."""

    recording: Recording
    """The clean one, as long as the shorter of both."""
    clean: int
    noisy: int


class Segments:
    """Overlapping parts of couples, clean and noisy channels together: a source for `Examples`."""

    def __init__(
        self, here: Source, there: Source, couples: Sequence[Couple], *, sample_rate: int, samples: int, reach: int
    ) -> None:
        """Cuts couples into parts of `reach` times that many samples, which begin that many samples apart."""
        self.here, self.there = here, there
        self.recordings: list[Recording] = []
        self._places: list[tuple[Couple, int]] = []
        for couple in couples:
            whole = couple.recording
            for segment in range(max(1, ceil(whole.samples / samples))):
                start = min(segment * samples, max(0, whole.samples - samples))
                prompt = replace(whole.prompt, start=start / sample_rate)
                length = min(reach * samples, whole.samples - start)
                self.recordings.append(replace(whole, samples=length, prompt=prompt))
                self._places.append((couple, start))

    def read(self, index: int, start: int, samples: int) -> Tensor:
        """Returns [2 * channels, samples] of one part, from `start` on: the clean channels before the noisy ones."""
        couple, first = self._places[index]
        clean = self.here.read(couple.clean, first + start, samples)
        return torch.cat([clean, self.there.read(couple.noisy, first + start, samples)])


class Paired(Dataset):
    """Clips of pairs, whose clean and noisy channels are cut and augmented alike."""

    def __init__(self, examples: Examples, report: Report) -> None:
        self.examples, self.report = examples, report
        self.sample_rate, self.channels, self.samples = examples.sample_rate, examples.channels, examples.samples
        self.size = examples.size

    def batches(
        self, batch_size: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        return map(
            self._split,
            self.examples.batches(batch_size, seed=seed, start=start, rank=rank, world=world, workers=workers),
        )

    def once(self, batch_size: int) -> Iterator[Batch]:
        return map(self._split, self.examples.once(batch_size))

    def _split(self, batch: Batch) -> Batch:
        clean, noisy = batch.audio.split(self.channels, dim=1)
        prompts = tuple(replace(one, recording=row) for one, row in zip(batch.prompts, noisy, strict=True))
        return replace(batch, audio=clean, prompts=prompts)


def _couples(
    here: Examples, there: Examples, noisy: Path, *, inside: PurePosixPath | None
) -> tuple[list[Couple], list[tuple[str, str]]]:
    """Returns clean recordings with their noisy ones, and (recording, reason) of those that are left out.

    `inside` is where the noisy recordings lie below the clean ones, if they do.
    """
    skipped = here.report.skipped + [(f"{noisy.name}/{name}", reason) for name, reason in there.report.skipped]
    partners = {_stem(there.source.recordings[index]): index for index in there.used}
    couples = []
    for index in here.used:
        one = here.source.recordings[index]
        stem = _stem(one)
        if inside is not None and stem.is_relative_to(inside):
            continue
        partner = partners.get(stem.with_name(f"noisy_{stem.name}"), partners.get(stem))
        if partner is None:
            skipped.append((one.key, f"has no noisy_{stem.name} in {noisy}"))
            continue
        samples = min(one.samples, there.source.recordings[partner].samples)
        couples.append(Couple(replace(one, samples=samples), index, partner))
    return couples, skipped


def _below(noisy: Path, clean: Path) -> PurePosixPath | None:
    """Returns the path of one folder from another that holds it; None if it does not."""
    one, other = noisy.resolve(), clean.resolve()
    return PurePosixPath(one.relative_to(other).as_posix()) if one.is_relative_to(other) else None


def _stem(recording: Recording) -> PurePosixPath:
    """Returns the key of a recording without its ending."""
    return PurePosixPath(recording.key).with_suffix("")
