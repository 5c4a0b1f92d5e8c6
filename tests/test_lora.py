"""LoRA: fresh adapters change nothing, learn alone, and come off without a trace."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hiss.errors import HissError, UsageError
from hiss.lora import Lora, LoraConfig, adaptable, fresh
from hiss.networks import Network, Ports
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.saved import read_part, write_model
from hiss.types import Condition

CONFIG = UNetConfig(channels=(8, 16), factors=(2,), attention=(False, True), embedding=16)
X, NOISE = torch.randn(2, 1, 32, generator=seeded("x")), torch.zeros(2)


def network() -> Network:
    """Returns the same network each time, none of its weights 0."""
    built = CONFIG.build(Ports(channels=1))
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=seeded(name)))
    return built


@torch.no_grad()
def output(of: nn.Module) -> Tensor:
    out: Tensor = of(X, NOISE, Condition())
    return out


@torch.no_grad()
def learned(lora: Lora) -> Lora:
    """Returns the adapters with random numbers in place of the zeros they begin with."""
    for name, parameter in lora.named_parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=seeded(name)))
    return lora


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_fresh_adapters_change_nothing() -> None:
    base, adapted = network(), network()
    fresh(LoraConfig(rank=2), adapted)
    assert torch.equal(output(adapted), output(base))


def test_an_adapter_adds_the_product_of_two_matrices() -> None:
    layer = nn.Sequential(nn.Linear(3, 4), nn.Conv1d(4, 5, 1), nn.Conv1d(5, 5, 3))
    assert adaptable(layer) == {"0": (4, 3), "1": (5, 4)}
    before = [layer.get_parameter(f"{number}.weight").clone() for number in range(2)]
    lora = learned(fresh(LoraConfig(rank=2, alpha=6.0), layer))
    for number, weight in enumerate(before):
        pair = lora.pairs[number]
        added = 3 * pair.get_parameter("up") @ pair.get_parameter("down")
        adapted = layer[number].weight
        assert isinstance(adapted, Tensor)
        torch.testing.assert_close(adapted, weight + added.view_as(weight))


@pytest.mark.parametrize("strength", [0.0, 0.5, -1.0])
def test_a_strength_multiplies_what_is_added(strength: float) -> None:
    layer = nn.Linear(3, 4)
    before = layer.weight.detach().clone()
    lora = learned(fresh(LoraConfig(rank=2), nn.Sequential(layer)))
    added = layer.weight.detach() - before
    lora.scale(strength)
    torch.testing.assert_close(layer.weight.detach(), before + strength * added)


def test_merged_they_give_what_they_gave_before() -> None:
    adapted = network()
    lora = learned(fresh(LoraConfig(rank=2), adapted))
    attached = output(adapted)
    assert not torch.allclose(attached, output(network()))
    lora.merge(adapted)
    assert torch.equal(output(adapted), attached)
    assert adapted.state_dict().keys() == network().state_dict().keys()


@pytest.mark.parametrize("merged", [False, True])
def test_unloading_restores_the_weights_to_the_bit(merged: bool) -> None:
    adapted = network()
    lora = learned(fresh(LoraConfig(rank=2), adapted))
    if merged:
        lora.merge(adapted)
    lora.unload(adapted)
    assert same(adapted, network())
    lora.attach(adapted)
    lora.unload(adapted)
    assert same(adapted, network())


@pytest.mark.parametrize("merged", [False, True])
def test_unloading_lets_learn_again_exactly_what_learned_before(merged: bool) -> None:
    adapted = network()
    still = next(iter(adaptable(adapted)))
    adapted.get_submodule(still).requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in adapted.named_parameters()}
    assert set(before.values()) == {False, True}
    loras = []
    for _ in range(2 if merged else 1):
        loras.append(fresh(LoraConfig(rank=2), adapted))
        if merged:
            loras[-1].merge(adapted)
            assert not any(parameter.requires_grad for parameter in adapted.parameters())
    for lora in reversed(loras):
        lora.unload(adapted)
    assert {name: parameter.requires_grad for name, parameter in adapted.named_parameters()} == before


def test_only_the_adapters_learn() -> None:
    adapted = network()
    lora = fresh(LoraConfig(rank=2), adapted)
    trained = {id(p) for p in adapted.parameters() if p.requires_grad}
    assert trained == {id(p) for p in lora.parameters()}
    optimizer = torch.optim.AdamW(lora.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = (adapted(X, NOISE, Condition()) - X).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    lora.unload(adapted)
    assert same(adapted, network())


def test_adapters_survive_a_folder_and_refuse_another_network(tmp_path: Path) -> None:
    adapted = network()
    lora = learned(fresh(LoraConfig(rank=2), adapted))
    write_model(lora, tmp_path)
    again, other = read_part(tmp_path, "lora"), network()
    assert isinstance(again, Lora)
    again.attach(other)
    assert torch.equal(output(other), output(adapted))
    wider = replace(CONFIG, channels=(8, 32)).build(Ports(channels=1))
    with pytest.raises(UsageError, match="for another network"):
        again.attach(wider)
    with pytest.raises(HissError, match="kind lora, where one of the kind vae"):
        read_part(tmp_path, "vae")


def test_what_cannot_be_adapted_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1, not 0"):
        LoraConfig(rank=0)
    with pytest.raises(UsageError, match="no linear layer"):
        fresh(LoraConfig(), nn.Conv1d(2, 2, 3))
