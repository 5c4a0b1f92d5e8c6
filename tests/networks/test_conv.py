"""The plain convolutional denoiser: what it hears, the time it is told, and numbers that do not fit."""

import pytest
import torch
from torch import Tensor, nn

from hiss.errors import UsageError
from hiss.networks import Network, Ports
from hiss.networks.conv import Conv, ConvConfig
from hiss.noise import seeded
from hiss.types import Condition

SMALL = ConvConfig(channels=(8, 16), strides=(2, 4), embedding=16)
PORTS = Ports(channels=1, signal=1)


def network(config: ConvConfig = SMALL, ports: Ports = PORTS) -> Network:
    """Returns the network with its zeros replaced."""
    made = config.build(ports)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(parameter.numel())))
    return made.eval()


def sound(*keys: int, samples: int = 40) -> Tensor:
    return torch.randn(2, 1, samples, generator=seeded("conv", *keys))


def test_it_hears_the_recording_alone_and_no_noise_level() -> None:
    made, condition = network(), Condition(signal=sound(0))
    heard = made(sound(1), torch.zeros(2), condition)
    assert torch.equal(heard, made(sound(2), torch.ones(2), condition))
    assert not torch.allclose(heard, made(sound(1), torch.zeros(2), Condition(signal=sound(3))))


def test_in_training_it_is_told_a_random_time_and_else_0() -> None:
    made, condition = network(), Condition(signal=sound(0))
    assert isinstance(made, Conv)
    told: list[Tensor] = []
    made.embedding.register_forward_pre_hook(lambda module, given: told.append(given[0]))
    made(sound(1), torch.ones(2), condition)
    made.train()
    with torch.random.fork_rng(devices=[]):
        for _ in range(2):
            torch.manual_seed(0)
            made(sound(1), torch.ones(2), condition)
    assert told[0].tolist() == [0, 0]
    assert torch.equal(told[1], told[2])
    assert 0 < float(told[1].min()) < float(told[1].max()) < 1


def test_matched_it_is_told_the_true_noise_level_in_training_too() -> None:
    made = network(ConvConfig(channels=(8, 16), strides=(2, 4), embedding=16, matched=True), Ports(channels=1)).train()
    alike, other = (made(sound(1), torch.full((2,), level), Condition()) for level in (0.5, 0.7))
    assert torch.equal(alike, made(sound(1), torch.full((2,), 0.5), Condition()))
    assert not torch.allclose(alike, other)


@pytest.mark.parametrize("strides", [(2, 4), (3, 5), (1, 7)])
def test_levels_are_shorter_by_exactly_their_stride(strides: tuple[int, int]) -> None:
    made = ConvConfig(channels=(8, 16), strides=strides, embedding=16).build(PORTS)
    lengths: list[int] = []
    for layer in (*made.down, *made.up, made.leave):
        layer.register_forward_hook(lambda module, given, out: lengths.append(out.shape[-1]))
    first, second = strides
    made(sound(1, samples=840), torch.zeros(2), Condition(signal=sound(0, samples=840)))
    assert lengths == [840 // first, 840 // (first * second), 840 // first, 840]


def test_a_sample_hears_no_further_than_the_kernels_reach() -> None:
    made, signal = network(), sound(0, samples=200).requires_grad_()
    made(signal, torch.zeros(2), Condition(signal=signal))[0, 0, 100].backward()
    assert signal.grad is not None
    heard = signal.grad[0, 0].nonzero().flatten()
    assert 0 < int(heard.max() - heard.min()) < 60


def test_the_variance_is_kept_from_level_to_level_at_the_start() -> None:
    made = ConvConfig(channels=(64, 64, 64), strides=(2, 2, 2), embedding=16, slope=1.0).build(PORTS)
    spread: list[float] = []

    def note(layer: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        spread.append(float(out.std() / given[0].std()))

    for layer in (*made.down, *made.up):
        layer.register_forward_hook(note)
    with torch.no_grad():
        made(sound(1, samples=800), torch.zeros(2), Condition(signal=sound(0, samples=800)))
    assert spread == pytest.approx([1.0] * 5, abs=0.25)


def test_skips_carry_what_the_latent_loses() -> None:
    with_skips = ConvConfig(channels=(8, 16), strides=(2, 4), embedding=16, skips=True)
    one, other = SMALL.build(PORTS), with_skips.build(PORTS)
    assert one.state_dict().keys() == other.state_dict().keys()
    assert not torch.allclose(
        *(network(config)(sound(1), torch.zeros(2), Condition(signal=sound(0))) for config in (SMALL, with_skips))
    )


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="a stride for each level, not 1 for 2"):
        ConvConfig(channels=(8, 16), strides=(2,))
    with pytest.raises(UsageError, match="dropout from 0 to below 1"):
        ConvConfig(channels=(8,), strides=(2,), dropout=1.0)
    with pytest.raises(UsageError, match="take unet"):
        SMALL.build(Ports(channels=2, dims=2, signal=2))
    with pytest.raises(UsageError, match="add the conditioner recording"):
        SMALL.build(Ports(channels=1))
