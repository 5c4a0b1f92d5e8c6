"""A recipe with stages, trained in seconds: an autoencoder, a vocoder and a diffusion model on what they make.

And what recipes of captioned recordings are tried with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from hiss.audio import Audio

MEL: dict[str, Any] = {"sample_rate": 2000, "n_fft": 64, "hop": 20, "bins": 8, "high": 1000.0}

STAGES: dict[str, Any] = {
    "description": "Tones, for a test.",
    "data": {"name": "tones", "examples": 24, "holdout": 0.25, "low": 200.0, "high": 900.0},
    "trainer": {"steps": 8, "batch_size": 4, "validate_every": 4, "save_every": 4, "log_every": 1, "warmup": 1},
    "stages": {
        "vae": {
            "kind": "vae",
            "model": {"mel": MEL, "channels": [8, 8, 8], "blocks": 1, "latent": 2, "groups": 4},
            "objective": {"seconds": 0.16, "joins": 0.5, "width": 4},
            "trainer": {"learning_rate": 3e-3},
        },
        "vocoder": {
            "kind": "vocoder",
            "model": {"name": "istft", "mel": MEL, "channels": 8, "blocks": 1},
            "objective": {
                **{"seconds": 0.24, "segment": 0.16, "joins": 0.5, "width": 2, "periods": [2], "windows": [128]},
                "vae": {"from": "vae"},
            },
            "trainer": {"learning_rate": 3e-3},
        },
        "diffusion": {
            "model": {
                "sample_rate": 2000,
                "seconds": 0.24,
                "representation": {"name": "latent", "vae": {"from": "vae"}, "vocoder": {"from": "vocoder"}},
                "network": {"name": "unet", "channels": [8], "factors": [], "attention": [False], "embedding": 16},
            },
        },
    },
}


def captioned_tones(folder: Path, tones: Mapping[str, float], *, samples: int, sample_rate: int) -> Path:
    """Writes 32 tones near the frequencies, in Hz, of these words, a text beside each, and returns the folder."""
    folder.mkdir(parents=True)
    time = torch.arange(samples) / sample_rate
    for index in range(32):
        word, hertz = list(tones.items())[index % len(tones)]
        tone = 0.5 * torch.sin(2 * torch.pi * (hertz + index * sample_rate / 8000) * time)
        Audio(tone, sample_rate).save(folder / f"{index}.wav")
        (folder / f"{index}.txt").write_text(f"a {word} tone")
    return folder


def saved(recipe: Mapping[str, Any], folder: Path) -> Path:
    """Writes a recipe into a folder, and returns its path."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path
