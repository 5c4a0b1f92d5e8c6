"""Times our U-Net against the U-Nets of two other projects at equal parameter counts, on clips of one second.

    python benchmarks/networks.py [--recipe digits-waveform] [--rounds 5] [--seconds 1] [--threads 1 2] [--json FILE]

Ours is the network of a recipe; the peers are given as many parameters, to within 5 %.
Each figure is the median over rounds; in a round the networks take turns, so that a busy machine slows all of them.
A ratio is the median of the ratios within the rounds: above 1, ours is faster.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hiss.networks import Network, NetworkConfig, Ports
from hiss.noise import seeded
from hiss.training.recipe import load_recipe
from hiss.types import Condition
from peers import ArchinetConfig, DiffusersConfig, matched, parameters

PORTS = Ports(channels=1)
CLIPS = {8000: 8192, 16000: 16384}
"""Hz -> samples; lengths that halve ten times, as the peers like them."""
EVALUATIONS = 25
Rows = list[dict[str, str | float]]


def networks(recipe: str) -> dict[str, NetworkConfig]:
    """Returns the network of a recipe under the name "hiss", and the peers of the same size under theirs."""
    ours = load_recipe(recipe).model.network
    target = parameters(ours.build(PORTS))
    return {
        "hiss": ours,
        "audio-diffusion-pytorch": matched(ArchinetConfig, target, ports=PORTS),
        "diffusers UNet1D": matched(DiffusersConfig, target, ports=PORTS),
    }


def training(network: Network, batch: int, samples: int) -> Callable[[], float]:
    """Returns what takes one step of training (forward, backward, AdamW) and returns examples a second."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    generator = seeded(0)
    x = torch.randn(batch, 1, samples, generator=generator)
    noise = torch.randn(batch, generator=generator)

    def step() -> float:
        start = time.perf_counter()
        torch.autograd.backward(nn.functional.mse_loss(network(x, noise, Condition()), x))
        optimizer.step()
        optimizer.zero_grad()
        return batch / (time.perf_counter() - start)

    return step


def sampling(network: Network, batch: int, samples: int, seconds: float) -> Callable[[], float]:
    """Returns what evaluates once without gradients and returns seconds of audio made in a second of computing."""
    x = torch.randn(batch, 1, samples, generator=seeded(0))

    def step() -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            network(x, torch.zeros(batch), Condition())
        return batch * seconds / EVALUATIONS / (time.perf_counter() - start)

    return step


def multiply_adds(network: Network, samples: int) -> float:
    """Returns how many millions of multiplications one evaluation of a clip takes, each with an addition."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.randn(1, 1, samples), torch.zeros(1), Condition())
    return float(counter.get_total_flops()) / 2e6


def race(steps: dict[str, Callable[[], float]], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Returns the speed of each in every round; in a round, each runs for about `seconds` and gives its median."""
    for step in steps.values():
        step()
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            end, runs = time.perf_counter() + seconds, [step()]
            while time.perf_counter() < end:
                runs.append(step())
            speeds[name].append(statistics.median(runs))
    return speeds


def compare(configs: dict[str, NetworkConfig], *, rounds: int, seconds: float, threads: list[int]) -> Rows:
    """Returns one row per task, clip, batch and number of threads."""
    rows: Rows = []
    built = {name: config.build(PORTS) for name, config in configs.items()}
    for count in threads:
        torch.set_num_threads(count)
        for rate, samples in CLIPS.items():
            for task, batch in (("training", 8), ("training", 16), ("sampling", 1)):
                length = samples / rate
                if task == "training":
                    steps = {name: training(network, batch, samples) for name, network in built.items()}
                else:
                    steps = {name: sampling(network, batch, samples, length) for name, network in built.items()}
                speeds = race(steps, rounds=rounds, seconds=seconds)
                row: dict[str, str | float] = {"task": task, "rate": rate, "batch": batch, "threads": count}
                for name, found in speeds.items():
                    row[name] = statistics.median(found)
                    if name != "hiss":
                        pairs = zip(speeds["hiss"], found, strict=True)
                        row[f"hiss / {name}"] = statistics.median(ours / theirs for ours, theirs in pairs)
                rows.append(row)
                gc.collect()
    return rows


def report(configs: dict[str, NetworkConfig], rows: Rows) -> str:
    """Returns the networks and the rows as Markdown tables."""
    built = {name: config.build(PORTS) for name, config in configs.items()}
    counts = {name: parameters(network) for name, network in built.items()}
    work = [f"million multiply-adds at {rate} Hz" for rate in CLIPS]
    lines = ["| network | parameters | against hiss | " + " | ".join(work) + " |", "|---|" + "---:|" * (2 + len(work))]
    for name, network in built.items():
        cells = [f"{counts[name]:,}", f"{counts[name] / counts['hiss'] - 1:+.1%}"]
        cells += [f"{multiply_adds(network, samples):.0f}" for samples in CLIPS.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    peers = [name for name in configs if name != "hiss"]
    lines += ["", f"Training: examples a second. Sampling: seconds of audio a second, {EVALUATIONS} evaluations.", ""]
    heads = ["task", "Hz", "batch", "threads", *configs, *(f"hiss / {peer}" for peer in peers)]
    lines += ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        cells = [str(row[key]) for key in ("task", "rate", "batch", "threads")]
        cells += [f"{row[name]:.2f}" for name in configs] + [f"{row[f'hiss / {peer}']:.2f}" for peer in peers]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits-waveform", help="whose network it is: a name or a YAML file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each network runs in a round")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    configs = networks(options.recipe)
    rows = compare(configs, rounds=options.rounds, seconds=options.seconds, threads=options.threads)
    print(report(configs, rows))
    if options.json:
        facts = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
        }
        sizes = {name: config.to_dict() for name, config in configs.items()}
        options.json.write_text(json.dumps({"versions": facts, "networks": sizes, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
