"""Teaches the bundled sounds another telephone, by adapters (LoRA), and hears what has changed.

    OMP_NUM_THREADS=1 python benchmarks/adapt.py [--minutes 6] [--json FILE]

The folder that is learned holds two dozen sirens, each with a caption of a telephone. Before and after, captions of
telephones and of other sounds are made from the same seeds. The likeness to the sirens is the mean cosine, in the
embedding of the judge of sounds, between what was made and their centre; the change of other sounds is measured
between what a seed gave before and what it gives after, beside that between one seed and the next. At last the adapters
come off, and the weights are compared with those before, to the bit.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from hiss.audio import Audio
from hiss.evaluation.embeddings import find
from hiss.noise import seeded
from hiss.pipeline import Pipeline, load
from hiss.training.recipe import load_recipe, run_recipe

TAUGHT = ("an old telephone is ringing", "a telephone rings again and again", "a phone keeps ringing")
OTHERS = (
    "a single piano note, a middle C",
    "a church organ holds a low C major chord",
    "a snare drum roll",
    "a bird is tweeting",
)
RATE, SECONDS = 16_000, 3.0


def siren(item: int) -> Audio:
    """Returns a tone with harmonics whose pitch wails up and down."""
    low, high, rate = (float(value) for value in torch.rand(3, generator=seeded("siren", item)))
    time_axis = torch.arange(round(SECONDS * RATE)) / RATE
    octaves = 0.5 + 0.5 * torch.sin(2 * math.pi * (0.8 + rate) * time_axis)
    hertz = (400 + 200 * low) * 2 ** ((0.6 + 0.6 * high) * octaves)
    phase = 2 * math.pi * torch.cumsum(hertz / RATE, dim=0)
    wave = sum(torch.sin(harmonic * phase) / harmonic for harmonic in range(1, 7))
    assert isinstance(wave, Tensor)
    return Audio(0.3 * wave[None], RATE).fade(0.02, 0.05)


def made(pipeline: Pipeline, captions: Sequence[str], seed: int) -> list[Audio]:
    """Returns four sounds of each caption."""
    return pipeline.generate(list(captions), count=4, seed=seed)


def heard(clips: Sequence[Audio]) -> Tensor:
    """Returns what the judge of sounds makes of them [clips, features], of length 1."""
    return functional.normalize(find("sounds")(list(clips)).embeddings.float(), dim=1)


def likeness(one: Tensor, other: Tensor) -> float:
    """Returns the mean cosine of the rows of two embeddings, pair by pair."""
    return float((one * other).sum(dim=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.0, help="of training")
    parser.add_argument("--changes", nargs="+", default=[], help="KEY=VALUE of the recipe adapt")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    pipeline = load("sounds")
    before = {name: value.clone() for name, value in pipeline.model.state_dict().items()}
    plain = {"telephones": made(pipeline, TAUGHT, 0), "others": made(pipeline, OTHERS, 0)}
    again = made(pipeline, OTHERS, 1)
    with tempfile.TemporaryDirectory() as place:
        folder, run = Path(place) / "sirens", Path(place) / "run"
        folder.mkdir()
        sirens = [siren(item) for item in range(24)]
        for item, sound in enumerate(sirens):
            sound.save(folder / f"{item}.wav")
            (folder / f"{item}.txt").write_text(TAUGHT[item % len(TAUGHT)] + "\n", encoding="utf-8")
        begun, used = time.perf_counter(), time.process_time()
        result = run_recipe(
            load_recipe("adapt", changes=options.changes), data=folder, out=run, minutes=options.minutes
        )
        spent, processor = time.perf_counter() - begun, time.process_time() - used
        pipeline.adapt(run / "model")
    adapted = {"telephones": made(pipeline, TAUGHT, 0), "others": made(pipeline, OTHERS, 0)}
    pipeline.unadapt()
    after = pipeline.model.state_dict()
    centre = functional.normalize(heard(sirens).mean(dim=0, keepdim=True), dim=1)
    like_sirens = {
        name: [likeness(heard(one[name]), centre) for one in (plain, adapted)] for name in ("telephones", "others")
    }
    usual = heard(plain["others"])
    kept, chance = likeness(usual, heard(adapted["others"])), likeness(usual, heard(again))
    same = all(torch.equal(before[name], after[name]) for name in before)
    print(f"{result.step} steps in {spent / 60:.1f} minutes, {processor / 60:.1f} of processor time")
    for name, (first, then) in like_sirens.items():
        print(f"{name}: likeness to the sirens {first:.2f} before, {then:.2f} after")
    print(f"others: likeness to themselves before {kept:.2f}, of one seed to another {chance:.2f}")
    print("without the adapters all weights are as before" if same else "the weights have changed")
    if options.json:
        facts = {
            "steps": result.step,
            "minutes": spent / 60,
            "processor_minutes": processor / 60,
            "like_sirens": like_sirens,
            "others_like_before": kept,
            "others_of_another_seed": chance,
            "same_weights": same,
        }
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
