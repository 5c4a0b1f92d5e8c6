"""Vocoders; every file of this folder is found by itself."""

from hiss.spec import discover
from hiss.vocoders.base import Vocoder, VocoderConfig

discover(__name__, __path__)

__all__ = ["Vocoder", "VocoderConfig"]
