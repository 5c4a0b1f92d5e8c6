"""Which figures a report on denoising has: measures by name, each ready before the work begins."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hiss.audio import Audio
from hiss.errors import UsageError, unknown
from hiss.evaluation.speech import (
    Dnsmos,
    attenuation,
    band_effect,
    is_silent,
    level,
    log_spectral_distance,
    package,
    pesq,
    segmental_snr,
    si_sdr,
    stoi,
)

FIGURES = {
    "pesq_wb": "PESQ-WB",
    "pesq_nb": "PESQ-NB",
    "estoi": "ESTOI",
    "stoi": "STOI",
    "si_sdr": "SI-SDR",
    "segmental_snr": "SSNR",
    "log_spectral_distance": "LSD",
    "dnsmos_ovrl": "OVRL",
    "dnsmos_sig": "SIG",
    "dnsmos_bak": "BAK",
    "level": "level",
    "attenuation": "attenuation",
    "noise_reduction_above_8_khz": "noise down > 8 kHz",
    "speech_change_above_8_khz": "speech up > 8 kHz",
}
"""Every figure and its heading, in the order of reports. Higher is better, but for LSD (lower) and for "level" and
"speech up" (near 0). PESQ, OVRL, SIG and BAK are opinion scores, STOI and ESTOI shares; all others are in dB."""

HEADLINE = ("pesq_wb", "estoi", "si_sdr", "dnsmos_ovrl")
"""One figure each for quality, intelligibility, distortion, and quality without a reference."""

Figures = dict[str, float | None]
Measure = Callable[[Audio, Audio, Audio], Figures]
"""(clean, noisy, processed) -> some of `FIGURES`."""


def measures(names: Sequence[str] | None = None, *, dnsmos: str | Path | None = None) -> list[Measure]:
    """Returns the measures called `names` out of `MEASURES`, all by default, ready to run.

    Args:
        names: Which.
        dnsmos: The network of DNSMOS, see `Dnsmos`.

    Raises:
        UsageError: a name is unknown, or none is given.
        HissError: a measure needs a package that is not installed.
    """
    chosen = list(MEASURES) if names is None else list(names)
    if not chosen:
        raise UsageError(f"name at least one measure: {', '.join(MEASURES)}")
    for name in chosen:
        if name not in MEASURES:
            raise unknown("measure", name, MEASURES)
    return [MEASURES[name](dnsmos) for name in chosen]


def _open_pesq(_: str | Path | None) -> Measure:
    package("pesq", "PESQ")
    return lambda clean, _, processed: {
        "pesq_wb": pesq(clean, processed),
        "pesq_nb": pesq(clean, processed, wide=False),
    }


def _open_stoi(_: str | Path | None) -> Measure:
    package("pystoi", "STOI")
    return lambda clean, _, processed: {
        "estoi": stoi(clean, processed, extended=True),
        "stoi": stoi(clean, processed),
    }


def _open_distances(_: str | Path | None) -> Measure:
    return lambda clean, _, processed: {
        "si_sdr": si_sdr(clean, processed),
        "segmental_snr": segmental_snr(clean, processed),
        "log_spectral_distance": log_spectral_distance(clean, processed),
    }


def _open_dnsmos(path: str | Path | None) -> Measure:
    network = Dnsmos(path)
    return lambda _clean, _noisy, processed: network(processed)


def _open_levels(_: str | Path | None) -> Measure:
    return lambda clean, noisy, processed: {
        "level": level(clean, processed),
        "attenuation": attenuation(noisy, processed) if is_silent(clean) else None,
    }


def _open_bands(_: str | Path | None) -> Measure:
    def above_8_khz(clean: Audio, noisy: Audio, processed: Audio) -> Figures:
        down, up = (None, None) if clean.sample_rate <= 16000 else band_effect(clean, noisy, processed, low=8000)
        return {"noise_reduction_above_8_khz": down, "speech_change_above_8_khz": up}

    return above_8_khz


MEASURES: dict[str, Callable[[str | Path | None], Measure]] = {
    "pesq": _open_pesq,
    "stoi": _open_stoi,
    "distances": _open_distances,
    "dnsmos": _open_dnsmos,
    "levels": _open_levels,
    "bands": _open_bands,
}
"""What opens a measure, given the path of DNSMOS's network; only PESQ, STOI and DNSMOS need more than hiss itself."""
