"""One HTML page of sounds that needs nothing but itself: players and pictures are inside it."""

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from hiss.audio import replacing

if TYPE_CHECKING:
    from hiss.audio import Audio

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
.sounds { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; }
audio { display: block; max-width: 100%; }
img { width: 100%; height: auto; margin-top: 1rem; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid; }
"""


@dataclass(frozen=True)
class Section:
    """Sounds that belong together, by their titles."""

    title: str
    about: str
    sounds: "Mapping[str, Audio]"


def write_page(path: Path, *, title: str, sections: Sequence[Section], commands: Sequence[str]) -> None:
    """Writes the page, whole or not at all: a player for each sound, a picture for each section, commands at the end.

    The page forbids itself to load anything from elsewhere.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        *(_section(section) for section in sections),
        "<h2>What to try next</h2>",
        f"<pre>{escape(chr(10).join(commands))}</pre>",
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _section(section: Section) -> str:
    players = "\n".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{sound._repr_html_()}</figure>"
        for title, sound in section.sounds.items()
    )
    titles = escape(", ".join(section.sounds))
    return (
        f"<h2>{escape(section.title)}</h2>\n<p>{escape(section.about)}</p>\n"
        f'<div class="sounds">\n{players}\n</div>\n'
        f'<img alt="Waveforms and spectrograms of {titles}" src="data:image/png;base64,{_picture(section)}">'
    )


def _picture(section: Section) -> str:
    """Returns the PNG of all sounds of a section, in base64."""
    from hiss.plot import picture

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sounds.png"
        picture(list(section.sounds.items()), path)
        return base64.b64encode(path.read_bytes()).decode()
