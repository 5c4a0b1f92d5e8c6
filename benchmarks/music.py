"""Measures a model of music: speed, likeness to real music, a piece of a minute, quality over steps, and its losses.

    python benchmarks/music.py MODEL [--against MODEL ...] [--parts clips length steps pictures] [--json FILE]
    python benchmarks/music.py --parts ablation --budget 2000 [--recipe classical] [--init MODEL]
    python benchmarks/music.py --parts lossy [--bins 256 512 1024 2048] [--mels 128 192 256]

`clips` makes 10 clips of 10 s and compares them, and those of other models, with the test split: FAD and KAD on both
embeddings of music, beside real training recordings in their place (the floor) and beside white noise with the mean
spectrum of the training set; what a listener notices, and how many clips lie within the range of the test split; and
the most similar training recording. `length` makes one piece of a minute: a seam would show as a change of the spectrum
that is larger at the edges of windows than anywhere else. `steps` compares numbers of steps. `pictures` draws real and
generated spectrograms side by side. `ablation` trains a recipe with and without each auxiliary loss, for as many steps,
and compares what comes out. `lossy` says how much is lost with what is hardest to learn: the test split is decoded from
MDCT coefficients with random signs, and from mel spectra, whose phases Griffin-Lim looks for. Memory is that of the
whole process at its highest. Speed needs a machine that is otherwise idle.
"""

import argparse
import dataclasses
import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.data.files import expand_variable
from hiss.diffusion import editing
from hiss.evaluation.clips import read_clips
from hiss.evaluation.embeddings import EXCERPTS, Heard, find
from hiss.evaluation.generation import GenerationReport, evaluate_generation
from hiss.evaluation.music import TRAITS
from hiss.noise import seeded
from hiss.pipeline import Pipeline, load
from hiss.plot import picture
from hiss.representations import Representation
from hiss.representations.mdct import MdctConfig
from hiss.representations.mel import MelConfig
from hiss.signal.losses import SpectralNorm, TimeDerivative
from hiss.signal.mdct import mdct_power
from hiss.signal.mel import MelProfile
from hiss.signal.stft import stft
from hiss.training.recipe import load_recipe, run_recipe
from hiss.vocoders.griffin_lim import GriffinLimConfig

EMBEDDINGS = ("music", "tonal")
PARTS = ("clips", "length", "steps", "pictures", "ablation", "lossy")
LONG = 60.0
"""Seconds of the long piece."""
FRAME = 0.016
"""Seconds from one spectrum to the next where seams are looked for."""


@dataclass(frozen=True)
class Ear:
    """An embedding that remembers what it has heard: the real recordings are the same for every set."""

    name: str
    heard: dict[bytes, Tensor] = field(default_factory=dict)

    def __call__(self, clips: Sequence[Audio]) -> Heard:
        keys = [hashlib.sha256(clip.samples.numpy().tobytes()).digest() for clip in clips]
        if new := {key: clip for key, clip in zip(keys, clips, strict=True) if key not in self.heard}:
            self.heard.update(zip(new, find(self.name)(list(new.values())).embeddings, strict=True))
        return Heard(torch.stack([self.heard[key] for key in keys]))


@dataclass(frozen=True)
class Real:
    """The recordings that all is compared with."""

    train: list[Audio]
    test: list[Audio]
    ears: dict[str, Ear] = field(default_factory=lambda: {name: Ear(name) for name in EMBEDDINGS})

    @classmethod
    def read(cls, folder: str) -> "Real":
        """Returns both splits of a pack; `folder` may begin with an environment variable."""
        place = Path(expand_variable(folder))
        train, test = (
            [clip.audio for clip in read_clips(place / f"{place.name}-{split}-*.tar")] for split in ("train", "test")
        )
        return cls(train, test)

    def report(self, clips: Sequence[Audio], embedding: str, *, known: bool = False) -> GenerationReport:
        """Returns what `evaluate_generation` says of clips; with `known` also of copies and traits."""
        ear, excerpt = self.ears[embedding], EXCERPTS[embedding]
        return evaluate_generation(clips, self.test, train=self.train, embedding=ear, excerpt=excerpt, music=known)


@dataclass(frozen=True)
class Made:
    """What a model made, and how fast."""

    clips: list[Audio]
    factor: float
    """Seconds of computing for a second of sound."""


def made(pipeline: Pipeline, options: argparse.Namespace, *, steps: int | None = None) -> Made:
    """Returns the clips of a model, which are those of its seed one by one."""
    pipeline.generate(length=options.length, steps=1, seed=options.seed)  # what is done only once
    begun = time.perf_counter()
    clips = pipeline.generate(count=options.count, length=options.length, seed=options.seed, steps=steps, batch_size=1)
    spent = time.perf_counter() - begun
    return Made(clips, spent / sum(clip.seconds for clip in clips))


def shaped_noise(real: Real, options: argparse.Namespace) -> list[Audio]:
    """Returns white noise with the mean spectrum of the training recordings, as loud as they are on average."""
    rate = real.train[0].sample_rate
    power = torch.stack(
        [stft(clip.samples, n_fft=2048, hop=1024).abs().square().mean(dim=(0, 2)) for clip in real.train]
    )
    shape = power.mean(dim=0).sqrt()
    samples = round(options.length * rate)
    wanted = torch.tensor([clip.rms for clip in real.train]).square().mean().sqrt()
    clips = []
    for item in range(options.count):
        noise = torch.fft.rfft(torch.randn(samples, generator=seeded(options.seed, "noise", item)))
        curve = torch.nn.functional.interpolate(shape[None, None], len(noise), mode="linear", align_corners=True)
        audio = torch.fft.irfft(noise * curve[0, 0], n=samples)
        clips.append(Audio(audio * wanted / audio.square().mean().sqrt(), rate))
    return clips


def distances(real: Real, sets: Mapping[str, Sequence[Audio]]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns FAD and KAD by embedding, then by set, the floor among these, and prints them as a Markdown table."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for embedding in EMBEDDINGS:
        rows: dict[str, dict[str, float]] = {}
        for name, clips in sets.items():
            report = real.report(clips, embedding)
            rows[name] = {figure: report.figures[figure] for figure in ("fad", "kad")}
            rows.setdefault("real (floor)", {figure: report.floor[figure].mean for figure in ("fad", "kad")})
        found[embedding] = rows
    print("| | " + " | ".join(f"{figure.upper()}, {one}" for one in EMBEDDINGS for figure in ("fad", "kad")) + " |")
    print("|---|" + "---:|" * (2 * len(EMBEDDINGS)))
    for name in found[EMBEDDINGS[0]]:
        cells = []
        for embedding in EMBEDDINGS:
            for figure, value in found[embedding][name].items():
                floor = found[embedding]["real (floor)"][figure]
                cells.append(f"{value:.3g}" + (f" ({value / floor:.1f} x)" if floor > 0 else ""))
        print(f"| {name} | " + " | ".join(cells) + " |")
    return found


def clips(options: argparse.Namespace) -> dict[str, Any]:
    """Measures the clips of the model and of those it is compared with."""
    real = Real.read(options.data)
    sets = {name: made(load(name), options) for name in (options.model, *options.against)}
    best = load(options.model).model.config.sampling
    print(f"{options.count} clips of {options.length:g} s, seed {options.seed}, {best.sampler}, {best.steps} steps")
    for name, one in sets.items():
        print(f"{name}: {one.factor:.3f} s of computing for a second of sound, {torch.get_num_threads()} threads")
    noise = {"noise with the mean spectrum": shaped_noise(real, options)}
    compared = distances(real, {name: one.clips for name, one in sets.items()} | noise)
    report = real.report(sets[options.model].clips, EMBEDDINGS[0], known=True)
    ours, theirs = report.traits["generated"], report.traits["reference"]
    print("| | generated, median | least..most | test split, median | least..most | clips within |")
    print("|---|---:|---:|---:|---:|---:|")
    within = {}
    for name, measure in TRAITS.items():
        low, high = theirs[name].least, theirs[name].most
        within[name] = sum(low <= measure(clip) <= high for clip in sets[options.model].clips)
        cells = [f"{one[name].median:.3g} | {one[name].least:.3g}..{one[name].most:.3g}" for one in (ours, theirs)]
        print(f"| {name} | " + " | ".join(cells) + f" | {within[name]} of {options.count} |")
    for name in ("generated", "reference"):
        alike = report.neighbours[name].correlation
        print(f"likeness of {name} to the most similar training recording: ", end="")
        print(f"{alike.median:.2f}, at most {alike.most:.2f}")
    facts = {"factor": {name: one.factor for name, one in sets.items()}, "distances": compared, "within": within}
    return facts | {"report": report.to_dict()}


def edges(pipeline: Pipeline, samples: int) -> Tensor:
    """Returns the seconds at which windows begin and end within a piece, not with it."""
    representation, config = pipeline.model.representation, pipeline.model.config
    size = representation.shape(config.window)[-1]
    overlap = int(config.sampling.overlap * size)
    starts = editing.window_starts(representation.shape(samples)[-1], size, overlap, loop=False)
    return torch.cat([starts[1:], starts[:-1] + size]) * representation.hop / config.sample_rate


def length(options: argparse.Namespace) -> dict[str, Any]:
    """Measures one long piece: seams, drift of the level, speed and memory."""
    pipeline = load(options.model)
    begun = time.perf_counter()
    piece = pipeline.generate(length=LONG, seed=options.seed)
    spent = time.perf_counter() - begun
    hop = round(FRAME * piece.sample_rate)
    spectrum = stft(piece.mono().samples[0], n_fft=2 * hop, hop=hop).abs()
    change = (20 * spectrum.clamp(min=1e-4).log10()).diff(dim=-1).abs().mean(dim=0)
    times = (torch.arange(len(change)) + 0.5) * hop / piece.sample_rate
    places = edges(pipeline, piece.samples.shape[1])
    near = (times[:, None] - places).abs().amin(dim=1) < 3 * FRAME
    inside = (times > 3 * FRAME) & (times < piece.seconds - 3 * FRAME)  # it comes out of silence, and ends in it
    seconds = piece.samples[:, : int(LONG) * piece.sample_rate].unflatten(1, (int(LONG), -1)).square().mean(dim=(0, 2))
    levels = 10 * seconds.clamp(min=1e-12).log10()
    time_axis = torch.arange(len(levels)) - (len(levels) - 1) / 2
    slope = float((time_axis * (levels - levels.mean())).sum() / time_axis.square().sum())
    drift = slope * len(levels)
    unit = 1 if sys.platform == "darwin" else 1024
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    at, elsewhere = (
        {"mean": float(one.mean()), "most": float(one.max())} for one in (change[near], change[inside & ~near])
    )
    print(f"a piece of {LONG:g} s took {spent:.1f} s and {memory:.2f} GiB")
    print(f"change of the spectrum at the edges of windows: {at['mean']:.2f} dB, {at['most']:.2f} dB at most", end="; ")
    print(f"elsewhere {elsewhere['mean']:.2f} dB, {elsewhere['most']:.2f} dB at most")
    print(f"level, a line through its seconds: {drift:+.2f} dB from start to end")
    return {"seconds": spent, "memory_gib": memory, "at_edges_db": at, "elsewhere_db": elsewhere, "drift_db": drift}


def steps(options: argparse.Namespace) -> dict[str, Any]:
    """Measures the same clips with other numbers of steps."""
    real, pipeline = Real.read(options.data), load(options.model)
    sets = {f"{count} steps": made(pipeline, options, steps=count) for count in options.steps}
    for name, one in sets.items():
        print(f"{name}: {one.factor:.3f} s of computing for a second of sound")
    compared = distances(real, {name: one.clips for name, one in sets.items()})
    return {"distances": compared, "factor": {name: one.factor for name, one in sets.items()}}


def pictures(options: argparse.Namespace) -> dict[str, Any]:
    """Draws three real and three generated clips: MDCT and mel spectrogram of each."""
    real, pipeline = Real.read(options.data), load(options.model)
    size = round(options.length * real.test[0].sample_rate)
    parts = [Audio(clip.samples[:, :size], clip.sample_rate) for clip in real.test[:3]]
    rows = [(f"real {number}", clip) for number, clip in enumerate(parts, 1)]
    sounds = pipeline.generate(count=3, length=options.length, seed=options.seed)
    rows += [(f"generated {number}", clip) for number, clip in enumerate(sounds, 1)]
    picture(rows, options.picture, spectrum=mdct_power)
    print(options.picture)
    return {"picture": str(options.picture)}


def ablation(options: argparse.Namespace) -> dict[str, Any]:
    """Trains with and without each auxiliary loss, and compares."""
    real = Real.read(options.data)
    both = (SpectralNorm(weight=0.1, trusted=True), TimeDerivative(weight=0.1, trusted=True))
    choices = {"neither": (), "spectral_norm": both[:1], "time_derivative": both[1:], "both": both}
    changes = [f"trainer.steps={options.budget}", f"trainer.save_every={options.budget}", *options.changes]
    recipe = load_recipe(options.recipe, changes=changes)
    sets: dict[str, list[Audio]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, losses in choices.items():
            model = dataclasses.replace(recipe.model, losses=losses)
            run_recipe(dataclasses.replace(recipe, model=model), out=Path(folder) / name, init=options.init)
            sets[name] = made(load(Path(folder) / name / "model"), options).clips
    print(f"{options.recipe}, {options.budget} steps each, from {options.init or 'nothing'}")
    return {"distances": distances(real, sets)}


def lossy(options: argparse.Namespace) -> dict[str, Any]:
    """Decodes what is left of real music when signs or phases are not known, and compares."""
    real = Real.read(options.data)
    clips = [clip.cut(stop=min(options.length, clip.seconds)).mono() for clip in real.test]
    rate = clips[0].sample_rate
    sets: dict[str, list[Audio]] = {}
    for bins in options.bins:
        transform = MdctConfig(bins=bins, window="kbd").build(rate, 1)
        found = sets[f"MDCT of {bins} bins, random signs"] = []
        for item, clip in enumerate(clips):
            encoded = transform.encode(clip.samples[None])
            chance = torch.rand(encoded.shape, generator=seeded(options.seed, "signs", item))
            found.append(decoded(transform, encoded * (chance - 0.5).sign(), clip))
    for bins in options.mels:
        profile = MelProfile(sample_rate=rate, n_fft=2048, hop=512, bins=bins, low=20, high=rate / 2)
        mel = MelConfig(GriffinLimConfig(mel=profile)).build(rate, 1)
        found = [decoded(mel, mel.encode(clip.samples[None]), clip) for clip in clips]
        sets[f"mel spectrum of {bins} bins, phases by Griffin-Lim"] = found
    compared = distances(real, sets)
    grid = TRAITS["grid"]
    shares = {name: sum(map(grid, one)) / len(one) for name, one in ({"real": clips} | sets).items()}
    print("share on the 12-tone grid: " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items()))
    return {"distances": compared, "grid": shares}


def decoded(representation: Representation, encoded: Tensor, clip: Audio) -> Audio:
    """Returns the sound of what was made of a clip, as long as that."""
    return Audio(representation.decode(encoded)[0, :, : clip.samples.shape[1]], clip.sample_rate)


WORK: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "clips": clips,
    "length": length,
    "steps": steps,
    "pictures": pictures,
    "ablation": ablation,
    "lossy": lossy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a bundled model or a folder; ablation and lossy need none")
    parser.add_argument("--against", nargs="+", default=[], help="other models, such as the described one")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["clips", "length", "steps"])
    parser.add_argument("--data", default="$HISS_DATA/classical", help="folder of the shards of a pack")
    parser.add_argument("--count", type=int, default=10, help="clips")
    parser.add_argument("--length", type=float, default=10.0, help="seconds of a clip")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16, 25])
    parser.add_argument("--picture", type=Path, default=Path("music.png"), help="the PNG to draw")
    parser.add_argument("--recipe", default="classical", help="of the ablation")
    parser.add_argument("--budget", type=int, default=2000, help="training steps of the ablation, for each choice")
    parser.add_argument("--init", help="model whose weights the ablation starts from; from nothing where left out")
    parser.add_argument("--changes", nargs="+", default=[], help="KEY=VALUE of the recipe of the ablation")
    parser.add_argument("--bins", type=int, nargs="+", default=[256, 512, 1024, 2048], help="of the MDCT")
    parser.add_argument("--mels", type=int, nargs="+", default=[128, 192, 256], help="bins of the mel spectrum")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.model is None and not set(options.parts) <= {"ablation", "lossy"}:
        parser.error("name a model")
    facts = {}
    for part in options.parts:
        facts[part] = WORK[part](options)
    if options.json:
        settings = {name: getattr(options, name) for name in ("model", "count", "length", "seed", "threads")}
        options.json.write_text(json.dumps(settings | facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
