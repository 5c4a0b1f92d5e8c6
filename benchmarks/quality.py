"""Trains our U-Net, our transformer and the U-Net of audio-diffusion-pytorch alike, and judges the digits they say.

    python benchmarks/quality.py [--recipe digits] [--minutes 20] [--networks hiss ...] [--json FILE]

All but the network is that of a recipe, for all: data, representation, classes, noise, loss, sampler, number of
parameters and minutes. The learning rate stays constant after its warm-up, as nobody knows beforehand how many steps
the minutes will buy; what is judged is an average of the weights. Time is the budget, so run it on a machine that is
otherwise idle. The recipe digits compares on mel spectra, digits-waveform on samples. (UNet1D of diffusers cannot be
told a class, so that it is compared in speed alone, by networks.py.)
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hiss.audio import Audio
from hiss.config import ModelConfig
from hiss.data import Dataset
from hiss.evaluation.generation import GenerationReport, evaluate_generation
from hiss.model import AudioDiffusionModel
from hiss.networks import NetworkConfig
from hiss.networks.dit import DiTConfig
from hiss.networks.unet import UNet
from hiss.pipeline import Pipeline
from hiss.training import TrainerConfig, train
from hiss.training.objectives import DiffusionObjective
from hiss.training.recipe import load_recipe
from peers import ArchinetConfig, matched, parameters

PEER = "audio-diffusion-pytorch"
NETWORKS = ("hiss", "dit", PEER)


def networks(model: ModelConfig) -> dict[str, NetworkConfig]:
    """Returns the U-Net of a model under the name "hiss", a transformer on the same patches, and the peer, as large."""
    ours = AudioDiffusionModel(model).denoiser.network
    assert isinstance(ours, UNet)
    size, ports = parameters(ours), ours.ports
    deep = [DiTConfig(patch=ours.patch, width=192, head=48, layers=layers) for layers in range(1, 24)]
    transformer = min(deep, key=lambda config: abs(parameters(config.build(ports)) - size))
    return {"hiss": model.network, "dit": transformer, PEER: matched(ArchinetConfig, size, ports=ports)}


def trained(config: ModelConfig, examples: Dataset, *, minutes: float, seed: int) -> tuple[AudioDiffusionModel, int]:
    """Returns the model with averaged weights, and for how many steps it was trained."""
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


def recordings(examples: Dataset) -> Iterator[tuple[Audio, str]]:
    """Yields the recordings of a data set, each at its own length, and which digit it is."""
    for batch in examples.once(64):
        for audio, length, prompt in zip(batch.audio, batch.lengths.tolist(), batch.prompts, strict=True):
            yield Audio(audio[:, :length], examples.sample_rate), prompt.labels["digit"]


def report(reports: dict[str, tuple[int, int, GenerationReport]]) -> str:
    """Returns a Markdown table of (parameters, steps, report) by network, and what real recordings score."""
    _, _, last = next(iter(reports.values()))
    lines = ["| network | parameters | steps | heard as asked | " + " | ".join(last.figures) + " |"]
    lines.append("|---|" + "---:|" * (3 + len(last.figures)))
    for name, (size, steps, one) in reports.items():
        cells = [f"{size:,}", f"{steps:,}", f"{one.accuracy['digit']:.1%}"]
        lines.append(f"| {name} | " + " | ".join([*cells, *(f"{value:.2f}" for value in one.figures.values())]) + " |")
    real = [f"{last.reference_accuracy['digit']:.1%}", *(f"{spread.mean:.2f}" for spread in last.floor.values())]
    lines.append("| real recordings | | | " + " | ".join(real) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits", help="a name or a YAML file, of spoken digits")
    parser.add_argument("--minutes", type=float, default=20.0, help="training of each network")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["hiss", PEER])
    parser.add_argument("--count", type=int, default=30, help="recordings of each digit that are generated and judged")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = load_recipe(options.recipe)
    shape = {"sample_rate": recipe.model.sample_rate, "channels": 1, "samples": recipe.model.samples}
    examples = recipe.data.open(**shape, split="train")
    known, held_out = (list(recordings(recipe.data.open(**shape, split=split))) for split in ("train", "validation"))
    configs, reports = networks(recipe.model), {}
    for name in options.networks:
        config = replace(recipe.model, network=configs[name])
        model, steps = trained(config, examples, minutes=options.minutes, seed=options.seed)
        pipeline = Pipeline(model)
        digits = pipeline.labels["digit"]
        found = evaluate_generation(
            pipeline.generate(digits, count=options.count, seed=options.seed),
            [audio for audio, _ in held_out],
            train=[audio for audio, _ in known],
            embedding="digits",
            asked=[{"digit": digit} for digit in digits for _ in range(options.count)],
            labels=[{"digit": digit} for _, digit in held_out],
        )
        reports[name] = (parameters(model.denoiser), steps, found)
    print(report(reports))
    if options.json:
        facts = {
            name: {"parameters": size, "steps": steps} | found.to_dict()
            for name, (size, steps, found) in reports.items()
        }
        settings = {"recipe": options.recipe, "minutes": options.minutes, "threads": options.threads}
        options.json.write_text(json.dumps(settings | {"seed": options.seed, "networks": facts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
