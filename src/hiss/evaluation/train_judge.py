"""Trains the judge of spoken digits: `python -m hiss.evaluation.train_judge $HISS_DATA/digits FOLDER`, minutes."""

import argparse
import logging
from collections.abc import Sequence

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn import functional

from hiss.evaluation.clips import Clip, read_clips
from hiss.evaluation.embeddings import judged
from hiss.evaluation.judge import Judge, JudgeConfig
from hiss.noise import seeded

log = logging.getLogger(__name__)


def train(
    clips: Sequence[Clip], config: JudgeConfig, *, epochs: int = 24, batch: int = 64, rate: float = 3e-3, seed: int = 0
) -> Judge:
    """Returns a judge trained on `clips`: AdamW with one cycle of the learning rate, which peaks at `rate`."""
    generator = seeded(seed, "judge")
    recordings = [clip.audio.mono().resample(config.sample_rate).samples[0] for clip in clips]
    with torch.random.fork_rng(devices=[]):  # the initial weights and the dropout draw from the global generator
        torch.manual_seed(seed)
        judge = Judge(config)
        optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.02)
        steps = epochs * (len(clips) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
        targets = {
            name: torch.tensor([classes.index(clip.labels(config.heads)[name]) for clip in clips])
            for name, classes in config.heads.items()
        }
        for epoch in range(epochs):
            total = 0.0
            order = torch.randperm(len(clips), generator=generator)
            for items in order[: len(clips) // batch * batch].view(-1, batch):
                audio = torch.stack([disturb(recordings[i], config, generator) for i in items.tolist()])
                embedding = judge.encode(mask(judge.spectrum(audio), generator))
                losses = [
                    functional.cross_entropy(logits, targets[name][items], label_smoothing=0.1)
                    for name, logits in judge.logits(embedding).items()
                ]
                loss = torch.stack(losses).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
            log.info("epoch %d of %d: loss %.3f", epoch + 1, epochs, total / (len(clips) // batch))
    return judge.eval().requires_grad_(False)


def disturb(audio: Tensor, config: JudgeConfig, generator: torch.Generator) -> Tensor:
    """Returns the recording [config.samples] up to 8 % faster or slower, anywhere in the clip, sometimes noisy."""
    speed, place, noisy, level = torch.rand(4, generator=generator).tolist()
    fast = soxr.resample(audio.numpy(), config.sample_rate * (0.92 + 0.16 * speed), config.sample_rate, quality="LQ")
    fast = torch.from_numpy(np.ascontiguousarray(fast))[: config.samples]
    before = int(place * (config.samples - len(fast) + 1))
    placed = functional.pad(fast, (before, config.samples - len(fast) - before))
    if noisy < 0.5:  # 15 to 55 dB below the recording
        rms = placed.square().mean().sqrt()
        placed = placed + rms * 10 ** -(0.75 + 2 * level) * torch.randn(config.samples, generator=generator)
    return placed


def mask(spectrum: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the spectrum [batch, bins, frames] with one band of frequencies and one of frames silent in each clip.

    Source: Park et al. 2019, "SpecAugment", section 2.
    """
    for dimension, widest in ((1, 6), (2, 15)):
        size = spectrum.shape[dimension]
        start, width = torch.rand(2, len(spectrum), 1, generator=generator) * torch.tensor([[[size]], [[widest]]])
        position = torch.arange(size)
        hidden = (position >= start) & (position < start + width)
        spectrum = spectrum.masked_fill(hidden.unsqueeze(3 - dimension), 0.0)
    return spectrum


def main() -> None:
    """Trains, saves and tests a judge."""
    parser = argparse.ArgumentParser(prog="python -m hiss.evaluation.train_judge", description=__doc__)
    parser.add_argument("data", help="folder of the digits pack")
    parser.add_argument("out", help="folder of the judge")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    clips = read_clips(f"{arguments.data}/*-train-*.tar")
    heads = {
        question: tuple(sorted({str(clip.metadata[key]) for clip in clips}))
        for question, key in (("digit", "label"), ("speaker", "speaker"))
    }
    judge = train(clips, JudgeConfig(heads=heads), epochs=arguments.epochs, seed=arguments.seed)
    judge.save_pretrained(arguments.out)
    test = read_clips(f"{arguments.data}/*-test-*.tar")
    heard = judged(Judge.from_pretrained(arguments.out))([clip.audio for clip in test])
    log.info("accuracy on the test split: %s", heard.accuracy([clip.labels(heads) for clip in test]))


if __name__ == "__main__":
    main()
