"""What listeners would say of speech: DNSMOS as a network of torch, so that it can be trained against."""

import importlib
import importlib.util
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiss.errors import HissError, MissingPackageError
from hiss.signal.resampling import resample_period

OPINIONS = {
    "dnsmos_sig": (0.0052439, 1.22083953, -0.08397278),
    "dnsmos_bak": (-0.39604546, 1.60915514, -0.13166888),
    "dnsmos_ovrl": (0.04602535, 1.11546468, -0.06766283),
}
"""What is asked for, in the order of the network's outputs, and for each the constant, linear and square term that make
an opinion of its output: those that the authors published."""

OPINION_RATE = 16000
"""Hz of what the network hears."""

_WINDOW, _HOP = 320, 160
_SHORTEST = 1600
"""Samples, below which the network, which halves its frames three times, has none left."""
_LEVEL = 0.05
"""RMS of the target, -26 dBFS."""
_FLOOR = 1e-6
"""Power in a bin as soft as the noise of a studio, 55 dB below speech; the decibels of less have steep slopes."""
_POOLED = (3, 4, 5)
"""Convolutions after which only the largest of four neighbours is kept."""


class OpinionNetwork(nn.Module):
    """DNSMOS P.835: seven convolutions on a spectrogram in decibels, the largest of each channel, three layers.

    Source: Reddy et al. 2022, "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric to evaluate
    noise suppressors", section 3; the layers are those of the network that the authors published.
    """

    def __init__(self, spectrum: tuple[Tensor, Tensor], layers: list[tuple[Tensor, Tensor]]) -> None:
        """Takes the weights [161, 320] of the spectrum, and those of each layer with its biases."""
        super().__init__()
        self.spectrum = nn.ParameterList(spectrum)
        self.weights = nn.ParameterList(weight for weight, _ in layers)
        self.biases = nn.ParameterList(bias for _, bias in layers)
        self.requires_grad_(False)

    def forward(self, audio: Tensor, floor: float = 1e-12) -> Tensor:
        """Returns opinions [batch, 3] from 1 to 5 of audio [batch, samples] at 16 kHz, in the order of `OPINIONS`.

        Powers below `floor` are not told apart.
        """
        frames = audio.unfold(-1, _WINDOW, _HOP)
        real, imaginary = (functional.linear(frames, weight) for weight in self.spectrum)
        power = (real.square() + imaginary.square()).clamp(min=floor)
        hidden = power.log10()[:, None]
        layers = list(zip(self.weights, self.biases, strict=True))
        for number, (weight, bias) in enumerate(layers[:-3]):
            hidden = functional.relu(functional.conv2d(hidden, weight, bias, padding=1))
            if number in _POOLED:
                hidden = functional.max_pool2d(hidden, 2)
        hidden = hidden.amax(dim=(-2, -1))
        for weight, bias in layers[-3:-1]:
            hidden = functional.relu(functional.linear(hidden, weight, bias))
        raw = functional.linear(hidden, *layers[-1])
        constant, linear, square = torch.tensor(list(OPINIONS.values()), device=raw.device).T
        opinions: Tensor = constant + linear * raw + square * raw.square()
        return opinions


def opinion_error(estimate: Tensor, target: Tensor, network: OpinionNetwork, *, sample_rate: int) -> Tensor:
    """Returns the points [batch] that speech lacks to be thought of as its target is: the mean over `OPINIONS`.

    What is thought better than the target lacks nothing, and neither does what should be silent. Both sides, audio
    [batch, channels, samples], are heard as the mean of their channels, with the target at -26 dBFS, and without what
    is softer than the noise of a studio, about which the network is unsteady.
    """
    samples = round(target.shape[-1] * OPINION_RATE / sample_rate)
    with torch.autocast(target.device.type, enabled=False):
        heard, wanted = (resample_period(audio.float().mean(dim=1), samples) for audio in (estimate, target))
        heard, wanted = (audio.repeat(1, -(-_SHORTEST // samples)) for audio in (heard, wanted))
        level = wanted.square().mean(dim=1, keepdim=True).sqrt()
        scale = _LEVEL / level.clamp(min=1e-7)
        lacking = network(wanted * scale, _FLOOR).detach() - network(heard * scale, _FLOOR)
        return torch.where(level[:, 0] > 1e-7, lacking.clamp(min=0).mean(dim=1), 0.0)


@cache
def opinion_network(path: Path | None = None) -> OpinionNetwork:
    """Returns the network in the ONNX file `path`, or that of the package `speechmos`; the same one each time.

    Raises:
        MissingPackageError: onnx, or speechmos if no path is given, is not installed.
        HissError: there is no such file, or it holds another network.
    """
    file = published_network() if path is None else path
    if not file.is_file():
        raise HissError(f"there is no DNSMOS network {file}; give the path of sig_bak_ovr.onnx")
    try:
        onnx = importlib.import_module("onnx")
    except ImportError as error:
        raise MissingPackageError("reading DNSMOS needs the package onnx: pip install 'hiss[onnx]'") from error
    try:
        graph = onnx.load_from_string(file.read_bytes()).graph
        arrays = {one.name: torch.tensor(onnx.numpy_helper.to_array(one)) for one in graph.initializer}
        spectrum = [arrays[node.input[1]].squeeze(-1) for node in graph.node if node.op_type == "Conv"][:2]
        convolutions = [node.input for node in graph.node if node.op_type == "Conv"][2:]
        products = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
        sums = [node.input for node in graph.node if node.op_type == "Add" and node.input[0] in products]
        layers = [(arrays[weight], arrays[bias]) for _, weight, bias in convolutions]
        layers += [(arrays[products[product]].T, arrays[bias]) for product, bias in sums]
        return OpinionNetwork((spectrum[0], spectrum[1]), layers)
    except Exception as error:  # what is no ONNX file at all raises an error of protobuf's
        raise HissError(f"{file} is not the network of DNSMOS P.835") from error


def published_network() -> Path:
    """Returns where the package speechmos keeps the network; its code, which asks for more packages, is not run.

    Raises:
        MissingPackageError: speechmos is not installed.
    """
    found = importlib.util.find_spec("speechmos")
    if found is None or not found.submodule_search_locations:
        raise MissingPackageError(
            "DNSMOS needs the package speechmos: pip install 'hiss[metrics]', or give an ONNX file"
        )
    return Path(found.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
