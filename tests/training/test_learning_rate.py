"""The learning rate of every decay against its closed form, and what a trainer refuses."""

import math
from dataclasses import replace
from typing import Any

import pytest

from hiss.errors import UsageError
from hiss.training import TrainerConfig


def rates(**changes: Any) -> list[float]:
    config = TrainerConfig.from_dict({"steps": 1000, "learning_rate": 2.0, "warmup": 100} | changes)
    return [config.rate(step) for step in range(config.steps)]


def test_the_warm_up_is_linear_and_ends_at_the_peak() -> None:
    for decay in ("constant", "cosine", "inverse_sqrt"):
        assert rates(decay=decay)[:101:10] == pytest.approx(
            [2.0 * (s + 1) / 100 for s in range(0, 100, 10)] + [2.0], rel=0.01
        )


def test_a_warm_up_may_be_a_share_of_the_steps() -> None:
    assert rates(warmup=0.1) == rates(warmup=100)


def test_constant_stays() -> None:
    assert set(rates(decay="constant")[100:]) == {2.0}


def test_cosine_passes_the_middle_and_ends_at_its_final_factor() -> None:
    found = rates(decay="cosine", final=0.1, warmup=1, steps=1002)
    assert found[1] == pytest.approx(2.0)
    assert found[501] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2))))
    assert found[-1] == pytest.approx(0.2)


def test_onecycle_warms_up_5_percent_rises_30_percent_and_ends_at_a_thousandth() -> None:
    found = rates(decay="onecycle", warmup=0.05, rise=0.3, start=0.04, final=0.001, steps=2000)
    assert found[99] == pytest.approx(2.0 * 0.04)
    assert found[100] == pytest.approx(2.0 * 0.04)
    peak = max(range(len(found)), key=found.__getitem__)
    assert peak == pytest.approx(100 + 0.3 * 1900, abs=1)
    assert found[peak] == pytest.approx(2.0, rel=1e-4)
    assert found[-1] == pytest.approx(2.0 * 0.001)
    assert found[:peak] == sorted(found[:peak])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_inverse_sqrt_halves_when_the_steps_quadruple() -> None:
    found = rates(decay="inverse_sqrt")
    assert found[399] == pytest.approx(1.0)
    assert found[899] == pytest.approx(2.0 / 3)


def test_rates_go_on_after_the_last_step() -> None:
    config = TrainerConfig(steps=10, warmup=0, final=0.5, learning_rate=1.0)
    assert config.rate(50) == config.rate(9) == pytest.approx(0.5)


def test_epochs_become_steps_where_the_size_of_the_data_is_known() -> None:
    config = TrainerConfig(steps=7, epochs=10, batch_size=4, accumulate=2)
    assert config.counted(33).steps == 42
    assert config.counted(33, world=3).steps == 14
    assert replace(config, epochs=0).counted(None).steps == 7
    with pytest.raises(UsageError, match=r"known size.*give trainer\.steps instead"):
        config.counted(None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": -1}, "epochs must not be negative"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"warmup": 1.5}, "share below 1"),
        ({"rise": 1.0}, "rise must be a share"),
        ({"clip": -1.0}, "clip must not be negative"),
        ({"decay": "cosin"}, "did you mean 'cosine'"),
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"ema": [0.5]}, "sigma_rel"),
        ({"clip": math.inf}, "clip must be a finite number, not inf"),
        ({"divergence": math.inf}, "divergence must be a finite number"),
        ({"warmup": math.nan}, "warmup must be a finite number"),
        ({"betas": [0.9, math.nan]}, "betas must be a finite number"),
        ({"betas": [0.9, 1.0]}, r"betas must be from 0 to below 1, not 1\.0"),
        ({"learning_rate": -1.0}, "learning_rate must not be negative"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainerConfig.from_dict(changes)
