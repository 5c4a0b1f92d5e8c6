"""Edits: known parts are kept, windows leave no seam and close a loop, strength chooses the start."""

import pytest
import torch
from torch import Tensor

from hiss.diffusion.editing import cut, inpaint, start_from, steady, windows
from hiss.diffusion.sampling import SAMPLERS, ddim
from hiss.diffusion.schedules import Karras
from hiss.errors import UsageError
from hiss.noise import generators, normal, seeded

KNOWN = torch.randn(2, 3, 40, generator=seeded("known"))
SIGMA = torch.tensor(0.8)


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of white noise of unit variance."""
    return x / (1 + sigma**2)


def windowed(x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor:
    return gaussian(x, sigma)


def untouched(x: Tensor, sigma: Tensor) -> Tensor:
    return x


def same(x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_the_known_part_exactly(name: str) -> None:
    grid = Karras().grid(8)
    mask = torch.zeros(40)
    mask[10:25] = 1
    x = SAMPLERS[name](inpaint(gaussian, KNOWN, mask), grid[0] * normal(KNOWN), grid, generator=seeded(1))
    assert torch.equal(x[..., 10:25], KNOWN[..., 10:25])
    assert x.isfinite().all()
    assert (x[..., :10] - KNOWN[..., :10]).abs().mean() > 0.5


def test_the_state_of_the_known_part_is_always_known_plus_sigma_times_its_noise() -> None:
    grid = Karras().grid(8)
    noises = []

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        noises.append((x - KNOWN) / sigma)
        return gaussian(x, sigma)

    ddim(inpaint(watched, KNOWN, torch.ones(40)), start_from(KNOWN, float(grid[0]), generator=seeded(2)), grid)
    for noise in noises[:-1]:  # at the lowest level rounding is as large as the noise
        torch.testing.assert_close(noise, noises[0], atol=1e-3, rtol=0)


def test_a_soft_mask_fades_between_known_and_estimated() -> None:
    x = start_from(KNOWN, 0.8, generator=seeded(3))
    mask = torch.linspace(0, 1, 40)
    faded = inpaint(gaussian, KNOWN, mask)(x, SIGMA)
    torch.testing.assert_close(faded, mask * KNOWN + (1 - mask) * gaussian(x, SIGMA))


def test_a_variation_starts_from_the_original_plus_noise() -> None:
    x = start_from(KNOWN, 5.0, generator=generators(7, [0, 1]))
    torch.testing.assert_close((x - KNOWN) / 5.0, normal(KNOWN, generators(7, [0, 1])), atol=1e-5, rtol=0)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(
    ("length", "size", "overlap"), [(40, 16, 8), (40, 16, 0), (37, 10, 7), (9, 16, 8), (16, 16, 4), (1, 4, 2)]
)
def test_windows_of_an_identity_are_an_identity(length: int, size: int, overlap: int, loop: bool) -> None:
    x = torch.randn(2, 3, 5, length, generator=seeded(4))
    torch.testing.assert_close(windows(same, size, overlap=overlap, loop=loop)(x, SIGMA), x)


@pytest.mark.parametrize("loop", [False, True])
def test_windows_of_a_pointwise_denoiser_are_the_whole_for_any_levels(loop: bool) -> None:
    x = torch.randn(2, 3, 100, generator=seeded(5))

    def by_item(x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor:
        return x * sigma[:, None, None]

    sigma = torch.tensor([0.3, 2.0])
    windowing = windows(by_item, 32, overlap=11, rows=3, loop=loop)
    torch.testing.assert_close(windowing(x, sigma), x * sigma[:, None, None])


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_memory_is_bounded_and_every_window_is_seen_once(rows: int) -> None:
    seen: list[tuple[int, int]] = []

    def watched(x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor:
        assert len(x) == len(items) == len(starts) <= rows
        seen.extend(zip(items.tolist(), starts.tolist(), strict=True))
        return x

    windows(watched, 16, overlap=8, rows=rows)(torch.randn(2, 1, 48), SIGMA)
    assert seen == [(item, start) for item in (0, 1) for start in (0, 8, 16, 24, 32)]


def test_a_signal_that_runs_along_is_cut_like_x() -> None:
    whole = torch.randn(2, 3, 50, generator=seeded(6))

    def watched(x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor:
        assert torch.equal(cut(whole, items, starts, x.shape[-1]), x)
        return x

    for loop in (False, True):
        windows(watched, 16, overlap=5, loop=loop)(whole, SIGMA)


def test_windows_leave_no_seam_where_neighbours_disagree() -> None:
    def disagreeing(x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor:
        return torch.ones_like(x) * (starts // 32 % 2).float()[:, None, None]

    y = windows(disagreeing, 64, overlap=32)(torch.zeros(1, 1, 256), SIGMA)
    assert y.min() == 0
    assert y.max() > 0.99
    assert y.diff().abs().max() < 0.06


def test_a_loop_has_no_first_sample() -> None:
    def fading(x: Tensor, sigma: Tensor, items: Tensor, starts: Tensor) -> Tensor:
        return x * torch.linspace(0, 1, x.shape[-1])

    loop = windows(fading, 32, overlap=16, loop=True)
    x = torch.randn(1, 2, 128, generator=seeded(7))
    torch.testing.assert_close(loop(x.roll(16, -1), SIGMA), loop(x, SIGMA).roll(16, -1))


@pytest.mark.parametrize("size", [32, 33])
def test_steady_takes_out_what_changes_from_window_to_window(size: int) -> None:
    time = torch.arange(256)
    wave = torch.sin(2 * torch.pi * time / size)  # its mean over a window is 0
    x = (3 + 0.1 * time + wave).expand(2, 1, 4, 256)
    y = steady(untouched, size, above=5.0)(x, torch.tensor(6.0))
    inside = slice(size, -size)  # near the ends fewer samples are averaged
    expected = (x.mean() + wave)[inside].expand_as(y[..., inside])
    torch.testing.assert_close(y[..., inside], expected, rtol=0, atol=0.06)  # half a sample of the line
    assert torch.equal(steady(untouched, size, above=6.0)(x, torch.tensor(6.0)), x)
    assert torch.equal(steady(untouched, 256, above=5.0)(x, torch.tensor(6.0)), x)


def test_a_steady_loop_has_no_first_sample() -> None:
    even = steady(untouched, 32, above=0.0, loop=True)
    x = torch.randn(1, 2, 100, generator=seeded(9))
    torch.testing.assert_close(even(x.roll(16, -1), SIGMA), even(x, SIGMA).roll(16, -1))


def test_a_sampler_walks_through_windows_as_through_the_whole() -> None:
    grid = Karras().grid(6)
    x = grid[0] * torch.randn(2, 1, 100, generator=seeded(8))
    windowing = windows(windowed, 32, overlap=16)
    torch.testing.assert_close(SAMPLERS["unipc"](windowing, x, grid), SAMPLERS["unipc"](gaussian, x, grid))


@pytest.mark.parametrize(("overlap", "rows"), [(16, 8), (-1, 8), (4, 0)])
def test_impossible_windows_are_refused(overlap: int, rows: int) -> None:
    with pytest.raises(UsageError):
        windows(same, 16, overlap=overlap, rows=rows)
