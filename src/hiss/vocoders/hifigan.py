"""HiFi-GAN: transposed convolutions from frames up to samples, each followed by dilated residual blocks."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import UsageError
from hiss.vocoders.base import Vocoder, VocoderConfig


@dataclass(frozen=True, kw_only=True)
class HifiGanConfig(VocoderConfig, name="hifigan"):
    """Sizes of a generator; that of AudioLDM has 1024 channels."""

    channels: int = 256
    """Of the first layer; each transposed convolution halves them."""
    rates: tuple[int, ...] = (5, 4, 2, 2, 2)
    """How many times longer each transposed convolution makes its input; their product is the hop."""
    kernels: tuple[int, ...] = (16, 16, 8, 4, 4)
    """Of the transposed convolutions."""
    resblock: int = 1
    """1: each dilated convolution is followed by a plain one; 2: it is not, which is faster."""
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    """Of the residual blocks behind every transposed convolution, whose mean is taken."""
    dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    """Of the convolutions in each of these blocks."""
    slope: float = 0.1
    """Of the LeakyReLU where it is negative."""

    def __post_init__(self) -> None:
        if prod(self.rates) != self.mel.hop:
            raise UsageError(f"the rates of hifigan multiply to the hop {self.mel.hop}, not {prod(self.rates)}")
        if len(self.kernels) != len(self.rates) or len(self.dilations) != len(self.resblock_kernels):
            raise UsageError("hifigan needs one kernel for each rate, and dilations for each of the resblock_kernels")
        if any(kernel < rate for kernel, rate in zip(self.kernels, self.rates, strict=True)):
            raise UsageError("the kernels of hifigan must not be shorter than their rates")
        if any(kernel % 2 == 0 for kernel in self.resblock_kernels) or self.resblock not in (1, 2):
            raise UsageError("hifigan needs odd resblock_kernels, and resblock 1 or 2")
        if self.channels < 1 or self.channels % 2 ** len(self.rates):
            raise UsageError(f"hifigan halves its channels {len(self.rates)} times, which {self.channels} cannot be")

    def build(self) -> "HifiGan":
        return HifiGan(self)


class ResidualBlock(nn.Module):
    """Dilated convolutions, each added to its input; with `followed` a plain one comes after each."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], slope: float, *, followed: bool) -> None:
        super().__init__()
        self.slope = slope
        self.convs1 = nn.ModuleList(_kept(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_kept(channels, kernel, 1) for _ in dilations if followed)

    def forward(self, x: Tensor) -> Tensor:
        for place, dilated in enumerate(self.convs1):
            hidden = dilated(functional.leaky_relu(x, self.slope))
            if len(self.convs2):
                hidden = self.convs2[place](functional.leaky_relu(hidden, self.slope))
            x = x + hidden
        return x


class HifiGan(Vocoder):
    """The generator of HiFi-GAN.

    Source: Kong, Kim, Bae 2020, "HiFi-GAN: Generative adversarial networks for efficient and high fidelity speech
    synthesis", section 2.2. Weights are named as in transformers' `SpeechT5HifiGan`, so that those fit as they are.
    """

    def __init__(self, config: HifiGanConfig) -> None:
        super().__init__(config)
        self.config: HifiGanConfig = config
        self.conv_pre = nn.Conv1d(config.mel.bins, config.channels, 7, padding=3)
        self.upsampler, self.resblocks = nn.ModuleList(), nn.ModuleList()
        channels = config.channels
        for rate, kernel in zip(config.rates, config.kernels, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            channels //= 2
            self.upsampler.append(up)
            for size, dilations in zip(config.resblock_kernels, config.dilations, strict=True):
                block = ResidualBlock(channels, size, dilations, config.slope, followed=config.resblock == 1)
                self.resblocks.append(block)
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    def synthesise(self, mel: Tensor) -> Tensor:
        hidden = self.conv_pre(mel)
        count = len(self.config.resblock_kernels)
        for place, up in enumerate(self.upsampler):
            hidden = up(functional.leaky_relu(hidden, self.config.slope))
            blocks = list(self.resblocks)[place * count : (place + 1) * count]
            hidden = torch.stack([block(hidden) for block in blocks]).sum(dim=0) / count
        # The slope before the last layer is another one in the original, too.
        samples: Tensor = self.conv_post(functional.leaky_relu(hidden, 0.01)).tanh()[:, 0]
        # A kernel and a rate of which one is odd leave some samples more.
        return samples[:, : mel.shape[-1] * self.config.mel.hop]


def _kept(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    """Returns a convolution that keeps length and channels."""
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)
