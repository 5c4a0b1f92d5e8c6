"""Adversaries: small networks that learn to tell what a model makes from what is real."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from hiss.errors import UsageError
from hiss.signal.stft import compress, stft
from hiss.spec import Spec

_SLOPE = 0.1


@dataclass(frozen=True)
class Gan(Spec):
    """How a model and its adversary play, and for how much."""

    gan: Literal["hinge", "least_squares"] = "hinge"
    adversarial: float = 1.0
    """Weight of what the adversary says of the model."""
    matching: float = 2.0
    """Weight of the distance, in the layers of the adversary, from what is made to what is real."""
    joins: float = 0.1
    """The share of the run after which the adversary joins; 1 for never."""
    width: int = 16
    """Channels of its first layers."""

    def __post_init__(self) -> None:
        if not 0 <= self.joins <= 1 or self.width < 1:
            raise UsageError(
                f"an adversary joins after a share of the run and has channels, not {self.joins} and {self.width}"
            )


class Opinion(NamedTuple):
    """What an adversary says of a batch."""

    score: Tensor
    """[batch, ...]: how real it is, at each place; about 1 for real and -1 (hinge) or 0 for made."""
    features: list[Tensor]
    """What its layers hold."""


class Adversary(nn.Module, ABC):
    """Looks at something real or made, in one or several ways."""

    @abstractmethod
    def forward(self, x: Tensor) -> list[Opinion]:
        """Returns one opinion for each way of looking."""


def contest(adversary: Adversary, real: Tensor, made: Tensor, gan: Gan) -> dict[str, Tensor]:
    """Returns what a model loses to its adversary as "contest", and what that loses itself as "adversary".

    Only the model learns by the first and only the adversary by the second. Both are means over opinions and places.
    The distance of features is a share of their size: mean |made - real| / mean |real|.

    Source: Goodfellow et al. 2014; for the hinge Lim and Ye 2017, "Geometric GAN", for squares Mao et al. 2017, "Least
    squares generative adversarial networks"; for the features Kumar et al. 2019, "MelGAN", equation 4.

    Args:
        adversary: that learns.
        real: [batch, ...].
        made: the same, by the model.
        gan: how much each term counts.
    """
    fixed = {name: parameter.detach() for name, parameter in adversary.named_parameters()}
    learning: list[Opinion] = adversary(torch.cat([real, made.detach()]))
    judging: list[Opinion] = functional_call(adversary, fixed, (made,))
    count = len(real)
    lost = torch.zeros((), device=made.device)
    fooled, distance = torch.zeros_like(lost), torch.zeros_like(lost)
    for opinion, judged in zip(learning, judging, strict=True):
        right, wrong = opinion.score[:count].float(), opinion.score[count:].float()
        if gan.gan == "hinge":
            lost = lost + functional.relu(1 - right).mean() + functional.relu(1 + wrong).mean()
            fooled = fooled + functional.relu(1 - judged.score.float()).mean()
        else:
            lost = lost + (1 - right).square().mean() + wrong.square().mean()
            fooled = fooled + (1 - judged.score.float()).square().mean()
        for ours, both in zip(judged.features, opinion.features, strict=True):
            theirs = both[:count].detach().float()
            off = (ours.float() - theirs).abs().mean() / theirs.abs().mean().clamp(min=1e-5)
            distance = distance + off / len(judged.features)
    fooled, distance, lost = (term / len(learning) for term in (fooled, distance, lost))
    terms = {"fooled": fooled.detach(), "features": distance.detach()}
    return {"contest": gan.adversarial * fooled + gan.matching * distance, "adversary": lost} | terms


class Layers(nn.Module):
    """Convolutions with a bend after each but the last, whose results are the features."""

    def __init__(self, *layers: nn.Conv2d) -> None:
        super().__init__()
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, x: Tensor) -> Opinion:
        *inner, last = self.layers
        features = []
        for layer in inner:
            x = functional.leaky_relu(layer(x), _SLOPE)
            features.append(x)
        return Opinion(last(x), features)


class Patches(Adversary):
    """Looks at patches of spectra [batch, bins, frames].

    Source: Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", section 3.2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = Layers(
            nn.Conv2d(1, width, 4, 2, 1),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )

    def forward(self, x: Tensor) -> list[Opinion]:
        return [self.look(x[:, None])]


class Listeners(Adversary):
    """Listen to audio [batch, samples]: to every p-th sample for several p, and to spectra of several windows.

    Source: Kong, Kim, Bae 2020, "HiFi-GAN", section 2.3; Jang et al. 2021, "UnivNet", section 2.2, but for complex
    spectra, whose magnitudes are compressed: phases are heard, too.
    """

    def __init__(self, periods: tuple[int, ...], windows: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.periods, self.windows = periods, windows
        widths = (1, width, 2 * width, 4 * width, 8 * width)
        self.by_period = nn.ModuleList(
            Layers(
                *(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in pairwise(widths)),
                nn.Conv2d(widths[-1], widths[-1], (5, 1), padding=(2, 0)),
                nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)),
            )
            for _ in periods
        )
        self.by_window = nn.ModuleList(
            Layers(
                # Halved at once: a layer as large as the spectra would cost more than all others together.
                nn.Conv2d(2, width, (9, 3), (2, 2), (4, 1)),
                *(nn.Conv2d(width, width, (9, 3), (2, 1), (4, 1)) for _ in range(3)),
                nn.Conv2d(width, width, 3, padding=1),
                nn.Conv2d(width, 1, 3, padding=1),
            )
            for _ in windows
        )

    def forward(self, x: Tensor) -> list[Opinion]:
        found = []
        for period, look in zip(self.periods, self.by_period, strict=True):
            whole = functional.pad(x, (0, -x.shape[-1] % period), mode="replicate")
            found.append(look(whole.reshape(len(x), 1, -1, period)))
        for window, look in zip(self.windows, self.by_window, strict=True):
            spectrum = compress(stft(x.float(), n_fft=window, hop=window // 4), 0.3, floor=1e-8)
            found.append(look(torch.view_as_real(spectrum).movedim(-1, 1)))
        return found
