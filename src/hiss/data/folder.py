"""A folder of audio files, as it lies on disk."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, gcd
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hiss.audio import ENDINGS, Audio, all_audio, visible
from hiss.data.base import Recording, Split
from hiss.data.examples import Examples, Memory
from hiss.data.files import FileConfig, fit
from hiss.data.index import Facts, look_at_all
from hiss.errors import HissError


@dataclass(frozen=True, kw_only=True)
class AudioFolder(FileConfig, name="folder"):
    """Audio files of any rate and length, and of the formats that libsndfile reads, in a folder and those below it.

    Metadata of `x.wav` come from `x.txt` (the key `text`), `x.json` (an object), and rows of a `metadata.csv` or
    `metadata.jsonl` beside or above it whose `file_name` is its path from there; the key `folder` is the name of the
    folder that holds it. Files that are damaged or in another format are left out and named in the report.
    """

    cache: bool = False
    """Keep all recordings in memory, at the rate they are used at."""

    def open(self, *, sample_rate: int, channels: int, samples: int, split: Split = "train") -> Examples:
        path, part = self.place(split)
        entries, skipped = scan(Path(path))
        self.check_metadata([entry.metadata for entry in entries])
        usable = []
        for entry in entries:
            if not self.wants(entry.metadata):
                continue
            if channels != entry.facts.channels != 1 != channels:
                skipped.append((entry.key, f"has {entry.facts.channels} channels, not 1 or {channels}"))
            elif (reason := self.check_rate(entry.facts.sample_rate)) is not None:
                skipped.append((entry.key, reason))
            else:
                usable.append(entry)
        recordings = [
            Recording(
                key=entry.key,
                samples=entry.facts.frames * sample_rate // entry.facts.sample_rate,
                rms=entry.facts.rms,
                prompt=self.prompt(entry.metadata, entry.facts.seconds),
                group=self.group(entry.key, entry.metadata),
            )
            for entry in usable
        ]
        source: Files | Memory = Files(usable, recordings, sample_rate, channels)
        if self.cache:
            own = [i for i, one in enumerate(recordings) if self.within(one.group, part)]
            source = Memory.of(source, own)
        return Examples(
            self,
            source,
            what=f"the folder {path}",
            sample_rate=sample_rate,
            channels=channels,
            samples=samples,
            split=part,
            skipped=skipped,
        )


@dataclass(frozen=True)
class Entry:
    """A file that can be used."""

    path: Path
    key: str
    """Its path below the folder."""
    facts: Facts
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Files:
    """Recordings that are read from their files when they are asked for."""

    entries: Sequence[Entry]
    recordings: Sequence[Recording]
    sample_rate: int
    channels: int

    def read(self, index: int, start: int, samples: int) -> Tensor:
        """Returns [channels, samples] of one recording, from `start` on."""
        entry = self.entries[index]
        own, new = entry.facts.sample_rate, self.sample_rate
        # From a frame that is also a sample of the new rate, and with room for the resampler's filter on both sides,
        # so that a part sounds exactly as it does in the whole.
        step, margin = own // gcd(own, new), 0 if own == new else own // 25
        first = max(start * own // new - margin, 0) // step * step
        end = ceil((start + samples) * own / new) + margin
        audio = Audio.load(entry.path, start=first / own, seconds=(end - first) / own)
        before = start - first * new // own
        clip = fit(audio, sample_rate=new, channels=self.channels)[:, before : before + samples]
        return torch.nn.functional.pad(clip, (0, samples - clip.shape[1]))


def scan(folder: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Returns the files in a folder that can be used, sorted, and (file, reason) of those that cannot.

    Raises:
        HissError: there is no such folder, it has no audio file, or its metadata table is no table of metadata.
    """
    if not folder.is_dir():
        raise HissError(f"there is no folder {folder}; give a folder with audio files ({', '.join(ENDINGS)})")
    seen = visible(folder)
    paths = all_audio(seen)
    if not paths:
        raise HissError(f"the folder {folder} holds no audio file; looked for {', '.join(ENDINGS)} in it and below")
    table: dict[Path, dict[str, Any]] = {}
    for path in seen:
        if path.name in ("metadata.csv", "metadata.jsonl"):
            for row in _rows(path):
                table.setdefault(path.parent / str(row.pop("file_name")), {}).update(row)
    entries, skipped = [], []
    for path, facts in zip(paths, look_at_all(folder, paths), strict=True):
        key = path.relative_to(folder).as_posix()
        problem, metadata = facts.problem, {}
        if problem is None:
            try:
                metadata = {"folder": path.parent.name} if path.parent != folder else {}
                metadata |= table.get(path, {}) | _beside(path)
            except (OSError, ValueError) as error:
                problem = f"has unreadable metadata beside it: {error}"
        if problem is None:
            entries.append(Entry(path, key, facts, metadata))
        else:
            skipped.append((key, problem))
    return entries, skipped


def _beside(path: Path) -> dict[str, Any]:
    """Returns what the text and the JSON file of the same name say."""
    metadata: dict[str, Any] = {}
    text, data = path.with_suffix(".txt"), path.with_suffix(".json")
    if text.is_file():
        metadata["text"] = text.read_text("utf-8-sig").strip()
    if data.is_file():
        content = json.loads(data.read_text("utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError(f"{data.name} is no JSON object")
        metadata |= content
    return metadata


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a metadata table, without empty cells."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, filter(str.strip, file))
            for row in rows:
                if not isinstance(row, dict) or not row.get("file_name"):
                    raise HissError(f"{path} needs a file_name in every row, the path of an audio file from there")
                yield {key: value for key, value in row.items() if key and value not in (None, "")}
    except (OSError, ValueError, csv.Error) as error:
        raise HissError(f"cannot read the metadata in {path}: {error}") from error
