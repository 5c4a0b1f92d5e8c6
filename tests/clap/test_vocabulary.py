"""The vocabulary: learned from captions, given by its merges, equal to GPT-2's, and aware of what it has not seen."""

import sys

import pytest

from hiss.clap.towers import transformers_package
from hiss.clap.vocabulary import Tokenizer, Vocabulary, learn, words
from hiss.errors import HissError, MissingPackageError, UsageError

CAPTIONS = ["a flute holds a low C", "A guitar plays a low C sharp", "a hi-hat, closed"] * 3


def test_a_learned_vocabulary_reads_each_of_its_words_as_one_token() -> None:
    vocabulary = learn(CAPTIONS, size=400)
    assert vocabulary.size <= 400
    assert vocabulary.words == tuple(
        sorted({"a", "flute", "holds", "low", "c", "guitar", "plays", "sharp"} | {"hi-hat", "closed"})
    )
    assert len(Tokenizer(vocabulary).encode("a guitar holds a low c")) == 6


def test_every_text_has_tokens_below_the_end() -> None:
    vocabulary = learn(CAPTIONS, size=300)
    tokenizer = Tokenizer(vocabulary)
    for text in ("гитара", "吉他", "🎸🎶", "\x00\n", "a" * 5000):
        tokens = tokenizer.encode(text)
        assert tokens
        assert all(0 <= token < vocabulary.end for token in tokens)
    assert tokenizer.encode("") == []


def test_capitals_make_a_difference_only_where_they_shall() -> None:
    small, both = learn(CAPTIONS, size=300), learn(CAPTIONS, size=300, lowercase=False)
    assert Tokenizer(small).encode("Low C") == Tokenizer(small).encode("low c")
    assert Tokenizer(both).encode("Low C") != Tokenizer(both).encode("low c")


def test_a_vocabulary_survives_its_configuration() -> None:
    vocabulary = learn(CAPTIONS, size=350)
    again = Vocabulary.from_dict(vocabulary.to_dict())
    assert again == vocabulary
    assert Tokenizer(again).encode(CAPTIONS[1]) == Tokenizer(vocabulary).encode(CAPTIONS[1])


def test_bytes_are_numbered_as_in_the_released_gpt_2() -> None:
    tokenizer = Tokenizer(Vocabulary(lowercase=False))
    # GPT-2 begins its list with the printable signs from ! on; the space follows behind all of these.
    assert tokenizer.encode("!AB") == [220, 0, 32, 33]


def test_new_words_are_named_with_those_that_look_like_them() -> None:
    vocabulary = learn(CAPTIONS, size=300)
    assert vocabulary.new("a flute, low!") == {}
    assert vocabulary.new("a gitar and a 🎸, a gitar") == {"gitar": ["guitar"], "and": [], "🎸": []}
    assert Vocabulary().new("anything") == {}


def test_words_are_small_and_without_signs() -> None:
    assert words("  A hi-hat, (closed) — 808! ＯＨ") == ["a", "hi-hat", "closed", "808", "oh"]
    assert words(" … !") == []


def test_a_vocabulary_without_captions_or_without_room_is_refused() -> None:
    with pytest.raises(UsageError, match="no caption with a word"):
        learn(["", " ! "], size=300)
    with pytest.raises(UsageError, match="at least 257 tokens"):
        learn(CAPTIONS, size=200)


def test_damaged_merges_are_refused() -> None:
    with pytest.raises(HissError, match="merges of the vocabulary are damaged"):
        Tokenizer(Vocabulary(merges=("Ġ xy",)))


def test_what_is_not_installed_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("tokenizers", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"text needs tokenizers .*pip install 'hiss\[text\]'"):
        Tokenizer(Vocabulary())
    with pytest.raises(MissingPackageError, match=r"CLAP needs transformers .*pip install 'hiss\[text\]'"):
        transformers_package()
