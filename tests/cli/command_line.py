"""What the tests of the command line share: a runner, and a model small enough to sample in a moment."""

import sys
import warnings
from pathlib import Path

import torch
from typer.testing import CliRunner, Result

from hiss.audio import Audio
from hiss.clap import AudioTowerConfig, ClapConfig, TextTowerConfig, begin
from hiss.cli import app
from hiss.conditioners.label import LabelConfig
from hiss.conditioners.text import TextConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline
from hiss.representations.waveform import WaveformConfig
from hiss.saved import write_model

CARD = "# A model for tests\n\nMakes noise of 0.1 s at 8000 Hz.\n\n## Data\n\nNone.\n"


RECIPE = """
data: {name: tones, examples: 16}
model:
  sample_rate: 8000
  seconds: 0.05
  representation: {name: waveform}
  network: {name: unet, channels: [8, 8], patch: 16, factors: [2], attention: [false, false], embedding: 8}
trainer: {steps: 4, batch_size: 2}
"""
"""What `hiss train` reads; trained in a moment."""

HISS = [sys.executable, "-c", "from hiss.cli import main; main()"]
"""The program, for tests that need a process of its own."""


def hiss(*words: object) -> Result:
    """Runs the command line."""
    with warnings.catch_warnings():
        for expected in ("the peak", "this model has never read"):
            warnings.filterwarnings("default", message=expected)
        return CliRunner().invoke(app, [str(word) for word in words], env={"HISS_DEBUG": None}, catch_exceptions=False)


def drawn(model: AudioDiffusionModel) -> AudioDiffusionModel:
    """Returns the model with all weights drawn at random: a fresh U-Net says 0, whatever it is asked."""
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(name))
    return model


def tiny_model(folder: Path) -> Path:
    """Writes a model of random weights that knows the digits 7 and 8."""
    config = ModelConfig(
        sample_rate=8000,
        seconds=0.1,
        representation=WaveformConfig(),
        network=UNetConfig(channels=(8, 8), patch=16, factors=(2,), attention=(False, False), embedding=8),
        conditioners=(LabelConfig(field="digit", classes=("7", "8"), features=4),),
        sampling=SamplingConfig(steps=2),
    )
    Pipeline(drawn(AudioDiffusionModel(config)), card=CARD).save_pretrained(folder)
    return folder


CLAP = ClapConfig(
    audio=AudioTowerConfig(
        sample_rate=8000, n_fft=512, hop=128, bins=32, image=32, patch=4, width=4, depths=(1, 1), heads=(1, 1)
    ),
    text=TextTowerConfig(width=8, layers=1, heads=1),
    features=8,
)


def tiny_reader(folder: Path, *captions: str) -> Path:
    """Writes a model of random weights that reads, into `folder/model`, and its CLAP into `folder/clap`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clap = begin(CLAP, captions)
        config = ModelConfig(
            sample_rate=8000,
            seconds=0.3,
            representation=WaveformConfig(),
            network=UNetConfig(channels=(8, 8), patch=16, factors=(2,), attention=(False, False), embedding=8),
            conditioners=(TextConfig(clap=clap.config),),
            sampling=SamplingConfig(steps=1),
        )
        Pipeline(drawn(AudioDiffusionModel(config))).save_pretrained(folder / "model")
    write_model(clap, folder / "clap")
    return folder / "model"


def tone(path: Path) -> Path:
    """Writes half a second of a tone at 8000 Hz."""
    Audio(0.5 * torch.sin(torch.arange(4000) * 0.3), 8000).save(path)
    return path


def names(folder: Path) -> list[str]:
    """Returns the names in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


def refused(result: Result, status: int, *, says: str) -> None:
    """Asserts that a command failed with one sentence and without a traceback."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert says in last
    assert "Traceback" not in result.output
    assert len([line for line in result.stderr.splitlines() if line and not line.startswith("seed ")]) == 1
