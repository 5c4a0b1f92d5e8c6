"""Training: one loop for every objective, checkpoints that resume exactly, averages of the weights."""

from hiss.training.config import TrainerConfig
from hiss.training.journal import Journal
from hiss.training.trainer import Best, Demo, Export, Progress, Result, train

__all__ = ["Best", "Demo", "Export", "Journal", "Progress", "Result", "TrainerConfig", "train"]
