"""What tests of denoising share: a causal model of random weights, small enough to run in a moment."""

from dataclasses import replace
from pathlib import Path

import torch

from hiss.audio import Audio
from hiss.conditioners.recording import RecordingConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.diffusion.schedules import LogNormal, OneStep
from hiss.model import AudioDiffusionModel
from hiss.networks.bands import BandsConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.representations.stft import StftConfig

RATE = 8000


CONFIG = ModelConfig(
    sample_rate=RATE,
    seconds=0.5,
    representation=StftConfig(window=64, hop=32),
    network=BandsConfig(bands=((8, 2), (4, 4)), width=8, channels=16, blocks=1, taps=2, embedding=16),
    conditioners=(RecordingConfig(memory=20),),
    parameterization="clean",
    training=OneStep(base=LogNormal(sigma_max=200.0), share=0.5),
    weighting="clean",
    prompt_dropout=0.0,
    sampling=SamplingConfig(
        schedule=LogNormal(mean=0.0, std=0.8, sigma_min=0.3, sigma_max=200.0), sampler="ddim", steps=1, window=1.0
    ),
)


def tiny_denoiser(*, ahead: bool = False) -> Pipeline:
    """Returns a model at 8000 Hz that changes recordings, though not for the better; it may look ahead."""
    assert isinstance(CONFIG.network, BandsConfig)
    config = replace(CONFIG, network=replace(CONFIG.network, ahead=ahead))
    with torch.random.fork_rng(devices=[]):
        model = AudioDiffusionModel(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=seeded(name))
    return Pipeline(model)


def noise(seconds: float = 0.5, *, rate: int = RATE, channels: int = 1) -> Audio:
    """Returns white noise of -26 dBFS."""
    return Audio(0.05 * torch.randn(channels, round(seconds * rate), generator=seeded("noise", rate, channels)), rate)


def write_noise(path: Path, seconds: float = 0.5, *, rate: int = RATE, channels: int = 1) -> Path:
    """Writes white noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seconds, rate=rate, channels=channels).save(path)
    return path
