"""What can be trained: each file has an objective, and the recipes of its kind; every file is found by itself."""

from hiss.spec import discover
from hiss.training.objectives.base import Recipe
from hiss.training.objectives.diffusion import DiffusionObjective

discover(__name__, __path__)

__all__ = ["DiffusionObjective", "Recipe"]
