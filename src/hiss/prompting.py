"""What a prompt, as a user writes it, means to the conditioners of a model."""

import math
from collections.abc import Iterable, Mapping, Sequence

from hiss.conditioners import Conditioner
from hiss.conditioners.label import Label
from hiss.conditioners.timing import Timing
from hiss.errors import UsageError, unknown
from hiss.noise import seeded
from hiss.types import Prompt

Ask = str | int | Mapping[str, object] | Prompt
"""A prompt as a user writes it: "7", 7, "7 theo", {"digit": 7}, a text for models that read text, or {"text": "rain",
"start": 0, "total": 30} with times for models that know them."""

_TIMES = ("start", "total")
"""Seconds, as `Prompt` has them."""

Classes = dict[str, tuple[str, ...]]
"""Those that may be named, by label field."""


def classes(conditioners: Iterable[Conditioner]) -> dict[str, tuple[str, ...]]:
    """Returns the classes that a prompt may name, by label field."""
    return {part.config.field: part.config.classes for part in conditioners if isinstance(part, Label)}


def understood(asked: Ask | None, conditioners: Sequence[Conditioner]) -> Prompt:
    """Returns the prompt that is meant: a text where a conditioner reads, else names of classes.

    A mapping may hold both, the text under "text", and times where they are known. Warns of words that are not.

    Raises:
        UsageError: there is no such label, one is named twice, a time is no number, or no prompt at all is taken.
    """
    labels, reads = classes(conditioners), any(conditioner.reads for conditioner in conditioners)
    timed = any(isinstance(conditioner, Timing) for conditioner in conditioners)
    if asked is None or isinstance(asked, Prompt):
        prompt = asked or Prompt()
    elif not labels and not reads and not timed:
        raise UsageError("this model takes no prompt; leave it out")
    elif isinstance(asked, Mapping):
        prompt = _chosen({field: str(value) for field, value in asked.items()}, labels, reads=reads, timed=timed)
    elif reads:
        prompt = Prompt(text=str(asked).strip() or None)
    else:
        prompt = _chosen(_named(str(asked).split(), labels), labels, reads=reads, timed=timed)
    for conditioner in conditioners:
        conditioner.check(prompt)
    return prompt


def completed(prompt: Prompt, conditioners: Iterable[Conditioner], *key: int) -> Prompt:
    """Returns the prompt with its open labels drawn by `key`, such as (seed, item), where a conditioner wants that."""
    for number, conditioner in enumerate(conditioners):
        prompt = conditioner.complete(prompt, seeded("prompt", number, *key))
    return prompt


def _chosen(given: dict[str, str], labels: Classes, *, reads: bool, timed: bool) -> Prompt:
    """Returns the prompt of a text, where it is read, of times, where they are known, and of classes by field."""
    text = given.pop("text").strip() if reads and "text" in given else ""
    start, total = (_seconds(time, given.pop(time, None)) if timed else None for time in _TIMES)
    for field, value in given.items():
        if field not in labels:
            raise unknown("label", field, [*labels, *(["text"] if reads else []), *(_TIMES if timed else [])])
        if value not in labels[field]:
            raise unknown(field, value, labels[field])
    return Prompt(text=text or None, labels=given, start=start, total=total)


def _seconds(time: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise UsageError(f"{time} is a time in seconds, 0 or more, not {value!r}")
    return seconds


def _named(words: Sequence[str], labels: Classes) -> dict[str, str]:
    """Returns the classes by field that words name one after the other; a class may have several words.

    Raises:
        UsageError: there is no such class, or one field is named twice.
    """
    fields = {name: field for field, names in reversed(labels.items()) for name in names}
    named: dict[str, str] = {}
    while words:
        longest = next((end for end in range(len(words), 0, -1) if " ".join(words[:end]) in fields), None)
        if longest is None:
            raise unknown("label", words[0], fields)
        name, words = " ".join(words[:longest]), words[longest:]
        if (field := fields[name]) in named:
            raise UsageError(f"{named[field]!r} and {name!r} both name the {field}; leave one of them out")
        named[field] = name
    return named
