"""The MDCT: its definition, perfect reconstruction at any length, the energy it keeps, and its windows."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hiss.errors import UsageError
from hiss.noise import seeded
from hiss.signal.mdct import MdctWindow, imdct, mdct, slope

WINDOWS: tuple[MdctWindow, ...] = ("sine", "kbd", "vorbis")
windows = pytest.mark.parametrize("window", WINDOWS)


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded("mdct", *shape), dtype=dtype).clamp(-4, 4) / 4


@windows
@pytest.mark.parametrize("bins", [64, 256, 1024])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("samples", [1, 100, 16_000, 1_000_003])
def test_the_inverse_gives_the_audio_back_at_any_length(
    window: MdctWindow, bins: int, dtype: torch.dtype, most: float, samples: int
) -> None:
    audio = noise(2, samples, dtype=dtype)
    spectrum = mdct(audio, bins=bins, window=window)
    assert spectrum.shape == (2, bins, math.ceil(samples / bins) + 1)
    assert spectrum.dtype == dtype
    again = imdct(spectrum, samples=samples, window=window)
    assert again.shape == audio.shape
    assert float((again - audio).abs().max()) < most
    # Orthonormal: the energy is that of the audio.
    assert float(spectrum.double().square().sum()) == pytest.approx(float(audio.double().square().sum()), rel=most)


@windows
@pytest.mark.parametrize("bins", [2, 6, 16])
def test_it_is_the_sum_of_cosines_of_the_definition(window: MdctWindow, bins: int) -> None:
    audio = noise(3, 5 * bins - 1)
    n, k = torch.arange(2 * bins, dtype=torch.float64), torch.arange(bins, dtype=torch.float64)[:, None]
    cosines = math.sqrt(2 / bins) * torch.cos(math.pi / bins * (n + 0.5 + bins / 2) * (k + 0.5))
    rising = slope(window, bins)
    frames = functional.pad(audio, (bins, bins + 1)).unfold(-1, 2 * bins, bins) * torch.cat([rising, rising.flip(0)])
    torch.testing.assert_close(mdct(audio, bins=bins, window=window), cosines @ frames.transpose(-1, -2))


@windows
def test_basis_functions_are_orthonormal(window: MdctWindow) -> None:
    bins, frames = 8, 5
    one_each = torch.eye(bins * frames, dtype=torch.float64).reshape(-1, bins, frames)
    # Without the first and last frame, half of which lies outside the result.
    inside = imdct(one_each, samples=bins * (frames - 1), window=window)
    inside = inside[(one_each[..., 1:-1] != 0).flatten(1).any(dim=1)]
    torch.testing.assert_close(inside @ inside.T, torch.eye(len(inside), dtype=torch.float64))


@windows
@pytest.mark.parametrize("alpha", [0.0, 4.0, 6.0])
def test_windows_rise_and_their_squares_overlap_to_one(window: MdctWindow, alpha: float) -> None:
    rising = slope(window, 128, alpha=alpha)
    assert bool((rising.diff() > 0).all())
    torch.testing.assert_close(rising.square() + rising.flip(0).square(), torch.ones(128, dtype=torch.float64))


def test_windows_are_those_of_the_textbook() -> None:
    x = torch.arange(4, dtype=torch.float64) + 0.5
    torch.testing.assert_close(slope("sine", 4), (math.pi * x / 8).sin())
    torch.testing.assert_close(slope("vorbis", 4), (math.pi / 2 * (math.pi * x / 8).sin() ** 2).sin())
    # I0(4 pi sqrt(1 - (2 n / 4 - 1)^2)) at n from 0 to 4, summed up.
    kaiser = torch.special.i0(4 * math.pi * (1 - (torch.arange(5, dtype=torch.float64) / 2 - 1) ** 2).sqrt())
    torch.testing.assert_close(slope("kbd", 4), (kaiser.cumsum(0)[:4] / kaiser.sum()).sqrt())


def test_a_larger_alpha_leaks_less_far_away() -> None:
    tone = torch.sin(math.pi / 64 * 20.3 * torch.arange(64 * 20, dtype=torch.float64))
    far = [float(mdct(tone, bins=64, window="kbd", alpha=alpha)[40:, 2:-2].square().sum()) for alpha in (1.0, 4.0)]
    assert far[1] < 1e-3 * far[0]


def test_a_tone_lies_in_its_bin() -> None:
    tone = torch.sin(math.pi / 64 * 20.5 * torch.arange(64 * 20, dtype=torch.float64))
    assert mdct(tone, bins=64).square().sum(dim=-1).argmax() == 20


def test_gradients_pass_through_exactly() -> None:
    audio = noise(1, 2, 20).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mdct(x, bins=8), audio)
    assert torch.autograd.gradcheck(lambda x: imdct(x, samples=20), mdct(audio, bins=8).detach().requires_grad_())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"bins": 65}, "even number of bins"),
        ({"bins": 0}, "even number of bins"),
        ({"window": "hann"}, r"unknown MDCT window 'hann'; valid are: kbd, sine, vorbis"),
        ({"alpha": -1.0}, "alpha"),
    ],
)
def test_what_is_no_mdct_is_refused(options: dict[str, float], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        mdct(noise(100), **({"bins": 64} | options))  # type: ignore[arg-type]
