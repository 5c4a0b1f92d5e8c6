"""What a request to generate means to a model: lengths, recordings, spans, and what is refused."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hiss.audio import Audio, Level
from hiss.config import ModelConfig
from hiss.errors import UsageError
from hiss.model import Edit
from hiss.types import Watch

LONGEST = 86_400.0
"""Seconds that can be asked for at once: a day."""
MOST_SOUNDS = 100_000
"""Sounds of a prompt that can be asked for at once."""

STRENGTH = 0.5
"""How far a variation goes where nothing else is asked for."""

Span = tuple[float, float]
"""From and to, in seconds of a recording."""

CROSSFADE = 0.005
"""Seconds over which what is kept of a recording passes into what is made anew."""


def check(
    *,
    count: int | None,
    length: float | None,
    sample_rate: int | None,
    steps: int | None,
    temperature: float,
    guidance: float | None,
    strength: float,
    candidates: int | None,
    batch_size: int,
) -> None:
    """Refuses numbers out of range.

    Raises:
        UsageError: which one, and what it may be.
    """
    if count is not None and not 1 <= count <= MOST_SOUNDS:
        raise UsageError(f"count must be from 1 to {MOST_SOUNDS}, not {count}")
    if length is not None and not 0 < length <= LONGEST:
        raise UsageError(f"length must be above 0 and at most {LONGEST:.0f} seconds, not {length}")
    if sample_rate is not None and not 1 <= sample_rate <= 1_000_000:
        raise UsageError(f"sample_rate must be from 1 to 1000000 Hz, not {sample_rate}")
    if steps is not None and not 1 <= steps <= 10_000:
        raise UsageError(f"steps must be from 1 to 10000, not {steps}")
    if not 0 <= temperature <= 10:
        raise UsageError(f"temperature must be from 0 to 10, not {temperature}")
    if guidance is not None and not (math.isfinite(guidance) and abs(guidance) <= 1000):
        raise UsageError(f"guidance must be a number between -1000 and 1000, not {guidance}")
    if not 0 < strength <= 1:
        raise UsageError(f"strength must be above 0 and at most 1, not {strength}")
    if candidates is not None and not 1 <= candidates <= 100:
        raise UsageError(f"candidates must be from 1 to 100, not {candidates}")
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, not {batch_size}")


def samples_asked(config: ModelConfig, length: float | None, source: Audio | None, *, extend: bool) -> int:
    """Returns how many samples a model shall make: `length` seconds, else those of the recording, else its usual.

    `extend` means that the recording is to be continued, where left open by half of the usual length.

    Raises:
        UsageError: there would be nothing to add to it.
    """
    if length is None and source is None:
        return config.samples
    if length is None:
        assert source is not None
        length = source.seconds + (config.seconds / 2 if extend else 0)
    if extend and source is not None and length <= source.seconds:
        raise UsageError(f"length counts the whole: to continue {source.seconds:.2f} s ask for more than that")
    return max(1, round(length * config.sample_rate))


def edit_asked(
    config: ModelConfig,
    samples: int,
    *,
    init: Audio | None,
    strength: float,
    continue_from: Audio | None,
    inpaint: Audio | None,
    spans: Sequence[Span],
    loop: bool = False,
) -> Edit | None:
    """Returns what is made of the one recording that was given, in a result of so many samples; None without one.

    What is made anew fades into what is kept, in a `loop` also where its end meets its start.

    Raises:
        UsageError: there are several, or inpainting lacks its spans, or one lies outside, or there is a strength and
            nothing to vary.
    """
    source = init or continue_from or inpaint
    if sum(one is not None for one in (init, continue_from, inpaint)) > 1:
        raise UsageError("only one recording can be edited at a time: init, continue_from or inpaint")
    if (inpaint is None) != (not spans):
        raise UsageError("inpaint and span belong together: the recording, and the seconds of it to make anew")
    if init is None and strength != STRENGTH:
        raise UsageError("strength belongs to init, the recording to vary; leave it out without one")
    if source is None:
        return None
    fitted = source if source.channels == config.channels else source.mono().to_channels(config.channels)
    recording = fitted.resample(config.sample_rate).samples
    known = torch.zeros(1, config.channels, samples)
    shared = min(samples, recording.shape[1])
    known[..., :shared] = recording[:, :shared]
    if init is not None:
        return Edit(known, strength)
    if continue_from is not None:
        spans = [(continue_from.seconds, LONGEST)]
    else:
        seconds = min(source.seconds, samples / config.sample_rate)
        for start, end in spans:
            if not 0 <= start < end <= seconds + 1 / config.sample_rate:
                raise UsageError(f"span must lie within the {seconds:.2f} s of the recording, not {start}:{end}")
    keep = torch.stack([_kept(span, samples, config.sample_rate, loop=loop) for span in spans]).amin(dim=0)
    return Edit(known, keep=keep)


def _kept(span: Span, samples: int, rate: int, *, loop: bool) -> Tensor:
    """Returns how much of each of so many samples is kept, from 0 in the span to 1 outside."""
    position = torch.arange(samples) + 0.5
    first, behind = round(span[0] * rate), min(round(span[1] * rate), samples)
    outside = torch.maximum(first - position, position - behind)
    if loop:
        around = torch.minimum((first - position) % samples, (position - behind) % samples)
        outside = torch.where(outside > 0, around, outside)
    return (outside / (CROSSFADE * rate)).clamp(0, 1)


def spans_of(span: Span | Sequence[Span] | None) -> list[Span]:
    """Returns the spans that are meant: none, one, or several.

    Raises:
        UsageError: they are not pairs of numbers.
    """
    given: Any = [] if span is None else span
    try:
        several = [given] if given and all(isinstance(one, (int, float)) for one in given) else given
        return [(float(start), float(end)) for start, end in several]
    except (TypeError, ValueError) as error:
        raise UsageError(f"span is a pair of seconds, or several such pairs, not {span!r}") from error


def level_asked(normalize: Level | None, *, keeps: bool) -> Level:
    """Returns the level that sounds are brought to: `normalize`, or where that is left open "peak".

    It is "none" where they keep a part of a recording, which so stays as loud as it was.
    """
    return normalize or ("none" if keeps else "peak")


def overall(watch: Watch | None, first: int, here: int, count: int) -> Watch | None:
    """Returns a watch of a batch of `here` items that counts the steps of all `count`, `first` of them done before."""
    if watch is None:
        return None

    def counted(step: int, steps: int, estimate: Tensor) -> None:
        watch(first * steps + here * step, count * steps, estimate)

    return counted
