"""How good generated recordings are: like real ones, as asked, varied, and not copied from the training set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.errors import HissError
from hiss.evaluation.distances import correlation, entropy, frechet, inception_score, kernel, nearest, vendi
from hiss.evaluation.embeddings import Embedding, Heard, find, waveforms
from hiss.noise import seeded

CANDIDATES = 10
"""Training clips per recording, the nearest by embedding, whose waveforms are compared with it."""


@dataclass(frozen=True)
class Spread:
    """A figure over several random draws, or over several recordings."""

    mean: float
    deviation: float
    low: float
    """5th percentile."""
    median: float
    high: float
    """95th percentile."""

    @classmethod
    def of(cls, values: Tensor | Sequence[float]) -> "Spread":
        """Returns the spread of `values` [any number]."""
        values = torch.as_tensor(values, dtype=torch.float64)
        low, median, high = values.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
        return cls(values.mean().item(), values.std(correction=0).item(), low, median, high)


@dataclass(frozen=True)
class Neighbours:
    """How near recordings are to the training clips; far nearer than real recordings are means copied."""

    distance: Spread
    """To the nearest training clip, by embedding."""
    correlation: Spread
    """The largest normalised cross-correlation of the waveforms with one of the nearest training clips; 1: a copy."""
    closest: tuple[tuple[int, int, float], ...]
    """(recording, training clip, correlation) of the five highest correlations, both counted from 0."""


@dataclass(frozen=True)
class Levels:
    """Levels of recordings."""

    rms: Spread
    """dBFS."""
    peak: Spread
    """dBFS."""
    clipped: float
    """Share of recordings with a sample at full scale or above."""
    silent: float
    """Share of recordings whose peak is below -80 dBFS."""


@dataclass(frozen=True)
class GenerationReport:
    """What `evaluate_generation` found; a figure says something next to that of real recordings only."""

    clips: Mapping[str, int]
    """How many were "generated", "reference" and "train"."""
    figures: Mapping[str, float]
    """"fad" and "kad" (distance to the reference), "vendi" (variety), "inception QUESTION" where there are classes."""
    floor: Mapping[str, Spread]
    """The same figures of real recordings instead of the generated ones: what perfection would score."""
    chance: Mapping[str, Spread]
    """"fad" and "kad" between two random draws, of the same two sizes, from all real recordings together."""
    accuracy: Mapping[str, float]
    """Share of generated recordings that are heard as what was asked, by question."""
    class_accuracy: Mapping[str, Mapping[str, float]]
    """The same for each class that was asked, by question."""
    reference_accuracy: Mapping[str, float]
    """Share of reference recordings that are heard as what they are: how far the other two can be trusted."""
    shares: Mapping[str, Mapping[str, float]]
    """How the generated recordings fall into the classes, by question."""
    effective_classes: Mapping[str, float]
    """exp(entropy of `shares`), by question: 6 for six speakers heard equally often, 1 for always the same."""
    neighbours: Mapping[str, Neighbours]
    """Of the "generated" and of the "reference" recordings among the training clips; empty without these."""
    levels: Mapping[str, Levels]
    """Of the "generated" and of the "reference" recordings."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)


def evaluate_generation(
    generated: Sequence[Audio],
    reference: Sequence[Audio],
    *,
    train: Sequence[Audio] | None = None,
    embedding: str | Embedding = "digits",
    asked: Sequence[Mapping[str, str]] | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
    draws: int = 50,
    seed: int = 0,
) -> GenerationReport:
    """Returns how good `generated` is, measured against real recordings.

    The floor: as many training clips as were generated (all, if there are fewer) are drawn at random without
    replacement, `draws` times, and scored against the reference exactly as the generated ones are, with the same
    numbers of clips, since FAD depends on these. Without training clips, the reference is split at random into two
    halves instead: fewer clips, hence a higher and more lenient FAD.

    Chance: all real recordings are put together and two disjoint sets are drawn from them, of the sizes of the
    generated set and the reference (both scaled down where there are too few). KAD is 0 on average for two sets of one
    kind, and its floor may be negative: compare it with `chance["kad"].high`, which two sets of one kind pass in one
    case of twenty.

    Source: the permutation test of Gretton et al. 2012, "A kernel two-sample test", section 5.

    Args:
        generated: Recordings in question.
        reference: Real recordings that no generator was trained on.
        train: Real recordings that the generator was trained on.
        embedding: A name in `EMBEDDINGS`, or a function.
        asked: What each generated recording was asked to be, by question, such as {"digit": "7"}.
        labels: What each reference recording is, likewise.
        draws: Random draws for floor and chance.
        seed: Of these draws.

    Raises:
        UsageError: the embedding is unknown, or `asked` or `labels` do not fit the recordings or the classes.
        HissError: a set has fewer than four recordings, or one without samples.
    """
    listen = find(embedding) if isinstance(embedding, str) else embedding
    sets = {"generated": generated, "reference": reference} | ({} if train is None else {"train": train})
    for name, clips in sets.items():
        if len(clips) < 4:
            raise HissError(f"the {name} set has {len(clips)} recordings; an evaluation needs at least 4")
        if empty := [index for index, clip in enumerate(clips) if not clip.seconds]:
            raise HissError(f"recording {empty[0]} of the {name} set has no samples; leave it out")
    heard = {name: listen(clips) for name, clips in sets.items()}
    ours, real = heard["generated"], heard["reference"]
    shares = {name: _shares(ours.probabilities[name], classes) for name, classes in ours.classes.items()}
    neighbours = {}
    if train is not None:
        for name in ("generated", "reference"):
            neighbours[name] = _neighbours(sets[name], heard[name].embeddings, train, heard["train"].embeddings)
    return GenerationReport(
        clips={name: len(clips) for name, clips in sets.items()},
        figures=_figures(ours, real.embeddings),
        floor=_floor(heard, draws, seed),
        chance=_chance(heard, draws, seed),
        accuracy={} if asked is None else ours.accuracy(asked),
        class_accuracy={} if asked is None else _as_asked(ours, asked),
        reference_accuracy={} if labels is None else real.accuracy(labels),
        shares=shares,
        effective_classes={
            name: entropy(torch.tensor(list(values.values()))).exp().item() for name, values in shares.items()
        },
        neighbours=neighbours,
        levels={name: _levels(sets[name]) for name in ("generated", "reference")},
    )


def _figures(heard: Heard, reference: Tensor) -> dict[str, float]:
    """Returns the figures of one set against the embeddings [clips, features] of the reference."""
    figures = {
        "fad": frechet(heard.embeddings, reference),
        "kad": kernel(heard.embeddings, reference),
        "vendi": vendi(heard.embeddings - reference.mean(dim=0)),
    }
    return figures | {f"inception {name}": inception_score(values) for name, values in heard.probabilities.items()}


def _spreads(draws: int, seed: int, figures: Callable[[torch.Generator], dict[str, float]]) -> dict[str, Spread]:
    """Returns the spread of each figure over random draws."""
    rows = [figures(seeded(seed, draw)) for draw in range(draws)]
    return {name: Spread.of([row[name] for row in rows]) for name in rows[0]}


def _floor(heard: Mapping[str, Heard], draws: int, seed: int) -> dict[str, Spread]:
    """Returns the figures of real recordings in place of the generated ones."""
    reference = heard["reference"]
    size = len(heard["generated"].embeddings)
    if "train" in heard and size >= len(heard["train"].embeddings):
        draws = 1  # there is only one way to draw them all

    def figures(generator: torch.Generator) -> dict[str, float]:
        if "train" in heard:
            order = torch.randperm(len(heard["train"].embeddings), generator=generator)
            return _figures(heard["train"].take(order[:size]), reference.embeddings)
        one, two = torch.randperm(len(reference.embeddings), generator=generator).tensor_split(2)
        return _figures(reference.take(one), reference.embeddings[two])

    return _spreads(draws, seed, figures)


def _chance(heard: Mapping[str, Heard], draws: int, seed: int) -> dict[str, Spread]:
    """Returns FAD and KAD between two random draws from all real recordings."""
    pool = torch.cat([heard[name].embeddings for name in ("reference", "train") if name in heard])
    sizes = [len(heard[name].embeddings) for name in ("generated", "reference")]
    scale = min(1.0, len(pool) / sum(sizes))
    one, two = (max(2, int(size * scale)) for size in sizes)

    def figures(generator: torch.Generator) -> dict[str, float]:
        order = torch.randperm(len(pool), generator=generator)
        first, second = pool[order[:one]], pool[order[one : one + two]]
        return {"fad": frechet(first, second), "kad": kernel(first, second)}

    return _spreads(draws, seed, figures)


def _as_asked(heard: Heard, asked: Sequence[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """Returns the accuracy among the recordings that were asked to be of each class, by question."""
    result: dict[str, dict[str, float]] = {}
    for question, classes in heard.classes.items():
        for label in classes:
            items = [item for item, labels in enumerate(asked) if labels.get(question) == label]
            if items:
                found = heard.take(items).accuracy([{question: label}] * len(items))
                result.setdefault(question, {})[label] = found[question]
    return result


def _shares(probabilities: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Returns the share of recordings [clips, classes] that are heard as each class."""
    counts = torch.bincount(probabilities.argmax(dim=-1), minlength=len(classes))
    return dict(zip(classes, (counts / counts.sum()).tolist(), strict=True))


def _neighbours(clips: Sequence[Audio], embeddings: Tensor, train: Sequence[Audio], known: Tensor) -> Neighbours:
    """Returns how near `clips` [clips, features] are to the clips of `train`, by embedding and by waveform."""
    distances, indices = nearest(embeddings, known, count=CANDIDATES)
    correlations, items = [], []
    for clip, candidates in zip(clips, indices.tolist(), strict=True):
        rate = train[candidates[0]].sample_rate
        query = waveforms([clip], sample_rate=rate)
        best = correlation(query, waveforms([train[item] for item in candidates], sample_rate=rate)).max(dim=0)
        correlations.append(best.values.item())
        items.append(candidates[int(best.indices)])
    highest = sorted(range(len(clips)), key=lambda clip: -correlations[clip])[:5]
    closest = tuple((clip, items[clip], correlations[clip]) for clip in highest)
    return Neighbours(Spread.of(distances[:, 0]), Spread.of(correlations), closest)


def _levels(clips: Sequence[Audio]) -> Levels:
    peaks, rms = (torch.tensor(values) for values in ([clip.peak for clip in clips], [clip.rms for clip in clips]))
    return Levels(
        rms=Spread.of(20 * rms.clamp(min=1e-6).log10()),
        peak=Spread.of(20 * peaks.clamp(min=1e-6).log10()),
        clipped=(peaks >= 32767 / 32768).double().mean().item(),
        silent=(peaks < 1e-4).double().mean().item(),
    )
