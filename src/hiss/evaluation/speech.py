"""How good denoised speech is: the usual figures of the field, each None where it is not defined.

Every function takes recordings of one length and rate; several channels count as their mean.
"""

import importlib
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.errors import HissError
from hiss.signal.opinions import OPINION_RATE, OPINIONS, published_network
from hiss.signal.stft import stft

CEILING = 100.0
"""dB that identical recordings score where the ratio is infinite."""

SILENCE = 1e-7
"""RMS, -140 dBFS, below which nothing is heard."""

_PESQ_PIECE = 20.0  # seconds; P.862 is meant for 8 to 20 s, and its code overruns its memory past 50 utterances
_WORST_OPINION = 1.0  # ITU-T P.800: "bad"; both mappings of PESQ to opinions stay above 0.999
_OPINION_WINDOW = 144_160  # samples: 9.01 s
_NOISE_RULES, _SPEECH_RULES = 100.0, 10.0  # power ratios (20 and 10 dB) from which a cell belongs to one of the two


def is_silent(audio: Audio) -> bool:
    """Returns whether nothing is heard in the mean of the channels, which is what all figures are of."""
    return audio.mono().rms < SILENCE


def pesq(clean: Audio, processed: Audio, *, wide: bool = True) -> float | None:
    """Returns the predicted opinion score, 1 to 4.64 (wide band, 16 kHz) or 4.55 (narrow band).

    A recording longer than 20 s is scored in equal pieces: the mean over those with speech. The package has no score
    for speech that became silence; it counts as 1, where the scale of opinions begins, so that no figure rises by
    muting. None: no speech is found, it lasts less than 0.25 s, or wide band of a rate below 16 kHz.

    Source: ITU-T P.862 (2001) and P.862.2 (2007), as the package `pesq` computes them.
    """
    scorer = package("pesq", "PESQ")
    rate = 16000 if clean.sample_rate >= 16000 else 8000
    if wide and rate < 16000:
        return None
    pieces = math.ceil(clean.seconds / _PESQ_PIECE) or 1
    scores = []
    for one, other in zip(*(_wave(audio, rate).tensor_split(pieces) for audio in (clean, processed)), strict=True):
        if is_silent(Audio(one, rate)):
            continue
        muted = is_silent(Audio(other, rate))
        try:  # the package finds the speech, also where only that is asked
            score = scorer.pesq(rate, one.numpy(), (one if muted else other).numpy(), "wb" if wide else "nb")
        except scorer.PesqError:
            continue
        scores.append(_WORST_OPINION if muted else float(score))
    return sum(scores) / len(scores) if scores else None


def stoi(clean: Audio, processed: Audio, *, extended: bool = False) -> float | None:
    """Returns the short-time objective intelligibility, up to 1; None for less than about 0.4 s of speech.

    Source: Taal et al. 2011, "An algorithm for intelligibility prediction of time-frequency weighted noisy speech";
    `extended`: Jensen and Taal 2016, "An algorithm for predicting the intelligibility of speech masked by modulated
    noise maskers"; as the package `pystoi` computes them.
    """
    scorer = package("pystoi", "STOI")
    if is_silent(clean):
        return None
    waves = [_wave(audio).numpy() for audio in (clean, processed)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # its only sign that there is too little speech
        try:
            return float(scorer.stoi(*waves, clean.sample_rate, extended=extended))
        except (RuntimeWarning, ValueError):
            return None


def si_sdr(clean: Audio, processed: Audio) -> float | None:
    """Returns the scale-invariant signal-to-distortion ratio in dB, within +-100; None where `clean` is silent.

    Source: Le Roux et al. 2019, "SDR - half-baked or well done?", eq. 2.
    """
    if is_silent(clean):
        return None
    if is_silent(processed):
        return -CEILING
    reference, estimate = _wave(clean), _wave(processed)
    target = _scale(reference, estimate) * reference
    return _decibels(target.square().sum(), (target - estimate).square().sum())


def segmental_snr(clean: Audio, processed: Audio) -> float | None:
    """Returns the mean over frames of 32 ms of the signal-to-noise ratio in dB, each within -10 to 35.

    None where `clean` is silent. Frames overlap by half.

    Source: Hansen and Pellom 1998, "An effective quality evaluation protocol for speech enhancement algorithms", eq. 1.
    """
    if is_silent(clean):
        return None
    length = min(round(0.032 * clean.sample_rate), clean.samples.shape[1])
    frames, error = (
        wave.unfold(0, length, max(1, length // 2)).square().sum(1)
        for wave in (_wave(clean), _wave(clean) - _wave(processed))
    )
    tiny = torch.finfo(torch.float64).tiny
    return float((10 * ((frames + tiny) / (error + tiny)).log10()).clamp(-10, 35).mean())


def log_spectral_distance(clean: Audio, processed: Audio) -> float | None:
    """Returns the mean over frames of the root mean square, over frequency, of the difference of log spectra in dB.

    Both spectra end 80 dB below the loudest of `clean`, as nobody hears what lies below. None where `clean` is silent.

    Source: Gray and Markel 1976, "Distance measures for speech processing", eq. 2.
    """
    if is_silent(clean):
        return None
    one, other = _power(clean), _power(processed)
    floor = 1e-8 * one.amax()
    difference = 10 * (one.clamp(min=floor) / other.clamp(min=floor)).log10()
    return float(difference.square().mean(0).sqrt().mean())


def level(clean: Audio, processed: Audio) -> float | None:
    """Returns by how many dB the speech in `processed` is louder than in `clean`, whatever noise is left.

    It is the gain of the projection on `clean`; None where `clean` is silent or the projection points the other way.
    """
    if is_silent(clean):
        return None
    scale = float(_scale(_wave(clean), _wave(processed)))
    return 20 * math.log10(scale) if scale > 0 else None


def attenuation(noisy: Audio, processed: Audio) -> float | None:
    """Returns by how many dB `processed` is softer than `noisy`, at most 100; None where `noisy` is silent."""
    if is_silent(noisy):
        return None
    return _decibels(_wave(noisy).square().sum(), _wave(processed).square().sum())


def band_effect(
    clean: Audio, noisy: Audio, processed: Audio, *, low: float, high: float | None = None
) -> tuple[float | None, float | None]:
    """Returns (dB by which noise went down, dB by which speech went up) between `low` and `high` Hz.

    Each is the ratio of summed powers over the cells of the spectrogram that clearly are the one or the other: for
    noise, those where noisy - clean is 20 dB above clean; for speech, those where it is 10 dB below. So even a perfect
    result may score no more than the noise stood out by. None where there are no such cells.

    Args:
        clean: What perfection would be.
        noisy: What went in.
        processed: What came out.
        low: Hz, where the band begins.
        high: Hz, where it ends; half of the sample rate if not given.
    """
    n_fft, _ = _frames(clean)
    hertz = torch.arange(n_fft // 2 + 1) * clean.sample_rate / n_fft
    band = (hertz >= low) & (hertz <= (high or clean.sample_rate / 2))
    speech, before, after = (_power(audio)[band] for audio in (clean, noisy, processed))
    noise = _power(Audio(noisy.samples - clean.samples, clean.sample_rate))[band]
    heard = 1e-14 * n_fft**2  # -140 dBFS
    is_noise = (noise > _NOISE_RULES * speech) & (noise > heard)
    is_speech = (speech > _SPEECH_RULES * noise) & (speech > heard)
    down = _decibels(before[is_noise].sum(), after[is_noise].sum()) if bool(is_noise.any()) else None
    up = _decibels(after[is_speech].sum(), speech[is_speech].sum()) if bool(is_speech.any()) else None
    return down, up


class Dnsmos:
    """Predicted opinions (1 to 5) of a recording alone: overall quality, speech, background.

    Source: Reddy et al. 2022, "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric to evaluate
    noise suppressors"; the network and the three polynomials are those that the authors published.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        """Opens the network: `sig_bak_ovr.onnx` at `path`, or that of the package `speechmos`.

        Raises:
            HissError: onnxruntime is not installed, or there is no such file.
        """
        runtime = package("onnxruntime", "DNSMOS")
        file = published_network() if path is None else Path(path)
        if not file.is_file():
            raise HissError(f"there is no DNSMOS network {file}; give the path of sig_bak_ovr.onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # several wait for one another on a busy machine
        try:
            self._session = runtime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for every failure, with no common name
            raise HissError(f"{file} is no network that onnxruntime can run: {error}") from error

    def __call__(self, audio: Audio) -> dict[str, float | None]:
        """Returns "dnsmos_ovrl", "dnsmos_sig" and "dnsmos_bak": means over windows of 9.01 s, one every second.

        A shorter recording is repeated. The windows are those of `speechmos`, so that figures can be compared.
        """
        if not audio.samples.shape[1]:
            return dict.fromkeys(OPINIONS)
        wave = _wave(audio, OPINION_RATE).float()
        wave = wave / wave.abs().amax().clamp(min=1)  # the network knows nothing beyond full scale
        while len(wave) < _OPINION_WINDOW:
            wave = torch.cat([wave, wave])
        seconds = range(max(1, len(wave) // OPINION_RATE - 9))
        # The authors' code loses the windows whose end, in floating point, comes out a sample short.
        kept = [
            second
            for second in seconds
            if int((second + 9.01) * OPINION_RATE) - second * OPINION_RATE >= _OPINION_WINDOW
        ]
        windows = wave.unfold(0, _OPINION_WINDOW, OPINION_RATE)[kept]
        [name] = [port.name for port in self._session.get_inputs()]
        raw = torch.cat([torch.from_numpy(self._session.run(None, {name: one.numpy()})[0]) for one in windows.split(1)])
        return {
            figure: float((a + b * column + c * column**2).mean())
            for (figure, (a, b, c)), column in zip(OPINIONS.items(), raw.double().T, strict=True)
        }


def package(name: str, what: str) -> Any:
    """Returns the optional package called `name`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HissError(f"{what} needs the package {name}: pip install 'hiss[metrics]'") from error


def _wave(audio: Audio, rate: int | None = None) -> Tensor:
    """Returns the mean of the channels, float64 [samples], at `rate` Hz if that is given."""
    audio = audio.mono()
    return (audio if rate is None else audio.resample(rate)).samples[0].double()


def _frames(audio: Audio) -> tuple[int, int]:
    """Returns (window, hop) in samples: 32 ms, and a quarter of it."""
    n_fft = max(4, 4 * round(0.008 * audio.sample_rate))
    return n_fft, n_fft // 4


def _power(audio: Audio) -> Tensor:
    """Returns the power spectrogram [bins, frames]."""
    n_fft, hop = _frames(audio)
    return stft(_wave(audio), n_fft=n_fft, hop=hop).abs().square()


def _scale(reference: Tensor, estimate: Tensor) -> Tensor:
    """Returns the gain that brings `reference` [samples] nearest to `estimate` [samples]."""
    return (reference * estimate).sum() / reference.square().sum()


def _decibels(signal: Tensor, rest: Tensor) -> float:
    """Returns 10 log10(signal / rest), of energies, within +-100."""
    tiny = torch.finfo(torch.float64).tiny
    ratio = 10 * float(((signal + tiny) / (rest + tiny)).log10())
    return min(max(ratio, -CEILING), CEILING)
