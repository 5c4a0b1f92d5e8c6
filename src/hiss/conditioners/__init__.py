"""Conditioners; every file of this folder is found by itself."""

from hiss.conditioners.base import Conditioner, ConditionerConfig, merge, stack
from hiss.spec import discover

discover(__name__, __path__)

__all__ = ["Conditioner", "ConditionerConfig", "merge", "stack"]
