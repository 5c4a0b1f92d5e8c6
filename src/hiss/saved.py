"""A saved model: a folder with config.json, model.safetensors and a card, checked on the way in."""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hiss.audio import replacing
from hiss.errors import HissError, UsageError
from hiss.model import AudioDiffusionModel, ModelConfig

FORMAT = 1
"""Version of the folder format; a folder of a newer one is refused."""


def write_model(model: AudioDiffusionModel, folder: Path, *, card: str = "") -> None:
    """Writes the folder; each file is replaced whole, the weights first.

    Floating point weights are stored as they are, so a model cast to half precision makes a file of half the size.
    """
    config = {"format": FORMAT, "hiss": version("hiss"), "model": model.config.to_dict()}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
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


def read_config(folder: Path) -> ModelConfig:
    """Returns the configuration in a model folder.

    Raises:
        HissError: it is missing, unreadable, of a newer format, or has keys or values that this version does not know.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HissError(f"{folder} is no model folder: config.json cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise HissError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int) or "model" not in config:
        raise HissError(f"{path} was not written by hiss: it lacks the keys format and model")
    if config["format"] > FORMAT:
        raise HissError(
            f"{path} has format {config['format']} (hiss {config.get('hiss', 'unknown')}), "
            f"this hiss reads up to {FORMAT}; upgrade hiss"
        )
    try:
        return ModelConfig.from_dict(config["model"], where="model")
    except UsageError as error:
        raise HissError(f"{path}: {error}") from error


def read_model(folder: Path) -> tuple[AudioDiffusionModel, str]:
    """Returns the model in a folder, in float32 on the CPU, and its card.

    Raises:
        HissError: a part is missing, damaged, or does not fit the configuration.
    """
    config = read_config(folder)
    path = folder / "model.safetensors"
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise HissError(f"{folder} lacks model.safetensors, the weights of the model") from error
    except (SafetensorError, OSError) as error:
        raise HissError(f"{path} is damaged or no safetensors file: {error}") from error
    with torch.random.fork_rng(devices=[]):  # building draws weights that are replaced at once
        model = AudioDiffusionModel(config)
    own = model.state_dict()
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += sorted(name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
    if wrong:
        raise HissError(f"{path} does not fit its config.json: {len(wrong)} weights differ, such as {wrong[0]}")
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in weights.items()})
    card = folder / "README.md"
    return model, card.read_text(encoding="utf-8") if card.is_file() else ""


def summary(card: str) -> str:
    """Returns the first paragraph of a model card, on one line; headings and front matter are no paragraphs."""
    body = card.split("---", 2)[2] if card.startswith("---") and card.count("---") > 1 else card
    paragraphs = (block.strip() for block in body.split("\n\n"))
    lines = (" ".join(line for line in block.splitlines() if not line.startswith("#")) for block in paragraphs)
    return next((line for line in lines if line), "")
