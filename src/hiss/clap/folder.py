"""A saved CLAP: a folder with config.json, model.safetensors and a card, checked on the way in."""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hiss.audio import replacing
from hiss.clap.model import Clap, ClapConfig
from hiss.errors import HissError, UsageError

FORMAT = 1
"""Version of the folder format; a folder of a newer one is refused."""


def write_clap(clap: Clap, folder: str | Path, *, card: str = "") -> None:
    """Writes the folder, each file whole or not at all, the weights first; these are stored in their precision."""
    folder = Path(folder)
    config = {"format": FORMAT, "hiss": version("hiss"), "clap": clap.config.to_dict()}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in clap.state_dict().items()}
    parts = {
        "model.safetensors": save(weights, metadata={"format": "hiss"}),
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
    }
    if card:
        parts["README.md"] = card.encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HissError(f"cannot make the folder {folder}: {error.strerror}") from error
    for name, content in parts.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)


def read_clap(folder: str | Path) -> Clap:
    """Returns the CLAP in a folder, ready for use, in float32 on the CPU.

    Raises:
        HissError: there is none, it is damaged, or it was written by a newer version.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HissError(f"{folder} holds no CLAP: its config.json cannot be read ({error})") from error
    if not isinstance(config, dict) or "clap" not in config:
        raise HissError(f"{folder} holds no CLAP: its config.json was written for something else")
    if config.get("format") != FORMAT:
        raise HissError(f"{folder} has format {config.get('format')}, this hiss reads {FORMAT}; upgrade hiss")
    try:
        with torch.random.fork_rng(devices=[]):  # building draws weights that are replaced at once
            clap = Clap(ClapConfig.from_dict(config["clap"], where="clap"))
        weights = load_file(folder / "model.safetensors")
        clap.load_state_dict(weights)  # copies into the precision of the module
    except UsageError as error:
        raise HissError(f"{folder}: {error}") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        raise HissError(f"the weights in {folder} cannot be read: {error}") from error
    return clap.eval()
