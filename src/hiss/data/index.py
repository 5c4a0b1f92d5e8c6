"""Levels and lengths of audio files, measured once and remembered."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hiss.audio import opened, replacing
from hiss.audio.files import decoded
from hiss.errors import HissError

_BLOCK = 1 << 20  # frames read at a time
_FRAME = 1 << 10  # frames that are silent or not
_QUIET = 1e-3  # RMS of -60 dBFS
_VERSION = 1


@dataclass(frozen=True)
class Facts:
    """What one look at all of a file tells."""

    frames: int = 0
    sample_rate: int = 0
    """Hz."""
    channels: int = 0
    rms: float = 0.0
    peak: float = 0.0
    silence: float = 0.0
    """Share of pieces of 1024 frames below -60 dBFS."""
    problem: str | None = None
    """Why the file cannot be used."""

    @property
    def seconds(self) -> float:
        """How long the recording lasts."""
        return self.frames / self.sample_rate if self.sample_rate else 0.0


def measure(blocks: Iterable[NDArray[np.float32]], sample_rate: int) -> Facts:
    """Returns the facts of a recording that comes in blocks [frames, channels]."""
    frames, channels, energy, peak, quiet, pieces = 0, 0, 0.0, 0.0, 0, 0
    for block in blocks:
        squares = np.square(block.astype(np.float64)).mean(1)
        if not np.isfinite(squares).all():
            return Facts(problem="holds NaN or infinite samples")
        frames, channels = frames + len(block), block.shape[1]
        energy += float(squares.sum())
        peak = max(peak, float(np.abs(block).max(initial=0)))
        for piece in np.split(squares, range(_FRAME, len(squares), _FRAME)):
            pieces += 1
            quiet += int(np.sqrt(piece.mean()) < _QUIET)
    if not frames:
        return Facts(problem="holds no samples")
    return Facts(frames, sample_rate, channels, (energy / frames) ** 0.5, peak, quiet / pieces)


def look(path: Path) -> Facts:
    """Returns the facts of a file; never fails."""
    try:
        with opened(path) as file:
            return measure(decoded(file, _BLOCK), file.samplerate)
    except HissError as error:
        return Facts(problem=str(error))


def look_at_all(folder: Path, paths: Sequence[Path]) -> list[Facts]:
    """Returns the facts of each of `paths` below `folder`, in order.

    They are kept in a JSON file below $HISS_CACHE (or $XDG_CACHE_HOME/hiss, or ~/.cache/hiss) and looked up by path,
    size and time of change. A cache that cannot be read or written only costs time.
    """
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]
    cache = cache_folder() / "index" / f"{name}.json"
    known = _recall(cache)
    stamps = [_stamp(path) for path in paths]
    keys = [path.relative_to(folder).as_posix() for path in paths]
    fresh = [i for i, key in enumerate(keys) if known.get(key, (None,))[0] != stamps[i]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # libsndfile decodes beside Python
        for i, facts in zip(fresh, pool.map(lambda i: look(paths[i]), fresh), strict=True):
            known[keys[i]] = (stamps[i], facts)
    if fresh:
        _remember(cache, {key: known[key] for key in keys})
    return [known[key][1] for key in keys]


def cache_folder() -> Path:
    """Returns where hiss keeps what it can compute again."""
    if own := os.environ.get("HISS_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hiss"


def _stamp(path: Path) -> str:
    with suppress(OSError):
        status = path.stat()
        return f"{status.st_mtime_ns} {status.st_size}"
    return "gone"


def _recall(cache: Path) -> dict[str, tuple[str, Facts]]:
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        data = json.loads(cache.read_text("utf-8"))
        if data["version"] == _VERSION:
            return {key: (stamp, Facts(**facts)) for key, (stamp, facts) in data["files"].items()}
    return {}


def _remember(cache: Path, known: dict[str, tuple[str, Facts]]) -> None:
    files = {key: (stamp, asdict(facts)) for key, (stamp, facts) in known.items()}
    with suppress(OSError, HissError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cache) as temporary:
            temporary.write_text(json.dumps({"version": _VERSION, "files": files}), "utf-8")
