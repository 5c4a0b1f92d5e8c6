"""Power-function averages of weights: closed forms, and reconstruction of lengths that were not kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.training.ema import PowerAverage, exponent, find_snapshots, reconstruct, save_snapshots


class One(nn.Module):
    """A single weight, which a test moves by hand, beside one that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)

    def set(self, value: float) -> None:
        self.weight.data.fill_(value)


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.25])
def test_the_exponent_gives_the_profile_its_relative_width(sigma_rel: float) -> None:
    t = (np.arange(200_000) + 0.5) / 200_000
    profile = t ** exponent(sigma_rel)
    profile /= profile.sum()
    assert np.sqrt((profile * t**2).sum() - (profile * t).sum() ** 2) == pytest.approx(sigma_rel, rel=1e-3)


def test_known_exponents_of_the_paper() -> None:
    # Karras et al. 2024, section 3.1: gamma is about 16.97 for 0.05 and 6.94 for 0.10.
    assert exponent(0.05) == pytest.approx(16.97, abs=0.01)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.01)


@pytest.mark.parametrize("sigma_rel", [0.0, -1.0, 0.3])
def test_impossible_lengths_are_refused(sigma_rel: float) -> None:
    with pytest.raises(UsageError, match="sigma_rel"):
        exponent(sigma_rel)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1])
def test_the_average_of_a_ramp_is_its_closed_form(sigma_rel: float) -> None:
    module, steps, power = One(), 2000, exponent(sigma_rel) + 1
    average = PowerAverage(module, [sigma_rel])
    for step in range(1, steps + 1):
        module.set(step)
        average.update(step)
    # The recursion weighs step t by t^power - (t - 1)^power, and the sum of these by t telescopes.
    t = np.arange(0, steps, dtype=np.float64)
    exact = steps - ((t / steps) ** power).sum()
    found = average.weights(sigma_rel)["weight"].item()
    assert found == pytest.approx(exact, rel=1e-5)
    assert found == pytest.approx(steps * power / (power + 1), rel=1e-3)


def test_the_first_update_forgets_the_initial_weights() -> None:
    module = One()
    average = PowerAverage(module, [0.05, 0.1])
    module.set(3.0)
    average.update(1)
    assert {average.weights(length)["weight"].item() for length in (0.05, 0.1)} == {3.0}


def test_averages_are_lent_to_the_module_and_taken_back() -> None:
    module = One()
    average = PowerAverage(module, [0.05])
    module.set(1.0)
    with average.applied(0.05):
        assert module.weight.item() == 0.0
        module.set(7.0)
    assert module.weight.item() == 1.0
    assert average.weights(0.05)["weight"].item() == 0.0
    with average.applied(None):
        assert module.weight.item() == 1.0


def test_weights_in_half_precision_are_averaged_in_float32() -> None:
    module = One().to(torch.bfloat16)
    average = PowerAverage(module, [0.1])
    for step in range(1, 400):
        module.set(1.0 if step % 2 else 1.0078125)
        average.update(step)
    assert average.weights(0.1)["weight"].dtype == torch.float32
    assert average.weights(0.1)["weight"].item() == pytest.approx(1.0039, abs=3e-4)


def test_lengths_that_were_not_kept_are_reconstructed(tmp_path: Path) -> None:
    module = nn.Linear(16, 16)
    generator = seeded("walk")
    kept = PowerAverage(module, [0.05, 0.1])
    direct = PowerAverage(module, [0.03, 0.07, 0.15])
    for step in range(1, 1025):
        module.weight.data += torch.randn(16, 16, generator=generator)
        for average in (kept, direct):
            average.update(step)
        if step % 64 == 0:
            save_snapshots(tmp_path, kept, step)
    snapshots = find_snapshots(tmp_path)
    assert len(snapshots) == 32
    distance = (kept.weights(0.05)["weight"] - kept.weights(0.1)["weight"]).norm()
    for length in (0.07, 0.15, 0.05):
        expected = (direct if length != 0.05 else kept).weights(length)
        found = reconstruct(snapshots, length)
        assert found.keys() == expected.keys()
        assert (found["weight"] - expected["weight"]).norm() < 0.01 * distance
    earlier = reconstruct(snapshots, 0.05, step=512)
    exact = next(s for s in snapshots if s.step == 512 and s.sigma_rel == 0.05).weights()
    torch.testing.assert_close(earlier["weight"], exact["weight"], rtol=1e-4, atol=1e-4)


def test_reconstruction_without_snapshots_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(HissError, match=r"trainer\.snapshots"):
        reconstruct(find_snapshots(tmp_path), 0.1)
