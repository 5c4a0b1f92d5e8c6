"""Trains a judge that comes with the package: `python -m hiss.evaluation.train_judge digits $HISS_DATA FOLDER`."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn import functional

from hiss.evaluation.clips import Clip, excerpts, read_clips
from hiss.evaluation.embeddings import judged, waveforms
from hiss.evaluation.judge import Judge, JudgeConfig
from hiss.noise import seeded

log = logging.getLogger(__name__)

PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
UNPITCHED = ("percussion", "drums", "sound effect")
"""Families of the sounds pack whose note numbers are names of instruments."""


@dataclass(frozen=True)
class Lesson:
    """What a judge is taught."""

    packs: tuple[str, ...]
    """Folders of WebDataset shards, with a training and a test split."""
    heads: Mapping[str, str]
    """Question -> the metadata key that answers it; a clip without the key is not asked."""
    options: Mapping[str, object]
    """Of the `JudgeConfig`, besides the questions."""
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of the `JudgeConfig`; what is there is under the name of the question in the metadata."""
    excerpt: float | None = None
    """Seconds that recordings are cut into."""
    speed: float = 0.08
    """By which share a clip is heard faster or slower, at most."""
    epochs: int = 24


LESSONS = {
    "digits": Lesson(packs=("digits",), heads={"digit": "label", "speaker": "speaker"}, options={}),
    "music": Lesson(
        packs=("sounds", "classical"),
        heads={name: name for name in ("instrument", "family", "kind", "ensemble", "composer")},
        options={
            "sample_rate": 16_000,
            "samples": 48_000,
            "n_fft": 2048,
            "hop": 1024,
            "bins": 128,
            "low": 30.0,
            "channels": (16, 32, 64, 96),
        },
        tags={"pitch": PITCHES},
        excerpt=3.0,
        speed=0.01,  # a sixth of a semitone
        epochs=16,
    ),
}


def train(
    clips: Sequence[Clip],
    config: JudgeConfig,
    *,
    epochs: int = 24,
    batch: int = 64,
    rate: float = 3e-3,
    speed: float = 0.08,
    seed: int = 0,
) -> Judge:
    """Returns a judge trained on `clips`: AdamW with one cycle of the learning rate, which peaks at `rate`.

    A clip counts for those questions that its metadata answer.
    """
    generator = seeded(seed, "judge")
    recordings = [clip.audio.mono().resample(config.sample_rate).samples[0] for clip in clips]
    with torch.random.fork_rng(devices=[]):  # the initial weights and the dropout draw from the global generator
        torch.manual_seed(seed)
        judge = Judge(config)
        optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.02)
        steps = epochs * (len(clips) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
        answers = {name: torch.tensor([_answer(clip, name, config) for clip in clips]) for name in config.heads}
        there = {name: torch.stack([_tags(clip, name, config) for clip in clips]) for name in config.tags}
        for epoch in range(epochs):
            total = 0.0
            order = torch.randperm(len(clips), generator=generator)
            for items in order[: len(clips) // batch * batch].view(-1, batch):
                audio = torch.stack([disturb(recordings[i], config, generator, speed=speed) for i in items.tolist()])
                embedding = judge.encode(mask(judge.spectrum(audio), generator))
                losses = [
                    functional.cross_entropy(
                        logits, answers[name][items], ignore_index=_NONE, label_smoothing=0.1, reduction="sum"
                    )
                    / batch
                    for name, logits in judge.logits(embedding).items()
                ]
                for name, odds in judge.odds(embedding).items():
                    wanted = there[name][items]
                    known = (wanted >= 0).float()
                    losses.append(
                        functional.binary_cross_entropy_with_logits(odds, wanted.clamp(min=0), known, reduction="sum")
                        / batch
                    )
                loss = torch.stack(losses).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
            log.info("epoch %d of %d: loss %.3f", epoch + 1, epochs, total / (len(clips) // batch))
    return judge.eval().requires_grad_(False)


_NONE = -1
"""In place of a class, or of whether a tag is there: a clip that is not asked."""


def _answer(clip: Clip, question: str, config: JudgeConfig) -> int:
    """Returns the number of the class that is right."""
    label = clip.labels(config.heads).get(question)
    return _NONE if label is None else config.heads[question].index(label)


def _tags(clip: Clip, question: str, config: JudgeConfig) -> Tensor:
    """Returns 1 for each tag that is there and 0 for the others [tags]."""
    names = config.tags[question]
    if question not in clip.metadata:
        return torch.full((len(names),), float(_NONE))
    return torch.tensor([float(name in clip.metadata[question]) for name in names])


def disturb(audio: Tensor, config: JudgeConfig, generator: torch.Generator, *, speed: float = 0.08) -> Tensor:
    """Returns the recording [config.samples] a little faster or slower, anywhere in the clip, sometimes noisy.

    `speed` is the largest share by which it is faster or slower.
    """
    pace, place, noisy, level = torch.rand(4, generator=generator).tolist()
    rate = config.sample_rate
    fast = soxr.resample(audio.numpy(), rate * (1 + speed * (2 * pace - 1)), rate, quality="LQ")
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


def precision_and_recall(judge: Judge, clips: Sequence[Clip], question: str) -> tuple[float, float]:
    """Returns the share of the tags that are named which are there, and of those that are there which are named."""
    asked = [clip for clip in clips if question in clip.metadata]
    audio = waveforms([clip.audio for clip in asked], sample_rate=judge.config.sample_rate)
    named = torch.cat([judge.odds(judge.embed(part))[question] for part in audio.split(64)]) > 0
    right = torch.stack([_tags(clip, question, judge.config) for clip in asked]) > 0
    both = (named & right).sum().item()
    return both / max(1, named.sum().item()), both / max(1, right.sum().item())


def main() -> None:
    """Trains, saves and tests a judge."""
    parser = argparse.ArgumentParser(prog="python -m hiss.evaluation.train_judge", description=__doc__)
    parser.add_argument("judge", choices=LESSONS, help="which one")
    parser.add_argument("data", help="folder of the packs")
    parser.add_argument("out", help="folder of the judge")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    lesson = LESSONS[arguments.judge]
    learned, test = (_read(lesson, arguments.data, split) for split in ("train", "test"))
    config = configured(lesson, learned)
    epochs = arguments.epochs or lesson.epochs
    train(learned, config, epochs=epochs, speed=lesson.speed, seed=arguments.seed).save_pretrained(arguments.out)
    judge = Judge.from_pretrained(arguments.out)
    for split, clips in (("training", learned), ("test", test)):
        heard = judged(judge)([clip.audio for clip in clips])
        log.info("accuracy, %s split: %s", split, heard.accuracy([clip.labels(config.heads) for clip in clips]))
        for question in config.tags:
            found = precision_and_recall(judge, clips, question)
            log.info("%s, %s split: precision %.3f, recall %.3f", question, split, *found)


def configured(lesson: Lesson, clips: Sequence[Clip]) -> JudgeConfig:
    """Returns the judge of a lesson, whose classes are those that the training clips have."""
    heads = {
        question: tuple(sorted({str(clip.metadata[key]) for clip in clips if key in clip.metadata}))
        for question, key in lesson.heads.items()
    }
    return JudgeConfig.from_dict({"heads": heads, "tags": lesson.tags, **lesson.options})


def _read(lesson: Lesson, data: str, split: str) -> list[Clip]:
    """Returns the recordings of a split, in excerpts where the lesson says so."""
    clips = [clip for pack in lesson.packs for clip in read_clips(f"{data}/{pack}/{pack}-{split}-*.tar")]
    return [
        Clip(clip.name, part, explained(clip.metadata))
        for clip in clips
        for part in excerpts(clip.audio, lesson.excerpt)
    ]


def explained(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metadata, of the sounds pack with the name of the instrument and the pitch classes of the notes."""
    if "midi_notes" not in metadata:
        return dict(metadata)
    known = {"instrument": metadata["label"]}
    if metadata["family"] not in UNPITCHED:
        known["pitch"] = [PITCHES[note % 12] for note in metadata["midi_notes"]]
    return {**metadata, **known}


if __name__ == "__main__":
    main()
