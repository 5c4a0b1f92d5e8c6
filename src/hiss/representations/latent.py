"""What an autoencoder makes of log-mel spectra: sixteen times fewer places, for large models of any sound."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hiss.autoencoder import VaeConfig
from hiss.errors import UsageError
from hiss.representations.base import Representation, RepresentationConfig
from hiss.representations.mel import check_rate, check_trained, margin
from hiss.signal.moments import moments, silent
from hiss.signal.overlap import Windows
from hiss.signal.resampling import turned
from hiss.vocoders import VocoderConfig
from hiss.vocoders.istft import IstftConfig

_REACH = 2
"""Frames on either side that the autoencoder hears well; its norms and its attention hear a little of all."""
_WINDOW, _SHARED = 512, 32
"""Frames that are decoded at once, and how many of them neighbours share: memory stays bounded, and attention, whose
work grows with the square of the frames."""


@dataclass(frozen=True)
class LatentConfig(RepresentationConfig, name="latent"):
    """The autoencoder, and what makes sound of the log-mel spectra that it decodes; both know the same profile."""

    vae: VaeConfig = VaeConfig()
    vocoder: VocoderConfig = IstftConfig()

    def __post_init__(self) -> None:
        encoded, heard = self.vae.mel.to_dict(), self.vocoder.mel.to_dict()
        for key in encoded:
            if encoded[key] != heard[key]:
                raise UsageError(
                    f"the autoencoder and the vocoder know different mel spectra: {key} is {encoded[key]} for one and "
                    f"{heard[key]} for the other; take two that were trained with the same mel profile"
                )

    def build(self, sample_rate: int, audio_channels: int) -> "Latent":
        return Latent(self, sample_rate, audio_channels)


class Latent(Representation):
    """[batch, audio_channels, samples] -> [batch, audio_channels * latent, bins / factor, frames / factor].

    Of the Gaussian that the autoencoder makes of each audio channel, the mean is taken. Every channel of it is brought
    to zero mean and unit variance over the training set. Autoencoder and vocoder are trained before, and do not learn
    any more; their weights are saved with the model.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: LatentConfig, sample_rate: int, audio_channels: int) -> None:
        super().__init__()
        check_rate("autoencoder", config.vae.mel, sample_rate)
        self.config: LatentConfig = config
        self.sample_rate = sample_rate
        self.audio_channels = audio_channels
        self.channels = audio_channels * config.vae.latent
        self.dims = 2
        self.hop = config.vae.mel.hop * config.vae.factor
        self.margin = margin(config.vae.mel, self.hop) + _REACH
        self.vae = config.vae.build().requires_grad_(False)
        self.vocoder = config.vocoder.build().requires_grad_(False)
        self.register_buffer("mean", torch.zeros(config.vae.latent, 1, 1))
        self.register_buffer("scale", torch.ones(config.vae.latent, 1, 1))

    def encode(self, audio: Tensor) -> Tensor:
        encoded: Tensor = ((self._means(audio) - self.mean) / self.scale).flatten(1, 2)
        return encoded

    def decode(self, x: Tensor) -> Tensor:
        return self._channels(self.vocoder(self._mel(x)))

    def decode_circle(self, x: Tensor) -> Tensor:
        frames, factor = x.shape[-1], self.config.vae.factor
        mel = self._mel(turned(x, start=-self.margin, size=frames + 2 * self.margin))
        return self._channels(self.vocoder.circle(mel[..., self.margin * factor :][..., : frames * factor]))

    def _mel(self, x: Tensor) -> Tensor:
        """Returns log-mels, every audio channel on its own, of x [batch, channels, *space]."""
        latents = x.float().unflatten(1, (self.audio_channels, -1)) * self.scale + self.mean
        windows = Windows(self.vae.decode, size=_WINDOW, overlap=_SHARED, grows=self.config.vae.factor)
        return windows.push(latents.flatten(0, 1), last=True)

    def _channels(self, audio: Tensor) -> Tensor:
        """Returns [batch, audio_channels, samples] of audio with every channel on its own."""
        return audio.reshape(-1, self.audio_channels, audio.shape[-1])

    def shape(self, samples: int) -> tuple[int, ...]:
        mel, factor = self.config.vae.mel, self.config.vae.factor
        return (self.channels, mel.bins // factor, -(-mel.frames(samples) // factor))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        check_trained("vae", self.vae)
        check_trained("vocoder", self.vocoder)
        heard = False

        def latents() -> Iterator[Tensor]:
            nonlocal heard
            for audio in batches:
                heard = heard or bool(audio.any())
                yield self._means(audio.to(self.mean.device))

        mean, std = moments(latents(), over=(0, 1, 3, 4))
        if not heard:  # which the edges of an autoencoder would hide
            raise silent()
        self.mean.copy_(mean[:, None, None])
        # A channel that the autoencoder does not use stays small.
        self.scale.copy_(std.clamp(min=0.01 * float(std.max()))[:, None, None])

    def _means(self, audio: Tensor) -> Tensor:
        """Returns [batch, audio_channels, latent, bins / factor, frames / factor], not scaled."""
        whole = functional.pad(audio, (0, -audio.shape[-1] % self.hop))
        means: Tensor = self.vae.encode(self.config.vae.mel(whole).flatten(0, 1))[0]
        return means.reshape(*audio.shape[:2], *means.shape[1:])
