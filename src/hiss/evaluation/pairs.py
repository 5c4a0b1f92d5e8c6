"""Noisy recordings and what they should be: pairs, and how they lie in two folders."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from json import JSONDecodeError, loads
from math import isfinite
from pathlib import Path
from typing import Any

from hiss.audio import ENDINGS, Audio, is_audio
from hiss.errors import HissError

_SNR = re.compile(r"snr[_=]?(-?\d+(?:\.\d+)?)|(-?\d+(?:\.\d+)?)[_ ]?db(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class SpeechPair:
    """A noisy recording and what it should be; digital silence, where it is noise alone."""

    name: str
    clean: Audio
    noisy: Audio
    snr: float | None = None
    """dB, where it is known."""
    noise: str | None = None
    """What kind of noise it is, where that is known."""

    def __post_init__(self) -> None:
        """Refuses two recordings that cannot be compared."""
        one, other = self.clean, self.noisy
        if one.sample_rate != other.sample_rate:
            raise HissError(
                f"{self.name} is clean at {one.sample_rate} Hz but noisy at {other.sample_rate} Hz; resample one"
            )
        if one.samples.shape != other.samples.shape:
            raise HissError(
                f"{self.name} is clean {_shape(one)} and noisy {_shape(other)}; the two must match sample by sample"
            )
        if not one.samples.shape[1]:
            raise HissError(f"{self.name} has no samples; leave it out")


def find_pairs(clean: str | Path, noisy: str | Path) -> list[tuple[str, Path, Path]]:
    """Returns (name, clean file, noisy file) of two folders: to NAME belongs `noisy_NAME`, or else NAME.

    Endings do not count.

    Raises:
        HissError: a folder has no recordings, or a recording is without its other.
    """
    left, right = _recordings(clean), _recordings(noisy)
    partners: dict[str, Path] = {}
    for name, path in left.items():
        found = right.get(f"noisy_{name}") or right.get(name)
        if found is None:
            raise HissError(f"{path} has no noisy version in {noisy}; expected noisy_{path.name} or {path.name}")
        partners[name] = found
    for name, path in right.items():
        if name not in left and name.removeprefix("noisy_") not in left:
            raise HissError(f"{path} has no clean version in {clean}; expected {path.name.removeprefix('noisy_')}")
    return [(name, path, partners[name]) for name, path in left.items()]


def read_pairs(files: Iterable[tuple[str, Path, Path]]) -> Iterator[SpeechPair]:
    """Yields the pairs that `find_pairs` found.

    SNR and kind of noise are `snr_db` and `noise` in a JSON file beside the noisy recording. Without it the SNR is
    what the name says, as in "street_snr5", "street_-5dB" or "5 dB". One that is infinite or NaN counts as not known.

    Raises:
        HissError: a file cannot be read, or the two of a pair differ in rate, channels or length.
    """
    for name, clean, noisy in files:
        facts = _sidecar(noisy.with_suffix(".json"))
        match = _SNR.search(noisy.stem)
        snr = facts.get("snr_db", next(filter(None, match.groups())) if match else None)
        kind = facts.get("noise")
        try:
            level = None if snr is None else float(snr)
        except (TypeError, ValueError) as error:
            raise HissError(f"{noisy.with_suffix('.json')}: snr_db is no number but {snr!r}") from error
        if level is not None and not isfinite(level):
            level = None
        yield SpeechPair(name, Audio.load(clean), Audio.load(noisy), level, None if kind is None else str(kind))


def _recordings(folder: str | Path) -> dict[str, Path]:
    """Returns the recordings in a folder by name without ending, in order."""
    files = sorted(filter(is_audio, Path(folder).glob("*")))
    if not files:
        raise HissError(f"{folder} holds no recordings; expected files of {', '.join(ENDINGS)}")
    found: dict[str, Path] = {}
    for path in files:
        if (other := found.setdefault(path.stem, path)) != path:
            raise HissError(f"{other} and {path} have one name; leave one of them out")
    return found


def _sidecar(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        facts = loads(path.read_text())
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise HissError(f"{path} is no JSON: {error}") from error
    return facts if isinstance(facts, dict) else {}


def _shape(audio: Audio) -> str:
    return f"{audio.samples.shape[1]} samples of {audio.channels} channels"
