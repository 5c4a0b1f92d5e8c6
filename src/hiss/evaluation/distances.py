"""Distances between two sets of recordings, and how varied one set is, all on embeddings [clips, features]."""

import torch
from torch import Tensor
from torch.nn import functional

from hiss.errors import HissError


def frechet(first: Tensor, second: Tensor) -> float:
    """Returns the Fréchet distance of the Gaussians that fit two sets; with audio embeddings, FAD.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), at least 0. It is biased upwards for few clips, so compare only
    figures of the same two numbers of clips.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", eq. 6; Kilgour et al. 2019, "Fréchet
    audio distance".

    Args:
        first: [clips, features].
        second: [clips, features].

    Raises:
        HissError: a set has fewer than two clips.
    """
    _enough(first, second)
    first, second = first.double(), second.double()
    apart = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    # The singular values of X1 X2^T, where C = X^T X, are the square roots of the eigenvalues of C1 C2.
    one, two = _root(first), _root(second)
    overlap = torch.linalg.svdvals(one @ two.T).sum()
    return max(0.0, float(apart + one.square().sum() + two.square().sum() - 2 * overlap))


def kernel(first: Tensor, second: Tensor, *, bandwidth: float | None = None) -> float:
    """Returns 1000 times the unbiased squared maximum mean discrepancy of two sets; with audio embeddings, KAD.

    The kernel is exp(-|a - b|^2 / (2 bandwidth^2)). The expected value is 0 for two sets of one kind whatever their
    sizes, so it is now and then below 0.

    Source: Gretton et al. 2012, "A kernel two-sample test", eq. 3; Chung et al. 2025, "KAD: No more FAD", section 3.

    Args:
        first: [clips, features], those in question.
        second: [clips, features], the reference.
        bandwidth: Of the kernel; the median distance between two clips of the reference if not given.

    Raises:
        HissError: a set has fewer than two clips, or the clips of the reference are all the same.
    """
    _enough(first, second)
    first, second = first.double(), second.double()
    if bandwidth is None:
        bandwidth = torch.pdist(second).median().item()
    if bandwidth <= 0:
        raise HissError("the clips of the reference are all the same, so that the kernel has no width; give more clips")

    def mean(a: Tensor, b: Tensor) -> Tensor:
        values = torch.exp(-torch.cdist(a, b).square() / (2 * bandwidth**2))
        if a is b:  # without the pairs of a clip and itself: that makes the estimate unbiased
            return (values.sum() - len(a)) / (len(a) * (len(a) - 1))
        return values.mean()

    return 1000 * (mean(first, first) + mean(second, second) - 2 * mean(first, second)).item()


def inception_score(probabilities: Tensor) -> float:
    """Returns exp(mean KL(p(class | clip) || p(class))): 1 is the worst, the number of classes the best.

    Source: Salimans et al. 2016, "Improved techniques for training GANs", section 4.

    Args:
        probabilities: [clips, classes], rows that sum to 1.
    """
    probabilities = probabilities.double()
    return (entropy(probabilities.mean(dim=0)) - entropy(probabilities).mean()).exp().item()


def vendi(embeddings: Tensor) -> float:
    """Returns how many different clips the set is worth: 1 (all the same) to the number of clips (all orthogonal).

    The exponential of the entropy of the eigenvalues of K / clips, where K holds the cosine similarities; take a mean
    off the embeddings first where they are all on one side.

    Source: Friedman and Dieng 2023, "The Vendi score", definition 2.

    Args:
        embeddings: [clips, features].
    """
    unit = functional.normalize(embeddings.double(), dim=1)
    # K / clips = X X^T / clips has the eigenvalues of X^T X / clips, which is smaller, and some zeros.
    values = torch.linalg.eigvalsh(unit.T @ unit / len(unit)).clamp(min=0)
    return entropy(values).exp().item()


def entropy(probabilities: Tensor) -> Tensor:
    """Returns -sum p log p in nats [...] of `probabilities` [..., classes]."""
    entropies: Tensor = torch.special.entr(probabilities)
    return entropies.sum(dim=-1)


def nearest(queries: Tensor, known: Tensor, *, count: int = 1) -> tuple[Tensor, Tensor]:
    """Returns the distances to the nearest known clips and which they are, both [queries, count], nearest first.

    Args:
        queries: [queries, features].
        known: [clips, features].
        count: How many to find, at most the number of known clips.
    """
    distances, indices = torch.cdist(queries.double(), known.double()).topk(min(count, len(known)), largest=False)
    return distances, indices


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Returns the largest normalised cross-correlation [...] of two recordings over all shifts.

    max over shifts of |sum_t a(t + shift) b(t)| / (|a| |b|): 1 means that one is a copy of the other, whatever its
    level, sign and place; silence correlates with nothing (0).

    Args:
        first: [..., samples].
        second: [..., samples], of the same sample rate; the dimensions before are broadcast.
    """
    size = 1 << (first.shape[-1] + second.shape[-1] - 2).bit_length()
    one, two = (torch.fft.rfft(functional.normalize(audio, dim=-1), n=size) for audio in (first, second))
    products: Tensor = torch.fft.irfft(one * two.conj(), n=size)
    return products.abs().amax(dim=-1)


def _root(embeddings: Tensor) -> Tensor:
    """Returns X [at most features, features] with X^T X the covariance of the set [clips, features]."""
    centred = embeddings - embeddings.mean(dim=0)
    root: Tensor = torch.linalg.qr(centred / (len(embeddings) - 1) ** 0.5, mode="r").R
    return root


def _enough(*sets: Tensor) -> None:
    smallest = min(len(clips) for clips in sets)
    if smallest < 2:
        raise HissError(f"a distance between sets needs at least two clips in each, came {smallest}")
