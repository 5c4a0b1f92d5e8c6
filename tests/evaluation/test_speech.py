"""Figures of denoised speech: closed forms, the packages of others, recordings for which a figure is not defined."""

import math
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.errors import HissError, UsageError
from hiss.evaluation.measures import FIGURES, MEASURES, measures
from hiss.evaluation.speech import (
    Dnsmos,
    attenuation,
    band_effect,
    level,
    log_spectral_distance,
    pesq,
    segmental_snr,
    si_sdr,
    stoi,
)

RATE = 16000
SILENT = Audio(torch.zeros(RATE), RATE)


def wave(hertz: float, *, seconds: float = 1.0, rate: int = RATE, phase: float = 0.0) -> Tensor:
    """Returns a tone [samples] of whole periods per second."""
    return torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * rate)) / rate + phase)


def voice(*, seconds: float = 3.0, noise: float = 0.0, bursts: float = 2.0) -> Audio:
    """Returns noise in syllables, which counts as speech, with steady noise added."""
    generator = torch.Generator().manual_seed(0)
    samples = round(seconds * RATE)
    gate = (wave(bursts, seconds=seconds) > 0) * (0.6 + 0.4 * wave(3.3, seconds=seconds))
    spoken = 0.1 * torch.randn(samples, generator=generator) * gate
    return Audio(spoken + noise * torch.randn(samples, generator=generator), RATE)


def near(value: float | None, expected: float, within: float = 1e-3) -> bool:
    return value is not None and math.isclose(value, expected, abs_tol=within)


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
def test_si_sdr_of_orthogonal_noise_is_the_ratio_whatever_the_level(ratio: float) -> None:
    clean, noise = wave(440), wave(440, phase=torch.pi / 2)
    for gain in (1.0, 0.1, -0.3):
        processed = Audio(gain * (clean + ratio * noise), RATE)
        assert near(si_sdr(Audio(clean, RATE), processed), -20 * math.log10(ratio))


def test_identical_recordings_score_the_ceiling_and_silence_the_floor_of_si_sdr() -> None:
    clean = Audio(wave(440), RATE)
    assert si_sdr(clean, clean) == 100
    assert si_sdr(clean, SILENT) == -100
    assert si_sdr(SILENT, clean) is None


def test_segmental_snr_is_the_mean_of_frames_within_its_limits() -> None:
    clean = wave(500)
    assert near(segmental_snr(Audio(clean, RATE), Audio(1.1 * clean, RATE)), 20)
    assert segmental_snr(Audio(clean, RATE), Audio(clean, RATE)) == 35
    assert segmental_snr(Audio(clean, RATE), Audio(10 * clean, RATE)) == -10
    half = torch.cat([1.1 * clean[: RATE // 2], clean[RATE // 2 :]])
    assert near(segmental_snr(Audio(clean, RATE), Audio(half, RATE)), (20 + 35) / 2, 0.5)
    assert segmental_snr(SILENT, Audio(clean, RATE)) is None


def test_log_spectral_distance_of_another_level_is_that_level() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(RATE, generator=generator)
    assert near(log_spectral_distance(Audio(noise, RATE), Audio(0.5 * noise, RATE)), 20 * math.log10(2), 0.01)
    assert log_spectral_distance(Audio(noise, RATE), Audio(noise, RATE)) == 0
    assert log_spectral_distance(SILENT, Audio(noise, RATE)) is None


def test_the_level_of_speech_does_not_count_what_noise_is_left() -> None:
    clean = wave(440)
    processed = Audio(0.5 * clean + 0.7 * wave(1000), RATE)
    assert near(level(Audio(clean, RATE), processed), 20 * math.log10(0.5))
    assert level(Audio(clean, RATE), Audio(-clean, RATE)) is None
    assert level(SILENT, processed) is None


def test_attenuation_is_how_much_softer_it_became() -> None:
    noise = Audio(wave(440), RATE)
    assert near(attenuation(noise, Audio(0.1 * noise.samples, RATE)), 20)
    assert attenuation(noise, SILENT) == 100
    assert attenuation(SILENT, SILENT) is None


def test_several_channels_count_as_their_mean() -> None:
    clean, noise = wave(440), wave(440, phase=torch.pi / 2)
    stereo = Audio(torch.stack([clean + noise, clean]), RATE)
    assert near(si_sdr(Audio(torch.stack([clean, clean]), RATE), stereo), 20 * math.log10(2))


def test_noise_and_speech_of_a_band_are_told_apart() -> None:
    rate = 48000
    tone, hum = wave(10_000, rate=rate), wave(15_000, rate=rate)
    low = wave(300, rate=rate)
    clean = Audio(0.3 * tone + low, rate)
    noisy = Audio(clean.samples + 0.3 * hum, rate)
    processed = Audio(0.8 * 0.3 * tone + 0.1 * 0.3 * hum + 0.2 * low, rate)
    down, up = band_effect(clean, noisy, processed, low=8000)
    assert near(down, 20, 0.1)
    assert near(up, 20 * math.log10(0.8), 0.1)
    assert near(band_effect(clean, noisy, processed, low=12_000)[0], 20, 0.1)


def test_a_band_without_noise_or_speech_has_no_figure() -> None:
    clean = Audio(0.3 * wave(10_000, rate=48000), 48000)
    down, up = band_effect(clean, clean, clean, low=8000)
    assert down is None
    assert near(up, 0)
    empty = Audio(torch.zeros(48000), 48000)
    down, up = band_effect(empty, clean, clean, low=8000)
    assert near(down, 0)
    assert up is None


def test_pesq_of_identical_recordings_is_its_ceiling_and_noise_lowers_it() -> None:
    pytest.importorskip("pesq", reason="PESQ needs the extra 'metrics'")
    assert near(pesq(voice(), voice()), 4.644)
    assert near(pesq(voice(), voice(), wide=False), 4.549)
    scores = [pesq(voice(), voice(noise=noise)) for noise in (0.001, 0.01, 0.1)]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    assert 1 < (scores[-1] or 0) < 1.5


def test_pesq_is_missing_where_it_is_not_defined() -> None:
    pytest.importorskip("pesq", reason="PESQ needs the extra 'metrics'")
    short = Audio(voice().samples[:, :1000], RATE)
    assert pesq(SILENT, voice(seconds=1.0)) is None
    assert pesq(SILENT, SILENT) is None
    assert pesq(short, short) is None
    telephone = voice().resample(8000)
    assert pesq(telephone, telephone) is None
    assert near(pesq(telephone, telephone, wide=False), 4.549)


def test_pesq_of_a_long_recording_is_the_mean_of_its_pieces() -> None:
    # 150 utterances at once overrun the memory of the reference code.
    pytest.importorskip("pesq", reason="PESQ needs the extra 'metrics'")
    clean, processed = voice(seconds=60, bursts=2.5), voice(seconds=60, bursts=2.5, noise=0.01)
    pieces = [
        pesq(Audio(clean.samples[:, part], RATE), Audio(processed.samples[:, part], RATE)) or 0
        for part in (slice(20 * RATE * index, 20 * RATE * (index + 1)) for index in range(3))
    ]
    assert near(pesq(clean, processed), sum(pieces) / 3)


@pytest.mark.parametrize("wide", [True, False])
def test_pesq_of_speech_that_was_muted_is_the_lowest_opinion(wide: bool) -> None:
    pytest.importorskip("pesq", reason="PESQ needs the extra 'metrics'")
    assert pesq(voice(seconds=1.0), SILENT, wide=wide) == 1
    whisper = Audio(1e-8 * torch.randn(RATE, generator=torch.Generator().manual_seed(0)), RATE)
    assert pesq(voice(seconds=1.0), whisper, wide=wide) == 1
    clean = voice(seconds=60)
    muted, pause = clean.samples.clone(), clean.samples.clone()
    muted[:, 20 * RATE : 40 * RATE] = 0
    pause[:, : 40 * RATE] = 0
    best = pesq(clean, clean, wide=wide) or 0
    assert near(pesq(clean, Audio(muted, RATE), wide=wide), (2 * best + 1) / 3)
    assert near(pesq(Audio(pause, RATE), Audio(pause, RATE), wide=wide), best)  # nothing was muted where nobody spoke
    assert near(pesq(Audio(pause, RATE), clean, wide=wide), best)


@pytest.mark.parametrize("rest", [0.0, 1e-9])
def test_channels_that_cancel_each_other_are_silent(rest: float) -> None:
    for name in ("pesq", "pystoi"):
        pytest.importorskip(name, reason="needs the extra 'metrics'")
    sound = voice().samples
    cancelled = Audio(torch.cat([sound, rest * torch.sign(sound) - sound]), RATE)
    heard = voice().to_channels(2)
    assert cancelled.rms > 0.01
    for figure in (pesq, stoi, si_sdr, segmental_snr, log_spectral_distance, level):
        assert figure(cancelled, heard) is None, figure.__name__
    assert attenuation(cancelled, heard) is None
    assert si_sdr(heard, cancelled) == -100
    [levels] = measures(["levels"])
    assert levels(cancelled, heard, cancelled) == {
        "level": None,
        "attenuation": 100 if not rest else pytest.approx(100),
    }


def test_stoi_of_identical_recordings_is_one_and_noise_lowers_it() -> None:
    pytest.importorskip("pystoi", reason="STOI needs the extra 'metrics'")
    for extended in (False, True):
        assert near(stoi(voice(), voice(), extended=extended), 1)
        assert (stoi(voice(), voice(noise=0.1), extended=extended) or 0) < 0.9


def test_stoi_is_missing_where_it_is_not_defined() -> None:
    pytest.importorskip("pystoi", reason="STOI needs the extra 'metrics'")
    short = Audio(voice().samples[:, :1000], RATE)
    assert stoi(short, short) is None
    assert stoi(SILENT, voice(seconds=1.0)) is None


@pytest.fixture(scope="module")
def network() -> Dnsmos:
    pytest.importorskip("onnxruntime", reason="DNSMOS needs the extra 'metrics'")
    try:
        return Dnsmos()
    except HissError:
        pytest.skip("DNSMOS needs the extra 'metrics'")


@pytest.mark.parametrize("seconds", [2.5, 11.2])
def test_dnsmos_agrees_with_the_package_of_its_authors(network: Dnsmos, seconds: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dnsmos = pytest.importorskip("speechmos.dnsmos", exc_type=ImportError)
        audio = voice(seconds=seconds)
        theirs = dnsmos.run(audio.samples[0].numpy(), RATE)
    ours = network(audio)
    for kind in ("ovrl", "sig", "bak"):
        assert near(ours[f"dnsmos_{kind}"], theirs[f"{kind}_mos"])


def test_dnsmos_of_nothing_is_missing_and_loud_recordings_are_turned_down(network: Dnsmos) -> None:
    assert set(network(Audio(torch.zeros(0), RATE)).values()) == {None}
    loud = Audio(voice().samples * 10, RATE)
    whole = Audio(loud.samples / loud.peak, RATE)
    assert network(loud) == pytest.approx(network(whole), abs=1e-4)


def test_dnsmos_refuses_what_is_no_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="DNSMOS needs the extra 'metrics'")
    with pytest.raises(HissError, match="there is no DNSMOS network"):
        Dnsmos(tmp_path / "none.onnx")
    file = tmp_path / "text.onnx"
    file.write_text("no network")
    with pytest.raises(HissError, match="no network that onnxruntime can run"):
        Dnsmos(file)


def test_all_measures_together_give_every_figure_once() -> None:
    for name in ("pesq", "pystoi", "onnxruntime", "speechmos"):
        pytest.importorskip(name, reason="needs the extra 'metrics'", exc_type=ImportError)
    found = [measure(voice(), voice(noise=0.01), voice(noise=0.001)) for measure in measures()]
    assert sorted(name for figures in found for name in figures) == sorted(FIGURES)


def test_only_noise_alone_has_an_attenuation_and_only_wide_recordings_a_band_above_8_khz() -> None:
    levels, bands = measures(["levels", "bands"])
    clean = voice(seconds=1.0)
    assert levels(clean, clean, clean) == {"level": pytest.approx(0, abs=1e-6), "attenuation": None}
    assert levels(SILENT, clean, clean) == {"level": None, "attenuation": 0}
    assert set(bands(clean, clean, clean).values()) == {None}
    wide = clean.resample(48000)
    assert bands(Audio(torch.zeros_like(wide.samples), 48000), wide, wide)["speech_change_above_8_khz"] is None


def test_measures_are_checked_before_the_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"unknown measure 'peskq' \(did you mean 'pesq'\?\)"):
        measures(["peskq"])
    with pytest.raises(UsageError, match="at least one measure"):
        measures([])
    for name, package in {"pesq": "pesq", "stoi": "pystoi", "dnsmos": "onnxruntime"}.items():
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(HissError, match=rf"needs the package {package}: pip install 'hiss\[metrics\]'"):
            measures([name])
    assert len(measures([name for name in MEASURES if name not in ("pesq", "stoi", "dnsmos")])) == 3
