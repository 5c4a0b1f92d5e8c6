"""Trains the judge of instruments: `python -m hiss.evaluation.train_sounds_judge $HISS_DATA/sounds FOLDER`, minutes."""

import argparse
import logging

import torch

from hiss.evaluation.clips import read_clips
from hiss.evaluation.embeddings import judged
from hiss.evaluation.judge import Judge, JudgeConfig
from hiss.evaluation.train_judge import train

log = logging.getLogger(__name__)

QUESTIONS = {"family": "family", "instrument": "label"}
"""Question -> metadata key."""


def main() -> None:
    """Trains, saves and tests a judge."""
    parser = argparse.ArgumentParser(prog="python -m hiss.evaluation.train_sounds_judge", description=__doc__)
    parser.add_argument("data", help="folder of the sounds pack")
    parser.add_argument("out", help="folder of the judge")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    clips = read_clips(f"{arguments.data}/*-train-*.tar")
    heads = {
        question: tuple(sorted({str(clip.metadata[key]) for clip in clips})) for question, key in QUESTIONS.items()
    }
    config = JudgeConfig(heads=heads, sample_rate=16000, samples=48000, n_fft=1024, hop=512, bins=64, low=30.0)
    judge = train(clips, config, epochs=arguments.epochs, seed=arguments.seed)
    judge.save_pretrained(arguments.out)
    test = read_clips(f"{arguments.data}/*-test-*.tar")
    heard = judged(Judge.from_pretrained(arguments.out))([clip.audio for clip in test])
    log.info("accuracy on the test split: %s", heard.accuracy([clip.labels(heads) for clip in test]))


if __name__ == "__main__":
    main()
