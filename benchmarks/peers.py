"""The U-Nets of two other projects as networks of hiss: the same forward, so that all else can stay the same."""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
from torch import Tensor, nn

from hiss.errors import UsageError
from hiss.networks import Network, NetworkConfig, Ports
from hiss.networks.layers import padded
from hiss.types import Condition


@dataclass(frozen=True)
class DiffusersConfig(NetworkConfig, name="diffusers"):
    """`UNet1DModel` of diffusers in the proportions of Dance Diffusion, the model that it was written for."""

    width: int = 128
    """Channels of the deep levels; the first two have a quarter, the next two half of it."""

    @classmethod
    def widths(cls) -> Iterable[int]:
        """Returns the widths that divide evenly into attention heads of about 32 channels."""
        return (width for width in range(32, 1024) if width % (width // 32) == 0)

    def build(self, ports: Ports) -> Network:
        return DiffusersUNet(self, ports)


class DiffusersUNet(Network):
    """Halves the length ten times, as Dance Diffusion does until eight samples are left of its clip."""

    def __init__(self, config: DiffusersConfig, ports: Ports) -> None:
        from diffusers import UNet1DModel

        super().__init__()
        self.config = config
        plain, attending, width = 4, 6, config.width
        self.net = UNet1DModel(
            in_channels=ports.channels,
            out_channels=ports.channels,
            extra_in_channels=16,
            time_embedding_dim=16,
            block_out_channels=(width // 4,) * 2 + (width // 2,) * 2 + (width,) * (attending + 1),
            down_block_types=("DownBlock1DNoSkip", *("DownBlock1D",) * plain, *("AttnDownBlock1D",) * attending),
            up_block_types=(*("AttnUpBlock1D",) * attending, *("UpBlock1D",) * plain, "UpBlock1DNoSkip"),
        )

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        out: Tensor = self.net(padded(x, (1024,)), noise).sample
        return out[..., : x.shape[-1]]


@dataclass(frozen=True)
class Levels:
    """Levels of `UNetV0`, from the longest to the shortest."""

    widths: tuple[float, ...]
    """In proportion to the deepest."""
    factors: tuple[int, ...]
    attends: int
    """How many of them, the last ones, have attention."""


LEVELS = {
    # The first six levels of its README, enough for clips of a second.
    1: Levels((1 / 64, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1), (1, 4, 4, 4, 2, 2), 2),
    # For spectra its README has none: as there, one narrow level that shrinks by four, then the sizes of ours.
    2: Levels((1 / 16, 3 / 8, 5 / 8, 1), (1, 4, 2, 2), 2),
}
"""By space dimensions."""


@dataclass(frozen=True)
class ArchinetConfig(NetworkConfig, name="audio-diffusion-pytorch"):
    """`UNetV0` of audio-diffusion-pytorch."""

    width: int = 512
    """Channels of the deepest level; the others keep their proportion to it."""
    embedding: int = 256
    """Features of the noise embedding."""

    @classmethod
    def widths(cls) -> Iterable[int]:
        """Returns the widths that suit groups of eight channels."""
        return range(16, 2048, 8)

    def build(self, ports: Ports) -> Network:
        return ArchinetUNet(self, ports)


class ArchinetUNet(Network):
    def __init__(self, config: ArchinetConfig, ports: Ports) -> None:
        without_torchaudio()
        from audio_diffusion_pytorch import UNetV0

        super().__init__()
        self.config = config
        levels = LEVELS[ports.dims]
        plain = len(levels.widths) - levels.attends
        self.multiple = math.prod(levels.factors)
        self.features = nn.Linear(ports.vector, config.embedding) if ports.vector else None
        self.net: nn.Module = UNetV0(
            dim=ports.dims,
            in_channels=ports.channels,
            channels=[max(8, round(config.width * part / 8) * 8) for part in levels.widths],
            factors=list(levels.factors),
            items=[1] + [2] * (len(levels.widths) - 1),
            attentions=[0] * plain + [1] * levels.attends,
            attention_heads=8,
            attention_features=64,
            modulation_features=config.embedding,
        )

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        features = None if self.features is None or condition.vector is None else self.features(condition.vector)
        out: Tensor = self.net(padded(x, (self.multiple,) * (x.ndim - 2)), noise, features=features)
        for dimension, size in enumerate(x.shape[2:], start=2):
            out = out.narrow(dimension, 0, size)
        return out


def without_torchaudio() -> None:
    """Puts an empty module in the place of torchaudio, which is imported by the peer but not used by its U-Net."""
    if "torchaudio" not in sys.modules:
        stand_in = ModuleType("torchaudio")
        stand_in.__spec__ = ModuleSpec("torchaudio", None)
        stand_in.transforms = None  # type: ignore[attr-defined]
        sys.modules["torchaudio"] = stand_in


def parameters(network: nn.Module) -> int:
    """Returns how many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def matched(family: type[DiffusersConfig] | type[ArchinetConfig], target: int, *, ports: Ports) -> NetworkConfig:
    """Returns the config whose parameter count comes nearest to `target`, which must be within 5 %.

    Raises:
        UsageError: none comes as near.
    """
    counts = {}
    for width in family.widths():
        with torch.device("meta"):
            counts[width] = parameters(family(width).build(ports))
        if counts[width] > 2 * target:
            break
    best = min(counts, key=lambda width: abs(counts[width] - target))
    if abs(counts[best] / target - 1) > 0.05:
        raise UsageError(f"{family.name} cannot have {target:,} parameters; the nearest is {counts[best]:,}")
    return family(best)
