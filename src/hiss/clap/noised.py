"""A CLAP for what a diffusion model works on: it finds the words of a caption in a signal under any noise."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.clap.model import COLDEST, contrast
from hiss.clap.vocabulary import words
from hiss.diffusion.parameterizations import PARAMETERIZATIONS, expand
from hiss.errors import UsageError
from hiss.networks.layers import NoiseEmbedding, Resample, ResidualBlock, conv, group_norm
from hiss.noise import normal
from hiss.spec import Spec


@dataclass(frozen=True)
class NoisedClapConfig(Spec):
    """A tower that hears encoded signals, and a vector for each word."""

    shape: tuple[int, ...] = ()
    """Of what is heard, without its frames: channels, and for spectra bins. Taken from the representation."""
    words: tuple[str, ...] = ()
    """That have a vector, in order; taken from the captions."""
    rarest: int = 3
    """Captions that a word must be in to have one."""
    channels: tuple[int, ...] = (64, 96, 160)
    """Of the tower, level by level; from each to the next, space halves."""
    embedding: int = 64
    """Features of the noise embedding."""
    features: int = 192
    """Of the joint space."""
    dropout: float = 0.2
    """Of what the tower heard."""
    withheld: float = 0.15
    """The largest share of its words that a training caption loses."""

    def __post_init__(self) -> None:
        if not self.channels or self.rarest < 1:
            raise UsageError("a noised CLAP needs a level of channels, and rarest of 1 or more")
        if not 0 <= self.dropout < 1 or not 0 <= self.withheld < 1:
            raise UsageError(f"dropout and withheld are shares from 0 to below 1, not {self.dropout}, {self.withheld}")


class NoisedClap(nn.Module):
    """Texts and noisy signals as vectors of one space; a text is the sum of its words.

    A CLAP that hears recordings cannot say whether half a sound is about to become a flute. One that learned to hear
    through noise can, at every step of a sampler, and its gradient says what would make it more of a flute.
    Source: Nichol et al. 2022, "GLIDE", section 2.4 (noised CLIP).
    """

    rarity: Tensor
    """[words]: the logarithm of one over the share of the captions that hold a word."""

    def __init__(self, config: NoisedClapConfig) -> None:
        super().__init__()
        if len(config.shape) not in (1, 2) or not config.words:
            raise UsageError("a noised CLAP is built for the shape of a representation and the words of captions")
        self.config = config
        inputs, *bins = config.shape
        dims, widths = 1 + len(bins), config.channels
        self.numbers = {word: number for number, word in enumerate(config.words)}
        self.words = nn.EmbeddingBag(len(config.words), config.features, mode="sum")
        self.register_buffer("rarity", torch.ones(len(config.words)))
        self.noise = NoiseEmbedding(config.embedding)
        self.enter = conv(dims, inputs + len(bins), widths[0])
        self.blocks = nn.ModuleList(ResidualBlock(dims, width, width, config.embedding) for width in widths)
        self.shrink = nn.ModuleList(Resample(*pair, (2,) * dims, "down") for pair in pairwise(widths))
        self.multiple = 2 ** (len(widths) - 1)
        rows = math.prod(-(-size // self.multiple) for size in bins)
        self.norm = group_norm(widths[-1])
        self.dropout = nn.Dropout(config.dropout)
        self.leave = nn.Linear(widths[-1] * rows, config.features)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.1)))

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns vectors of length 1, [batch, features]; 0 for a text without a word that has one."""
        return self._sums([self._known(text) for text in texts])

    def embed(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns vectors of length 1, [batch, features], of x = clean + sigma * noise, [batch, *shape, frames].

        `sigma` is [batch]. Any number of frames is heard; the vector is made of their mean.
        """
        scalings = PARAMETERIZATIONS["edm"](sigma)
        hidden = expand(scalings.scale, x) * x
        if len(self.config.shape) == 2:
            ramp = torch.linspace(-1, 1, x.shape[2], device=x.device)[:, None].expand(len(x), 1, -1, x.shape[3])
            hidden = torch.cat([hidden, ramp], dim=1)
        lacking = [-size % self.multiple for size in hidden.shape[2:]]
        hidden = self.enter(functional.pad(hidden, [n for lack in reversed(lacking) for n in (0, lack)]))
        embedding = self.noise(scalings.noise, None)
        for level, block in enumerate(self.blocks):
            if level:
                hidden = self.shrink[level - 1](hidden)
            hidden = block(hidden, embedding)
        heard = functional.silu(self.norm(hidden)).mean(dim=-1).flatten(1)
        return functional.normalize(self.leave(self.dropout(heard)), dim=-1)

    def compute_loss(
        self, clean: Tensor, sigma: Tensor, captions: Sequence[str], *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Returns the symmetric InfoNCE of a batch of signals [batch, *shape, frames] under noise, without dimension.

        Raises:
            UsageError: a signal has no caption.
        """
        if missing := sum(not caption for caption in captions):
            raise UsageError(f"CLAP learns from captions, and {missing} of {len(captions)} recordings have none")
        with torch.no_grad():
            self.log_temperature.clamp_(min=math.log(COLDEST), max=0.0)
        told = [self._known(caption) for caption in captions]
        if self.training:
            told = [_kept(numbers, self.config.withheld, generator) for numbers in told]
        heard = self.embed(clean + expand(sigma, clean) * normal(clean, generator), sigma)
        return contrast(self._sums(told) @ heard.T / self.log_temperature.exp(), captions)

    def _known(self, text: str) -> list[int]:
        """Returns the numbers of the words of a text that have a vector, each once."""
        return sorted({self.numbers[word] for word in words(text) if word in self.numbers})

    def _sums(self, told: Sequence[Sequence[int]]) -> Tensor:
        """Returns vectors of length 1 of texts, given by the numbers of their words."""
        device = self.rarity.device
        starts = torch.tensor([0, *accumulate(map(len, told))][:-1], device=device)
        numbers = torch.tensor([number for text in told for number in text], dtype=torch.long, device=device)
        sums = self.words(numbers, starts, per_sample_weights=self.rarity[numbers])
        return functional.normalize(sums, dim=-1)


def begin_noised(config: NoisedClapConfig, shape: tuple[int, ...], captions: Iterable[str]) -> NoisedClap:
    """Returns an untrained noised CLAP for signals of a shape, without their frames, and the words of these captions.

    Raises:
        UsageError: no word is in as many captions as `config.rarest` asks for.
    """
    texts = list(captions)
    counts = Counter(word for text in texts for word in set(words(text)))
    known = sorted(word for word, count in counts.items() if count >= config.rarest)
    if not known:
        raise UsageError(f"there is no word that {config.rarest} captions have in common")
    clap = NoisedClap(replace(config, shape=shape, words=tuple(known)))
    clap.rarity.copy_(torch.tensor([math.log(1 + len(texts) / counts[word]) for word in known]))
    return clap


def _kept(numbers: list[int], share: float, generator: torch.Generator | None) -> list[int]:
    """Returns words without some of them: each text loses a share between 0 and this, but never all."""
    lost = share * torch.rand(1, generator=generator)
    kept = (torch.rand(len(numbers), generator=generator) >= lost).tolist()
    return [number for number, keep in zip(numbers, kept, strict=True) if keep] or numbers
