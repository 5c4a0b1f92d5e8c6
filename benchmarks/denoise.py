"""Compares denoisers on mixtures of speech and noise that no model of ours was trained on.

    OMP_NUM_THREADS=1 python benchmarks/denoise.py [--limit 10] [--draws 2] [--rate 16000] [--json FILE]

Speech and noise are the test splits in $HISS_DATA/speech and $HISS_DATA/noise, at 16 kHz. Every recording of speech is
mixed with a recorded or generated noise at each of -5, 0, 5, 10 and 15 dB, and once with white Gaussian noise at one of
them; `--draws` asks for several noises at each. At 48 kHz only full-band speech takes part. Two more tables say what
becomes of clean speech and of noise alone.

All systems take turns at every file, on one thread. RNNoise works at 48 kHz, its delay is taken out again.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hiss.audio import Audio
from hiss.errors import HissError
from hiss.evaluation.clips import read_clips
from hiss.evaluation.denoising import DenoiseSystem, DenoisingReport, evaluate_denoising
from hiss.evaluation.measures import MEASURES, measures
from hiss.evaluation.pairs import SpeechPair
from hiss.noise import seeded
from hiss.pipeline import bundled, load
from hiss.signal.mixing import mix, repeat

LEVELS = (-5, 0, 5, 10, 15)
"""SNR in dB."""
STEPS = (1, 2, 4)
MODELS = ("denoise-16k", "denoise-48k", "denoise-conv")
FULL_BAND = 40_000
"""Hz; speech of a lower rate has nothing above 20 kHz."""

TABLES = ("Mixtures", "Clean speech", "Noise alone")

Named = list[tuple[str, Audio]]


def recordings(pack: str, rate: int, *, at_least: int = 0) -> Named:
    """Returns (label and key, mono recording at `rate` Hz) of a test split, without those below `at_least` Hz."""
    return [
        (f"{clip.metadata['label']} {clip.name}", clip.audio.mono().resample(rate))
        for clip in read_clips(f"$HISS_DATA/{pack}/{pack}-test-*.tar")
        if clip.audio.sample_rate >= at_least
    ]


def speech_and_noise(rate: int, limit: int | None) -> tuple[Named, Named]:
    """Returns speech, `limit` recordings spread over all of it, and all noise but the white."""
    full = FULL_BAND if rate > 16000 else 0
    noise = [(name, audio) for name, audio in recordings("noise", rate) if not name.startswith("white")]
    return spread(recordings("speech", rate, at_least=full), limit), noise


def spread(found: Named, limit: int | None) -> Named:
    """Returns at most so many, evenly spread over all."""
    count = len(found) if limit is None else min(limit, len(found))
    return [found[index * len(found) // count] for index in range(count)]


def white(like: Audio, item: int) -> Audio:
    """Returns Gaussian noise of the length of `like`."""
    noise = torch.randn(like.samples.shape, generator=seeded("white", item))
    return Audio(0.1 * noise, like.sample_rate)


def mixtures(speech: Named, noises: Named, draws: int = 1) -> Iterator[SpeechPair]:
    """Yields every recording of speech at every SNR with so many noises drawn for it, and once with white noise."""
    for item, (name, clean) in enumerate(speech):
        for level in LEVELS:
            generator = seeded("noise", item, level)
            for draw in range(draws):
                kind, noise = noises[int(torch.randint(len(noises), (), generator=generator))]
                start = int(torch.randint(noise.samples.shape[1], (), generator=generator))
                part = Audio(repeat(noise.samples, clean.samples.shape[1], start=start), clean.sample_rate)
                yield mixed(f"{name} {level} dB{f' {draw}' * (draws > 1)}", clean, part, level, kind.split()[0])
        level = LEVELS[item % len(LEVELS)]
        yield mixed(f"{name} white {level} dB", clean, white(clean, item), level, "white")


def mixed(name: str, clean: Audio, noise: Audio, level: float, kind: str) -> SpeechPair:
    """Returns a mixture at a level in dB, turned down together with its speech where it would pass full scale."""
    noisy = mix(clean.samples, noise.samples, level)
    peak = float(noisy.abs().amax().clamp(min=1))
    rate = clean.sample_rate
    return SpeechPair(name, Audio(clean.samples / peak, rate), Audio(noisy / peak, rate), level, kind)


def silent(like: Audio) -> Audio:
    return Audio(torch.zeros_like(like.samples), like.sample_rate)


def by_noisereduce(*, stationary: bool) -> DenoiseSystem:
    """Returns spectral gating, with the defaults of the package noisereduce."""
    from noisereduce import reduce_noise

    def denoise(audio: Audio) -> Audio:
        with np.errstate(all="ignore"):
            cleaned = reduce_noise(y=audio.samples.numpy(), sr=audio.sample_rate, stationary=stationary)
        return Audio(np.nan_to_num(cleaned), audio.sample_rate)

    return DenoiseSystem("noisereduce, stationary" if stationary else "noisereduce", denoise)


class RNNoise:
    """The library inside the package pyrnnoise, without the rest of it, which reads files."""

    RATE = 48000
    DELAY = 960  # samples; measured: where the cross-correlation of speech and output is largest

    def __init__(self) -> None:
        found = importlib.util.find_spec("pyrnnoise")
        if found is None or not found.submodule_search_locations:
            raise ImportError("pyrnnoise is not installed", name="pyrnnoise")
        names = {"darwin": "librnnoise.dylib", "win32": "rnnoise.dll"}
        file = Path(found.submodule_search_locations[0]) / names.get(sys.platform, "librnnoise.so")
        self.library = ctypes.CDLL(str(file))
        pointer = ctypes.POINTER(ctypes.c_float)
        self.library.rnnoise_create.restype = ctypes.c_void_p
        self.library.rnnoise_create.argtypes = [ctypes.c_void_p]
        self.library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        self.library.rnnoise_process_frame.argtypes = [ctypes.c_void_p, pointer, pointer]
        self.frame = int(self.library.rnnoise_get_frame_size())

    def __call__(self, audio: Audio) -> Audio:
        wide = audio.resample(self.RATE).samples.numpy() * 32768  # it expects the range of 16-bit samples
        cleaned = torch.from_numpy(np.stack([self.channel(wave) for wave in wide]) / 32768)
        return Audio(cleaned, self.RATE).resample(audio.sample_rate)

    def channel(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns a denoised wave [samples] without delay."""
        length = len(wave)
        padded = np.pad(wave, (0, self.DELAY + -length % self.frame)).astype(np.float32)
        frames = padded.reshape(-1, self.frame)
        cleaned = np.zeros_like(frames)
        pointer = ctypes.POINTER(ctypes.c_float)
        state = self.library.rnnoise_create(None)
        for before, after in zip(frames, cleaned, strict=True):
            self.library.rnnoise_process_frame(state, after.ctypes.data_as(pointer), before.ctypes.data_as(pointer))
        self.library.rnnoise_destroy(state)
        return cleaned.reshape(-1)[self.DELAY :][:length]


def ours(name: str) -> Iterator[DenoiseSystem]:
    """Yields one of our models with each number of steps, and as a stream, if that is something else."""
    if name not in bundled():
        raise HissError(f"the model {name} is not bundled")
    pipeline = load(name)
    for steps in STEPS:
        yield DenoiseSystem(f"{name}, {steps} step{'' if steps == 1 else 's'}", partial(pipeline.denoise, steps=steps))
    if pipeline.model.denoiser.network.ahead:
        latency = pipeline.stream(pipeline.model.config.sample_rate).latency
        yield DenoiseSystem(f"{name}, stream", partial(pipeline.denoise, causal=True), latency=latency)


SYSTEMS: dict[str, Callable[[], Iterator[DenoiseSystem]]] = {
    "noisereduce": lambda: (by_noisereduce(stationary=stationary) for stationary in (True, False)),
    "rnnoise": lambda: iter([DenoiseSystem("RNNoise", RNNoise(), latency=0.03)]),
    **{name: partial(ours, name) for name in MODELS},
}


def systems(names: Sequence[str]) -> list[DenoiseSystem]:
    """Returns the systems that can be run here, and says on stderr which cannot."""
    ready: list[DenoiseSystem] = []
    for name in names:
        try:
            ready += SYSTEMS[name]()
        except (ImportError, HissError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return ready


def markdown(table: list[list[str]]) -> str:
    """Returns a table, its heads first, as Markdown."""
    heads, *rows = table
    words = sum(head in ("system", "snr", "noise") for head in heads)
    rule = "|" + "---|" * words + "---:|" * (len(heads) - words)
    return "\n".join(["| " + " | ".join(heads) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)])


def text(reports: dict[str, DenoisingReport]) -> str:
    """Returns all tables."""
    parts = []
    for title, report in reports.items():
        parts.append(
            f"## {title}: {report.files} files, {report.seconds / 60:.1f} minutes\n\n{markdown(report.table())}"
        )
        if report.systems[0].snr:
            parts.append(f"### By SNR\n\n{markdown(report.table('snr'))}")
            parts.append(f"### By noise\n\n{markdown(report.table('noise'))}")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="recordings of speech; all by default")
    parser.add_argument("--draws", type=int, default=1, help="noises for each recording at each SNR")
    parser.add_argument("--rate", type=int, choices=(16000, 48000), default=16000, help="Hz of the mixtures")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--dnsmos", type=Path, help="network of DNSMOS; that of the package speechmos by default")
    parser.add_argument("--json", type=Path, help="where to write all figures, also per file")
    options = parser.parse_args()
    speech, noises = speech_and_noise(options.rate, options.limit)
    chosen = measures(options.measures, dnsmos=options.dnsmos)
    compared = systems(options.systems)

    def counted(files: int) -> None:
        print(f"\r{files} files", end="", file=sys.stderr)

    judge: Any = partial(evaluate_denoising, systems=compared, chosen=chosen, watch=counted)
    alone = spread(noises, options.limit) + [
        ("white", white(clean, item)) for item, (_, clean) in enumerate(speech[:5])
    ]
    tables: dict[str, Callable[[], Iterator[SpeechPair]]] = {
        "Mixtures": lambda: mixtures(speech, noises, options.draws),
        "Clean speech": lambda: (SpeechPair(name, clean, clean) for name, clean in speech),
        "Noise alone": lambda: (
            SpeechPair(f"{name} {item}", silent(noise), noise, noise=name.split()[0])
            for item, (name, noise) in enumerate(alone)
        ),
    }
    reports = {title: judge(tables[title]()) for title in TABLES if title in options.tables}
    print(file=sys.stderr)
    print(text(reports))
    if options.json:
        facts = {"torch": torch.__version__, "cores": os.cpu_count()}
        facts |= {name: getattr(options, name) for name in ("rate", "limit", "draws")}
        tables = {title: report.to_dict() for title, report in reports.items()}
        options.json.write_text(json.dumps({"settings": facts} | tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
