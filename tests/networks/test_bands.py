"""The band network: how bins are grouped, what its masks mean, how it grows, and when it looks ahead."""

from dataclasses import replace

import pytest
import torch

from hiss.errors import UsageError
from hiss.networks import Ports
from hiss.networks.bands import Bands, BandsConfig, Join, Split
from hiss.types import Condition

CONFIG = BandsConfig(bands=((4, 2), (2, 4)), width=8, channels=16, blocks=2, taps=3, embedding=16)
LOOKING = replace(CONFIG, ahead=True)
PORTS = Ports(channels=2, dims=2, signal=2, bins=17)


def awake(config: BandsConfig = CONFIG) -> Bands:
    """Returns a network whose output is not zero."""
    network = Bands(config, PORTS)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return network.eval()


def test_each_band_hears_its_own_bins_and_speaks_to_them_alone() -> None:
    groups = ((2, 1), (1, 3))
    split, join = Split(groups, 2, 4), Join(groups, 4, 5)
    for weight in join.weights:
        torch.nn.init.ones_(weight)
    x = torch.zeros(1, 5, 2)
    quiet = split(x)
    for bin_, band in enumerate((0, 1, 2, 2, 2)):
        x.zero_()[:, bin_] = 1
        changed = (split(x) != quiet).any(dim=-1)[:, 0]
        assert changed.tolist() == [band == other for other in range(3)]
        heard = join(torch.nn.functional.one_hot(torch.tensor([band]), 3).float().T[:, :, None].expand(3, 1, 4))
        assert heard.shape == (1, 5, 5)
        assert bool(heard[0, bin_].all())
        assert int(heard.any(dim=-1).sum()) == (3 if band == 2 else 1)


@pytest.mark.parametrize("frame", [0, 3, 11])
def test_a_causal_network_never_looks_ahead(frame: int) -> None:
    network = awake()
    x, signal = torch.randn(1, 2, 17, 12), torch.randn(1, 2, 17, 12)
    before = network(x, torch.zeros(1), Condition(signal=signal))
    x[..., frame:] = torch.randn(1, 2, 17, 12 - frame)
    signal[..., frame:] = torch.randn(1, 2, 17, 12 - frame)
    after = network(x, torch.zeros(1), Condition(signal=signal))
    torch.testing.assert_close(before[..., :frame], after[..., :frame])
    assert not torch.isclose(before[..., frame:], after[..., frame:]).all(dim=2).any()


def test_a_network_that_may_look_ahead_does() -> None:
    network = awake(LOOKING).eval()
    assert network.ahead
    x, signal = torch.randn(1, 2, 17, 12), torch.randn(1, 2, 17, 12)
    before = network(x, torch.zeros(1), Condition(signal=signal))
    signal[..., 11] = 0
    after = network(x, torch.zeros(1), Condition(signal=signal))
    assert not torch.allclose(before[..., 0], after[..., 0])


@pytest.mark.parametrize("piece", [1, 2, 5, 12])
@pytest.mark.parametrize("taps", [1, 3])
def test_pieces_with_a_state_are_the_whole(piece: int, taps: int) -> None:
    network = awake(replace(CONFIG, taps=taps))
    x, signal, noise = torch.randn(3, 2, 17, 12), torch.randn(3, 2, 17, 12), torch.randn(3)
    state, parts = None, []
    for some, heard in zip(x.split(piece, dim=-1), signal.split(piece, dim=-1), strict=True):
        condition = Condition(signal=heard)
        made, state = network.piece(some, network.told(noise, condition), condition, state)
        parts.append(made)
    whole = network(x, noise, Condition(signal=signal))
    torch.testing.assert_close(torch.cat(parts, dim=-1), whole, atol=1e-5, rtol=0)


def test_what_looks_ahead_sees_the_frames_of_each_alone() -> None:
    network = awake(LOOKING).eval()
    x, signal, noise = torch.randn(3, 2, 17, 12), torch.randn(3, 2, 17, 12), torch.randn(3)
    condition = Condition(signal=signal)
    ends = torch.tensor([7, 12, 0])
    told = network.told(noise, condition)
    made, state = network.piece(x, told, condition, ahead=5, ends=ends)
    for row, end in ((0, 7), (1, 12)):
        one = slice(row, row + 1)
        own = Condition(signal=signal[one, ..., :end])
        alone = network.piece(x[one, ..., :end], network.told(noise[one], own), own, ahead=end - 7)
        torch.testing.assert_close(made[one, ..., :end], alone[0], atol=1e-5, rtol=0)
        before = zip(state[1:], alone[1][1:], strict=True)
        for together, apart in before:
            rows = together.unflatten(1, (-1, 3))[:, :, one].flatten(1, 2)
            torch.testing.assert_close(rows, apart, atol=1e-5, rtol=0)


def test_a_deeper_network_goes_on_where_a_shallower_one_stands() -> None:
    shallow = awake()
    deeper = Bands(BandsConfig(**{**CONFIG.__dict__, "blocks": 3}), PORTS)
    new = deeper.load_state_dict(shallow.state_dict(), strict=False).missing_keys
    assert new
    assert all(name.startswith("blocks.2.") for name in new)
    x, condition = torch.randn(2, 2, 17, 12), Condition(signal=torch.randn(2, 2, 17, 12))
    torch.testing.assert_close(deeper(x, torch.zeros(2), condition), shallow(x, torch.zeros(2), condition))


def test_pieces_of_a_network_that_looks_ahead_are_those_of_one_that_does_not() -> None:
    ahead, causal = awake(LOOKING), awake()
    causal.load_state_dict(ahead.state_dict(), strict=False)
    x, noise, condition = torch.randn(2, 2, 17, 5), torch.zeros(2), Condition(signal=torch.randn(2, 2, 17, 5))
    torch.testing.assert_close(ahead.piece(x, ahead.told(noise, condition), condition)[0], causal(x, noise, condition))


def test_a_network_that_learns_to_look_ahead_goes_on_where_a_causal_one_stands() -> None:
    causal, ahead = awake(), Bands(LOOKING, PORTS)
    new = ahead.load_state_dict(causal.state_dict(), strict=False).missing_keys
    assert {name.split(".")[2] for name in new} == {"frames_back", "leave_frames_back"}
    x, noise, condition = torch.randn(2, 2, 17, 5), torch.zeros(2), Condition(signal=torch.randn(2, 2, 17, 5))
    torch.testing.assert_close(ahead(x, noise, condition), causal(x, noise, condition))


@pytest.mark.parametrize("looks", [False, True])
def test_upper_bands_hear_the_others_which_work_as_they_would_alone(looks: bool) -> None:
    lower = awake(replace(CONFIG, ahead=looks))
    wide = replace(CONFIG, bands=(*CONFIG.bands, (2, 8)), upper=2, ahead=looks)
    network = Bands(wide, replace(PORTS, bins=33))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.load_state_dict(lower.state_dict(), strict=False)
    x, signal, noise = torch.randn(2, 2, 33, 6), torch.randn(2, 2, 33, 6), torch.randn(2)
    made = network.eval()(x, noise, Condition(signal=signal))
    alone = lower(x[:, :, :17], noise, Condition(signal=signal[:, :, :17]))
    torch.testing.assert_close(made[:, :, :16], alone[:, :, :16])
    signal[:, :, 2] = 0
    assert not torch.isclose(network(x, noise, Condition(signal=signal))[:, :, 16:32], made[:, :, 16:32]).all()


@pytest.mark.parametrize("upper", [-2, 3, 6])
def test_upper_bands_are_folded_too_and_not_all(upper: int) -> None:
    with pytest.raises(UsageError, match=f"upper must be a multiple of fold, 2, below the 6 bands, not {upper}"):
        replace(CONFIG, upper=upper)


def test_in_training_some_examples_go_without_looking_ahead() -> None:
    network = awake(LOOKING)
    x, signal = (torch.randn(1, 2, 17, 5).expand(64, -1, -1, -1) for _ in range(2))
    noise, condition = torch.zeros(64), Condition(signal=signal)
    made = network.train()(x, noise, condition)
    causal = network.piece(x, network.told(noise, condition), condition)[0]
    blind = torch.isclose(made, causal, atol=1e-6).flatten(1).all(dim=1)
    seeing = torch.isclose(made, network.eval()(x, noise, condition), atol=1e-6).flatten(1).all(dim=1)
    assert bool((blind != seeing).all())
    assert 8 <= int(blind.sum()) <= 32


def test_the_output_is_a_complex_filter_over_the_last_frames_and_a_spectrum_of_its_own() -> None:
    network = Bands(CONFIG, PORTS)
    # Only biases: two sources (x, signal) at three delays, and the own spectrum, each as (real, imaginary).
    weights = torch.zeros(7, 2)
    weights[1] = torch.tensor([0.0, 1.0])  # the signal, now, turned by 90 degrees
    weights[4] = torch.tensor([0.5, 0.0])  # x two frames ago, halved
    weights[6] = torch.tensor([0.25, -1.0])
    for (_, size), bias in zip(CONFIG.bands, network.join.biases, strict=True):
        torch.nn.init.zeros_(bias)
        bias.data += weights.flatten().repeat(size)
    for weight in network.join.weights:
        torch.nn.init.zeros_(weight)
    x, signal = torch.randn(1, 2, 17, 5), torch.randn(1, 2, 17, 5)
    made = torch.complex(*network(x, torch.zeros(1), Condition(signal=signal)).unbind(1))
    late = torch.nn.functional.pad(torch.complex(x[:, 0], x[:, 1]), (2, 0))[..., :5]
    expected = 1j * torch.complex(signal[:, 0], signal[:, 1]) + 0.5 * late + (0.25 - 1j)
    torch.testing.assert_close(made[:, :16], expected[:, :16])
    assert not made[:, 16].any()  # half the sample rate is left out


@pytest.mark.parametrize(
    ("ports", "word"),
    [
        (Ports(channels=1), "complex spectra"),
        (Ports(channels=3, dims=2, bins=17), "complex spectra"),
        (Ports(channels=2, dims=2, bins=18), "hold 16 bins together, but the spectra have 18"),
    ],
)
def test_ports_that_do_not_fit_are_refused(ports: Ports, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        CONFIG.build(ports)


def test_spectra_of_other_bins_are_refused() -> None:
    with pytest.raises(UsageError, match="17 bins, not 9"):
        awake()(torch.zeros(1, 2, 9, 4), torch.zeros(1), Condition(signal=torch.zeros(1, 2, 9, 4)))


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of fold"):
        BandsConfig(bands=((9, 1),), fold=2)


def test_the_default_is_small_enough_for_one_thread_of_a_laptop() -> None:
    ports = Ports(channels=2, dims=2, signal=2, bins=257)
    assert 50_000 < sum(parameter.numel() for parameter in BandsConfig().build(ports).parameters()) < 500_000
