"""Every network that is registered keeps the contract of F(x, noise, condition)."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hiss.errors import UsageError
from hiss.networks import Network, NetworkConfig, Ports
from hiss.networks.bands import BandsConfig
from hiss.networks.conv import ConvConfig
from hiss.networks.diffusers_unet import DiffusersUNet, DiffusersUNetConfig
from hiss.networks.diffwave import DiffWaveConfig
from hiss.networks.dit import DiTConfig, rotated, rotations
from hiss.networks.layers import Attention, Fourier, blind, fold, unfold
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.types import Condition

SMALL: dict[str, NetworkConfig] = {
    "unet": UNetConfig(channels=(16, 32), patch=4, factors=(2,), attention=(False, True), embedding=32),
    "dit": DiTConfig(patch=4, width=16, layers=2, head=8, embedding=32),
    "diffwave": DiffWaveConfig(channels=8, layers=4, cycle=2, embedding=16),
    "conv": ConvConfig(channels=(8, 16), strides=(2, 3), embedding=16, skips=True, matched=True),
    "diffusers_unet": DiffusersUNetConfig(
        options={
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "attention_head_dim": 2,
            "class_embeddings_concat": True,
        }
    ),
    "bands": BandsConfig(bands=((4, 2), (2, 4)), width=8, channels=16, blocks=1, taps=2, embedding=16),
}
BINS = {"bands": 17, "diffusers_unet": 16}
"""Networks on spectra, and the bins that they are built for here."""


def ports(config: NetworkConfig, *, channels: int = 1, vector: int = 0, signal: int = 0) -> Ports:
    """Returns ports of that many channels, or for spectra of that many pairs of them."""
    bins = BINS.get(str(config.name))
    if bins is None:
        return Ports(channels=channels, vector=vector, signal=signal)
    return Ports(channels=2 * channels, vector=vector, signal=2 * signal, dims=2, bins=bins)


def state(of: Ports, batch: int, length: int) -> Tensor:
    """Returns a random x that fits, its time axis of that length."""
    return torch.randn(batch, of.channels, *([of.bins] if of.bins else []), length)


def awake(network: Network) -> Network:
    """Returns the network with its zeros replaced, so that every path carries a signal."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def test_every_registered_network_is_tested_here() -> None:
    assert set(NetworkConfig.members) == set(SMALL)


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("length", [1, 7, 64, 101])
def test_a_network_keeps_the_shape_at_any_length(config: NetworkConfig, length: int) -> None:
    network = awake(config.build(has := ports(config, channels=2)))
    x = state(has, 3, length)
    assert network(x, torch.zeros(3), Condition()).shape == x.shape


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_a_network_listens_to_noise_level_vector_and_signal(config: NetworkConfig) -> None:
    network = awake(config.build(has := ports(config, vector=4, signal=1)))
    x, noise = state(has, 1, 32), torch.zeros(1)
    condition = Condition(vector=torch.zeros(1, 4), signal=torch.zeros_like(x))
    heard = network(x, noise, condition)
    others = [
        network(x, noise + 0.5, condition),
        network(x, noise, Condition(vector=torch.ones(1, 4), signal=condition.signal)),
        network(x, noise, Condition(vector=condition.vector, signal=torch.ones_like(x))),
    ]
    assert all(not torch.allclose(heard, other) for other in others)


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_items_of_a_batch_do_not_hear_each_other(config: NetworkConfig) -> None:
    network = awake(config.build(has := ports(config)))
    x = state(has, 3, 48)
    together = network(x, torch.tensor([0.0, 0.5, 1.0]), Condition())
    alone = network(x[1:2], torch.tensor([0.5]), Condition())
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_the_gradient_reaches_every_weight(config: NetworkConfig) -> None:
    network = awake(config.build(has := ports(config, vector=4, signal=1)))
    condition = Condition(vector=torch.randn(2, 4), signal=state(has, 2, 32))
    network(state(has, 2, 32), torch.zeros(2), condition).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []


def test_a_fresh_network_puts_out_zero_so_that_training_starts_from_the_scalings_alone() -> None:
    for config in SMALL.values():
        assert not config.build(has := ports(config))(state(has, 1, 16), torch.zeros(1), Condition()).any()


TWO_DIMENSIONS: dict[str, NetworkConfig] = {
    "unet": UNetConfig(
        channels=(16, 32), patch=(2, 4), factors=((2, 1),), attention=(False, True), embedding=32, coordinate=True
    ),
    "dit": DiTConfig(patch=(2, 4), width=16, layers=2, head=8, embedding=32),
}


@pytest.mark.parametrize("config", TWO_DIMENSIONS.values(), ids=TWO_DIMENSIONS)
def test_a_network_works_over_two_dimensions_with_tokens(config: NetworkConfig) -> None:
    network = awake(config.build(Ports(channels=1, dims=2, tokens=6)))
    x, tokens = torch.randn(2, 1, 13, 21), torch.randn(2, 5, 6)
    mask = torch.tensor([[True, True, False, False, False]]).expand(2, -1)
    heard = network(x, torch.zeros(2), Condition(tokens=tokens, mask=mask))
    assert heard.shape == x.shape
    hidden = tokens.clone()
    hidden[:, 2:] = 100.0
    torch.testing.assert_close(heard, network(x, torch.zeros(2), Condition(tokens=hidden, mask=mask)))
    assert not torch.allclose(heard, network(x, torch.zeros(2), Condition(tokens=tokens + 1, mask=mask)))


def test_rotated_queries_and_keys_know_how_far_apart_they_are_and_nothing_else() -> None:
    query, key = torch.randn(12, generator=seeded(0)), torch.randn(12, generator=seeded(1))
    turns = rotations((7, 9), 12)
    queries, keys = (rotated(one.expand(63, -1), turns).reshape(7, 9, 12) for one in (query, key))

    def match(place: tuple[int, int], other: tuple[int, int]) -> Tensor:
        return queries[place] @ keys[other]

    torch.testing.assert_close(match((1, 2), (4, 3)), match((3, 7), (6, 8)))  # 3 rows up, 1 to the right
    assert not torch.allclose(match((1, 2), (4, 3)), match((1, 2), (4, 4)))
    assert not torch.allclose(match((1, 2), (4, 3)), match((1, 2), (5, 3)))
    torch.testing.assert_close(queries.norm(dim=-1), query.norm().expand(7, 9))
    assert torch.equal(queries[0, 0], query)


def test_a_dit_knows_the_row_it_is_in_and_can_be_blind() -> None:
    network = awake(DiTConfig(patch=(4, 4), width=16, layers=1, head=8, embedding=16).build(Ports(1, dims=2, bins=9)))
    alike = torch.ones(1, 1, 9, 12)
    made = network(alike, torch.zeros(1), Condition())
    assert not torch.allclose(made[..., :4, :4], made[..., 4:8, :4], atol=1e-4)
    changed = alike.clone()
    changed[..., 8:] += 1.0
    heard = network(changed, torch.zeros(1), Condition())
    assert not torch.allclose(heard[..., :8], made[..., :8])
    with blind():  # each patch sees itself alone
        torch.testing.assert_close(
            network(changed, torch.zeros(1), Condition())[..., :8], network(alike, torch.zeros(1), Condition())[..., :8]
        )


def test_a_dit_computes_nearly_the_same_in_16_bits() -> None:
    network = awake(SMALL["dit"].build(Ports(1)))
    x = torch.randn(2, 1, 64, generator=seeded(0))
    with torch.no_grad():
        exact = network(x, torch.zeros(2), Condition())
        with torch.autocast("cpu", torch.bfloat16):
            near = network(x, torch.zeros(2), Condition())
    assert near.dtype == torch.bfloat16
    assert float((near - exact).norm() / exact.norm()) < 0.05


def test_a_dit_says_which_numbers_do_not_fit() -> None:
    with pytest.raises(UsageError, match="its width a multiple of its heads, not 20 and 8"):
        DiTConfig(width=20, head=8)
    with pytest.raises(UsageError, match="over 2 space dimensions have a multiple of 4 features, not 6"):
        DiTConfig(width=24, head=6).build(Ports(1, dims=2))


def test_a_unet_with_rows_knows_where_it_is() -> None:
    config = UNetConfig(channels=(8, 16), patch=(2, 2), factors=((3, 2),), attention=(False, False), embedding=16)
    has = Ports(channels=1, dims=2, bins=31)
    plain, placed = (replace(config, rows=rows).build(has) for rows in (False, True))
    placed.load_state_dict(awake(plain).state_dict(), strict=False)
    x = torch.randn(2, 1, 31, 9)
    heard = plain(x, torch.zeros(2), Condition())
    torch.testing.assert_close(placed(x, torch.zeros(2), Condition()), heard)  # nothing is learned yet
    learned = dict(placed.named_parameters())
    assert learned["down.0.0.rows"].shape == (8, 18, 1)  # 31 bins and 5 of padding
    assert learned["up.1.0.rows"].shape == (32, 6, 1)
    with torch.no_grad():
        learned["down.0.0.rows"][:, 15] += torch.randn(8, 1)  # of bin 30, the last one
    assert not torch.allclose(placed(x, torch.zeros(2), Condition())[..., 30, :], heard[..., 30, :], atol=1e-3)
    with pytest.raises(UsageError, match="rows are those of spectra"):
        replace(config, patch=2, factors=(2,), rows=True).build(Ports(channels=1))


@pytest.mark.parametrize("factors", [(3,), (2, 4)])
def test_unfolding_undoes_folding(factors: tuple[int, ...]) -> None:
    x = torch.randn(2, 5, *(4 * factor for factor in factors))
    folded = fold(x, factors)
    assert folded.shape[2:] == (4,) * len(factors)
    assert torch.equal(unfold(folded, factors), x)


def test_folding_keeps_neighbours_together() -> None:
    x = torch.arange(8.0).reshape(1, 1, 8)
    assert fold(x, (4,))[0, :, 0].tolist() == [0, 1, 2, 3]


def test_attention_is_the_softmax_average_of_the_paper() -> None:
    layer = Attention(16, head=16)
    layer.out.load_state_dict({"weight": torch.eye(16), "bias": torch.zeros(16)})
    x = torch.randn(1, 16, 10)
    flat: Tensor = layer.norm(x)[0].T
    query = layer.query(flat)
    key, value = layer.key_value(flat).chunk(2, dim=-1)
    expected = torch.softmax(query @ key.T / 4, dim=-1) @ value
    torch.testing.assert_close(layer(x), x + expected.T[None])
    with blind():
        torch.testing.assert_close(layer(x), x + value.T[None])
        tokens = torch.randn(1, 1, 16)  # what is attended to elsewhere is still seen
        torch.testing.assert_close(layer(x, tokens), x + layer.key_value(tokens).chunk(2, dim=-1)[1].transpose(1, 2))
    torch.testing.assert_close(layer(x), x + expected.T[None])


def test_heads_of_attention_are_as_many_as_divide_its_channels() -> None:
    assert Attention(32, head=10).heads == 2
    assert Attention(32, head=64).heads == 1


def test_an_odd_embedding_is_refused() -> None:
    with pytest.raises(UsageError, match="even number of features, not 33"):
        Fourier(33)


def test_a_unet_says_which_numbers_do_not_fit() -> None:
    with pytest.raises(UsageError, match="3 levels needs 2 factors"):
        UNetConfig(channels=(8, 8, 8), factors=(2,), attention=(False, False, False))


def test_diffwave_refuses_two_dimensions() -> None:
    with pytest.raises(UsageError, match="take unet"):
        SMALL["diffwave"].build(Ports(channels=1, dims=2))


def test_the_unet_of_diffusers_is_told_the_step_of_a_level_and_says_what_does_not_fit() -> None:
    config = SMALL["diffusers_unet"]
    network = config.build(Ports(channels=1, dims=2))
    assert isinstance(network, DiffusersUNet)
    steps = torch.tensor([0.0, 1.0, 499.5, 998.0, 999.0])
    levels = network.config.schedule.sigma(steps.double() / 999).log().float()
    torch.testing.assert_close(network.step(levels / 4), steps, atol=0.01, rtol=0)
    assert network.step(torch.tensor([-9.0, 9.0])).tolist() == [0, 999]
    with pytest.raises(UsageError, match="take unet for 1"):
        config.build(Ports(channels=1))
    with pytest.raises(UsageError, match=r"unknown option of diffusers_unet 'layers'"):
        DiffusersUNetConfig(options={"layers": 1}).build(Ports(channels=1, dims=2))
    with pytest.raises(UsageError, match="can make no U-Net of these options"):
        DiffusersUNetConfig(options={"down_block_types": ("DownBlock2D",)}).build(Ports(channels=1, dims=2))
    with pytest.raises(UsageError, match="decide on in_channels"):
        DiffusersUNetConfig(options={"in_channels": 1})
