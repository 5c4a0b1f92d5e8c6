"""Distances between sets of recordings: closed forms, brute force, symmetry, invariances."""

import math

import pytest
import torch
from torch import Tensor

from hiss.errors import HissError
from hiss.evaluation.distances import correlation, entropy, frechet, inception_score, kernel, nearest, vendi


def gaussian(clips: int, features: int, seed: int = 0) -> Tensor:
    return torch.randn(clips, features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def whitened(clips: int, features: int, seed: int = 0) -> Tensor:
    """Returns a set whose mean is exactly 0 and whose covariance is exactly 1."""
    centred = gaussian(clips, features, seed)
    centred = centred - centred.mean(dim=0)
    orthogonal: Tensor = torch.linalg.qr(centred).Q
    return orthogonal * math.sqrt(clips - 1)


def test_frechet_between_gaussians_with_diagonal_covariances_is_the_closed_form() -> None:
    one, two = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 2.0, 0.5]).double()
    shift = torch.tensor([0.0, 1.0, -2.0]).double()
    expected = shift.square().sum() + (one - two).square().sum()
    assert frechet(whitened(50, 3) * one, whitened(40, 3, 1) * two + shift) == pytest.approx(expected.item())


def test_frechet_agrees_with_the_matrix_square_root_of_scipy() -> None:
    from scipy.linalg import sqrtm

    first, second = gaussian(60, 5) @ gaussian(5, 5, 1), gaussian(80, 5, 2) @ gaussian(5, 5, 3) + 1
    c1, c2 = first.T.cov(), second.T.cov()
    root = torch.from_numpy(sqrtm((c1 @ c2).numpy()).real)
    expected = (first.mean(0) - second.mean(0)).square().sum() + torch.trace(c1 + c2 - 2 * root)
    assert frechet(first, second) == pytest.approx(expected.item())


def test_frechet_of_a_set_with_itself_is_zero_even_with_fewer_clips_than_features() -> None:
    assert frechet(gaussian(10, 40), gaussian(10, 40)) == pytest.approx(0, abs=1e-9)


def test_frechet_is_symmetric() -> None:
    first, second = gaussian(30, 6), gaussian(20, 6, 1) + 0.5
    assert frechet(first, second) == pytest.approx(frechet(second, first))


def test_kernel_agrees_with_a_double_loop() -> None:
    first, second, width = gaussian(7, 3), gaussian(5, 3, 1) + 1, 1.7

    def mean(a: Tensor, b: Tensor) -> float:
        values = [
            math.exp(-(x - y).square().sum().item() / (2 * width**2))
            for i, x in enumerate(a)
            for j, y in enumerate(b)
            if a is not b or i != j
        ]
        return sum(values) / len(values)

    expected = 1000 * (mean(first, first) + mean(second, second) - 2 * mean(first, second))
    assert kernel(first, second, bandwidth=width) == pytest.approx(expected)
    assert kernel(second, first, bandwidth=width) == pytest.approx(expected)


def test_the_bandwidth_of_the_kernel_is_the_median_distance_of_the_reference() -> None:
    reference = torch.tensor([[0.0], [1.0], [5.0]])  # distances 1, 4, 5
    questioned = gaussian(6, 1)
    assert kernel(questioned, reference) == pytest.approx(kernel(questioned, reference, bandwidth=4.0))


def test_kernel_is_the_same_at_every_scale_of_the_embedding() -> None:
    first, second = gaussian(20, 4), gaussian(30, 4, 1) + 0.3
    assert kernel(100 * first, 100 * second) == pytest.approx(kernel(first, second))


def test_kernel_of_two_sets_of_one_kind_is_zero_on_average_and_grows_with_their_distance() -> None:
    same = [kernel(gaussian(30, 4, 2 * seed), gaussian(50, 4, 2 * seed + 1)) for seed in range(60)]
    assert abs(sum(same) / len(same)) < 2.0
    near, far = (kernel(gaussian(30, 4) + shift, gaussian(50, 4, 1)) for shift in (0.5, 2.0))
    assert max(same) < near < far


def test_a_reference_without_any_spread_is_refused() -> None:
    with pytest.raises(HissError, match="all the same"):
        kernel(gaussian(5, 2), torch.ones(5, 2))


@pytest.mark.parametrize("distance", [frechet, kernel])
def test_a_single_clip_makes_no_set(distance: object) -> None:
    assert callable(distance)
    with pytest.raises(HissError, match="at least two clips in each, came 1"):
        distance(gaussian(1, 3), gaussian(5, 3))


def test_inception_score_is_one_without_opinion_and_the_number_of_classes_at_best() -> None:
    assert inception_score(torch.full((8, 5), 0.2)) == pytest.approx(1)
    assert inception_score(torch.eye(5)) == pytest.approx(5)
    assert inception_score(torch.eye(5)[[0, 0, 0]]) == pytest.approx(1)


def test_vendi_counts_the_different_clips() -> None:
    assert vendi(torch.eye(6)) == pytest.approx(6)
    assert vendi(torch.eye(6)[[0, 0, 1, 1, 2, 2]]) == pytest.approx(3)
    assert vendi(torch.tensor([[1.0, 2.0]]).expand(4, 2)) == pytest.approx(1)


def test_entropy_of_a_uniform_distribution_is_the_logarithm_of_its_size() -> None:
    torch.testing.assert_close(entropy(torch.tensor([[0.25] * 4, [1.0, 0, 0, 0]])), torch.tensor([math.log(4), 0.0]))


def test_nearest_finds_the_nearest_first() -> None:
    distances, indices = nearest(torch.tensor([[0.0], [10.0]]), torch.tensor([[7.0], [1.0], [-3.0]]), count=2)
    assert indices.tolist() == [[1, 2], [0, 1]]
    assert distances.tolist() == [[1, 3], [3, 9]]


def test_a_shifted_inverted_quieter_copy_correlates_fully() -> None:
    sound = gaussian(1, 100)[0]
    copy = torch.cat([torch.zeros(37).double(), -0.01 * sound, torch.zeros(9).double()])
    assert correlation(copy, sound).item() == pytest.approx(1)


def test_correlation_agrees_with_a_loop_over_the_shifts() -> None:
    first, second = gaussian(1, 20)[0], gaussian(1, 13, 1)[0]
    padded = torch.cat([torch.zeros(12).double(), first, torch.zeros(12).double()])
    products = padded.unfold(0, 13, 1) @ second
    expected = products.abs().max() / (first.norm() * second.norm())
    assert correlation(first, second).item() == pytest.approx(expected.item())


def test_silence_correlates_with_nothing() -> None:
    assert correlation(torch.zeros(3, 50), gaussian(3, 40).float()).tolist() == [0, 0, 0]
