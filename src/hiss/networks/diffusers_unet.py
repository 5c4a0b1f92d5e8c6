"""The conditional U-Net of diffusers, so that models that were trained with it work here."""

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hiss.diffusion.schedules import Linear
from hiss.errors import HissError, UsageError, unknown
from hiss.networks.base import Network, NetworkConfig, Ports
from hiss.networks.layers import zeroed
from hiss.spec import Options
from hiss.types import Condition

DECIDED = (
    *("in_channels", "out_channels", "cross_attention_dim", "class_embed_type"),
    "projection_class_embeddings_input_dim",
)
"""Arguments of `UNet2DConditionModel` that follow from what the network is told and from its channels."""


@dataclass(frozen=True)
class DiffusersUNetConfig(NetworkConfig, name="diffusers_unet"):
    """What diffusers is asked for; needs the package diffusers."""

    schedule: Linear = Linear()
    """The steps that the network counts noise levels by."""
    options: Options = field(default_factory=dict)
    """Arguments of `UNet2DConditionModel`, but for those in `DECIDED`."""

    def __post_init__(self) -> None:
        if decided := sorted(set(self.options) & set(DECIDED)):
            raise UsageError(f"the representation and the conditioners decide on {', '.join(decided)}; leave that out")

    def build(self, ports: Ports) -> "DiffusersUNet":
        return DiffusersUNet(self, ports)


class DiffusersUNet(Network):
    """F(x, noise, condition) by `UNet2DConditionModel`, which has frames before bins.

    Source: Liu et al. 2023, "AudioLDM: Text-to-audio generation with latent diffusion models", section 3.2.
    """

    levels: Tensor

    def __init__(self, config: DiffusersUNetConfig, ports: Ports) -> None:
        super().__init__()
        if ports.dims != 2:
            raise UsageError("diffusers_unet works on spectra (2 space dimensions); take unet for 1")
        self.config: DiffusersUNetConfig = config
        self.ports = ports
        self.unet = _built(config, ports)
        zeroed(self.unet.conv_out)
        u = torch.linspace(0, 1, config.schedule.levels, dtype=torch.float64)
        self.register_buffer("levels", config.schedule.sigma(u).log().float(), persistent=False)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        if self.ports.signal and condition.signal is not None:
            x = torch.cat([x, condition.signal], dim=1)
        out: Tensor = self.unet(
            x.transpose(2, 3),
            self.step(noise),
            encoder_hidden_states=condition.tokens if self.ports.tokens else None,
            encoder_attention_mask=condition.mask if self.ports.tokens else None,
            class_labels=condition.vector if self.ports.vector else None,
            return_dict=False,
        )[0]
        return out.transpose(2, 3)

    def step(self, noise: Tensor) -> Tensor:
        """Returns the step [batch], maybe between two whole ones, at which log(sigma) / 4 is `noise`."""
        level = 4 * noise.float().contiguous()
        above = torch.searchsorted(self.levels, level).clamp(1, len(self.levels) - 1)
        low, high = self.levels[above - 1], self.levels[above]
        return (above - 1 + (level - low) / (high - low)).clamp(0, len(self.levels) - 1)


def _built(config: DiffusersUNetConfig, ports: Ports) -> Any:
    """Returns the `UNet2DConditionModel` that is meant."""
    try:
        from diffusers import UNet2DConditionModel
    except ImportError as error:
        raise HissError(
            f"this network needs diffusers ({error}); install it with: pip install 'hiss[diffusers]'"
        ) from error
    known = inspect.signature(UNet2DConditionModel.__init__).parameters
    for key in config.options:
        if key not in known:
            raise unknown("option of diffusers_unet", key, known)
    options = dict(config.options)
    widths = options.get("block_out_channels", known["block_out_channels"].default)
    if ports.vector:
        options |= {"class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": ports.vector}
    else:
        options["class_embeddings_concat"] = False
    try:
        return UNet2DConditionModel(
            in_channels=ports.channels + ports.signal,
            out_channels=ports.channels,
            cross_attention_dim=ports.tokens or widths,
            **options,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"diffusers can make no U-Net of these options: {' '.join(str(error).split())}") from error
