"""How well denoisers clean speech: figures per file, per SNR, per noise and overall, speed and size."""

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from hiss.audio import Audio
from hiss.errors import HissError, UsageError
from hiss.evaluation.measures import FIGURES, Figures, Measure, measures
from hiss.evaluation.pairs import SpeechPair

By = Literal["overall", "snr", "noise", "file"]
"""What the rows of a table are grouped by."""

MOST_LEVELS = 12
"""Where there are more SNRs than that, they are grouped to the nearest 5 dB."""

Key = TypeVar("Key", float, str)


@dataclass(frozen=True)
class DenoiseSystem:
    """Something that denoises; it gives back the rate, channels and length that it was given, without delay."""

    name: str
    denoise: Callable[[Audio], Audio]
    latency: float | None = None
    """Seconds that it waits for what comes after a sample, where it can run live."""


@dataclass(frozen=True)
class SystemReport:
    """What one system scored; figures are named as in `FIGURES` and None where they are not defined."""

    name: str
    overall: Figures
    """Means over the files for which a figure is defined."""
    missing: Mapping[str, int]
    """For how many files a figure is not defined, though it is for others."""
    snr: Mapping[str, Figures]
    """Means by SNR, such as "-5 dB"."""
    noise: Mapping[str, Figures]
    """Means by kind of noise."""
    file: Mapping[str, Figures]
    """Of each file."""
    rtf: float
    """Real-time factor: seconds of computing for a second of audio on one thread, the median over the files."""
    macs: float | None
    """Multiply-accumulates for a second of audio in matrix products and convolutions of torch; None without any."""
    latency: float | None
    """Seconds."""


@dataclass(frozen=True)
class DenoisingReport:
    """What `evaluate_denoising` found; the first system, "noisy", does nothing."""

    files: int
    seconds: float
    """Of all files together."""
    systems: tuple[SystemReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)

    def table(self, by: By = "overall", *, shown: Collection[str] = FIGURES) -> list[list[str]]:
        """Returns the cells of a table, the heads first: one row per system and, unless overall, per group.

        Args:
            by: What is a group.
            shown: Which of `FIGURES` have a column, as far as they are defined for any row.
        """
        groups = {system.name: _groups(system, by) for system in self.systems}
        found = [figures for rows in groups.values() for figures in rows.values()]
        columns = [name for name in FIGURES if name in shown and any(row.get(name) is not None for row in found)]
        whole = by == "overall"
        heads = [*([] if whole else [by]), "system", *(FIGURES[name] for name in columns)]
        lines = [[*heads, *(["RTF", "MMAC/s", "latency, ms"] if whole else [])]]
        for group in next(iter(groups.values())):
            for system in self.systems:
                cells = [_cell(groups[system.name][group].get(name)) for name in columns]
                speed = [f"{system.rtf:.4f}", _cell(system.macs, 1e-6, 0), _cell(system.latency, 1e3, 0)]
                lines.append([*([] if whole else [group]), system.name, *cells, *(speed if whole else [])])
        return lines


def evaluate_denoising(
    pairs: Iterable[SpeechPair],
    systems: Sequence[DenoiseSystem],
    *,
    chosen: Sequence[Measure] | None = None,
    watch: Callable[[int], None] | None = None,
) -> DenoisingReport:
    """Returns how well each system denoises, next to the noisy recordings as they are.

    The systems run on one thread of torch, whose number of threads is put back at the end; they take turns at every
    file, so that a busy machine slows all of them. Each runs on the first file twice, and the first run is not timed.

    Args:
        pairs: Recordings; they may be read as they are needed.
        systems: What is compared; no two of one name.
        chosen: What is measured: `measures()` by default, which is everything.
        watch: Called with the number of files that are done, after each.

    Raises:
        HissError: there is no pair, a system gives back something else than audio of the same rate, channels and
            length, or a measure needs a package that is not installed.
        UsageError: two systems have one name.
    """
    everyone = [DenoiseSystem("noisy", lambda audio: audio), *systems]
    if len({system.name for system in everyone}) < len(everyone):
        raise UsageError(f"the systems must have different names, not {', '.join(one.name for one in everyone)}")
    chosen = measures() if chosen is None else chosen
    known: list[tuple[str, float | None, str | None]] = []
    seconds: list[float] = []
    figures: dict[str, list[Figures]] = {system.name: [] for system in everyone}
    times: dict[str, list[float]] = {system.name: [] for system in everyone}
    macs: dict[str, float | None] = {}
    with _one_thread():
        for pair in pairs:
            for system in everyone:
                if system.name not in macs:
                    macs[system.name] = count_macs(system, pair.noisy)
                start = time.perf_counter()
                output = system.denoise(pair.noisy)
                times[system.name].append((time.perf_counter() - start) / pair.noisy.seconds)
                _check_output(system.name, pair, output)
                found: Figures = {}
                for measure in chosen:
                    found |= measure(pair.clean, pair.noisy, output)
                figures[system.name].append(found)
            known.append((pair.name, pair.snr, pair.noise))
            seconds.append(pair.noisy.seconds)
            if watch is not None:
                watch(len(known))
    if not known:
        raise HissError("there are no recordings to evaluate; give pairs of clean and noisy ones")
    reports = [
        _report(system, known, figures[system.name], median(times[system.name]), macs[system.name])
        for system in everyone
    ]
    return DenoisingReport(len(known), sum(seconds), tuple(reports))


def count_macs(system: DenoiseSystem, audio: Audio) -> float | None:
    """Returns the multiply-accumulates in matrix products and convolutions of torch for a second of `audio`.

    None for a system that has none, as one that is not written in torch.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setting oneDNN's flags warns of missing Intel GPUs
        # oneDNN and cuDNN run a whole LSTM as one operation, which the counter does not know.
        with (
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.cudnn.flags(enabled=False),
            FlopCounterMode(display=False) as counter,
        ):
            system.denoise(audio)
    flops = counter.get_total_flops()
    return flops / 2 / audio.seconds if flops else None


def draw(pair: SpeechPair, systems: Sequence[DenoiseSystem], path: str | Path) -> None:
    """Writes a PNG of waveforms and spectrograms: the noisy recording, what each system makes of it, the clean one."""
    from hiss.plot import picture

    cleaned = [(system.name, system.denoise(pair.noisy)) for system in systems]
    picture([(f"{pair.name}: noisy", pair.noisy), *cleaned, ("clean", pair.clean)], path)


def _check_output(name: str, pair: SpeechPair, output: Audio) -> None:
    if output.sample_rate != pair.noisy.sample_rate or output.samples.shape != pair.noisy.samples.shape:
        raise HissError(f"{name} made {output!r} of {pair.name}, {pair.noisy!r}; a denoiser keeps rate and length")
    if not bool(torch.isfinite(output.samples).all()):
        raise HissError(f"{name} made NaN or infinite samples of {pair.name}")


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _report(
    system: DenoiseSystem,
    known: Sequence[tuple[str, float | None, str | None]],
    figures: Sequence[Figures],
    rtf: float,
    macs: float | None,
) -> SystemReport:
    overall = _mean(figures)
    missing = {
        name: count
        for name, value in overall.items()
        if value is not None and (count := sum(one.get(name) is None for one in figures))
    }
    step = 5.0 if len({snr for _, snr, _ in known}) > MOST_LEVELS else 0.01
    levels = [None if snr is None else round(snr / step) * step for _, snr, _ in known]
    kinds = [noise for _, _, noise in known]
    return SystemReport(
        name=system.name,
        overall=overall,
        missing=missing,
        snr={f"{level:g} dB": mean for level, mean in _means(levels, figures)},
        noise=dict(_means(kinds, figures)),
        file={name: one for (name, _, _), one in zip(known, figures, strict=True)},
        rtf=rtf,
        macs=macs,
        latency=system.latency,
    )


def _means(keys: Sequence[Key | None], figures: Sequence[Figures]) -> Iterator[tuple[Key, Figures]]:
    """Yields the mean of each figure by key, in the order of the keys."""
    for key in sorted({key for key in keys if key is not None}):
        yield key, _mean([one for other, one in zip(keys, figures, strict=True) if other == key])


def _mean(rows: Sequence[Figures]) -> Figures:
    """Returns the mean of each figure over the rows in which it is defined."""
    result: Figures = {}
    for name in rows[0]:
        values = [value for row in rows if (value := row[name]) is not None]
        result[name] = fmean(values) if values else None
    return result


def _groups(system: SystemReport, by: By) -> Mapping[str, Figures]:
    return {"overall": {"": system.overall}, "snr": system.snr, "noise": system.noise, "file": system.file}[by]


def _cell(value: float | None, scale: float = 1.0, digits: int = 2) -> str:
    return "" if value is None else f"{value * scale:.{digits}f}"
