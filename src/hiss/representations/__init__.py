"""Representations; every file of this folder is found by itself."""

from hiss.representations.base import Representation, RepresentationConfig
from hiss.spec import discover

discover(__name__, __path__)

__all__ = ["Representation", "RepresentationConfig"]
