"""LoRA: a trained network learns something new by small matrices beside its own, which stay as they are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from hiss.errors import UsageError
from hiss.spec import Spec


@dataclass(frozen=True)
class LoraConfig(Spec):
    """How much the adapters of a network can learn."""

    rank: int = 8
    """Of the matrix that is added to each weight."""
    alpha: float = 8.0
    """alpha / rank multiplies that matrix."""
    layers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Outputs and inputs of the adapted layers, by their names in the network; found by `fresh`."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"the rank of a LoRA is at least 1, not {self.rank}")


class LowRank(nn.Module):
    """weight -> weight + scale * up @ down, which at first is the weight itself."""

    def __init__(self, outputs: int, inputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.scale * self.up @ self.down).view_as(weight)


class Lora(nn.Module):
    """The adapters of a network: attached to it they work and learn; merged into it they cost nothing.

    Source: Hu et al. 2022, "LoRA: Low-rank adaptation of large language models", section 4.1.
    """

    def __init__(self, config: LoraConfig) -> None:
        super().__init__()
        self.config = config
        scale = config.alpha / config.rank
        self.pairs = nn.ModuleList(LowRank(*size, config.rank, scale) for size in config.layers.values())
        self._merged: dict[str, Tensor] = {}
        self._frozen: list[str] = []

    def attach(self, network: nn.Module) -> None:
        """Adds the adapters to a network, of which nothing else learns any more.

        Raises:
            UsageError: it is not of the kind that they were made for.
        """
        if differing := sorted(self.config.layers.items() - adaptable(network).items()):
            (name, size), count = differing[0], len(differing)
            raise UsageError(f"this LoRA is for another network: {count} layers do not fit, such as {name}, {size}")
        self._frozen = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        network.requires_grad_(False)
        for layer, pair in self._layers(network):
            register_parametrization(layer, "weight", pair.to(layer.get_parameter("weight").device))

    def scale(self, strength: float) -> None:
        """Multiplies what the adapters add."""
        for pair in self.pairs:
            assert isinstance(pair, LowRank)
            pair.scale *= strength

    def merge(self, network: nn.Module) -> None:
        """Makes what the attached adapters do a part of the weights themselves."""
        for name, (layer, _) in zip(self.config.layers, list(self._layers(network)), strict=True):
            self._merged[name] = layer.get_parameter("parametrizations.weight.original").detach().clone()
            remove_parametrizations(layer, "weight", leave_parametrized=True)

    def unload(self, network: nn.Module) -> None:
        """Leaves the network as it was, to the bit, whether they are attached or merged; what could learn can again."""
        for name, (layer, _) in zip(self.config.layers, list(self._layers(network)), strict=True):
            if name in self._merged:
                layer.get_parameter("weight").data.copy_(self._merged.pop(name))
            else:
                remove_parametrizations(layer, "weight", leave_parametrized=False)
        while self._frozen:
            network.get_parameter(self._frozen.pop()).requires_grad_(True)

    def _layers(self, network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
        for name, pair in zip(self.config.layers, self.pairs, strict=True):
            yield network.get_submodule(name), pair


def fresh(config: LoraConfig, network: nn.Module) -> Lora:
    """Returns new adapters, attached to the linear layers, those of attention too, and 1x1 convolutions of a network.

    Raises:
        UsageError: it has none.
    """
    layers = adaptable(network)
    if not layers:
        raise UsageError(f"a {type(network).__name__} has no linear layer that a LoRA could adapt; train all of it")
    lora = Lora(replace(config, layers=layers))
    lora.attach(network)
    return lora


def adaptable(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Returns (outputs, inputs) of the layers that adapters can be attached to, by name."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    weights = {name: layer.weight for name, layer in network.named_modules() if isinstance(layer, kinds)}
    return {name: (w.shape[0], w.shape[1]) for name, w in weights.items() if w.shape[0] * w.shape[1] == w.numel()}
