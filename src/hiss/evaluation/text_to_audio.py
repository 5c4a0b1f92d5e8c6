"""How well recordings follow their captions: a CLAP, a judge, and what is measured of pitch, tempo and loudness."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.clap import Clap
from hiss.errors import UsageError
from hiss.evaluation.adherence import Said, concordance, harmonic, melodic, onset_rate, plays, said
from hiss.evaluation.embeddings import Embedding, waveforms
from hiss.evaluation.generation import GenerationReport, evaluate_generation
from hiss.noise import seeded

INDEPENDENT = Path(__file__).parent / "clap"
"""The folder of a CLAP of instruments and other sounds that no bundled model was trained with."""


@dataclass(frozen=True)
class Captioned:
    """A recording and what it is meant to be."""

    audio: Audio
    caption: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Classes by question of the judge, such as {"family": "brass"}."""
    kind: str = ""
    """What kind of prompt the caption is, such as "chord"; the figures are also given by kind."""


@dataclass(frozen=True)
class Figure:
    """One figure of the generated recordings and, to compare it with, of others."""

    generated: float
    real: float | None
    """Of the real recordings with their own captions: how far the figure can be trusted."""
    shuffled: float | None
    """Of the generated recordings with each other's captions: what is reached without following any."""


@dataclass(frozen=True)
class TextReport:
    """What `evaluate_text` found."""

    figures: Mapping[str, Figure]
    """"clap": mean cosine of text and recording; questions of the judge, such as "family": share heard as meant;
    "pitch": share in which the named notes are heard; "tempo" and "loudness": share of the pairs of recordings that are
    ordered as their captions are, by onset rate and by peak level (chance: 0.5). What no caption speaks of is left
    out."""
    by_kind: Mapping[str, Mapping[str, Figure]]
    """The same for each kind of prompt."""
    diversity: float | None
    """Mean distance of recordings of one caption over that of recordings of different captions, by embedding: 0 where
    a caption always sounds the same. None where no caption has several recordings."""
    generation: GenerationReport
    """The generated recordings as a set, captions aside: FAD, KAD, levels, copies."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)


def evaluate_text(
    generated: Sequence[Captioned],
    real: Sequence[Captioned],
    *,
    embedding: Embedding,
    clap: Clap | None = None,
    train: Sequence[Audio] | None = None,
    draws: int = 20,
    seed: int = 0,
) -> TextReport:
    """Returns how well `generated` follows its captions, beside real recordings and beside swapped captions.

    Args:
        generated: recordings in question, several of a caption for the diversity.
        real: real recordings with captions of the same kinds, which no generator was trained on.
        embedding: an independent listener, such as a judge.
        clap: another one, which did not condition the generator; without it there is no CLAP score.
        train: real recordings that the generator was trained on, for the floor of the distances and for copies.
        draws: random draws for that floor.
        seed: of these, and of the swapped captions.

    Raises:
        HissError: there are fewer than four recordings of either sort.
        UsageError: a recording has no caption.
    """
    for name, given in (("generated", generated), ("real", real)):
        if bare := sum(not clip.caption.strip() for clip in given):
            raise UsageError(f"{bare} of {len(given)} {name} recordings have no caption; put a .txt beside each")
    ours, theirs = [clip.audio for clip in generated], [clip.audio for clip in real]
    generation = evaluate_generation(
        ours,
        theirs,
        train=train,
        embedding=embedding,
        asked=[clip.labels for clip in generated],
        labels=[clip.labels for clip in real],
        draws=draws,
        seed=seed,
    )
    heard = {"generated": _listen(ours, embedding, clap), "real": _listen(theirs, embedding, clap)}
    heard["shuffled"] = heard["generated"]
    clips: dict[str, Sequence[Captioned]] = {
        "generated": generated,
        "real": real,
        "shuffled": _swapped(generated, seed),
    }
    scores = {sort: _scores(heard[sort], clips[sort], clap) for sort in clips}

    def figures(kind: str | None) -> dict[str, Figure]:
        means = {}
        for sort, (rows, said_of) in scores.items():
            items = [item for item, clip in enumerate(clips[sort]) if kind in (None, clip.kind)]
            means[sort] = _means(rows, items) | _concordances(said_of, heard[sort], items)
        return {
            name: Figure(value, means["real"].get(name), means["shuffled"].get(name))
            for name, value in means["generated"].items()
        }

    kinds = sorted({clip.kind for clip in generated if clip.kind})
    vectors = heard["generated"].embeddings
    return TextReport(
        figures=figures(None),
        by_kind={kind: figures(kind) for kind in kinds},
        diversity=_diversity(vectors, [clip.caption for clip in generated]),
        generation=generation,
    )


@dataclass(frozen=True)
class _Heard:
    """What was heard in recordings, whatever their captions."""

    embeddings: Tensor
    named: Mapping[str, Sequence[str]]
    """The most probable class of each, by question of the judge."""
    vectors: Tensor | None
    """CLAP's [clips, features]; None without a CLAP."""
    melodic: Sequence[Tensor]
    harmonic: Sequence[Tensor]
    onset_rates: Sequence[float]
    peaks: Sequence[float]


def _listen(clips: Sequence[Audio], embedding: Embedding, clap: Clap | None) -> _Heard:
    judged = embedding(clips)
    vectors = None
    if clap is not None:
        rate = clap.config.audio.sample_rate
        with torch.no_grad():
            vectors = torch.cat([clap.embed_audio(waveforms([clip], sample_rate=rate)) for clip in clips])
    return _Heard(
        embeddings=judged.embeddings,
        named={
            question: [classes[row] for row in judged.probabilities[question].argmax(dim=-1).tolist()]
            for question, classes in judged.classes.items()
        },
        vectors=vectors,
        melodic=[melodic(clip) for clip in clips],
        harmonic=[harmonic(clip) for clip in clips],
        onset_rates=[onset_rate(clip) for clip in clips],
        peaks=[clip.peak for clip in clips],
    )


def _swapped(clips: Sequence[Captioned], seed: int) -> list[Captioned]:
    """Returns the recordings with each other's captions, labels and kinds: none has its own, if that can be."""
    order = torch.randperm(len(clips), generator=seeded(seed, "captions")).tolist()
    # Sorted by caption, half a turn leads to another caption unless more than half of them are the same.
    by_caption = sorted(order, key=lambda item: clips[item].caption)
    turned = by_caption[len(clips) // 2 :] + by_caption[: len(clips) // 2]
    given = dict(zip(by_caption, turned, strict=True))
    return [replace(clips[given[item]], audio=clip.audio) for item, clip in enumerate(clips)]


Scores = dict[str, list[float | None]]
"""A value of each recording by figure; None where its caption says nothing of that."""


def _scores(heard: _Heard, clips: Sequence[Captioned], clap: Clap | None) -> tuple[Scores, list[Said]]:
    """Returns how well each recording follows its caption, and what the captions say."""
    captions = [clip.caption for clip in clips]
    meanings = [said(caption) for caption in captions]
    scores: Scores = {}
    if clap is not None and heard.vectors is not None:
        with torch.no_grad():
            read = torch.cat([clap.embed_texts([caption]) for caption in captions])
        scores["clap"] = list((read * heard.vectors).sum(dim=-1).tolist())
    for question, named in heard.named.items():
        meant = [clip.labels.get(question) for clip in clips]
        scores[question] = [None if one is None else float(one == name) for one, name in zip(meant, named, strict=True)]
    scores["pitch"] = [
        float(plays(one.notes, one.among, harmony if one.chord else melody)) if one.notes else None
        for one, melody, harmony in zip(meanings, heard.melodic, heard.harmonic, strict=True)
    ]
    return scores, meanings


def _means(scores: Scores, items: Sequence[int]) -> dict[str, float]:
    """Returns the mean of each figure over some recordings, where any has a value."""
    kept = {name: [value for item in items if (value := values[item]) is not None] for name, values in scores.items()}
    return {name: sum(values) / len(values) for name, values in kept.items() if values}


def _concordances(meanings: Sequence[Said], heard: _Heard, items: Sequence[int]) -> dict[str, float]:
    """Returns how well some recordings are ordered by tempo and loudness, where their captions speak of these."""
    tempo = concordance([meanings[item].tempo for item in items], [heard.onset_rates[item] for item in items])
    loudness = concordance([meanings[item].loudness for item in items], [heard.peaks[item] for item in items])
    return {name: value for name, value in (("tempo", tempo), ("loudness", loudness)) if value is not None}


def _diversity(embeddings: Tensor, captions: Sequence[str]) -> float | None:
    numbers = {caption: number for number, caption in enumerate(captions)}
    which = torch.tensor([numbers[caption] for caption in captions])
    same = (which[:, None] == which).fill_diagonal_(False)
    other = which[:, None] != which
    if not same.any() or not other.any():
        return None
    distances = torch.cdist(embeddings.double(), embeddings.double())
    return float(distances[same].mean() / distances[other].mean())
