"""A recipe with stages, trained in seconds: an autoencoder, a vocoder and a diffusion model on what they make."""

from typing import Any

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
