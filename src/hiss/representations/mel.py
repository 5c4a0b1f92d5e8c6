"""Log-mel spectra, and a vocoder that makes sound of them: lossy, but small, and what ears care about."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.autoencoder import Vae
from hiss.errors import HissError, UsageError
from hiss.representations.base import Representation, RepresentationConfig
from hiss.signal.mel import MelProfile
from hiss.signal.moments import moments
from hiss.vocoders import Vocoder, VocoderConfig
from hiss.vocoders.base import NEAR
from hiss.vocoders.istft import IstftConfig


@dataclass(frozen=True)
class MelConfig(RepresentationConfig, name="mel"):
    """What makes sound of log-mel spectra, which are those that it hears."""

    vocoder: VocoderConfig = IstftConfig()

    def build(self, sample_rate: int, audio_channels: int) -> "Mel":
        return Mel(self, sample_rate, audio_channels)


class Mel(Representation):
    """[batch, audio_channels, samples] -> [batch, audio_channels, bins, frames]: (log-mel - mean) / scale.

    Each bin has its own mean and all have one scale, so that a decibel counts the same everywhere. The vocoder is
    trained before, and does not learn any more; its weights are saved with the model.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: MelConfig, sample_rate: int, audio_channels: int) -> None:
        super().__init__()
        check_rate("vocoder", config.vocoder.mel, sample_rate)
        self.config: MelConfig = config
        self.sample_rate = sample_rate
        self.audio_channels = self.channels = audio_channels
        self.dims = 2
        self.hop = config.vocoder.mel.hop
        self.margin = margin(config.vocoder.mel, self.hop)
        self.vocoder = config.vocoder.build().requires_grad_(False)
        self.register_buffer("mean", torch.zeros(config.vocoder.mel.bins, 1))
        self.register_buffer("scale", torch.ones(()))

    def encode(self, audio: Tensor) -> Tensor:
        return (self.config.vocoder.mel(audio) - self.mean) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        audio: Tensor = self.vocoder(x.float() * self.scale + self.mean)
        return audio

    def decode_circle(self, x: Tensor) -> Tensor:
        return self.vocoder.circle(x.float() * self.scale + self.mean)

    def shape(self, samples: int) -> tuple[int, ...]:
        mel = self.config.vocoder.mel
        return (self.channels, mel.bins, mel.frames(samples))

    def fit(self, batches: Iterable[Tensor]) -> None:
        check_trained("vocoder", self.vocoder)
        profile = self.config.vocoder.mel
        mean, std = moments((profile(audio.to(self.mean.device)) for audio in batches), over=(0, 1, 3))
        self.mean.copy_(mean[:, None])
        self.scale.copy_(std.square().mean().sqrt())


def margin(profile: MelProfile, hop: int) -> int:
    """Returns how many frames of `hop` samples reach as far as a window of the spectrum and a vocoder do."""
    return math.ceil((profile.n_fft / 2 + NEAR * profile.sample_rate) / hop)


def check_rate(what: str, profile: MelProfile, sample_rate: int) -> None:
    """Refuses a part that was made for another sample rate than that of the model."""
    if profile.sample_rate != sample_rate:
        raise UsageError(
            f"the {what} works at {profile.sample_rate} Hz, and the model has {sample_rate} Hz; "
            f"set the sample_rate of the model to that of the {what}, or train another {what}"
        )


def check_trained(what: str, part: Vae | Vocoder) -> None:
    """Refuses a part whose weights are as they were drawn: it would turn everything into noise."""
    if not part.trained:
        raise HissError(
            f"the {what} of the representation is untrained, so that there would be nothing but noise; "
            f"take a trained one, as in {what}: {{from: FOLDER}}"
        )
