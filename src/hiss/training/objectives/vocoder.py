"""Vocoders."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hiss.autoencoder import VaeConfig
from hiss.data import Dataset
from hiss.errors import UsageError
from hiss.signal.mel_losses import multi_scale_mel_error
from hiss.training.adversaries import Adversary, Gan, Listeners, contest
from hiss.training.objective import AdversarialObjective
from hiss.training.objectives.base import Clips, Recipe
from hiss.types import Batch
from hiss.vocoders import Vocoder, VocoderConfig


@dataclass(frozen=True)
class VocoderLoss(Gan):
    """What is wrong with a vocoder: of each term, how much it counts."""

    seconds: float = 1.0
    """Length of the training clips."""
    segment: float = 0.5
    """Seconds of each clip, at a random place, that sound is made of."""
    mel: float = 5.0
    """Weight of the log-mel spectra of several windows, in nepers."""
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Samples: for each, an adversary that hears every so-manieth sample."""
    windows: tuple[int, ...] = (512, 1024, 2048)
    """Samples: for each, an adversary that sees the spectrum of such windows."""
    vae: VaeConfig | None = None
    """A trained autoencoder, that the vocoder may learn to make sound of what it decodes, too."""
    reconstructed: float = 0.5
    """The share of a batch that the autoencoder, if there is one, encodes and decodes first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.segment <= self.seconds:
            raise UsageError(f"a segment is a part of the {self.seconds} s of a clip, not {self.segment} s")
        if not 0 <= self.reconstructed <= 1:
            raise UsageError(f"reconstructed is a share from 0 to 1, not {self.reconstructed}")
        if not self.periods and not self.windows:
            raise UsageError("a vocoder needs an adversary: give periods, windows or both")


class VocoderObjective(AdversarialObjective):
    """The error of mel spectra at several resolutions, and adversaries that listen in several ways.

    Source: Kong, Kim, Bae 2020, "HiFi-GAN", section 2; for the spectra as adversaries, Jang et al. 2021, "UnivNet".
    """

    model: Vocoder
    adversary: Adversary
    measured = ("mean", "scale")

    def __init__(self, model: Vocoder, loss: VocoderLoss) -> None:
        super().__init__(model)
        if loss.vae is not None and loss.vae.mel != model.config.mel:
            raise UsageError("objective.vae knows other mel spectra than the vocoder; take one of the same profile")
        self.loss, self.joins = loss, loss.joins
        self.vae = None if loss.vae is None else loss.vae.build().requires_grad_(False)
        self.adversary = Listeners(loss.periods, loss.windows, loss.width)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        profile = self.model.config.mel
        audio = batch.audio.to(self.model.mean.device)[:, 0]
        mel = profile(audio)
        if self.vae is not None:
            heard = round(self.loss.reconstructed * len(mel))
            mel = torch.cat([self.vae(mel[:heard]), mel[heard:]]) if heard else mel
        if self.training:
            self.model.trained.fill_(True)
            frames = max(1, round(self.loss.segment * profile.sample_rate / profile.hop))
            start = int(torch.randint(mel.shape[-1] - frames + 1, (), generator=generator))
            mel = mel[..., start : start + frames]
            audio = audio[:, start * profile.hop : (start + frames) * profile.hop]
        made = self.model(mel)
        error = multi_scale_mel_error(made, audio, sample_rate=profile.sample_rate).mean()
        outputs = {"loss": self.loss.mel * error, "error": error}
        if self.training and self.plays:
            outputs |= contest(self.adversary, audio, made, self.loss)
        return outputs

    def fit(self, batches: Iterable[Tensor]) -> None:
        def mels() -> Iterator[Tensor]:
            for audio in batches:
                yield self.model.config.mel(audio.to(self.model.mean.device)[:, 0])

        self.model.fit(mels())


@dataclass(frozen=True, kw_only=True)
class VocoderRecipe(Recipe, name="vocoder"):
    """How a vocoder is trained."""

    model: VocoderConfig
    objective: VocoderLoss = VocoderLoss()

    @property
    def clips(self) -> Clips:
        mel = self.model.mel
        return Clips(mel.sample_rate, 1, max(1, round(self.objective.seconds * mel.sample_rate / mel.hop)) * mel.hop)

    def objective_for(self, examples: Dataset) -> VocoderObjective:
        vocoder = self.model.build()
        if not any(True for _ in vocoder.parameters()):
            raise UsageError(f"the vocoder {self.model.name} has nothing to learn; name it where it is used")
        return VocoderObjective(vocoder, self.objective)
