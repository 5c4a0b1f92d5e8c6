"""What data sets read from disk have in common: where they are, and what their metadata says."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hiss.audio import Audio
from hiss.data.base import DataConfig, Split
from hiss.errors import HissError, UsageError, unknown
from hiss.signal.resampling import resample_wide
from hiss.types import Prompt

log = logging.getLogger(__name__)

_VARIABLE = re.compile(r"^\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, kw_only=True)
class FileConfig(DataConfig):
    """A data set that lies somewhere, and whose recordings come with metadata."""

    path: str
    """Where it is; may begin with an environment variable, as in $HISS_DATA/digits."""
    validation: str | None = None
    """Where split="validation" is, if it is not a `holdout` of `path`."""
    caption: str = "text"
    """Metadata key of `Prompt.text`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Field of `Prompt.labels` -> metadata key, such as {"digit": "label"}."""
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Metadata key -> values, such as {"folder": ["jazz", "blues"]}: other recordings are not looked for."""
    group_key: str | None = None
    """Metadata key, such as "speaker", whose values are held out as a whole; where a recording lacks it, alone."""
    min_rate: int = 0
    """Hz; recordings of a lower sample rate are left out, since they lack the high frequencies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation is not None and self.holdout:
            raise UsageError("give either validation, a place, or holdout, a share; not both")

    @property
    def validates(self) -> bool:
        return self.holdout > 0 or self.validation is not None

    def place(self, split: Split) -> tuple[str, Split]:
        """Returns the path to read for a split, and the split of what is there."""
        if self.validation is None:
            return expand_variable(self.path), split
        return expand_variable(self.validation if split == "validation" else self.path), "all"

    def check_rate(self, sample_rate: int) -> str | None:
        """Returns why a recording of that many Hz is left out; None if it is not."""
        return f"has {sample_rate} Hz, less than min_rate {self.min_rate}" if sample_rate < self.min_rate else None

    def prompt(self, metadata: Mapping[str, Any], seconds: float) -> Prompt:
        """Returns the prompt that metadata makes."""
        text = metadata.get(self.caption)
        return Prompt(
            text=None if text is None else str(text),
            labels={label: str(metadata[key]) for label, key in self.labels.items() if metadata.get(key) is not None},
            total=seconds,
        )

    def group(self, key: str, metadata: Mapping[str, Any]) -> str:
        """Returns what is held out together with a recording called `key`."""
        group = None if self.group_key is None else metadata.get(self.group_key)
        return key if group in (None, "") else str(group)

    def wants(self, metadata: Mapping[str, Any]) -> bool:
        """Returns whether `only` lets a recording in."""
        return all(str(metadata.get(key)) in values for key, values in self.only.items())

    def check_metadata(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Refuses a metadata key that none of the readable recordings has, and such a value in `only`.

        Of `group_key` it only warns: recipes name that of the data they were made for.
        """
        if not found:
            return
        keys = {key for metadata in found for key in metadata}
        if self.holdout and self.group_key is not None and self.group_key not in keys:
            log.warning("no recording has the metadata key %r: each is held out by itself", self.group_key)
        for key in (*self.labels.values(), *self.only):
            if key == "folder" and key not in keys:
                raise UsageError(
                    "no recording lies in a folder below, as in classical/1.wav, whose name the key 'folder' would be; "
                    "sort them into folders, or leave the key out of only and labels (data.only={})"
                )
            if key not in keys:
                raise unknown("metadata key", key, keys)
        for key, values in self.only.items():
            there = {str(metadata[key]) for metadata in found if metadata.get(key) is not None}
            for value in values:
                if value not in there:
                    raise unknown(f"{key} in only", value, there)


def expand_variable(path: str) -> str:
    """Returns `path` with an environment variable at its start filled in."""
    match = _VARIABLE.match(path)
    if match is None:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    name = match[1] or match[2]
    if not os.environ.get(name):
        raise HissError(f"the path {path} needs the environment variable {name}, which is not set")
    return os.environ[name] + path[match.end() :]


def fit(audio: Audio, *, sample_rate: int, channels: int) -> Tensor:
    """Returns [channels, samples] of a recording at another rate.

    Nearly all below half of that rate stays: an edge further down would be a mark of recordings that were resampled,
    which a network takes for granted in them and misses in others.
    """
    return resample_wide(audio.to_channels(channels).samples, audio.sample_rate, sample_rate)
