"""How good generated recordings are: like real ones, as asked, varied, and not copied from the training set."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.errors import HissError, UsageError
from hiss.evaluation.clips import excerpts
from hiss.evaluation.distances import correlation, entropy, frechet, inception_score, kernel, nearest, vendi
from hiss.evaluation.embeddings import EMBEDDINGS, EXCERPTS, Embedding, Heard, find, questions, waveforms
from hiss.evaluation.judge import JUDGES, Judge
from hiss.evaluation.music import RATE, TRAITS, likeness
from hiss.noise import seeded

CANDIDATES = 10
"""Training clips per recording, the nearest by embedding, whose waveforms are compared with it."""

RATES = {"logmel": 32_000, "tonal": RATE}
"""Hz, at which the embeddings without a judge listen; a judge says so itself."""


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
    least: float
    most: float

    @classmethod
    def of(cls, values: Tensor | Sequence[float]) -> "Spread":
        """Returns the spread of `values` [any number]."""
        values = torch.as_tensor(values, dtype=torch.float64)
        low, median, high = values.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
        ends = values.min().item(), values.max().item()
        return cls(values.mean().item(), values.std(correction=0).item(), low, median, high, *ends)


@dataclass(frozen=True)
class Neighbours:
    """How near recordings are to the training clips; far nearer than real recordings are means copied."""

    distance: Spread
    """To the nearest training clip, by embedding."""
    correlation: Spread
    """The largest normalised cross-correlation of the waveforms with one of the nearest training clips, or of music the
    largest `hiss.evaluation.music.likeness` to any training recording; 1: a copy."""
    closest: tuple[tuple[int, int, float], ...]
    """(recording, training recording, correlation) of the five highest correlations, both counted from 0."""


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
class Listener:
    """What listened, and to what of the recordings: the figures say nothing of the rest."""

    embedding: str | None
    """Its name in `EMBEDDINGS`; None where it is none of these."""
    sample_rate: int | None
    """Hz, to which recordings are resampled first; None where that is not known."""
    excerpt: float | None
    """Seconds of the excerpts in which recordings are listened to; None where they are listened to as a whole."""
    loudest: float | None
    """Seconds of each recording, or of each excerpt, that a judge hears at the most; None where no judge listens."""

    @classmethod
    def of(cls, embedding: Embedding, excerpt: float | None) -> "Listener":
        """Returns what `embedding` hears of recordings in excerpts of so many seconds."""
        name = next((name for name, one in EMBEDDINGS.items() if one is embedding), None)
        if name is None:
            return cls(None, None, excerpt, None)
        if not (JUDGES / name).is_dir():
            return cls(name, RATES.get(name), excerpt, None)
        judge = Judge.from_pretrained(name).config
        return cls(name, judge.sample_rate, excerpt, judge.seconds)


@dataclass(frozen=True)
class GenerationReport:
    """What `evaluate_generation` found; a figure says something next to that of real recordings only."""

    clips: Mapping[str, int]
    """How many recordings were "generated", "reference" and "train"."""
    excerpts: Mapping[str, int]
    """In how many excerpts they were listened to."""
    listener: Listener
    """What all but the levels and the traits depends on."""
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
    traits: Mapping[str, Mapping[str, Spread]]
    """What a listener notices of the "generated" and of the "reference" recordings, by the names in
    `hiss.evaluation.music.TRAITS`; empty unless they are music."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Set:
    """Recordings in excerpts, and what was heard in these."""

    excerpts: Sequence[Audio]
    owners: Sequence[int]
    """The recording that each excerpt is from."""
    groups: Sequence[Tensor]
    """The excerpts that each recording has."""
    heard: Heard

    @classmethod
    def of(cls, clips: Sequence[Audio], seconds: float | None, listen: Embedding) -> "_Set":
        """Returns recordings in excerpts of so many seconds."""
        parts = [excerpts(clip, seconds) for clip in clips]
        found = [part for some in parts for part in some]
        owners = [owner for owner, some in enumerate(parts) for _ in some]
        return cls(found, owners, torch.arange(len(found)).split([len(some) for some in parts]), listen(found))

    @property
    def each(self) -> int:
        """How many excerpts a recording has, about."""
        return max(1, round(len(self.owners) / len(self.groups)))

    def told(self, said: Sequence[Mapping[str, str]] | None, name: str) -> list[Mapping[str, str]]:
        """Returns what is said of the recording that each excerpt is from."""
        if said is not None and len(said) != len(self.groups):
            raise UsageError(f"{len(said)} labels came for {len(self.groups)} {name} recordings; give one for each")
        return [{} if said is None else said[owner] for owner in self.owners]


def usual(labels: Sequence[Mapping[str, str]] | None, *, music: bool = False) -> str:
    """Returns the name of the embedding that suits reference recordings with these labels, by question.

    It is "music" for music, "digits" if every recording is labelled as something that the judge of digits tells apart,
    and else "logmel": a judge is no measure of sounds of which it knows nothing.
    """
    if music:
        return "music"
    classes = questions("digits").items()
    known = [any(said.get(question) in names for question, names in classes) for said in labels or ()]
    return "digits" if known and all(known) else "logmel"


def evaluate_generation(
    generated: Sequence[Audio],
    reference: Sequence[Audio],
    *,
    train: Sequence[Audio] | None = None,
    embedding: str | Embedding | None = None,
    excerpt: float | None = None,
    music: bool = False,
    asked: Sequence[Mapping[str, str]] | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
    draws: int = 50,
    seed: int = 0,
) -> GenerationReport:
    """Returns how good `generated` is, measured against real recordings.

    Embeddings, classes and neighbours are those of the excerpts. The floor: as many training recordings as were
    generated (all, if there are fewer), of each as many excerpts in a row, are drawn at random without replacement,
    `draws` times, and scored against the reference exactly as the generated ones are, with as many excerpts, since FAD
    depends on their number. Without training recordings, the reference is split at random into two halves instead:
    fewer recordings, hence a higher and more lenient FAD.

    Chance: all real recordings are put together and two disjoint sets are drawn from them, of the sizes of the
    generated set and the reference (both scaled down where there are too few). KAD is 0 on average for two sets of one
    kind, and its floor may be negative: compare it with `chance["kad"].high`, which two sets of one kind pass in one
    case of twenty.

    Source: the permutation test of Gretton et al. 2012, "A kernel two-sample test", section 5.

    Args:
        generated: Recordings in question.
        reference: Real recordings that no generator was trained on.
        train: Real recordings that the generator was trained on.
        embedding: A name in `EMBEDDINGS`, or a function; the `usual` one for `labels` and `music` if not given.
        excerpt: Seconds of the excerpts in which recordings are listened to; those in `EXCERPTS` if not given, and for
            other embeddings whole recordings.
        music: Whether the traits of music are measured, and copies are looked for by what a listener notices.
        asked: What each generated recording was asked to be, by question, such as {"digit": "7"}.
        labels: What each reference recording is, likewise.
        draws: Random draws for floor and chance.
        seed: Of these draws.

    Raises:
        UsageError: the embedding is unknown, the excerpts have no length, or `asked` or `labels` do not fit the
            recordings or the classes.
        HissError: a set has fewer than four recordings, or one without samples.
    """
    if embedding is None:
        embedding = usual(labels, music=music)
    listen = find(embedding) if isinstance(embedding, str) else embedding
    if excerpt is None and isinstance(embedding, str):
        excerpt = EXCERPTS.get(embedding)
    if excerpt is not None and not 0 < excerpt < math.inf:
        raise UsageError(f"an excerpt lasts a positive number of seconds, not {excerpt}")
    recordings = {"generated": generated, "reference": reference} | ({} if train is None else {"train": train})
    for name, clips in recordings.items():
        if len(clips) < 4:
            raise HissError(f"the {name} set has {len(clips)} recordings; an evaluation needs at least 4")
        if empty := [index for index, clip in enumerate(clips) if not clip.seconds]:
            raise HissError(f"recording {empty[0]} of the {name} set has no samples; leave it out")
    sets = {name: _Set.of(clips, excerpt, listen) for name, clips in recordings.items()}
    ours, real = sets["generated"], sets["reference"]
    wanted, right = ours.told(asked, "generated"), real.told(labels, "reference")
    shares = {name: _shares(ours.heard.probabilities[name], classes) for name, classes in ours.heard.classes.items()}
    neighbours = {}
    if train is not None:
        for name in ("generated", "reference"):
            neighbours[name] = _neighbours(sets[name], sets["train"], train if music else None)
    return GenerationReport(
        clips={name: len(clips) for name, clips in recordings.items()},
        excerpts={name: len(one.owners) for name, one in sets.items()},
        listener=Listener.of(listen, excerpt),
        figures=_figures(ours.heard, real.heard.embeddings),
        floor=_floor(sets, draws, seed),
        chance=_chance(sets, draws, seed),
        accuracy={} if asked is None else ours.heard.accuracy(wanted),
        class_accuracy={} if asked is None else _as_asked(ours.heard, wanted),
        reference_accuracy={} if labels is None else real.heard.accuracy(right),
        shares=shares,
        effective_classes={
            name: entropy(torch.tensor(list(values.values()))).exp().item() for name, values in shares.items()
        },
        neighbours=neighbours,
        levels={name: _levels(recordings[name]) for name in ("generated", "reference")},
        traits={name: _traits(recordings[name]) for name in ("generated", "reference")} if music else {},
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


def _floor(sets: Mapping[str, _Set], draws: int, seed: int) -> dict[str, Spread]:
    """Returns the figures of real recordings in place of the generated ones."""
    ours, reference = sets["generated"], sets["reference"].heard
    source = sets.get("train", sets["reference"])
    if "train" in sets and len(ours.groups) >= len(source.groups) and ours.each >= source.each:
        draws = 1  # there is only one way to draw them all

    def figures(generator: torch.Generator) -> dict[str, float]:
        order = torch.randperm(len(source.groups), generator=generator)
        if "train" in sets:
            return _figures(
                source.heard.take(_rows(source.groups, order[: len(ours.groups)], ours.each, generator)),
                reference.embeddings,
            )
        one, two = order.tensor_split(2)
        known = torch.cat([source.groups[item] for item in two.tolist()])
        return _figures(reference.take(_rows(source.groups, one, ours.each, generator)), reference.embeddings[known])

    return _spreads(draws, seed, figures)


def _chance(sets: Mapping[str, _Set], draws: int, seed: int) -> dict[str, Spread]:
    """Returns FAD and KAD between two random draws from all real recordings."""
    ours, reference = sets["generated"], sets["reference"]
    sources = [sets[name] for name in ("reference", "train") if name in sets]
    pool = torch.cat([source.heard.embeddings for source in sources])
    counts = [len(group) for source in sources for group in source.groups]
    groups = torch.arange(len(pool)).split(counts)
    sizes = len(ours.groups), len(reference.groups)
    scale = min(1.0, len(groups) / sum(sizes))
    one, two = (max(2, int(size * scale)) for size in sizes)
    two = min(two, len(groups) - 2)
    one = min(one, len(groups) - two)

    def figures(generator: torch.Generator) -> dict[str, float]:
        order = torch.randperm(len(groups), generator=generator)
        first = pool[_rows(groups, order[:one], ours.each, generator)]
        second = pool[_rows(groups, order[one : one + two], reference.each, generator)]
        return {"fad": frechet(first, second), "kad": kernel(first, second)}

    return _spreads(draws, seed, figures)


def _rows(groups: Sequence[Tensor], recordings: Tensor, each: int, generator: torch.Generator) -> Tensor:
    """Returns of each of some recordings `each` excerpts in a row, or all if it has no more, starting anywhere."""
    rows = []
    for group in (groups[recording] for recording in recordings.tolist()):
        spare = len(group) - each
        start = int(torch.randint(spare + 1, (), generator=generator)) if spare > 0 else 0
        rows.append(group[start : start + each])
    return torch.cat(rows)


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


def _neighbours(clips: _Set, train: _Set, music: Sequence[Audio] | None) -> Neighbours:
    """Returns how near the excerpts of recordings are to those of the training set.

    By embedding, and by waveform or, where `music` is what `train` is excerpts of, by what a listener to that notices.
    """
    distances, indices = nearest(clips.heard.embeddings, train.heard.embeddings, count=CANDIDATES)
    if music is None:
        correlations, items = _by_waveform(clips.excerpts, train.excerpts, indices)
        found = [train.owners[item] for item in items]
    else:
        values, recordings = likeness(clips.excerpts, music)
        correlations, found = values.tolist(), recordings.tolist()
    highest = sorted(range(len(correlations)), key=lambda excerpt: -correlations[excerpt])[:5]
    closest = tuple((clips.owners[excerpt], found[excerpt], correlations[excerpt]) for excerpt in highest)
    return Neighbours(Spread.of(distances[:, 0]), Spread.of(correlations), closest)


def _by_waveform(clips: Sequence[Audio], train: Sequence[Audio], candidates: Tensor) -> tuple[list[float], list[int]]:
    """Returns the largest correlation of each clip with one of its `candidates` [clips, count], and with which."""
    correlations, items = [], []
    for clip, some in zip(clips, candidates.tolist(), strict=True):
        rate = train[some[0]].sample_rate
        query = waveforms([clip], sample_rate=rate)
        best = correlation(query, waveforms([train[item] for item in some], sample_rate=rate)).max(dim=0)
        correlations.append(best.values.item())
        items.append(some[int(best.indices)])
    return correlations, items


def _traits(clips: Sequence[Audio]) -> dict[str, Spread]:
    """Returns what a listener to music notices of recordings."""
    return {name: Spread.of([measure(clip) for clip in clips]) for name, measure in TRAITS.items()}


def _levels(clips: Sequence[Audio]) -> Levels:
    peaks, rms = (torch.tensor(values) for values in ([clip.peak for clip in clips], [clip.rms for clip in clips]))
    return Levels(
        rms=Spread.of(20 * rms.clamp(min=1e-6).log10()),
        peak=Spread.of(20 * peaks.clamp(min=1e-6).log10()),
        clipped=(peaks >= 32767 / 32768).double().mean().item(),
        silent=(peaks < 1e-4).double().mean().item(),
    )
