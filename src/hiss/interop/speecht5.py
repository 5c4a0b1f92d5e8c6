"""Vocoders that transformers saved: the HiFi-GAN of SpeechT5 and of AudioLDM."""

import json
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hiss.errors import HissError, UsageError
from hiss.signal.mel import MelProfile
from hiss.vocoders.hifigan import HifiGan, HifiGanConfig

_SAID = {
    *("sampling_rate", "model_in_dim", "upsample_initial_channel", "upsample_rates", "upsample_kernel_sizes"),
    *("resblock_kernel_sizes", "resblock_dilation_sizes", "leaky_relu_slope"),
}
"""What the config.json of such a vocoder says."""


def read_hifigan(folder: str | Path, *, mel: MelProfile | None = None) -> HifiGan:
    """Returns the vocoder in a folder that transformers' `SpeechT5HifiGan.save_pretrained` wrote.

    Args:
        folder: with config.json and model.safetensors.
        mel: what it was trained to hear, where that is not AudioLDM's: a folder says only the sample rate, the number
            of bins and the hop.

    Raises:
        HissError: a file is missing, damaged, or of another model; weights as a pickle are not read.
        UsageError: `mel` is not what the folder says.
    """
    folder = Path(folder)
    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise HissError(f"{folder} holds no vocoder with safetensors weights: {error}") from error
    if not isinstance(said, dict) or not said.keys() >= _SAID:
        raise HissError(f"{folder} holds no SpeechT5HifiGan: its config.json is that of another model")
    config = hifigan_config(said, mel=mel)
    if not said.get("normalize_before", True):  # then mean and scale are there, but nothing is done with them
        weights |= {"mean": torch.zeros(config.mel.bins), "scale": torch.ones(config.mel.bins)}
    with torch.random.fork_rng(devices=[]):
        vocoder = HifiGan(config)
    try:
        vocoder.load_state_dict(weights | {"trained": torch.ones((), dtype=torch.bool)})
    except RuntimeError as error:
        raise HissError(f"the weights in {folder} do not fit its config.json: {error}") from error
    return vocoder


def hifigan_config(said: dict[str, Any], *, mel: MelProfile | None = None) -> HifiGanConfig:
    """Returns the configuration that transformers' `SpeechT5HifiGanConfig` means, as plain data."""
    hop = prod(said["upsample_rates"])
    heard = {"sample_rate": said["sampling_rate"], "bins": said["model_in_dim"], "hop": hop}
    mel = MelProfile(**heard) if mel is None else mel
    for key, value in heard.items():
        if getattr(mel, key) != value:
            raise UsageError(f"the vocoder has {key} {value}, and the mel profile {getattr(mel, key)}")
    return HifiGanConfig(
        mel=mel,
        channels=said["upsample_initial_channel"],
        rates=tuple(said["upsample_rates"]),
        kernels=tuple(said["upsample_kernel_sizes"]),
        resblock_kernels=tuple(said["resblock_kernel_sizes"]),
        dilations=tuple(tuple(one) for one in said["resblock_dilation_sizes"]),
        slope=said["leaky_relu_slope"],
    )
