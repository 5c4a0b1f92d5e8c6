"""CLAP: what a text and a recording have in common, as vectors of one space."""

from hiss.clap.model import Clap, ClapConfig, Reading, begin
from hiss.clap.noised import NoisedClap, NoisedClapConfig, begin_noised
from hiss.clap.recall import recall
from hiss.clap.towers import AudioTowerConfig, TextTowerConfig
from hiss.clap.vocabulary import Vocabulary

__all__ = [
    "AudioTowerConfig",
    "Clap",
    "ClapConfig",
    "NoisedClap",
    "NoisedClapConfig",
    "Reading",
    "TextTowerConfig",
    "Vocabulary",
    "begin",
    "begin_noised",
    "recall",
]
