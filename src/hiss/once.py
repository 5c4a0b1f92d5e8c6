"""Tensors that are made once, such as filters."""

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def once(function: Callable[P, R]) -> Callable[P, R]:
    """Returns a function that keeps its last 32 results.

    They are made outside inference mode, else none that was first asked for within it could be trained with later.
    """
    kept: Callable[P, R] = lru_cache(maxsize=32)(torch.inference_mode(mode=False)(function))  # type: ignore[assignment]
    return kept
