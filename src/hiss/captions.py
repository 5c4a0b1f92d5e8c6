"""What captions say of notes and tempo, and how it changes with a recording that is played higher and faster."""

import re
from collections.abc import Iterator

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SIGNS = {"sharp": 1, "#": 1, "♯": 1, "flat": -1, "♭": -1}
_NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
_NOTE = re.compile(r"(?:\b(an?) )?(?<![\w'-])([A-G])(?:[ -]?(sharp|flat)\b|([#♯♭])|(?![\w'-]))")
_OPENING = re.compile(r"(?:^|[.!?\n]\s*)$")
_TEMPO = re.compile(r"\b\d+(?:\.\d+)?(?= ?(?:beats per minute|bpm)\b)", re.IGNORECASE)


def notes(caption: str) -> Iterator[tuple[re.Match[str], int]]:
    """Yields where a caption names a note, and its pitch class, 0 for C to 11 for B.

    A note is a capital letter from A to G, alone or with its sign; an A that opens a sentence is the article.
    """
    for match in _NOTE.finditer(caption):
        letter, sign = match[2], _SIGNS.get(match[3] or match[4], 0)
        if sign or letter != "A" or not _OPENING.search(caption, 0, match.start(2)):
            yield match, (_LETTERS[letter] + sign) % 12


def transpose(caption: str, semitones: int) -> str:
    """Returns a caption with its notes that many semitones higher: "an A melody" becomes "a B melody" two higher."""
    if not semitones:
        return caption
    parts, end = [], 0
    for match, pitch in notes(caption):
        name = _NAMES[(pitch + semitones) % 12]
        article = ("an " if name[0] in "AEF" else "a ") if match[1] else ""
        parts += [caption[end : match.start()], article, name]
        end = match.end()
    return "".join([*parts, caption[end:]])


def accelerate(caption: str, speed: float) -> str:
    """Returns a caption with its beats per minute so many times as fast, to the next whole number."""
    return _TEMPO.sub(lambda match: str(round(float(match[0]) * speed)), caption) if speed != 1 else caption
