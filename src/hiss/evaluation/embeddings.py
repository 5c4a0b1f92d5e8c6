"""What listens to recordings for the distances between sets of them: an open family, `EMBEDDINGS`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from hiss.audio import Audio
from hiss.errors import UsageError, unknown
from hiss.evaluation import music as heard
from hiss.evaluation.judge import Judge
from hiss.signal.mel import log_mel


@dataclass(frozen=True)
class Heard:
    """What was made out of some recordings."""

    embeddings: Tensor
    """[clips, features]."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the classes by question; none where the embedding knows of no classes."""
    probabilities: Mapping[str, Tensor] = field(default_factory=dict)
    """[clips, classes] by question."""

    def take(self, items: Tensor | Sequence[int]) -> "Heard":
        """Returns what was made out of some of the recordings."""
        probabilities = {question: values[items] for question, values in self.probabilities.items()}
        return Heard(self.embeddings[items], self.classes, probabilities)

    def accuracy(self, labels: Sequence[Mapping[str, str]]) -> dict[str, float]:
        """Returns the share of recordings heard as `labels` name them, by question; {"digit": "7"} labels one.

        Raises:
            UsageError: there are not as many labels as recordings, or a label is no class of its question.
        """
        if len(labels) != len(self.embeddings):
            raise UsageError(f"{len(labels)} labels came for {len(self.embeddings)} recordings; give one for each")
        result = {}
        for question, classes in self.classes.items():
            right = []
            for named, label in zip(self.probabilities[question].argmax(dim=-1).tolist(), labels, strict=True):
                if question in label:
                    if label[question] not in classes:
                        raise unknown(question, label[question], classes)
                    right.append(classes[named] == label[question])
            if right:
                result[question] = sum(right) / len(right)
        return result


Embedding = Callable[[Sequence[Audio]], Heard]
"""Listens to recordings of any length, sample rate and number of channels."""


def judged(judge: Judge, *, batch: int = 64) -> Embedding:
    """Returns the embedding that asks `judge`, `batch` clips at a time."""

    def listen(clips: Sequence[Audio]) -> Heard:
        parts = [clips[start : start + batch] for start in range(0, len(clips), batch)]
        rate = judge.config.sample_rate
        embeddings = torch.cat([judge.embed(waveforms(part, sample_rate=rate)) for part in parts])
        probabilities = {name: logits.softmax(dim=-1) for name, logits in judge.logits(embeddings).items()}
        return Heard(embeddings, judge.config.heads, probabilities)

    return listen


def digits(clips: Sequence[Audio]) -> Heard:
    """Returns what the judge of spoken digits that comes with the package makes of `clips`."""
    return judged(Judge.from_pretrained("digits"))(clips)


def sounds(clips: Sequence[Audio]) -> Heard:
    """Returns what the judge of instruments that comes with the package makes of `clips`."""
    return judged(Judge.from_pretrained("sounds"))(clips)


def logmel(clips: Sequence[Audio]) -> Heard:
    """Returns statistics of log-mel bands [clips, 192]: an embedding without weights, for any kind of sound.

    For each of 64 bands from 0 to 16 kHz: mean, standard deviation and mean absolute change over time, of the recording
    as mono at 32 kHz and at an RMS of 1, so that the level makes no difference.
    """
    rows = []
    for clip in clips:
        audio = clip.mono().resample(32000).samples[0]
        audio = audio / audio.square().mean().sqrt().clamp(min=1e-7)
        mel = log_mel(audio, sample_rate=32000, n_fft=1024, hop=512, bins=64, floor=1e-3)
        change = mel.diff(dim=-1).abs().mean(dim=-1)
        rows.append(torch.cat([mel.mean(dim=-1), mel.std(dim=-1, correction=0), change]))
    return Heard(torch.stack(rows))


def music(clips: Sequence[Audio]) -> Heard:
    """Returns what the judge of instruments, pitches and ensembles that comes with the package makes of `clips`.

    Embeddings have a length of 1: how sure the judge is of itself says little, and it differs much from clip to clip.
    """
    found = judged(Judge.from_pretrained("music"))(clips)
    return replace(found, embeddings=functional.normalize(found.embeddings, dim=-1))


def tonal(clips: Sequence[Audio]) -> Heard:
    """Returns sound colour, harmony and pace [clips, 77]: an embedding of music without weights.

    Mean and standard deviation over time of 32 log-mel bands, at an RMS of 1; how loud the twelve pitch classes are,
    from the loudest one upwards, so that the key makes no difference; and the logarithm of the number of onsets in a
    second. The last two are multiplied so that all parts vary about as much from excerpt to excerpt of real music.
    """
    rows = []
    for clip in clips:
        mel = heard.colour(clip)
        pace = math.log1p(heard.onsets(clip))
        parts = [mel.mean(dim=-1), mel.std(dim=-1, correction=0), 20 * heard.chroma(clip), torch.tensor([3 * pace])]
        rows.append(torch.cat(parts))
    return Heard(torch.stack(rows))


EMBEDDINGS: dict[str, Embedding] = {
    "digits": digits,
    "logmel": logmel,
    "music": music,
    "sounds": sounds,
    "tonal": tonal,
}
"""By name; a further embedding is a function and a line here."""

EXCERPTS = {"music": 3.0, "tonal": 3.0}
"""Seconds of the excerpts in which an embedding listens to a recording; the others listen to all of it at once."""


def find(name: str) -> Embedding:
    """Returns an embedding by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in EMBEDDINGS:
        raise unknown("embedding", name, EMBEDDINGS)
    return EMBEDDINGS[name]


def questions(name: str) -> Mapping[str, tuple[str, ...]]:
    """Returns the classes that an embedding tells apart, by question; none where it knows of no classes."""
    return find(name)([Audio(torch.zeros(1), 8000)]).classes  # it says so of any recording


def waveforms(clips: Sequence[Audio], *, sample_rate: int) -> Tensor:
    """Returns the recordings as mono [clips, samples] at `sample_rate` Hz, followed by silence up to the longest."""
    mono = [clip.mono().resample(sample_rate).samples[0] for clip in clips]
    longest = max(len(audio) for audio in mono)
    return torch.stack([functional.pad(audio, (0, longest - len(audio))) for audio in mono])
