"""Trains a CLAP to judge with: `python -m hiss.evaluation.train_clap $HISS_DATA/sounds FOLDER`, minutes.

One that shall judge a model must not be the one that conditions it: train it apart, with another seed.
"""

import argparse
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from hiss.clap import Clap, ClapConfig, begin, read_clap, recall, write_clap
from hiss.data import Dataset
from hiss.data.shards import Shards
from hiss.training import TrainerConfig, train
from hiss.types import Batch

log = logging.getLogger(__name__)


class ContrastiveObjective(nn.Module):
    """The contrastive loss of a CLAP, which stays reachable as `.clap`."""

    def __init__(self, clap: Clap) -> None:
        super().__init__()
        self.clap = clap

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Returns {"loss": tensor without dimensions, "temperature": likewise}."""
        loss = self.clap.compute_loss(batch, generator=generator)
        return {"loss": loss, "temperature": self.clap.log_temperature.exp().detach()}


class _Log:
    """Says how the training goes, now and then."""

    def update(self, step: int, loss: float, examples_per_second: float, seconds_left: float) -> None:
        """Logs every hundredth step."""
        if step % 100 == 0:
            log.info("step %d: loss %.3f, %.0f recordings/s", step, loss, examples_per_second)


@torch.no_grad()
def measure(clap: Clap, data: Dataset) -> dict[str, float]:
    """Returns the recall of a CLAP among all recordings of a data set; see `recall`."""
    texts: list[Tensor] = []
    sounds: list[Tensor] = []
    captions: list[str] = []
    for batch in data.once(16):
        own = [prompt.text or "" for prompt in batch.prompts]
        captions += own
        texts.append(clap.embed_texts(own))
        sounds.append(clap.embed_audio(batch.audio.mean(dim=1)))
    return recall(torch.cat(texts), torch.cat(sounds), captions)


def train_clap(config: ClapConfig, trainer: TrainerConfig, data: Dataset, folder: str | Path) -> Clap:
    """Returns a CLAP trained on captioned recordings, its vocabulary learned from these captions.

    `folder` gets what `hiss.training.train` writes, the CLAP in `folder/model`; a run that was stopped is resumed.
    """
    captions = [prompt.text or "" for batch in data.once(trainer.batch_size) for prompt in batch.prompts]
    with torch.random.fork_rng(devices=[]):  # the initial weights draw from the global generator
        torch.manual_seed(trainer.seed)
        clap = begin(config, captions)

    def export(place: Path, objective: nn.Module) -> None:
        write_clap(clap, place)

    train(ContrastiveObjective(clap), trainer, data, None, folder, resume=True, progress=_Log(), export=export)
    return read_clap(Path(folder) / "model")


def main() -> None:
    """Trains, saves and tests a CLAP."""
    parser = argparse.ArgumentParser(prog="python -m hiss.evaluation.train_clap", description=__doc__)
    parser.add_argument("data", help="folder of a captioned pack: NAME-train-*.tar and NAME-test-*.tar")
    parser.add_argument("out", help="folder of the run; the CLAP is in its folder model")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    config = ClapConfig()
    trainer = TrainerConfig(
        epochs=arguments.epochs,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.05,
        ema=(0.1,),
        seed=arguments.seed,
    )
    learned, test = (
        Shards(path=f"{arguments.data}/*-{split}-*.tar").open(
            sample_rate=config.audio.sample_rate, channels=1, samples=config.audio.samples, split="all"
        )
        for split in ("train", "test")
    )
    clap = train_clap(config, trainer, learned, arguments.out)
    log.info("recall among the %d recordings of the test split: %s", test.report.used, measure(clap, test))


if __name__ == "__main__":
    main()
