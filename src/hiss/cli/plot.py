"""hiss plot: recordings as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from hiss.cli.extras import need
from hiss.cli.outputs import check_writable
from hiss.cli.terminal import terminal
from hiss.errors import UsageError

EXAMPLE = "Example: hiss plot out/7-0.wav out/7-1.wav -o sevens.png"


def plot(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Recordings: WAV, FLAC, OGG or MP3, one row each.")],
    mdct: Annotated[bool, typer.Option("--mdct", help="Draw the MDCT in place of the waveform.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")] = Path("sounds.png"),
) -> None:
    """Draw the waveform and the mel spectrogram of recordings into one PNG."""
    screen = terminal(context)
    if output.suffix.lower() != ".png":
        raise UsageError(f"the picture is a PNG: end -o in .png, not {output.name!r}")
    check_writable(output.parent)
    need("matplotlib", "librosa")

    from hiss.audio import Audio
    from hiss.plot import picture
    from hiss.signal.mdct import mdct_power

    rows = [(file.name, Audio.load(file)) for file in files]
    output.parent.mkdir(parents=True, exist_ok=True)
    picture(rows, output, spectrum=mdct_power if mdct else None)
    screen.result(str(output))
