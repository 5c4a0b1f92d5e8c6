"""Moving averages of weights whose length can be chosen after the training.

Source: Karras et al., 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), section 3.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from hiss.audio import replacing
from hiss.errors import HissError, UsageError


def exponent(sigma_rel: float) -> float:
    """Returns gamma: the average of relative length `sigma_rel` weighs the weights of step t by t^gamma.

    `sigma_rel` is the standard deviation of that profile divided by the number of steps, between 0 and 0.28.
    Source: Karras et al., 2024, equation 123: sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """
    if not 0 < sigma_rel <= 0.28:
        raise UsageError(f"the length of an average (sigma_rel) must be above 0 and at most 0.28, not {sigma_rel}")
    precision = sigma_rel**-2
    return float(np.roots([1, 7, 16 - precision, 12 - precision]).real.max())


class PowerAverage:
    """Averages of a module's trainable parameters with power-function profiles, in float32, several lengths at once.

    Source: Karras et al., 2024, equation 2: average += (1 - beta) (weights - average), beta = (1 - 1/t)^(gamma + 1).
    """

    def __init__(self, module: nn.Module, lengths: Iterable[float], *, without: nn.Module | None = None) -> None:
        """Averages all that is trained in a module, but for the part `without`."""
        left_out = set() if without is None else {id(parameter) for parameter in without.parameters()}
        self._parameters = {
            name: p for name, p in module.named_parameters() if p.requires_grad and id(p) not in left_out
        }
        self._exponents = {length: exponent(length) for length in lengths}
        # One flat vector per length: a step is one operation, however many parameters there are.
        self.vectors = {length: self._flat() for length in self._exponents}

    def _flat(self) -> Tensor:
        return parameters_to_vector(p.detach().float() for p in self._parameters.values())

    def update(self, step: int) -> None:
        """Takes the weights after optimiser step `step`, counted from 1, into every average."""
        if not self.vectors:
            return
        weights = self._flat()
        for length, vector in self.vectors.items():
            vector.lerp_(weights, 1 - (1 - 1 / step) ** (self._exponents[length] + 1))

    def weights(self, length: float) -> dict[str, Tensor]:
        """Returns the average of one length by parameter name: views that change with the next update."""
        parts = torch.split(self.vectors[length], [p.numel() for p in self._parameters.values()])
        return {name: part.view_as(p) for (name, p), part in zip(self._parameters.items(), parts, strict=True)}

    @contextmanager
    def applied(self, length: float | None) -> Iterator[None]:
        """Puts the average of one length (None: leaves the weights) into the module while the context lasts."""
        if length is None:
            yield
            return
        before = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._put(self.weights(length))
        try:
            yield
        finally:
            self._put(before)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])


@dataclass(frozen=True)
class Snapshot:
    """The file of one average at one step."""

    path: Path
    step: int
    sigma_rel: float

    def weights(self) -> dict[str, Tensor]:
        """Returns the average by parameter name."""
        from safetensors.torch import load_file

        return load_file(self.path)


def save_snapshots(folder: Path, average: PowerAverage, step: int) -> None:
    """Writes every average as `STEP-LENGTH.safetensors` into the folder."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    for length in average.vectors:
        path = folder / f"{step:09d}-{length}.safetensors"
        with replacing(path) as beside:
            beside.write_bytes(save({name: value.cpu().clone() for name, value in average.weights(length).items()}))


def find_snapshots(folder: Path) -> list[Snapshot]:
    """Returns the snapshots in a folder in the order of their steps."""
    found = []
    for path in sorted(folder.glob("*-*.safetensors")):
        step, _, length = path.stem.partition("-")
        found.append(Snapshot(path, int(step), float(length)))
    return found


def reconstruct(snapshots: Sequence[Snapshot], sigma_rel: float, *, step: int | None = None) -> dict[str, Tensor]:
    """Returns the weights averaged with any length, although only those of the snapshots were kept.

    The average at `step` (None: of the last snapshot) is approached by the sum of snapshots whose profile is nearest
    to the wanted one in the least-squares sense.

    Raises:
        HissError: there is no snapshot up to `step`.

    Source: Karras et al., 2024, algorithm 3.
    """
    target = max((s.step for s in snapshots), default=0) if step is None else step
    usable = [s for s in snapshots if s.step <= target]
    if not usable:
        raise HissError(f"there is no snapshot up to step {target}; train with trainer.snapshots above 0")
    profiles = [(s.step, exponent(s.sigma_rel)) for s in usable]
    gram = np.array([[_product(a, b) for b in profiles] for a in profiles])
    right = np.array([_product(a, (target, exponent(sigma_rel))) for a in profiles])
    coefficients = np.linalg.lstsq(gram, right, rcond=None)[0]
    total: dict[str, Tensor] = {}
    for coefficient, snapshot in zip(coefficients, usable, strict=True):
        _accumulate(total, snapshot.weights(), float(coefficient))
    return {name: value.float() for name, value in total.items()}


def _accumulate(total: dict[str, Tensor], weights: Mapping[str, Tensor], coefficient: float) -> None:
    for name, value in weights.items():
        scaled = value.double() * coefficient
        total[name] = total[name] + scaled if name in total else scaled


def _product(a: tuple[int, float], b: tuple[int, float]) -> float:
    """Returns the integral of two profiles (gamma + 1) t^gamma / T^(gamma + 1) on [0, T], given as (T, gamma)."""
    (first, p), (last, q) = sorted((a, b), key=lambda profile: profile[0])
    return float((p + 1) * (q + 1) / (p + q + 1) * (first / last) ** q / last)
