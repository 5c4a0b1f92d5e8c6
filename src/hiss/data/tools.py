"""What the command line does with data: make tones, look at what there is, pack it."""

import io
import json
import shutil
import tarfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log10
from pathlib import Path

import numpy as np

from hiss.audio import FORMATS, Audio, replacing
from hiss.data.files import expand_variable
from hiss.data.folder import Entry, scan
from hiss.data.index import Facts, measure
from hiss.data.tars import Sample, expand, samples
from hiss.data.tones import SyntheticTones
from hiss.errors import HissError, UsageError, unknown
from hiss.noise import seeded


@dataclass(frozen=True)
class Stats:
    """What is in a data set."""

    count: int
    """Recordings that can be used."""
    seconds: float
    """Of all of them."""
    shortest: float
    """Seconds."""
    longest: float
    """Seconds."""
    sample_rates: dict[int, int]
    """Hz -> recordings."""
    channels: dict[int, int]
    """Channels -> recordings."""
    levels: dict[str, float]
    """dBFS of the RMS of a recording: "5 %", "50 %" and "95 %" of them are softer; silent ones are not counted."""
    peak: float
    """Largest sample of all."""
    silence: float
    """Share of the time below -60 dBFS."""
    keys: dict[str, int]
    """Metadata key -> recordings that have it."""
    skipped: list[tuple[str, str]]
    """(recording, reason) of what cannot be used."""


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote."""

    shards: list[Path]
    count: int
    skipped: list[tuple[str, str]]
    """(file, reason) of what was left out."""


def synthesize(
    folder: str | Path,
    config: SyntheticTones | None = None,
    *,
    seconds: float = 2.0,
    sample_rate: int = 16000,
    channels: int = 1,
    format: str = "wav",
) -> list[Path]:
    """Returns the audio files it writes into `folder`, one for each tone of `config`, with JSON beside them.

    Raises:
        UsageError: a length, rate or format that cannot be.
        HissError: a file cannot be written.
    """
    if format not in FORMATS:
        raise unknown("audio format", format, FORMATS)
    if not 0 < seconds < inf:
        raise UsageError(f"tones last above 0 seconds, not {seconds}")
    folder, count = Path(folder), round(seconds * sample_rate)
    tones = (config or SyntheticTones(examples=100)).open(
        sample_rate=sample_rate, channels=channels, samples=count, split="all"
    )
    make_folder(folder)
    paths = []
    for item in range(len(tones)):
        example = tones.example(item, seeded("synthesize", item), augment=False)
        path = folder / f"tone-{item:05d}.{format}"
        Audio(example.audio, sample_rate).save(path)
        with replacing(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps({"text": "a tone", **example.prompt.labels}), "utf-8")
        paths.append(path)
    return paths


def stats(path: str | Path) -> Stats:
    """Returns what is in a folder of audio files, or in WebDataset shards (a pattern, or a folder of tar files).

    Raises:
        HissError: there is nothing.
    """
    place = Path(expand_variable(str(path)))
    if place.is_dir() and not any(place.glob("*.tar")):
        entries, skipped = scan(place)
        facts, keys = [entry.facts for entry in entries], Counter(key for entry in entries for key in entry.metadata)
    else:
        facts, keys, skipped = [], Counter(), []
        for shard in expand(str(place)):
            try:
                for sample in samples(shard):
                    one = _facts(sample)
                    if one.problem is not None:
                        skipped.append((sample.key, one.problem))
                        continue
                    facts.append(one)
                    keys.update(sample.metadata().keys())
            except HissError as error:
                skipped.append((shard, str(error)))
    return _summary(facts, keys, skipped)


def pack(folder: str | Path, out: str | Path, *, shard_mb: float = 100.0) -> Packed:
    """Returns the WebDataset shards it writes into the new folder `out`, named after it, of about `shard_mb` megabytes.

    Audio files go in as they are; the metadata of each, wherever they came from, become its .json member. The folder
    `out` appears when all is written.

    Raises:
        UsageError: `shard_mb` is not positive.
        HissError: there is nothing to pack, `out` is there already, or it cannot be written.
    """
    folder, out = Path(folder), Path(out)
    if shard_mb <= 0:
        raise UsageError(f"shards hold more than 0 MB, not {shard_mb}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise HissError(f"{out} is there already and not an empty folder; give a new one")
    entries, skipped = scan(folder)
    if not entries:
        raise HissError(f"no audio file in {folder} can be used; the first: {skipped[0][0]}: {skipped[0][1]}")
    building = out.with_name(f".{uuid.uuid4().hex[:12]}")
    try:
        building.mkdir(parents=True)
        names = []
        for number, group in enumerate(_groups(entries, shard_mb * 1e6)):
            names.append(f"{out.name}-{number:06d}.tar")
            _write_shard(building / names[-1], group)
        building.replace(out)
    except OSError as error:
        raise HissError(f"cannot write {out}: {error.strerror or error}; choose a place with room to write") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Packed([out / name for name in names], len(entries), skipped)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, if they are not there.

    Raises:
        HissError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HissError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def _facts(sample: Sample) -> Facts:
    try:
        sample.metadata()
        audio = sample.audio()
    except HissError as error:
        return Facts(problem=str(error))
    return measure([np.asarray(audio)], audio.sample_rate)


def _summary(facts: Sequence[Facts], keys: Counter[str], skipped: list[tuple[str, str]]) -> Stats:
    if not facts:
        first = f"; the first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise HissError(f"no recording can be used, {len(skipped)} were skipped{first}")
    lengths = [one.seconds for one in facts]
    levels = [20 * log10(one.rms) for one in facts if one.rms > 0]
    return Stats(
        count=len(facts),
        seconds=sum(lengths),
        shortest=min(lengths),
        longest=max(lengths),
        sample_rates=dict(sorted(Counter(one.sample_rate for one in facts).items())),
        channels=dict(sorted(Counter(one.channels for one in facts).items())),
        levels={f"{share} %": float(np.percentile(levels, share)) for share in (5, 50, 95)} if levels else {},
        peak=max(one.peak for one in facts),
        silence=sum(one.silence * one.seconds for one in facts) / sum(lengths),
        keys=dict(sorted(keys.items())),
        skipped=skipped,
    )


def _groups(entries: Sequence[Entry], limit: float) -> Iterator[list[tuple[str, Entry]]]:
    """Yields the (key, file) pairs of each shard; keys are unique and have no dot in the name."""
    group: list[tuple[str, Entry]] = []
    taken: set[str] = set()
    size = 0
    for entry in entries:
        length = entry.path.stat().st_size
        if group and size + length > limit:
            yield group
            group, size = [], 0
        path = Path(entry.key)
        key = stem = path.with_name(path.stem.replace(".", "_")).as_posix()
        number = 1
        while key in taken:
            number += 1
            key = f"{stem}-{number}"
        taken.add(key)
        group.append((key, entry))
        size += length
    yield group


def _write_shard(path: Path, group: Sequence[tuple[str, Entry]]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for key, entry in group:
            metadata = json.dumps(dict(entry.metadata), ensure_ascii=False, sort_keys=True).encode()
            for ending, content in ((entry.path.suffix.lower(), entry.path.read_bytes()), (".json", metadata)):
                member = tarfile.TarInfo(key + ending)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
