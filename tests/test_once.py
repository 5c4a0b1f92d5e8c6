"""What is made once can be trained with, wherever it was made first."""

import torch
from torch import Tensor

from hiss.once import once


def test_it_is_made_once_for_each_argument_and_outside_inference_mode() -> None:
    asked = []

    @once
    def ramp(size: int) -> Tensor:
        asked.append(size)
        return torch.arange(size, dtype=torch.float32)

    with torch.inference_mode():
        first = ramp(3)
        assert ramp(4).tolist() == [0, 1, 2, 3]
    assert ramp(3) is first
    assert asked == [3, 4]
    leaf = torch.ones(3, requires_grad=True)
    (leaf * first).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [0, 1, 2]
