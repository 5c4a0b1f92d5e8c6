"""When a run counts as diverged, and when it shall end."""

import signal

import pytest

from hiss.errors import UsageError
from hiss.training.health import Health
from hiss.training.stopping import Stopping


def fed(*losses: float) -> Health:
    health = Health()
    for loss in losses:
        health.update(loss, finite=True)
    return health


@pytest.mark.parametrize("level", [1.0, 0.0, -3.0])
def test_a_jump_far_above_the_best_is_divergence_whatever_the_sign(level: float) -> None:
    calm = [level + (0.1 if i % 2 else -0.1) for i in range(300)]
    assert not fed(*calm).diverged(5.0)
    assert fed(*calm, *[level + 100.0] * 100).diverged(5.0)
    assert not fed(*calm, *[level + 100.0] * 100).diverged(0.0)


def test_a_single_spike_is_no_divergence() -> None:
    assert not fed(*[1.0] * 300, 50.0, *[1.0] * 10).diverged(5.0)


def test_a_high_start_is_no_divergence() -> None:
    assert not fed(*[1000.0] * 20, *[1.0] * 20).diverged(2.0)


def test_steps_without_a_finite_loss_are_counted_and_change_nothing_else() -> None:
    health = fed(1.0, 2.0)
    health.update(float("nan"), finite=False)
    health.update(float("nan"), finite=False)
    assert (health.skipped, health.in_a_row, health.seen, health.loss) == (2, 2, 2, 1.5)
    health.update(3.0, finite=True)
    assert (health.skipped, health.in_a_row) == (2, 0)


def test_a_time_budget_leaves_room_for_the_end_of_the_run() -> None:
    stopping = Stopping(10.0)
    assert stopping.reason is None
    assert 590 < stopping.seconds_left <= 600
    stopping.reserve = 601.0
    assert stopping.reason == "minutes"
    assert Stopping(None).seconds_left == float("inf")


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_budget_that_is_none_is_refused(minutes: float) -> None:
    with pytest.raises(UsageError, match="minutes must be above 0"):
        Stopping(minutes)


def test_signals_are_noted_only_inside_the_context() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stopping(None) as stopping:
        signal.raise_signal(signal.SIGINT)
        assert stopping.reason == "SIGINT"
        assert signal.getsignal(signal.SIGINT) is before, "a second Ctrl-C interrupts at once"
    assert signal.getsignal(signal.SIGINT) is before
