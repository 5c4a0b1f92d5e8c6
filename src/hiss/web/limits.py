"""How much may be asked of a server; what is beyond is refused with a word, not tried."""

from dataclasses import dataclass

LONGEST = 60.0
"""Seconds of sound that can be generated at once."""
MOST_STEPS = 200
MOST_SOUNDS = 16
"""How many sounds a request may ask for."""


@dataclass(frozen=True)
class Limits:
    """What a server takes, and for how long it keeps what it made."""

    queue: int = 64
    """Requests that are received, wait or run at once; another one is answered 429."""
    together: int = 16
    """Requests of one model that are worked on as one batch; 1 works on each alone."""
    body: int = 1 << 26
    """Bytes of a request."""
    recording: float = 600.0
    """Seconds of a recording."""
    samples: int = 60_000_000
    """Of all channels of a recording together, when it is decoded: 4 bytes each."""
    waiting: int = 240_000_000
    """Samples of all recordings that wait together."""
    decoding: float = 20.0
    """Seconds that a recording may take to be decoded."""
    memory: int = 1 << 30
    """Bytes of address space for a process that decodes."""
    kept: float = 3600.0
    """Seconds for which the sounds of a job are kept."""
    kept_samples: int = 120_000_000
    """Samples that are kept at most; the oldest job goes first."""
    receiving: float = 60.0
    """Seconds that a recording may take to arrive."""
    grace: float = 30.0
    """Seconds that running work gets to finish when the server stops."""
