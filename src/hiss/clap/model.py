"""CLAP: recordings and captions as vectors of one space, near to each other where they belong together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.clap.released import read_released
from hiss.clap.towers import AudioTower, AudioTowerConfig, Projection, TextTower, TextTowerConfig
from hiss.clap.vocabulary import learn
from hiss.errors import UsageError
from hiss.spec import Spec
from hiss.types import Batch

COLDEST = 0.01
"""The lowest temperature that is learned: below it, a batch says little about anything but its hardest pairs."""


@dataclass(frozen=True)
class ClapConfig(Spec):
    """Two towers and the space in which they meet."""

    audio: AudioTowerConfig = AudioTowerConfig()
    text: TextTowerConfig = TextTowerConfig()
    features: int = 256
    """Of the joint space; 1024 in the model known as CLAP 2023."""
    dropout: float = 0.2
    """In the projections."""
    temperature: float = 0.07
    """That training begins with; it is learned."""

    def __post_init__(self) -> None:
        if not COLDEST <= self.temperature <= 1:
            raise UsageError(f"the temperature must be from {COLDEST} to 1, not {self.temperature}")


class Reading(NamedTuple):
    """What was read of some texts."""

    vector: Tensor
    """[batch, features] of length 1: what each text says as a whole."""
    tokens: Tensor
    """[batch, tokens, width]: the states of GPT-2."""
    mask: Tensor
    """[batch, tokens]: True where a token is real."""


class Clap(nn.Module):
    """Contrastive language-audio pretraining.

    Source: Elizalde et al. 2023, "CLAP: learning audio concepts from natural language supervision".
    """

    def __init__(self, config: ClapConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioTower(config.audio)
        self.text = TextTower(config.text)
        self.audio_projection = Projection(config.audio.features, config.features, config.dropout)
        self.text_projection = Projection(config.text.width, config.features, config.dropout)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))

    def read(self, texts: Sequence[str]) -> Reading:
        """Returns what the texts say, as a whole and token by token."""
        states, mask = self.text(texts)
        last = states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
        return Reading(self.text_projection(last), states, mask)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns vectors of length 1, [batch, features]."""
        return self.read(texts).vector

    def embed_audio(self, audio: Tensor) -> Tensor:
        """Returns vectors of length 1, [batch, features], for audio [batch, samples] at the rate of the config.

        What is shorter than the tower hears at once is followed by silence. What is longer is heard in as few windows
        as possible, evenly spaced, and its vector has the direction of their mean.
        """
        size, samples = self.config.audio.samples, audio.shape[-1]
        audio = functional.pad(audio, (0, max(0, size - samples)))
        count = math.ceil(audio.shape[-1] / size)
        starts = [round(place * (audio.shape[-1] - size) / max(count - 1, 1)) for place in range(count)]
        windows = torch.cat([audio[:, start : start + size] for start in starts])
        vectors = self.audio_projection(self.audio(windows))
        return functional.normalize(vectors.unflatten(0, (count, -1)).mean(dim=0), dim=-1)

    def score(self, texts: Sequence[str], audio: Tensor) -> Tensor:
        """Returns how well each recording [batch, samples] fits its text: the cosine [batch], from -1 to 1."""
        return (self.embed_texts(texts) * self.embed_audio(audio)).sum(dim=-1)

    def compute_loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> Tensor:
        """Returns the symmetric InfoNCE of a batch, without dimension: each finds its partner among all of the batch.

        Recordings with the same caption are no wrong answers to each other, and are left out of each other's choice.
        Source: Radford et al. 2021, "Learning transferable visual models from natural language supervision", figure 3.

        Raises:
            UsageError: a recording has no caption, or the sample rate is not that of the config.
        """
        del generator
        captions = [prompt.text or "" for prompt in batch.prompts]
        if missing := captions.count(""):
            raise UsageError(f"CLAP learns from captions, and {missing} of {len(captions)} recordings have none")
        if batch.sample_rate != self.config.audio.sample_rate:
            raise UsageError(f"this CLAP hears {self.config.audio.sample_rate} Hz, not {batch.sample_rate} Hz")
        with torch.no_grad():
            self.log_temperature.clamp_(min=math.log(COLDEST), max=0.0)
        texts = self.embed_texts(captions)
        sounds = self.embed_audio(batch.audio.to(texts.device).mean(dim=1))
        return contrast(texts @ sounds.T / self.log_temperature.exp(), captions)


def contrast(likeness: Tensor, captions: Sequence[str]) -> Tensor:
    """Returns the mean cross-entropy of finding the sound to a text and the text to a sound, without dimension.

    Args:
        likeness: [texts, sounds] of one batch, in which text k belongs to sound k.
        captions: the texts; those that are equal are no wrong answers to each other.
    """
    numbers = {caption: number for number, caption in enumerate(captions)}
    which = torch.tensor([numbers[caption] for caption in captions], device=likeness.device)
    same = which[:, None] == which
    rivals = likeness.masked_fill(same.fill_diagonal_(False), -math.inf)
    right = torch.arange(len(captions), device=likeness.device)
    return (functional.cross_entropy(rivals, right) + functional.cross_entropy(rivals.T, right)) / 2


def begin(config: ClapConfig, captions: Iterable[str]) -> Clap:
    """Returns an untrained CLAP for recordings with these captions: it has learned their vocabulary.

    With `config.text.released`, GPT-2 has the weights, the sizes and the vocabulary that were released, and only
    the words of the captions are learned.

    Raises:
        UsageError: there is no caption, or the released model is no GPT-2.
        HissError: the released model, or a package, is missing.
    """
    text = config.text
    learned = learn(captions, size=text.tokens)
    if text.released is None:
        return Clap(replace(config, text=replace(text, vocabulary=learned)))
    text, weights = read_released(text, words=learned.words)
    clap = Clap(replace(config, text=text))
    clap.text.gpt2.load_state_dict(weights)
    return clap
