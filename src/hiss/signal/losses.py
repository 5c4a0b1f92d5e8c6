"""Losses on the estimate of a clean sound: auxiliary terms that a model may add to its squared error."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from hiss.errors import MissingPackageError, UsageError
from hiss.signal.intelligibility import intelligibility_error
from hiss.signal.opinions import OpinionNetwork, opinion_error, opinion_network
from hiss.signal.perceptual import perceptual_error
from hiss.signal.stft import compress, stft
from hiss.spec import Spec


@dataclass(frozen=True, kw_only=True)
class LossConfig(Spec, ABC):
    """Family of auxiliary losses; a member says on what it works and how much is wrong."""

    on: ClassVar[Literal["encoded", "audio"]]
    """What it compares: the encoded signal [batch, channels, *space], or audio [batch, audio_channels, samples]."""

    weight: float = 1.0
    """What it is multiplied by before it is added."""
    trusted: bool = False
    """Whether it counts by SNR / (1 + SNR), which is 1 / (1 + sigma^2): little where noise hides the signal."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise UsageError(f"the weight of the loss {self.name} must be positive, not {self.weight}")

    def check(self) -> None:  # most need nothing
        """Makes sure that what it needs besides the audio is there.

        Raises:
            HissError: it is not.
        """

    @abstractmethod
    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Returns how far an estimate is from its target, for each item [batch]."""

    def __call__(self, estimate: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
        """Returns the weighted loss [batch] of an estimate that was made at the noise levels sigma [batch]."""
        loss = self.weight * self.measure(estimate, target)
        return loss / (1 + sigma**2) if self.trusted else loss


@dataclass(frozen=True, kw_only=True)
class CompressedSpectrum(LossConfig, name="compressed_spectrum"):
    """The error of complex spectra and of their magnitudes, both compressed; see `compressed_error`."""

    on = "audio"
    n_fft: int = 512
    hop: int = 256
    exponent: float = 0.3
    magnitude: float = 0.7
    """Share of the magnitudes; the complex spectrum has the rest."""
    asymmetry: float = 1.0
    """What magnitudes that are too small miss is multiplied by. Above 1 it keeps a network that is in doubt from taking
    speech for noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.asymmetry > 0:
            raise UsageError(f"the asymmetry of the loss {self.name} must be positive, not {self.asymmetry}")

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return compressed_error(
            estimate,
            target,
            n_fft=self.n_fft,
            hop=self.hop,
            exponent=self.exponent,
            magnitude=self.magnitude,
            asymmetry=self.asymmetry,
        )


@dataclass(frozen=True, kw_only=True)
class MultiResolution(LossConfig, name="multi_resolution"):
    """The error of magnitude spectra of several windows; see `multi_resolution_error`."""

    on = "audio"
    windows: tuple[int, ...] = (256, 512, 1024)
    """Samples, each with a hop of a quarter."""
    floor: float = 1e-3
    """Magnitude below which logarithms are not told apart."""

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return multi_resolution_error(estimate, target, windows=self.windows, floor=self.floor)


@dataclass(frozen=True, kw_only=True)
class SiSdr(LossConfig, name="si_sdr"):
    """The negative scale-invariant ratio of signal to distortion in dB; see `si_sdr`."""

    on = "audio"
    limit: float = 30.0
    """dB beyond which nothing more is gained."""

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return -si_sdr(estimate, target, limit=self.limit)


@dataclass(frozen=True, kw_only=True)
class Phase(LossConfig, name="phase"):
    """The error of phases, of their slope over frequency and of that over time; see `phase_error`."""

    on = "audio"
    n_fft: int = 512
    hop: int = 128
    floor: float = 1e-3
    """Bins of the target softer than this share of its loudest one do not count: their phase is chance."""

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return phase_error(estimate, target, n_fft=self.n_fft, hop=self.hop, floor=self.floor)


@dataclass(frozen=True, kw_only=True)
class Spectrum(LossConfig, name="spectrum"):
    """The absolute error of magnitudes and of phases; see `spectrum_error`."""

    on = "audio"
    n_fft: int = 1024
    hop: int = 256
    phase: float = 0.1
    """What radians are multiplied by before they are added to magnitudes; 0 for magnitudes alone."""
    wrapping: bool = False
    """Whether phases are subtracted as they are, so that a little more and a little less than pi are 2 pi apart."""
    floor: float = 1e-3
    """Bins softer than this share of the loudest one of the target do not count for phases, which are chance there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.phase < 0:
            raise UsageError(f"the weight of phases must not be negative, not {self.phase}")

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return spectrum_error(
            estimate,
            target,
            n_fft=self.n_fft,
            hop=self.hop,
            phase=self.phase,
            wrapping=self.wrapping,
            floor=self.floor,
        )


@dataclass(frozen=True, kw_only=True)
class Waveform(LossConfig, name="waveform"):
    """The mean absolute difference of the samples."""

    on = "audio"

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return absolute_error(estimate, target)


@dataclass(frozen=True, kw_only=True)
class Perceptual(LossConfig, name="perceptual"):
    """How many points a differentiable sketch of PESQ takes from its best score; see `perceptual_error`."""

    on = "audio"
    sample_rate: int = 16000
    """Hz of the audio."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_rate < 8000:
            raise UsageError(f"speech is heard at 8000 Hz or more, not at {self.sample_rate} Hz")

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return perceptual_error(estimate, target, sample_rate=self.sample_rate)


@dataclass(frozen=True, kw_only=True)
class Intelligibility(LossConfig, name="intelligibility"):
    """How much of speech is not understood, by ESTOI: 1 minus its score; see `intelligibility_error`."""

    on = "audio"
    sample_rate: int = 16000
    """Hz of the audio."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_rate < 10_000:
            raise UsageError(f"ESTOI listens at 10000 Hz, so it needs as much or more, not {self.sample_rate} Hz")

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return intelligibility_error(estimate, target, sample_rate=self.sample_rate)


@dataclass(frozen=True, kw_only=True)
class Opinion(LossConfig, name="opinion"):
    """How many points of opinion DNSMOS takes from the estimate, compared with its target; see `opinion_error`."""

    on = "audio"
    share: float = 1.0
    """Share of each batch that is judged, for the whole; a judgement takes as long as training a small network does."""
    sample_rate: int = 16000
    """Hz of the audio."""
    network: str | None = None
    """Path of the network, an ONNX file; that of the package `speechmos` by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise UsageError(f"the share of a batch that is judged must be above 0 and at most 1, not {self.share}")
        if self.sample_rate < 1:
            raise UsageError(f"a sample rate must be at least 1 Hz, not {self.sample_rate}")

    def check(self) -> None:
        self._judge()

    def _judge(self) -> OpinionNetwork:
        try:
            return opinion_network(None if self.network is None else Path(self.network))
        except MissingPackageError as error:
            raise MissingPackageError(
                "the loss 'opinion' needs two packages, pip install onnx speechmos (only onnx where its network is the "
                "path of an ONNX file); without them leave it out, model.losses.opinion=null"
            ) from error

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        count = max(1, round(self.share * len(target)))
        judge = self._judge().to(target.device)
        error = opinion_error(estimate[:count], target[:count], judge, sample_rate=self.sample_rate)
        error = error * (len(target) / count)
        return functional.pad(error, (0, len(target) - count))


@dataclass(frozen=True, kw_only=True)
class SpectralNorm(LossConfig, name="spectral_norm"):
    """How far the norm of an encoded spectrogram is off, as a share of the right one; see `norm_error`."""

    on = "encoded"

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return norm_error(estimate, target)


@dataclass(frozen=True, kw_only=True)
class TimeDerivative(LossConfig, name="time_derivative"):
    """The squared error of what changes from frame to frame; see `derivative_error`."""

    on = "encoded"

    def measure(self, estimate: Tensor, target: Tensor) -> Tensor:
        return derivative_error(estimate, target)


def absolute_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Returns mean |estimate - target| [batch] of tensors [batch, ...]."""
    return (estimate - target).abs().flatten(1).mean(dim=1)


def compressed_error(
    estimate: Tensor,
    target: Tensor,
    *,
    n_fft: int,
    hop: int,
    exponent: float,
    magnitude: float,
    asymmetry: float = 1.0,
) -> Tensor:
    """Returns (1 - magnitude) * mean |E - T|^2 + magnitude * mean (a (|E| - |T|))^2 [batch].

    E and T are the spectra of audio [batch, channels, samples], magnitudes raised to `exponent`; a is `asymmetry` where
    |E| < |T|, and 1 elsewhere.
    Source: Braun, Tashev 2021, "A consolidated view of loss functions for supervised deep learning-based speech
    enhancement", equation 7; Wang et al. 2020, "VoiceFilter-Lite", the asymmetric loss.
    """
    spectra = [stft(audio.float(), n_fft=n_fft, hop=hop) for audio in (estimate, target)]
    ours, theirs = (compress(spectrum, exponent, floor=1e-8) for spectrum in spectra)
    difference = torch.view_as_real(ours - theirs).square().sum(dim=-1)
    excess = _magnitude(ours) - _magnitude(theirs)
    levels = torch.where(excess < 0, asymmetry * excess, excess).square()
    return torch.lerp(difference, levels, magnitude).flatten(1).mean(dim=1)


def multi_resolution_error(
    estimate: Tensor, target: Tensor, *, windows: tuple[int, ...], floor: float = 1e-3
) -> Tensor:
    """Returns the mean over windows of |||E| - |T||| / |||T||| + mean |log |E| - log |T|| [batch].

    The norm runs over an item; of a silent target only the second part counts. E and T are spectra of audio
    [batch, channels, samples]; logarithms are taken of max(magnitude, floor).
    Source: Yamamoto, Song, Kim 2020, "Parallel WaveGAN", equations 4 to 6.
    """
    total = torch.zeros(len(target), device=target.device)
    for window in windows:
        ours, theirs = (
            _magnitude(stft(audio.float(), n_fft=window, hop=window // 4)).flatten(1) for audio in (estimate, target)
        )
        missed = _root((ours - theirs).square().sum(dim=1))
        whole = theirs.square().sum(dim=1).sqrt()
        convergence = torch.where(whole > floor, missed / whole.clamp(min=floor), 0.0)
        total = total + convergence + (ours.clamp(min=floor).log() - theirs.clamp(min=floor).log()).abs().mean(dim=1)
    return total / len(windows)


def si_sdr(estimate: Tensor, target: Tensor, *, limit: float | None = None) -> Tensor:
    """Returns the scale-invariant signal-to-distortion ratio in dB [batch]; 0 for a silent target.

    With a = <estimate, target> / |target|^2 it is 10 log10(|a target|^2 / |a target - estimate|^2). `limit` in dB is
    where it levels off. Means are not removed.
    Source: Le Roux et al. 2019, "SDR - half-baked or well done?", equation 4; for the limit Wisdom et al. 2020,
    "Unsupervised sound separation using mixture invariant training", equation 3.
    """
    estimate, target = estimate.float().flatten(1), target.float().flatten(1)
    energy = target.square().sum(dim=1)
    heard = energy > 1e-10 * target.shape[1]
    share = (estimate * target).sum(dim=1) / energy.clamp(min=1e-10)
    wanted = share.square() * energy
    distortion = (share[:, None] * target - estimate).square().sum(dim=1)
    tolerated = 0.0 if limit is None else 10 ** (-limit / 10) * wanted
    tiny = 1e-10
    ratio = 10 * torch.log10((wanted + tiny) / (distortion + tolerated + tiny))
    return torch.where(heard, ratio, 0.0)


def phase_error(estimate: Tensor, target: Tensor, *, n_fft: int, hop: int, floor: float = 1e-3) -> Tensor:
    """Returns the mean absolute error of phase, group delay and angular frequency in radians, added up [batch].

    Each error is wrapped into [-pi, pi], |x - 2 pi round(x / (2 pi))|, by taking the angle of a product: that of the
    estimate with the conjugate of the target is the error of the phase, and the products of this with its conjugate
    neighbours over frequency and over time are the two others. Bins count whose target has at least the share `floor`
    of the largest magnitude of the item.
    Source: Ai, Ling 2023, "Neural speech phase prediction based on parallel estimation architecture and anti-wrapping
    losses", equations 8 to 13.
    """
    ours, theirs = (stft(audio.float(), n_fft=n_fft, hop=hop) for audio in (estimate, target))
    counted = theirs.abs() > floor * _peak(theirs)
    turned = ours * theirs.conj()
    # Products of four magnitudes leave the range of float32, so only directions are kept.
    turned = turned / _magnitude(turned).clamp(min=1e-12)
    over_bins = turned[..., 1:, :] * turned[..., :-1, :].conj()
    over_frames = turned[..., 1:] * turned[..., :-1].conj()
    return (
        _angle(turned, counted)
        + _angle(over_bins, counted[..., 1:, :] & counted[..., :-1, :])
        + _angle(over_frames, counted[..., 1:] & counted[..., :-1])
    )


def spectrum_error(
    estimate: Tensor,
    target: Tensor,
    *,
    n_fft: int,
    hop: int,
    phase: float,
    wrapping: bool = False,
    floor: float = 1e-3,
) -> Tensor:
    """Returns mean ||E| - |T|| + phase * mean |arg E - arg T| [batch].

    E and T are the spectra of audio [batch, channels, samples]. Angles are in radians; unless `wrapping`, their
    difference is wrapped into [-pi, pi]. Angles count where E and T both have at least the share `floor` of the largest
    magnitude of T in that item.
    """
    ours, theirs = (stft(audio.float(), n_fft=n_fft, hop=hop) for audio in (estimate, target))
    error = (_magnitude(ours) - _magnitude(theirs)).abs().flatten(1).mean(dim=1)
    least = floor * _peak(theirs)
    counted = (ours.abs() > least) & (theirs.abs() > least)
    one = torch.ones_like(ours)
    turn = torch.where(counted, ours, one).angle() - torch.where(counted, theirs, one).angle()
    if not wrapping:
        turn = turn - 2 * math.pi * (turn / (2 * math.pi)).round()
    return error + phase * turn.abs().flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1).clamp(min=1)


def norm_error(estimate: Tensor, target: Tensor, *, floor: float = 1e-3) -> Tensor:
    """Returns ||E| - |T|| / |T| [batch] of tensors [batch, ...], |.| being the Euclidean norm of an item.

    It is 0 for a target whose norm is below `floor`. It says nothing of where the energy lies: a term beside another.
    """
    ours, theirs = (_root(x.float().flatten(1).square().sum(dim=1)) for x in (estimate, target))
    return torch.where(theirs > floor, (ours - theirs).abs() / theirs.clamp(min=floor), 0.0)


def derivative_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Returns mean |(E[t + 1] - E[t]) - (T[t + 1] - T[t])|^2 [batch] of tensors [batch, ..., frames].

    It is 0 where there is only one frame. What is wrong in the same way at all times does not count.
    """
    change = (estimate.float() - target.float()).diff(dim=-1).flatten(1)
    return change.square().sum(dim=1) / max(1, change.shape[1])


def _angle(product: Tensor, counted: Tensor) -> Tensor:
    """Returns the mean absolute angle [batch] of those complex numbers that count."""
    there = counted & (product.abs() > 0.5)
    angle = torch.where(there, product, torch.ones_like(product)).angle().abs()
    return angle.flatten(1).sum(dim=1) / there.flatten(1).sum(dim=1).clamp(min=1)


def _peak(spectrum: Tensor) -> Tensor:
    """Returns the largest magnitude of each item [batch, 1, ...] of spectra [batch, ...]."""
    return spectrum.abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (spectrum.ndim - 1)).clamp(min=1e-8)


def _magnitude(spectrum: Tensor) -> Tensor:
    return _root(spectrum.real.square() + spectrum.imag.square())


def _root(power: Tensor) -> Tensor:
    """Returns the square root with a slope that is finite at 0."""
    return (power + 1e-12).sqrt()
