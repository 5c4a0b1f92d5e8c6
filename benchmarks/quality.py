"""Trains our U-Net and its peers alike, without prompts, and judges what they generate.

    python benchmarks/quality.py [--recipe digits-waveform] [--minutes 10] [--networks hiss ...] [--json FILE]

Data and network come from a recipe. Only the network differs: examples, loss, optimiser, sampler, noise, number of
parameters and minutes are the same. The learning rate stays constant after its warm-up, as nobody knows beforehand how
many steps the minutes will buy; what is judged is an average of the weights. Time is the budget, so run it on a machine
that is otherwise idle.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from hiss.audio import Audio
from hiss.data import Dataset
from hiss.evaluation.generation import GenerationReport, evaluate_generation
from hiss.model import AudioDiffusionModel, ModelConfig
from hiss.networks import NetworkConfig
from hiss.noise import generators
from hiss.representations.waveform import WaveformConfig
from hiss.training import TrainerConfig, train
from hiss.training.objectives import DiffusionObjective
from hiss.training.recipe import load_recipe
from hiss.types import Prompt
from networks import networks
from peers import parameters

RATE = 8000
SAMPLES = 8192
"""About a second, a length that halves ten times, as the peers like it."""


def trained(network: NetworkConfig, examples: Dataset, *, minutes: float, seed: int) -> tuple[AudioDiffusionModel, int]:
    """Returns the model with averaged weights, and for how many steps it was trained."""
    config = ModelConfig(RATE, SAMPLES / RATE, WaveformConfig(pre_emphasis=0.9), network)
    torch.manual_seed(seed)
    model = AudioDiffusionModel(config)
    model.representation.fit(batch.audio for batch in examples.once(64))
    weights: dict[str, Tensor] = {}

    def keep(_: Path, objective: nn.Module) -> None:
        weights.update({name: value.clone() for name, value in objective.state_dict().items()})

    objective = DiffusionObjective(model)
    steps = 10**9
    options = TrainerConfig(
        steps=steps, warmup=100, decay="constant", ema=(0.1,), save_every=steps, log_every=100, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(objective, options, examples, None, folder, minutes=minutes, export=keep)
    objective.load_state_dict(weights)
    return model.eval(), result.step


def generated(model: AudioDiffusionModel, count: int, *, seed: int) -> list[Audio]:
    """Returns recordings that a model made; item k is made from the same noise by every model."""
    clips: list[Audio] = []
    for first in range(0, count, 50):
        items = range(first, min(first + 50, count))
        made = model.sample([Prompt()] * len(items), SAMPLES, generator=generators(seed, items))
        clips += [Audio(audio, RATE) for audio in made]
    return clips


def recordings(examples: Dataset) -> Iterator[Audio]:
    """Yields the recordings of a data set, each at its own length."""
    for batch in examples.once(64):
        for audio, length in zip(batch.audio, batch.lengths.tolist(), strict=True):
            yield Audio(audio[:, :length], RATE)


def row(name: str, size: str, steps: str, figures: dict[str, float]) -> str:
    """Returns a line of the Markdown table."""
    return f"| {name} | {size} | {steps} | " + " | ".join(f"{value:.2f}" for value in figures.values()) + " |"


def report(reports: dict[str, tuple[int, int, GenerationReport]]) -> str:
    """Returns a Markdown table of (parameters, steps, report) by network, and what real recordings score."""
    _, _, last = next(iter(reports.values()))
    lines = ["| network | parameters | steps | " + " | ".join(last.figures) + " |"]
    lines.append("|---|" + "---:|" * (2 + len(last.figures)))
    lines += [row(name, f"{size:,}", f"{steps:,}", dict(one.figures)) for name, (size, steps, one) in reports.items()]
    lines.append(row("real recordings", "", "", {name: spread.mean for name, spread in last.floor.items()}))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits-waveform", help="a name or a YAML file, of spoken digits")
    parser.add_argument("--minutes", type=float, default=10.0, help="training of each network")
    parser.add_argument("--networks", nargs="+", help="some of those compared; all by default")
    parser.add_argument("--count", type=int, default=300, help="recordings that are generated and judged")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    configs = networks(options.recipe)
    recipe = load_recipe(options.recipe)
    shape = {"sample_rate": RATE, "channels": 1, "samples": SAMPLES}
    examples = recipe.data.open(**shape, split="train")
    judged = recipe.validation or recipe.data
    held_out = judged.open(**shape, split="all" if recipe.validation else "validation")
    known, reference = list(recordings(examples)), list(recordings(held_out))
    reports = {}
    for name in options.networks or configs:
        model, steps = trained(configs[name], examples, minutes=options.minutes, seed=options.seed)
        clips = generated(model, options.count, seed=options.seed)
        found = evaluate_generation(clips, reference, train=known, embedding="digits")
        reports[name] = (parameters(model.denoiser), steps, found)
    print(report(reports))
    if options.json:
        facts = {
            name: {"parameters": size, "steps": steps} | found.to_dict()
            for name, (size, steps, found) in reports.items()
        }
        settings = {"minutes": options.minutes, "threads": options.threads, "seed": options.seed}
        options.json.write_text(json.dumps(settings | {"networks": facts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
