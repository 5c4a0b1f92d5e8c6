"""Data sets; every file of this folder is found by itself."""

from hiss.data.base import DataConfig, Dataset, Report, Split
from hiss.spec import discover

discover(__name__, __path__)

__all__ = ["DataConfig", "Dataset", "Report", "Split"]
