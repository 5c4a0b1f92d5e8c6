"""How well CLAP finds things: the share of captions whose recording is among the nearest, and the other way round."""

from collections.abc import Sequence

import torch
from torch import Tensor

NEAREST = (1, 5, 10)
"""Among how many of the nearest the right one is looked for."""


def recall(texts: Tensor, sounds: Tensor, captions: Sequence[str]) -> dict[str, float]:
    """Returns recall@1, @5 and @10 by "text to audio@1" ... "audio to text@10", each from 0 to 1.

    Source: Hodosh et al. 2013, "Framing image description as a ranking task", section 5.

    Args:
        texts: vectors [clips, features] of length 1.
        sounds: those of the recordings, in the same order.
        captions: the texts; every recording with an equal caption is right.
    """
    likeness = texts @ sounds.T
    numbers = {caption: number for number, caption in enumerate(captions)}
    which = torch.tensor([numbers[caption] for caption in captions], device=likeness.device)
    result = {}
    for way, rows in (("text to audio", likeness), ("audio to text", likeness.T)):
        order = which[rows.argsort(dim=1, descending=True)]
        right = order == which[:, None]
        for count in NEAREST:
            result[f"{way}@{count}"] = right[:, :count].any(dim=1).double().mean().item()
    return result
