"""A CLAP small enough to be trained in a moment, and tones with captions to train it on."""

import torch
from torch import Tensor

from hiss.clap import AudioTowerConfig, Clap, ClapConfig, TextTowerConfig, begin
from hiss.types import Batch, Prompt

CONFIG = ClapConfig(
    audio=AudioTowerConfig(
        sample_rate=8000,
        n_fft=512,
        hop=128,
        bins=32,
        image=32,
        patch=4,
        window=4,
        width=8,
        depths=(1, 1),
        heads=(2, 2),
        dropout=0.0,
        drop_path=0.0,
    ),
    text=TextTowerConfig(tokens=300, length=12, width=16, layers=1, heads=2, dropout=0.0),
    features=16,
    dropout=0.0,
)
PITCHES = {"a low tone": 200, "a middle tone": 600, "a high tone": 1500, "a very high tone": 3000}


def toy_clap(config: ClapConfig = CONFIG) -> Clap:
    """Returns an untrained CLAP that knows the words of PITCHES."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return begin(config, PITCHES)


def tones(generator: torch.Generator, *, count: int = 16) -> Batch:
    """Returns captioned tones of random phase and level, each of PITCHES equally often."""
    captions = [list(PITCHES)[index % len(PITCHES)] for index in range(count)]
    time = torch.arange(CONFIG.audio.samples) / CONFIG.audio.sample_rate
    phase, level = torch.rand(2, count, 1, generator=generator)
    pitch = torch.tensor([[PITCHES[caption]] for caption in captions])
    audio: Tensor = (0.1 + 0.8 * level) * torch.sin(2 * torch.pi * (pitch * time + phase))
    prompts = tuple(Prompt(text=caption) for caption in captions)
    return Batch(audio[:, None], CONFIG.audio.sample_rate, prompts, torch.full((count,), audio.shape[1]))
