"""Windows of long signals: complete, in order, and without a seam, however the signal is cut into pieces."""

import math

import pytest
import torch
from torch import Tensor

from hiss.signal.overlap import Windows


@pytest.mark.parametrize("length", [1, 9, 10, 11, 25, 100, 103])
@pytest.mark.parametrize(("size", "overlap"), [(10, 0), (10, 4), (10, 9), (1, 0)])
@pytest.mark.parametrize("piece", [1, 7, 200])
def test_windows_that_change_nothing_give_the_signal_back(length: int, size: int, overlap: int, piece: int) -> None:
    signal = torch.randn(2, length)
    taken = []

    def same(window: Tensor) -> Tensor:
        taken.append(window.shape[1])
        return window.clone()

    windows = Windows(same, size=size, overlap=overlap)
    parts = [windows.push(one) for one in signal.split(piece, dim=1)]
    parts.append(windows.push(signal[:, :0], last=True))
    torch.testing.assert_close(torch.cat(parts, dim=1), signal)
    assert len(taken) == max(1, math.ceil((length - overlap) / (size - overlap)))
    assert taken[:-1] == [size] * (len(taken) - 1)


def test_neighbours_cross_fade_in_the_middle_half_of_their_overlap() -> None:
    values = iter((0.0, 1.0))
    windows = Windows(lambda window: torch.full_like(window, next(values)), size=16, overlap=8)
    parts = [windows.push(torch.zeros(16)), windows.push(torch.zeros(8), last=True)]
    assert [len(part) for part in parts] == [8, 16]
    assert torch.cat(parts)[8:16].tolist() == pytest.approx([0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1])


@pytest.mark.parametrize("length", [3, 10, 11, 50])
def test_windows_whose_process_grows_what_it_gets_give_the_whole_grown(length: int) -> None:
    signal = torch.randn(2, length)
    windows = Windows(lambda window: window.repeat_interleave(3, dim=-1), size=10, overlap=4, grows=3)
    torch.testing.assert_close(windows.push(signal, last=True), signal.repeat_interleave(3, dim=-1))


def test_parts_come_as_soon_as_they_are_final() -> None:
    windows = Windows(lambda window: window, size=10, overlap=2)
    given = [windows.push(torch.zeros(1)).shape[0] for _ in range(26)]
    assert given == ([0] * 9 + [8] + [0] * 7 + [8]) + [0] * 7 + [8]
