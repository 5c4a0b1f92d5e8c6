"""How well a CLAP finds captions and recordings: `python -m hiss.evaluation.retrieval FOLDER RECORDINGS`."""

import argparse
import logging
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from hiss.clap import Clap, recall
from hiss.data import Dataset
from hiss.data.folder import AudioFolder
from hiss.data.shards import Shards
from hiss.saved import read_part

log = logging.getLogger(__name__)

_BATCH = 16


@torch.no_grad()
def retrieval(clap: Clap, data: Dataset) -> dict[str, float]:
    """Returns the recall of a CLAP among all recordings of a data set; see `recall`."""
    texts: list[Tensor] = []
    sounds: list[Tensor] = []
    captions: list[str] = []
    for batch in data.once(_BATCH):
        own = [prompt.text or "" for prompt in batch.prompts]
        captions += own
        texts.append(clap.embed_texts(own))
        sounds.append(clap.embed_audio(batch.audio.mean(dim=1)))
    return recall(torch.cat(texts), torch.cat(sounds), captions)


def main() -> None:
    """Says what the recall of a saved CLAP is."""
    parser = argparse.ArgumentParser(prog="python -m hiss.evaluation.retrieval", description=__doc__)
    parser.add_argument("clap", type=Path, help="folder of a CLAP")
    parser.add_argument("recordings", help="captioned recordings: a folder, or tar shards")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    clap = cast(Clap, read_part(arguments.clap, "clap")).eval()
    path, tower = arguments.recordings, clap.config.audio
    data = (Shards if path.endswith(".tar") else AudioFolder)(path=path).open(
        sample_rate=tower.sample_rate, channels=1, samples=tower.samples, split="all"
    )
    found = retrieval(clap, data)
    for way, share in found.items():
        log.info("%s: %.3f, among %d recordings", way, share, data.report.used)


if __name__ == "__main__":
    main()
