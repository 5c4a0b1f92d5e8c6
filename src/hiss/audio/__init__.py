"""Sound in memory and on disk."""

from hiss.audio.blocks import BlockWriter, Form, read_blocks
from hiss.audio.files import CHANNELS, ENDINGS, FORMATS, RATES, is_audio, opened, replacing, visible
from hiss.audio.levels import Level
from hiss.audio.sound import Audio, normalize_audio

__all__ = [
    "CHANNELS",
    "ENDINGS",
    "FORMATS",
    "RATES",
    "Audio",
    "BlockWriter",
    "Form",
    "Level",
    "is_audio",
    "normalize_audio",
    "opened",
    "read_blocks",
    "replacing",
    "visible",
]
