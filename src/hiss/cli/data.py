"""hiss data: make, mix, look at and pack data sets."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hiss.cli.outputs import check_writable
from hiss.cli.terminal import Terminal, terminal
from hiss.errors import UsageError

if TYPE_CHECKING:
    from hiss.data.tools import Stats

app = typer.Typer(help="Make, mix, look at and pack data sets.")

SHOWN = 10
"""Skipped recordings that are named one by one without --json."""


@app.command("synth", epilog="Example: hiss data synth -o tones --count 500 --harmonics 3 --labelled")
def synth(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")],
    count: Annotated[int, typer.Option("--count", "-n", help="How many tones.")] = 100,
    seconds: Annotated[float, typer.Option(help="Length of each.")] = 2.0,
    sample_rate: Annotated[int, typer.Option(help="Hz.")] = 16000,
    low: Annotated[float, typer.Option(help="Hz, lowest pitch.")] = 100.0,
    high: Annotated[float, typer.Option(help="Hz, highest pitch.")] = 2000.0,
    harmonics: Annotated[int, typer.Option(help="Overtones of each tone.")] = 0,
    labelled: Annotated[bool, typer.Option("--labelled", help="Play notes, and write down which.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same tones.")] = 0,
    file_format: Annotated[str, typer.Option("--format", help="wav, flac, ogg, opus or mp3.")] = "wav",
) -> None:
    """Write synthetic tones and what is known of each (JSON), to train on."""
    screen = terminal(context)
    check_writable(output)

    from hiss.data.tones import SyntheticTones
    from hiss.data.tools import synthesize

    config = SyntheticTones(examples=count, seed=seed, low=low, high=high, harmonics=harmonics, labelled=labelled)
    with screen.bar("writing"):
        files = synthesize(output, config, seconds=seconds, sample_rate=sample_rate, format=file_format)
    screen.say(f"{len(files)} tones of {seconds:g} s at {sample_rate} Hz")
    screen.result(str(output))


@app.command("mix", epilog="Example: hiss data mix --clean gt_audio --noise white --snr 0:15 --seed 1 -o gl_audio")
def mix(
    context: typer.Context,
    clean: Annotated[Path, typer.Option(help="A folder of clean recordings.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write noisy_NAME.wav to.")],
    noise: Annotated[str, typer.Option(help="A folder of noises, or white (Gaussian).")] = "white",
    snr: Annotated[str, typer.Option(help="dB, one number or a range A:B that is drawn from.")] = "0:15",
    seed: Annotated[int, typer.Option(help="The same seed gives the same mixtures.")] = 0,
    active: Annotated[
        bool, typer.Option("--active", help="Measure levels where something is heard, not over whole recordings.")
    ] = False,
) -> None:
    """Mix noise into clean recordings at a chosen SNR, and write down what was mixed (JSON)."""
    screen = terminal(context)
    limits = _limits(snr)
    check_writable(output)

    from hiss.data.noisy import write_noisy

    with screen.bar("mixing") as bar:
        written = write_noisy(clean, noise, output, snr=limits, seed=seed, active=active, watch=bar.update)
    _name_skipped(screen, written.skipped)
    screen.say(f"{len(written.files)} noisy recordings")
    screen.result(str(output))


@app.command("stats", epilog="Example: hiss data stats recordings/")
def stats(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A folder of recordings, or WebDataset shards such as 'packed/*.tar'.")],
    as_json: Annotated[bool, typer.Option("--json", help="Report everything as JSON.")] = False,
) -> None:
    """Tell what is in a data set: lengths, rates, levels, metadata, and what cannot be used."""
    screen = terminal(context)

    from hiss.data.tools import stats as look

    with screen.bar("looking"):
        found = look(path)
    if as_json:
        screen.json(asdict(found))
    else:
        screen.show(_table(found))
        _name_skipped(screen, found.skipped)


@app.command("pack", epilog="Example: hiss data pack recordings/ -o packed")
def pack(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder of recordings.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder for the shards.")],
    shard_mb: Annotated[float, typer.Option(help="Size of a shard in MB.")] = 100.0,
) -> None:
    """Pack a folder of recordings and their metadata into WebDataset shards."""
    screen = terminal(context)
    check_writable(output)

    from hiss.data.tools import pack as write

    with screen.bar("packing"):
        packed = write(folder, output, shard_mb=shard_mb)
    _name_skipped(screen, packed.skipped)
    screen.say(f"{packed.count} recordings")
    for shard in packed.shards:
        screen.result(str(shard))


def _limits(text: str) -> tuple[float, float]:
    """Returns the numbers of "A:B", or of "A" twice."""
    try:
        least, _, most = text.partition(":")
        return float(least), float(most or least)
    except ValueError as error:
        raise UsageError(f"--snr is a number of dB or a range such as -5:20, not {text!r}") from error


def _table(found: "Stats") -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("recordings", str(found.count))
    table.add_row("skipped", str(len(found.skipped)))
    table.add_row("length", f"{found.seconds / 60:.2f} minutes, {found.shortest:.2f} to {found.longest:.2f} s each")
    table.add_row("sample rates", ", ".join(f"{rate} Hz: {count}" for rate, count in found.sample_rates.items()))
    table.add_row("channels", ", ".join(f"{channels}: {count}" for channels, count in found.channels.items()))
    table.add_row("RMS, dBFS", ", ".join(f"{share}: {level:.1f}" for share, level in found.levels.items()))
    table.add_row("peak", f"{found.peak:.3f}")
    table.add_row("silence", f"{found.silence:.1%} of the time")
    table.add_row("metadata", ", ".join(f"{key}: {count}" for key, count in found.keys.items()))
    return table


def _name_skipped(screen: Terminal, skipped: list[tuple[str, str]]) -> None:
    for name, reason in skipped[:SHOWN]:
        screen.say(f"skipped {name}: {reason}")
    if len(skipped) > SHOWN:
        screen.say(f"skipped {len(skipped) - SHOWN} more")
