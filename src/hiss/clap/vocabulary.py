"""Text as tokens: a byte-level byte-pair encoding given by its merges alone, and the words that it was learned from."""

import json
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from hiss.errors import HissError, MissingPackageError, UsageError
from hiss.spec import Spec

if TYPE_CHECKING:
    import types

    import tokenizers

_SIGNS = string.punctuation + "…“”„‘’«»–—¡¿、。！？"


@dataclass(frozen=True)
class Vocabulary(Spec):
    """What a text is cut into: single bytes, the merges of them, and a token for the end.

    Token k is byte k in the order of GPT-2 (k < 256), then merge k - 256, then the end: so the merges of the released
    GPT-2 give its own numbers.
    Source: Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.2.
    """

    merges: tuple[str, ...] = ()
    """Pairs of symbols that become one token, in the order they were learned, such as "Ġ a"; Ġ is a space."""
    words: tuple[str, ...] = ()
    """The words of the captions, in order; any other is new to the model. Empty where they are not known."""
    lowercase: bool = True
    """Whether capitals are read as small letters."""

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return 257 + len(self.merges)

    @property
    def end(self) -> int:
        """The number of the last token, the end of a text."""
        return self.size - 1

    def new(self, text: str) -> dict[str, list[str]]:
        """Returns the words of a text that no caption held, each with those of the captions that look like it."""
        if not self.words:
            return {}
        known = set(self.words)
        unknown = dict.fromkeys(word for word in words(text) if word not in known)
        return {word: get_close_matches(word, self.words, n=2, cutoff=0.7) for word in unknown}


class Tokenizer:
    """Cuts texts into the tokens of a vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Keeps the vocabulary.

        Raises:
            HissError: the package tokenizers is missing, or the merges do not build on each other.
        """
        from_package = _package()
        pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in vocabulary.merges)]
        symbols = [*_bytes(), *(first + second for first, second in pairs)]
        try:
            model = from_package.models.BPE({symbol: token for token, symbol in enumerate(symbols)}, pairs)
        except Exception as error:  # tokenizers raises nothing more specific
            raise HissError(f"the merges of the vocabulary are damaged: {error}") from error
        self._tokenizer = _around(model, lowercase=vocabulary.lowercase)

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, without the end."""
        tokens: list[int] = self._tokenizer.encode(text).ids
        return tokens


def learn(captions: Iterable[str], *, size: int, lowercase: bool = True) -> Vocabulary:
    """Returns a vocabulary of at most `size` tokens, learned from captions: the most frequent pairs are merged.

    Source: Sennrich et al. 2016, "Neural machine translation of rare words with subword units", section 3.2.

    Raises:
        UsageError: `size` leaves no room for the 256 bytes and the end, or no caption has a word.
        HissError: the package tokenizers is missing.
    """
    texts = list(captions)
    known = sorted({word for text in texts for word in words(text)})
    if size < 257:
        raise UsageError(f"a vocabulary needs at least 257 tokens, one for each byte and the end, not {size}")
    if not known:
        raise UsageError("a vocabulary is learned from captions, and there is no caption with a word in it")
    trainer = _package().trainers.BpeTrainer(
        vocab_size=size - 1, min_frequency=2, initial_alphabet=_bytes(), show_progress=False
    )
    tokenizer = _around(_package().models.BPE(), lowercase=lowercase)
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return Vocabulary(tuple(" ".join(pair) for pair in merges), tuple(known), lowercase)


def tokenizer_from(text: str) -> "tokenizers.Tokenizer":
    """Returns the tokenizer that the package tokenizers wrote as JSON.

    Raises:
        HissError: the package is missing, or the text is damaged.
    """
    package = _package()
    try:
        tokenizer: tokenizers.Tokenizer = package.Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises nothing more specific
        raise HissError(f"the tokenizer is damaged: {error}") from error
    return tokenizer


def words(text: str) -> list[str]:
    """Returns the words of a text in small letters, without the signs around them; an emoji is a word, too."""
    parts = unicodedata.normalize("NFKC", text).lower().split()
    return [word for part in parts if (word := part.strip(_SIGNS))]


def _bytes() -> list[str]:
    """Returns the letter that stands for each byte, in the order of GPT-2."""
    return sorted(_package().pre_tokenizers.ByteLevel.alphabet())


def _around(model: "tokenizers.models.Model", *, lowercase: bool) -> "tokenizers.Tokenizer":
    """Returns a tokenizer that reads the first word of a text like any other, as if a space stood before it."""
    package = _package()
    tokenizer: tokenizers.Tokenizer = package.Tokenizer(model)
    small = [package.normalizers.Lowercase()] if lowercase else []
    tokenizer.normalizer = package.normalizers.Sequence([package.normalizers.NFKC(), *small])
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def _package() -> "types.ModuleType":
    try:
        import tokenizers
    except ImportError as error:
        raise MissingPackageError(
            f"text needs tokenizers ({error}); install it with: pip install 'hiss[text]'"
        ) from error
    return tokenizers
