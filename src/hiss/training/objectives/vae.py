"""Autoencoders of log-mel spectra."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.autoencoder import Vae, VaeConfig
from hiss.data import Dataset
from hiss.errors import UsageError
from hiss.noise import normal
from hiss.signal.losses import absolute_error
from hiss.signal.mel_losses import slope_error
from hiss.training.adversaries import Adversary, Gan, Patches, contest
from hiss.training.objective import AdversarialObjective
from hiss.training.objectives.base import Clips, Recipe
from hiss.types import Batch


@dataclass(frozen=True)
class VaeLoss(Gan):
    """What is wrong with an autoencoder: of each term, how much it counts.

    Distances of log-mels are in nepers.
    """

    seconds: float = 1.28
    """Length of the training clips, as many frames as the autoencoder can halve."""
    slopes: float = 1.0
    """Weight of the slopes of the spectrum; that of the spectrum itself is 1."""
    divergence: float = 5e-3
    """Weight of the divergence of what is encoded from a normal distribution, a mean over all of its numbers."""
    adversarial: float = 0.1
    matching: float = 0.2
    joins: float = 0.4
    width: int = 32


class VaeObjective(AdversarialObjective):
    """Absolute error of the spectrum and of its slopes, Kullback-Leibler divergence, and an adversary on patches.

    Source: Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models", section 3.1; slopes
    take the place of a network that knows pictures.
    """

    model: Vae
    adversary: Adversary
    measured = ("mean", "scale")

    def __init__(self, model: Vae, loss: VaeLoss) -> None:
        super().__init__(model)
        self.loss, self.joins = loss, loss.joins
        self.adversary = Patches(loss.width)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        mel = self._mel(batch.audio.to(self.model.mean.device))
        mean, spread = self.model.encode(mel)
        latent = mean
        if self.training:
            self.model.trained.fill_(True)
            latent = mean + (spread / 2).exp() * normal(mean, generator)
        made = self.model.decode(latent)
        error, slopes = absolute_error(made, mel).mean(), slope_error(made, mel).mean()
        divergence = (mean.square() + spread.exp() - 1 - spread).mean() / 2
        loss = error + self.loss.slopes * slopes + self.loss.divergence * divergence
        outputs = {"loss": loss, "error": error, "slopes": slopes, "divergence": divergence}
        if self.training and self.plays:
            real, fake = ((x - self.model.mean) / self.model.scale for x in (mel, made))
            outputs |= contest(self.adversary, real, fake, self.loss)
        return outputs

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        def mels() -> Iterator[Tensor]:
            for audio in batches:
                yield self._mel(audio.to(self.model.mean.device))

        self.model.fit(mels())

    def _mel(self, audio: Tensor) -> Tensor:
        """Returns [batch, bins, frames] of audio [batch, 1, samples]."""
        return self.model.config.mel(audio[:, 0])


@dataclass(frozen=True, kw_only=True)
class VaeRecipe(Recipe, name="vae"):
    """How an autoencoder is trained."""

    model: VaeConfig
    objective: VaeLoss = VaeLoss()

    @property
    def clips(self) -> Clips:
        mel, factor = self.model.mel, self.model.factor
        frames = int(self.objective.seconds * mel.sample_rate / mel.hop) // factor * factor
        if frames < factor:
            raise UsageError(f"objective.seconds must cover {factor} frames of {mel.hop} samples")
        return Clips(mel.sample_rate, 1, frames * mel.hop)

    def objective_for(self, examples: Dataset) -> VaeObjective:
        return VaeObjective(Vae(self.model), self.objective)
