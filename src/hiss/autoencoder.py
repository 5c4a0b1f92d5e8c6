"""A variational autoencoder of log-mel spectra: what latent diffusion runs on."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import UsageError
from hiss.signal.mel import MelProfile
from hiss.signal.moments import moments
from hiss.spec import Spec


@dataclass(frozen=True)
class VaeConfig(Spec):
    """Sizes of an autoencoder; those of AudioLDM are channels (128, 256, 512) and 32 groups."""

    mel: MelProfile = MelProfile()
    """What it encodes."""
    channels: tuple[int, ...] = (32, 64, 128)
    """Of each level; bins and frames are halved between them."""
    blocks: int = 2
    """Residual blocks of a level of the encoder; the decoder has one more."""
    latent: int = 8
    """Channels of what is encoded."""
    groups: int = 8
    """Of the GroupNorms."""

    def __post_init__(self) -> None:
        if not self.channels or min(*self.channels, self.blocks, self.latent, self.groups) < 1:
            raise UsageError("an autoencoder needs positive channels, blocks, latent channels and groups")
        if any(width % self.groups for width in self.channels):
            raise UsageError(f"the channels of an autoencoder are multiples of its {self.groups} groups")
        if self.mel.bins % self.factor:
            raise UsageError(f"{len(self.channels)} levels need a multiple of {self.factor} bins, not {self.mel.bins}")

    @property
    def factor(self) -> int:
        """How many times fewer bins and frames there are in what is encoded."""
        return 1 << (len(self.channels) - 1)

    def build(self) -> "Vae":
        """Returns the autoencoder with fresh weights."""
        return Vae(self)


class Vae(nn.Module):
    """Log-mel [batch, bins, frames] <-> Gaussian [batch, latent, bins / factor, frames / factor].

    The layers, and the names of their weights, are those of diffusers' `AutoencoderKL`, which has frames before bins:
    its kernels fit when transposed.

    Source: Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models", section 3.1; Liu et al.
    2023, "AudioLDM: Text-to-audio generation with latent diffusion models", section 3.2.
    """

    trained: Tensor
    """Whether the weights were learned, not only drawn."""
    mean: Tensor
    """Without dimensions; with `scale` it brings the mel spectra of the training set to zero mean and unit variance."""
    scale: Tensor

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent, 2 * config.latent, 1)
        self.post_quant_conv = nn.Conv2d(config.latent, config.latent, 1)

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and log-variance [batch, latent, bins / factor, frames / factor] of log-mels of whole frames."""
        normal = (mel.float() - self.mean) / self.scale
        mean, spread = self.quant_conv(self.encoder(normal[:, None])).float().chunk(2, dim=1)
        return mean, spread.clamp(-30, 20)

    def decode(self, latent: Tensor) -> Tensor:
        """Returns the log-mel [batch, bins, frames] of what `encode` returned."""
        decoded = self.decoder(self.post_quant_conv(latent)).float()
        mel: Tensor = decoded[:, 0] * self.scale + self.mean
        return mel

    def forward(self, mel: Tensor) -> Tensor:
        """Returns log-mels [batch, bins, frames] as the decoder makes them of their mean, at any number of frames."""
        frames = mel.shape[-1]
        whole = functional.pad(mel, (0, -frames % self.config.factor), mode="replicate")
        return self.decode(self.encode(whole)[0])[..., :frames]

    def fit(self, mels: Iterable[Tensor]) -> None:
        """Measures `mean` and `scale` over the log-mels [batch, bins, frames] of the whole training set."""
        mean, std = moments(mels, over=(0, 1, 2))
        self.mean.copy_(mean)
        self.scale.copy_(std)


class ResidualBlock(nn.Module):
    """Twice GroupNorm, SiLU and a convolution, added to the input."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inputs, groups), _conv(inputs, outputs)
        self.norm2, self.conv2 = _norm(outputs, groups), _conv(outputs, outputs)
        self.conv_shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(x)))
        hidden = self.conv2(functional.silu(self.norm2(hidden)))
        added: Tensor = self.conv_shortcut(x) + hidden
        return added


class Attention(nn.Module):
    """Every place attends to all others, with one head; added to the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = _norm(channels, groups)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        flat = self.group_norm(x).flatten(2).transpose(1, 2)
        seen = functional.scaled_dot_product_attention(self.to_q(flat), self.to_k(flat), self.to_v(flat))
        out: Tensor = self.to_out[0](seen)
        return x + out.transpose(1, 2).reshape(x.shape)


class Middle(nn.Module):
    """Two residual blocks and attention between them."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(channels, channels, groups) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


class Halving(nn.Module):
    """A convolution that keeps every other bin and frame, with zeros behind the last ones only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return out


class Doubling(nn.Module):
    """Every bin and frame twice, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Level(nn.Module):
    """Residual blocks, and the way to the next level under the name that it goes by."""

    def __init__(self, inputs: int, outputs: int, blocks: int, groups: int, **way: nn.Module) -> None:
        super().__init__()
        widths = (inputs, *[outputs] * (blocks - 1))
        self.resnets = nn.ModuleList(ResidualBlock(width, outputs, groups) for width in widths)
        for name, module in way.items():
            self.add_module(name, nn.ModuleList([module]))

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.children():
            assert isinstance(stage, nn.ModuleList)
            for module in stage:
                x = module(x)
        return x


class Encoder(nn.Module):
    """[batch, 1, bins, frames] -> [batch, 2 * latent, bins / factor, frames / factor]."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths, groups = config.channels, config.groups
        self.conv_in = _conv(1, widths[0])
        self.down_blocks = nn.Sequential()
        for place, width in enumerate(widths):
            way = {} if place == len(widths) - 1 else {"downsamplers": Halving(width)}
            self.down_blocks.append(Level(widths[max(place - 1, 0)], width, config.blocks, groups, **way))
        self.mid_block = Middle(widths[-1], groups)
        self.conv_norm_out = _norm(widths[-1], groups)
        self.conv_out = _conv(widths[-1], 2 * config.latent)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.mid_block(self.down_blocks(self.conv_in(x)))
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(hidden)))
        return out


class Decoder(nn.Module):
    """[batch, latent, bins / factor, frames / factor] -> [batch, 1, bins, frames]."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths, groups = config.channels[::-1], config.groups
        self.conv_in = _conv(config.latent, widths[0])
        self.mid_block = Middle(widths[0], groups)
        self.up_blocks = nn.Sequential()
        for place, width in enumerate(widths):
            way = {} if place == len(widths) - 1 else {"upsamplers": Doubling(width)}
            self.up_blocks.append(Level(widths[max(place - 1, 0)], width, config.blocks + 1, groups, **way))
        self.conv_norm_out = _norm(widths[-1], groups)
        self.conv_out = _conv(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up_blocks(self.mid_block(self.conv_in(x)))
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(hidden)))
        return out


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)
