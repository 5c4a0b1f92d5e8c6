"""A tiny objective and data set for the tests of training; run as a script, it trains and reports."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hiss.data import Dataset, Report
from hiss.noise import seeded
from hiss.training import Result, TrainerConfig, train
from hiss.types import Batch, Prompt

WIDTH = 8


class Noise(Dataset):
    """Item i is noise fixed by (seed, i); process r of w takes every w-th run of `batch_size` items."""

    def __init__(
        self, *, loud_after: int | None = None, broken: frozenset[int] = frozenset(), examples: int = 40
    ) -> None:
        self.sample_rate, self.channels, self.samples, self.report = 8000, 1, WIDTH, Report()
        self.loud_after, self.broken, self.examples = loud_after, broken, examples

    def batches(
        self, batch_size: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        position = start
        while True:
            first = (position * world + rank) * batch_size
            audio = torch.stack([self.item(seed, first + i) for i in range(batch_size)])
            if self.loud_after is not None and position >= self.loud_after:
                audio = audio * 100
            if position in self.broken:
                audio = audio * float("nan")
            yield batch(audio)
            position += 1

    def once(self, batch_size: int) -> Iterator[Batch]:
        for first in range(0, self.examples, batch_size):
            items = range(first, min(first + batch_size, self.examples))
            yield batch(torch.stack([self.item(-1, i) for i in items]))

    def item(self, seed: int, index: int) -> Tensor:
        return torch.randn(1, WIDTH, generator=seeded(seed, index))


def batch(audio: Tensor) -> Batch:
    return Batch(audio, 8000, (Prompt(),) * len(audio), torch.full((len(audio),), WIDTH))


class Toy(nn.Module):
    """Learns to undo noise; `plain` leaves out everything random."""

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__()
        self.plain = plain
        self.net = nn.Sequential(
            nn.Linear(WIDTH, 16), nn.Dropout(0.0 if plain else 0.2), nn.Tanh(), nn.Linear(16, WIDTH)
        )
        generator = seeded("toy")
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.3, generator=generator)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        x = batch.audio[:, 0]
        noise = torch.zeros_like(x) if self.plain else torch.randn(x.shape, generator=generator)
        error = (self.net(x + noise) - 0.5 * x).square().mean()
        return {"loss": error, "error_root": error.sqrt()}


class SignalAt:
    """Sends this process a signal after some step."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def update(self, step: int, loss: float, examples_per_second: float, seconds_left: float) -> None:
        if step == self.step:
            os.kill(os.getpid(), self.number)


def config(**changes: Any) -> TrainerConfig:
    """Everything switched on, and small."""
    base: dict[str, Any] = {
        "steps": 60,
        "batch_size": 4,
        "accumulate": 2,
        "learning_rate": 0.01,
        "decay": "onecycle",
        "validate_every": 20,
        "save_every": 10,
    }
    return TrainerConfig.from_dict(base | changes)


def fingerprint(module: nn.Module) -> str:
    """Returns a digest of every bit of the weights."""
    joined = b"".join(value.detach().numpy().tobytes() for value in module.state_dict().values())
    return hashlib.sha256(joined).hexdigest()


def run(folder: Path, *, plain: bool = False, **changes: Any) -> tuple[Result, Toy]:
    """Trains, from the saved state if there is one."""
    toy = Toy(plain=plain)
    return train(toy, config(**changes), Noise(), Noise(), folder, resume=True), toy


def main() -> None:
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    toy = Toy(plain=options.get("plain", False))
    progress = SignalAt(signal.Signals[options["signal"]], options["at"]) if "signal" in options else None
    settings = config(**options.get("config", {}))
    result = train(
        toy, settings, Noise(), Noise(), folder, resume=True, progress=progress, minutes=options.get("minutes")
    )
    weights = torch.nn.utils.parameters_to_vector(toy.parameters()).tolist()
    judged = result.best.loss if result.best else None
    report = {"ended": result.ended, "step": result.step, "weights": weights, "validation": judged}
    (folder / f"report-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
