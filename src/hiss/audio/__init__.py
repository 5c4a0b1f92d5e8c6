"""Sound in memory and on disk."""

from hiss.audio.blocks import BlockWriter, Form, read_blocks
from hiss.audio.files import CHANNELS, ENDINGS, FORMATS, RATES, UNREAD, all_audio, is_audio, opened, replacing, visible
from hiss.audio.levels import Level
from hiss.audio.sound import Audio, normalize_audio

__all__ = [
    "CHANNELS",
    "ENDINGS",
    "FORMATS",
    "RATES",
    "UNREAD",
    "Audio",
    "BlockWriter",
    "Form",
    "Level",
    "all_audio",
    "is_audio",
    "normalize_audio",
    "opened",
    "read_blocks",
    "replacing",
    "visible",
]
