"""One picture of many sounds: two views of each, the mel spectrogram on the right, on scales that can be compared."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiss.audio import Audio, replacing
from hiss.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Spectrum = Callable[[Audio], NDArray[np.float32]]
"""Returns the power of a sound in bands of equal width from 0 Hz to half of its rate [bins, frames]."""

RANGE = 80.0
"""dB between the brightest and the darkest colour."""
BINS = 96
COLUMNS = 1600
"""A picture needs no more frames, or points of a waveform, than it has pixels."""
MOST_ROWS = 100

_QUIET = 1e-10  # mel power below which a sound counts as silence, so that rounding noise never lights up
_HERTZ = tuple(1000 * 2.0**octave for octave in range(-10, 11))  # where the frequency axis may have a label
_ROW, _WIDTH, _DPI = 1.7, 12.0, 100  # inches, inches, dots per inch
_INK, _WAVE = "#222222", "#3b6ea8"


def picture(rows: Sequence[tuple[str, Audio]], path: str | Path, *, spectrum: Spectrum | None = None) -> None:
    """Writes a PNG with one row per (title, audio): waveform on the left, mel spectrogram on the right.

    With a `spectrum`, that is drawn on the left instead of the waveform. Amplitudes share one axis and the colours of
    a column share one scale, 80 dB down from the loudest moment of all rows, so that a quiet sound looks quiet. The
    file appears whole or not at all.

    Raises:
        UsageError: there is no row, or more than 100.
        HissError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not 1 <= len(rows) <= MOST_ROWS:
        raise UsageError(f"a picture shows 1 to {MOST_ROWS} sounds, not {len(rows)}")
    powers = [_mel_power(audio) for _, audio in rows]
    spectra = [] if spectrum is None else [_narrow(spectrum(audio)) for _, audio in rows]
    loudest, loudest_left = (max((float(power.max()) for power in some), default=0.0) for some in (powers, spectra))
    peak = max(1e-3, *(audio.peak for _, audio in rows))

    height = _ROW * len(rows) + 0.3
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    edges = {"left": 0.055, "right": 0.93, "top": 1 - 0.35 / height, "bottom": 0.5 / height}
    grid = figure.add_gridspec(len(rows), 2, wspace=0.12, hspace=0.65, **edges)
    for index, ((title, audio), power) in enumerate(zip(rows, powers, strict=True)):
        left, mel = figure.add_subplot(grid[index, 0]), figure.add_subplot(grid[index, 1])
        if spectra:
            _draw_spectrum(left, audio, _decibels(spectra[index], loudest_left))
        else:
            _draw_wave(left, audio, peak)
        image = _draw_mel(mel, audio, _decibels(power, loudest))
        left.set_title(_short(title), loc="left", fontsize=10, color=_INK, parse_math=False)
        channels = "mono" if audio.channels == 1 else f"{audio.channels} channels"
        facts = f"{audio.seconds:.2f} s, {audio.sample_rate} Hz, {channels}"
        mel.set_title(facts, loc="right", fontsize=8, color="#666666")
        if index == len(rows) - 1:
            left.set_xlabel("seconds", fontsize=8)
            mel.set_xlabel("seconds", fontsize=8)
    bar_height = min(_ROW - 0.8, height - 0.9)
    bar = figure.add_axes((0.945, edges["top"] - bar_height / height, 0.008, bar_height / height))
    figure.colorbar(image, cax=bar, ticks=[-80, -60, -40, -20, 0]).ax.tick_params(labelsize=7, length=2)
    bar.set_title("dB", fontsize=8)
    with warnings.catch_warnings(), replacing(Path(path)) as temporary:
        warnings.filterwarnings("ignore", message="Glyph")  # a title may be in any script
        figure.savefig(temporary, format="png")


def mel_image(audio: Audio) -> NDArray[np.uint8]:
    """Returns the mel spectrogram as a picture [bins, frames, 3]: low frequencies at the bottom, 80 dB of colour."""
    from matplotlib import colormaps

    power = _mel_power(audio)
    shade = 1 + _decibels(power, float(power.max()))[::-1] / RANGE
    image: NDArray[np.uint8] = colormaps["magma"](shade, bytes=True)[..., :3]
    return image


def _mel_power(audio: Audio) -> NDArray[np.float32]:
    """Returns the power in each mel band [bins, frames], averaged over the channels (so that they cannot cancel)."""
    import librosa

    rate = audio.sample_rate
    window, hop = _frames(audio)
    samples = np.asarray(audio, dtype=np.float32).T
    padded = np.pad(samples, ((0, 0), (0, max(0, window - samples.shape[1]))))
    # A mel band narrower than one bin of the transform would be empty: low rates get fewer bands.
    bands = int(librosa.hz_to_mel(rate / 2) / librosa.hz_to_mel(rate / window))
    spectrum = np.abs(librosa.stft(padded, n_fft=window, hop_length=hop)) ** 2
    power: NDArray[np.float32] = librosa.feature.melspectrogram(
        S=spectrum.mean(axis=0), sr=rate, n_fft=window, n_mels=min(BINS, bands)
    )
    return power


def _frames(audio: Audio) -> tuple[int, int]:
    """Returns (window, hop) in samples: windows of about 50 ms, no more frames than a picture can show."""
    window = max(64, 2 ** round(np.log2(0.05 * audio.sample_rate)))
    return window, max(window // 4, len(np.asarray(audio)) // COLUMNS)


def _decibels(power: NDArray[np.float32], loudest: float) -> NDArray[np.float32]:
    """Returns dB below `loudest`, from -80 to 0."""
    reference = max(loudest, _QUIET)
    decibels: NDArray[np.float32] = 10 * np.log10(np.maximum(power / reference, 10 ** (-RANGE / 10)))
    return decibels if loudest > _QUIET else np.full_like(power, -RANGE)


def _draw_wave(axes: "Axes", audio: Audio, peak: float) -> None:
    samples = np.asarray(audio, dtype=np.float32)
    count = len(samples)
    if count <= COLUMNS:
        marker = "." if count < 30 else ""
        axes.plot(np.arange(count) / audio.sample_rate, samples, color=_WAVE, linewidth=0.8, marker=marker)
    else:
        starts = np.linspace(0, count, COLUMNS, endpoint=False).astype(int)
        low = np.minimum.reduceat(samples.min(axis=1), starts)
        high = np.maximum.reduceat(samples.max(axis=1), starts)
        axes.fill_between(starts / audio.sample_rate, low, high, color=_WAVE, linewidth=0.3)
    axes.axhline(0, color="#999999", linewidth=0.4)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    _frame(axes, audio)


def _narrow(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the power [bins, frames] with neighbouring frames averaged, so that there are no more than `COLUMNS`."""
    starts = np.unique(np.linspace(0, power.shape[1], COLUMNS, endpoint=False).astype(int))
    widths = np.diff(starts, append=power.shape[1])
    return (np.add.reduceat(power, starts, axis=1) / widths).astype(np.float32)


def _draw_spectrum(axes: "Axes", audio: Audio, decibels: NDArray[np.float32]) -> None:
    extent = (0, max(audio.seconds, 0.01), 0, audio.sample_rate / 2000)
    axes.imshow(
        decibels, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-RANGE, vmax=0, interpolation="none"
    )
    axes.set_ylabel("kHz", fontsize=8, labelpad=2)
    _frame(axes, audio)


def _draw_mel(axes: "Axes", audio: Audio, decibels: NDArray[np.float32]) -> Any:
    import librosa

    bins, frames = decibels.shape
    _, hop = _frames(audio)
    half = hop / 2 / audio.sample_rate
    extent = (-half, frames * hop / audio.sample_rate - half, 0, bins)
    image = axes.imshow(
        decibels, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-RANGE, vmax=0, interpolation="none"
    )
    top = librosa.hz_to_mel(audio.sample_rate / 2)
    places: dict[float, str] = {}
    for hertz in reversed([hertz for hertz in _HERTZ if hertz <= audio.sample_rate / 2]):
        place = float(librosa.hz_to_mel(hertz) / top * bins)
        # The scale is linear below 1 kHz, so the low octaves stand too close to be labelled all.
        if place > bins / 10 and all(other - place > bins / 10 for other in places):
            places[place] = f"{hertz / 1000:.3g}"
    axes.set_yticks(list(places), list(places.values()))
    axes.set_ylim(0, bins)
    axes.set_facecolor("black")
    axes.set_ylabel("kHz", fontsize=8, labelpad=2)
    _frame(axes, audio)
    return image


def _frame(axes: "Axes", audio: Audio) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, max(audio.seconds, 0.01))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(labelsize=7, length=2, colors=_INK)
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)


def _short(title: str, most: int = 60) -> str:
    line = " ".join(title.split())
    return line if len(line) <= most else line[: most - 1] + "…"
