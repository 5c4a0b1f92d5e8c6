"""Whole recordings to listen to, from a folder or from shards, and what they are said to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hiss.audio import Audio
from hiss.data.files import expand_variable
from hiss.data.folder import scan
from hiss.data.tars import expand, samples
from hiss.errors import HissError

Classes = Mapping[str, Sequence[str]]
"""Names of the classes by question, such as {"digit": ("0", "1", ...)}."""


@dataclass(frozen=True)
class Clip:
    """A recording as it is, and what is known of it."""

    name: str
    """Of its file or sample, without the folders."""
    audio: Audio
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def labels(self, classes: Classes) -> dict[str, str]:
        """Returns what the metadata say by question: those under its name, under "label", or the name of the folder."""
        found = {}
        for question, names in classes.items():
            said = [str(self.metadata[key]) for key in (question, "label", "folder") if key in self.metadata]
            if known := [name for name in said if name in names]:
                found[question] = known[0]
        return found


def excerpts(audio: Audio, seconds: float | None) -> list[Audio]:
    """Returns a recording in excerpts of so many seconds; what is left over at the end is left out.

    A recording that is not that long, and any where `seconds` is None, is returned as it is.
    """
    size = audio.samples.shape[1] if seconds is None else max(1, round(seconds * audio.sample_rate))
    parts = [part for part in audio.samples.split(size, dim=1) if part.shape[1] == size] if size else []
    return [Audio(part, audio.sample_rate) for part in parts] or [audio]


def read_clips(path: str | Path) -> list[Clip]:
    """Returns the recordings in a folder and below it, or in WebDataset shards, in the order of their names.

    `path` may begin with an environment variable; shards are a pattern, such as digits-test-*.tar, or a folder of tar
    files. A damaged recording is refused instead of left out, as the figures of what remains would flatter.

    Raises:
        HissError: there is no recording, or one that cannot be read.
    """
    place = expand_variable(str(path))
    folder = Path(place)
    if folder.suffix != ".tar" and not any(folder.glob("*.tar")):
        entries, skipped = scan(folder)
        for name, reason in skipped:
            raise HissError(f"cannot evaluate {folder / name}: {reason}")
        return [Clip(entry.path.stem, Audio.load(entry.path), entry.metadata) for entry in entries]
    found = []
    for shard in expand(place):
        for sample in samples(shard):
            try:
                found.append(Clip(Path(sample.key).name, sample.audio(), sample.metadata()))
            except HissError as error:
                raise HissError(f"cannot evaluate {sample.key} in {shard}: {error}") from error
    if not found:
        raise HissError(f"the shards {place} hold no recording")
    return sorted(found, key=lambda clip: clip.name)
