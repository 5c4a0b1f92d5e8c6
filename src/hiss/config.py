"""What a model is made of, and how it is best sampled."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hiss.conditioners import ConditionerConfig
from hiss.conditioners.words import WordsConfig
from hiss.diffusion import sampling
from hiss.diffusion.parameterizations import PARAMETERIZATIONS
from hiss.diffusion.schedules import Karras, LogNormal, NoiseSchedule
from hiss.diffusion.weightings import WEIGHTINGS
from hiss.errors import UsageError, unknown
from hiss.networks import NetworkConfig
from hiss.representations import RepresentationConfig
from hiss.signal.losses import LossConfig
from hiss.spec import Spec


@dataclass(frozen=True)
class SamplingConfig(Spec):
    """How a model is best sampled: the defaults that travel with its weights."""

    schedule: NoiseSchedule = Karras()
    sampler: str = "dpmpp_2m"
    steps: int = 25
    spin: bool = False
    """Denoisers: whether each of several steps is one evaluation, on frames that begin a little later than those of the
    step before, and the mean of all is returned (cycle spinning), in place of a walk."""
    guidance: float = 1.0
    """1 follows the prompt as it is, more exaggerates it."""
    against: Literal["prompt", "attention"] = "prompt"
    """What guidance above 1 leads away from: what is expected without the prompt, or what the network expects when its
    self-attention is blind, which needs no prompt."""
    interval: tuple[float, float] = (0.0, 1e9)
    """Noise levels between which guidance acts."""
    rescale: float = 0.0
    """How far guidance brings the level back, from 0 to 1."""
    steer: float = 0.0
    """How far each step is led to what a noised CLAP would hear as the text; for models conditioned on words."""
    steered: tuple[float, float] = (0.0, 1e9)
    """Noise levels between which it is."""
    candidates: int = 1
    """Sounds that are made for each that is returned, the one that suits its text best; for models with a CLAP."""
    window: float | None = None
    """Seconds that are looked at as one; longer audio is made in overlapping windows. The length of the training
    examples where left out."""
    steady: float | None = None
    """Noise level above which all windows of longer audio are given the same mean over time, so that its level and its
    instruments stay. For logarithmic spectra, whose mean over time says how loud it is at each frequency."""
    overlap: float = 0.5
    """Share of a window that the next one takes up again, in [0, 1): they pass into each other there. 0 puts them side
    by side: what is denoised clicks there, and what is generated has seams."""

    def __post_init__(self) -> None:
        if self.sampler not in sampling.SAMPLERS:
            raise unknown("sampler", self.sampler, sampling.SAMPLERS)
        if self.candidates < 1:
            raise UsageError(f"candidates must be at least 1, not {self.candidates}")
        if self.window is not None and not 0 < self.window < math.inf:
            raise UsageError(f"a window lasts a positive number of seconds, not {self.window}")
        if not 0 <= self.overlap < 1:
            raise UsageError(f"the overlap of windows is a share from 0 to below 1, not {self.overlap}")

    def changed(self, changes: Mapping[str, Any]) -> "SamplingConfig":
        """Returns this with other values for some keys; of a schedule of the same name, too, only some may be given.

        Raises:
            UsageError: there is no such key, or a value does not fit.
        """
        mine = self.to_dict()
        for key, value in changes.items():
            own = mine.get(key)
            partly = (
                isinstance(value, Mapping) and isinstance(own, dict) and value.get("name", own["name"]) == own["name"]
            )
            mine[key] = own | value if partly else value
        return type(self).from_dict(mine, where="sampling")


@dataclass(frozen=True)
class ModelConfig(Spec):
    """One value for each of the five nouns that make a model; the sixth, the sampler, is chosen when sampling."""

    sample_rate: int
    """Hz."""
    seconds: float
    """Length of the training examples."""
    representation: RepresentationConfig
    network: NetworkConfig
    channels: int = 1
    """Audio channels."""
    conditioners: tuple[ConditionerConfig, ...] = ()
    parameterization: str = "edm"
    training: NoiseSchedule = LogNormal()
    """Which noise levels training draws."""
    weighting: str = "edm"
    """How much each noise level counts in the loss."""
    uncertainty: bool = False
    """Whether the loss is balanced over the noise levels by a learned uncertainty."""
    losses: tuple[LossConfig, ...] = ()
    """Auxiliary terms on the clean estimate."""
    prompt_dropout: float = 0.1
    """Share of training examples whose whole prompt is withheld, for guidance."""
    own_estimates: float = 0.0
    """Share of a training batch in which noise is added to the estimate that sampling makes in its first step, instead
    of to the clean signal: so a later step learns to mend what an earlier one did."""
    sampling: SamplingConfig = SamplingConfig()

    def __post_init__(self) -> None:
        if self.parameterization not in PARAMETERIZATIONS:
            raise unknown("parameterization", self.parameterization, PARAMETERIZATIONS)
        if self.weighting not in WEIGHTINGS:
            raise unknown("weighting", self.weighting, WEIGHTINGS)
        if self.weighting == "none" and (self.uncertainty or not self.losses):
            raise UsageError("weighting none leaves only the auxiliary losses: name some, and set uncertainty to false")
        for loss in self.losses:
            rate = getattr(loss, "sample_rate", self.sample_rate)  # only some hear in Hz
            if rate != self.sample_rate:
                raise UsageError(
                    f"the loss {loss.name} hears {rate} Hz, the model makes {self.sample_rate} Hz: "
                    f"set its sample_rate to {self.sample_rate}"
                )
        if not 0 <= self.own_estimates <= 1:
            raise UsageError(f"own_estimates is a share from 0 to 1, not {self.own_estimates}")
        if self.sampling.steer and sum(isinstance(one, WordsConfig) for one in self.conditioners) != 1:
            raise UsageError("sampling.steer needs one conditioner words, which knows where to")
        if self.sample_rate < 1 or self.channels < 1 or not 0 < self.seconds < math.inf:
            raise UsageError(
                "a model needs a positive sample rate, number of channels and length, "
                f"not {self.sample_rate} Hz, {self.channels} and {self.seconds} s"
            )

    @property
    def samples(self) -> int:
        """Length of a training example in samples."""
        return max(1, round(self.seconds * self.sample_rate))

    @property
    def window(self) -> int:
        """Samples that are looked at as one when sampling."""
        return max(1, round((self.sampling.window or self.seconds) * self.sample_rate))
