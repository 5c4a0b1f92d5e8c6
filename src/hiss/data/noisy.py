"""Noisy recordings on disk: a folder of clean ones, mixed with noise at a chosen SNR."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from hiss.audio import Audio, all_audio, replacing, visible
from hiss.data.folder import Entry, scan
from hiss.data.tools import make_folder
from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.signal.mixing import level, mix, repeat

WHITE = "white"
"""The noise that needs no folder: white and Gaussian."""

_FRAME = 0.02  # seconds
_SILENCE = 1e-7  # -140 dBFS


@dataclass(frozen=True)
class Mixture:
    """What was mixed into one recording; written as JSON beside it."""

    clean: str
    """File, below the folder of clean recordings."""
    noise: str
    """"white", or the file, below the folder of noises."""
    noise_start: float | None
    """Seconds from the start of the noise, which begins again whenever it ends; None for white noise."""
    snr_db: float
    """dB."""
    measured: str
    """Where levels were measured: "all" of both recordings, or where each is "active"."""
    seed: int


@dataclass(frozen=True)
class Written:
    """What `write_noisy` wrote."""

    files: list[Path]
    skipped: list[tuple[str, str]]
    """(file, reason) of clean recordings and noises that were left out."""


def write_noisy(
    clean: str | Path,
    noise: str | Path,
    out: str | Path,
    *,
    snr: tuple[float, float] = (0.0, 15.0),
    seed: int = 0,
    active: bool = False,
    watch: Callable[[int, int], None] | None = None,
) -> Written:
    """Returns the files it writes: `noisy_NAME.wav` in `out` for each recording NAME in the folder `clean`.

    A noisy recording has the rate, the channels and the length of the clean one, and is the sum of this and the noise
    at its SNR, neither made softer: the samples are 32-bit floating point and may pass full scale. A JSON file beside
    it says what was mixed. Each mixture depends on the seed and on the name of the recording, not on the others.

    Args:
        clean: a folder of recordings.
        noise: "white", or a folder of noises: one is drawn for each recording, and where it starts.
        out: a folder, made if it is not there. Recordings in folders below `clean` go into the same ones below it.
        snr: dB, from least to most; drawn for each recording.
        seed: the same seed gives the same mixtures.
        active: measure levels only where the recordings are active (`hiss.signal.mixing.level`), not over all of them.
        watch: called with (files done, files in all) after each file.

    Raises:
        UsageError: the range of SNRs is none, or a file to be written is one to be read.
        HissError: there is nothing to mix, two recordings would share a file, one cannot be written, or a noise that
            is drawn has no level once it is one channel at the rate of the recording.
    """
    clean, out = Path(clean), Path(out)
    if not (isfinite(snr[0]) and isfinite(snr[1]) and snr[0] <= snr[1]):
        raise UsageError(f"the SNR goes from least to most dB, not from {snr[0]} to {snr[1]}")
    recordings, skipped = _usable(clean)
    noises: list[Entry] = []
    inputs = [clean]
    if str(noise) != WHITE:
        inputs.append(Path(noise))
        noises, silent = _usable(Path(noise))
        skipped += silent
    targets = _targets(recordings, out, inputs)
    for done, (entry, path) in enumerate(zip(recordings, targets, strict=True)):
        generator = seeded(seed, "noisy", entry.key)
        audio = Audio.load(entry.path)
        ratio = snr[0] + (snr[1] - snr[0]) * float(torch.rand((), dtype=torch.float64, generator=generator))
        name, start, wave = _drawn(noises, audio, generator)
        frame = max(1, round(_FRAME * audio.sample_rate)) if active else None
        noisy = Audio(mix(audio.samples, wave, ratio, frame=frame), audio.sample_rate)
        facts = Mixture(entry.key, name, start, ratio, "active" if active else "all", seed)
        make_folder(path.parent)
        noisy.save(path, subtype="FLOAT")
        with replacing(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(asdict(facts), indent=2) + "\n", "utf-8")
        if watch is not None:
            watch(done + 1, len(recordings))
    return Written(targets, skipped)


def _usable(folder: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Returns the recordings in a folder that have a level, and (file, reason) of the others."""
    entries, skipped = scan(folder)
    loud = [entry for entry in entries if entry.facts.rms > _SILENCE]
    skipped += [(entry.key, "is silent: it has no SNR") for entry in entries if entry.facts.rms <= _SILENCE]
    if not loud:
        raise HissError(f"no recording in {folder} can be used; the first: {skipped[0][0]}: {skipped[0][1]}")
    return loud, skipped


def _targets(recordings: Sequence[Entry], out: Path, inputs: Sequence[Path]) -> list[Path]:
    """Returns the file to write for each recording; none is in the folders `inputs` already."""
    owners: dict[Path, Entry] = {}
    taken = {path.resolve() for folder in inputs for path in all_audio(visible(folder))}
    for entry in recordings:
        inside = Path(entry.key)
        path = out / inside.parent / f"noisy_{inside.stem}.wav"
        if path in owners:
            raise HissError(f"{owners[path].key} and {entry.key} would both become {path}; rename one of them")
        if path.resolve() in taken:
            raise UsageError(f"{path} is one of the recordings to mix, and would be replaced; write to another folder")
        owners[path] = entry
    return list(owners)


def _drawn(noises: Sequence[Entry], like: Audio, generator: torch.Generator) -> tuple[str, float | None, Tensor]:
    """Returns (name, start in seconds, noise [channels, samples]) for a recording."""
    samples = like.samples.shape[1]
    if not noises:
        return WHITE, None, torch.randn(like.samples.shape, generator=generator)
    entry = noises[int(torch.randint(len(noises), (), generator=generator))]
    audio = Audio.load(entry.path).mono().resample(like.sample_rate)
    if not audio.samples.shape[1]:
        raise HissError(f"the noise {entry.key} is too short: nothing is left at {like.sample_rate} Hz; leave it out")
    # What is drawn must be heard: a part of the noise in which it pauses has no level to set.
    for _ in range(100):
        start = int(torch.randint(audio.samples.shape[1], (), generator=generator))
        wave = repeat(audio.samples, samples, start=start)
        if float(level(wave)) > _SILENCE:
            return entry.key, start / like.sample_rate, wave.expand(like.channels, -1)
    raise HissError(
        f"the noise {entry.key} is silent wherever it starts, as the mean of its channels at {like.sample_rate} Hz; "
        "leave it out"
    )
