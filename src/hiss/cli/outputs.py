"""Where results go: names of files, decided and tried before the work begins."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

from hiss.errors import HissError, UsageError, unknown


def slug(text: str) -> str:
    """Returns `text` as the beginning of a file name: '7 Theo!' becomes '7-theo'."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:40].rstrip("-") or "sound"


def asked(name: str, classes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Returns what a file called `name` (no ending) was asked to be: `7-theo-0` is {"digit": "7", "speaker": "theo"}.

    `classes` are the names that words may mean, by question, of which the longest is taken, as in a prompt; nothing is
    returned for a name that `sound_files` does not make, or in which another word stands.
    """
    *words, number = name.split("-")
    meant = {slug(one): (question, one) for question, names in classes.items() for one in names}
    found: dict[str, str] = {}
    while words:
        longest = next((end for end in range(len(words), 0, -1) if "-".join(words[:end]) in meant), None)
        if longest is None:
            return {}
        question, one = meant["-".join(words[:longest])]
        found[question], words = one, words[longest:]
    return found if number.isdigit() else {}


def sound_files(
    output: Path, *, stems: Sequence[str], file_format: str | None, sample_rate: int | None = None
) -> list[Path]:
    """Returns one path per sound: `output` itself if it is a file, else stem-0.wav, stem-1.wav ... in the folder.

    A path is a file if it has an ending and is no folder yet. Without `sample_rate` (Hz) any will do.

    Raises:
        UsageError: the format is unknown, contradicts the ending or does not know the rate, or several sounds would
            share one file.
    """
    ending = output.suffix.lower().lstrip(".")
    if output.is_dir() or not ending:
        ending = file_format or "wav"
        turns: defaultdict[str, Iterator[int]] = defaultdict(count)
        files = [output / f"{stem}-{next(turns[stem])}.{ending}" for stem in stems]
    elif file_format not in (None, ending):
        raise UsageError(f"--format {file_format} contradicts the ending of {output}; drop one of them")
    elif len(stems) > 1:
        raise UsageError(
            f"{output} is one file for {len(stems)} sounds; name a folder, such as {output.with_suffix('')}"
        )
    else:
        files = [output]

    import torch

    from hiss.audio import FORMATS, Audio

    if ending not in FORMATS:
        raise unknown("audio format", ending, FORMATS)
    if sample_rate is not None:
        Audio(torch.zeros(1), sample_rate).encode(ending)  # refuses what could not be saved after the work
    return files


def check_writable(folder: Path) -> None:
    """Makes sure, leaving nothing behind, that files can be written in `folder`, which need not exist yet.

    Raises:
        HissError: they cannot.
    """
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise HissError(f"cannot write in {existing}: {error.strerror}; choose another place with -o") from error
