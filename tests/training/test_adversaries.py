"""Adversaries: each side learns only by its own loss, and a contest says what the papers say."""

import pytest
import torch
from torch import Tensor

from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.training.adversaries import Adversary, Gan, Listeners, Opinion, Patches, contest


class Level(Adversary):
    """Takes the mean, times a weight, for how real something is."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> list[Opinion]:
        return [Opinion(self.gain * x.mean(dim=1), [2 * x])]


REAL, MADE = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, -1.0], [2.0, 2.0]])[:1]


@pytest.mark.parametrize(
    ("gan", "fooled", "lost"),
    # Scores: 1 for what is real, 0 for what is made.
    [("hinge", 1.0, 0.0 + 1.0), ("least_squares", 1.0, 0.0 + 0.0)],
)
def test_a_contest_is_that_of_the_papers(gan: str, fooled: float, lost: float) -> None:
    terms = contest(Level(), REAL, MADE, Gan.from_dict({"gan": gan, "adversarial": 3.0, "matching": 0.5}))
    distance = float((MADE - REAL).abs().mean() / REAL.abs().mean())
    assert float(terms["features"]) == pytest.approx(distance)
    assert float(terms["fooled"]) == pytest.approx(fooled)
    assert float(terms["contest"].detach()) == pytest.approx(3 * fooled + 0.5 * distance)
    assert float(terms["adversary"].detach()) == pytest.approx(lost)


@pytest.mark.parametrize(
    ("adversary", "shape"), [(Patches(4), (2, 16, 20)), (Listeners((2, 3), (64, 128), 4), (2, 401))]
)
def test_each_side_learns_by_its_own_loss_only(adversary: Adversary, shape: tuple[int, ...]) -> None:
    real = torch.randn(shape, generator=seeded("real"))
    made = torch.randn(shape, generator=seeded("made")).requires_grad_()
    terms = contest(adversary, real, made, Gan(gan="least_squares"))
    terms["contest"].backward(retain_graph=True)
    assert made.grad is not None
    assert bool(made.grad.any())
    assert all(p.grad is None for p in adversary.parameters())
    made.grad = None
    terms["adversary"].backward()
    assert made.grad is None
    assert all(p.grad is not None and bool(p.grad.any()) for p in adversary.parameters())


def test_an_adversary_learns_to_tell_what_is_made() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adversary = Listeners((2,), (64,), 4)
    time = torch.arange(400) / 8000
    real = torch.sin(6.2832 * torch.tensor([[200.0], [330.0], [500.0], [700.0]]) * time)
    made = real + 0.3 * torch.randn(real.shape, generator=seeded("made"))
    optimizer = torch.optim.AdamW(adversary.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        lost = contest(adversary, real, made, Gan())["adversary"]
        lost.backward()
        optimizer.step()
    assert float(lost.detach()) < 0.7


def test_impossible_adversaries_are_refused() -> None:
    with pytest.raises(UsageError, match="joins after a share of the run"):
        Gan(joins=1.5)
