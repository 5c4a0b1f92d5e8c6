"""A saved model: a folder with config.json, model.safetensors and a card, checked on the way in."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hiss.audio import replacing
from hiss.autoencoder import Vae, VaeConfig
from hiss.clap import Clap, ClapConfig, NoisedClap, NoisedClapConfig
from hiss.config import ModelConfig
from hiss.errors import HissError, UsageError
from hiss.lora import Lora, LoraConfig
from hiss.model import AudioDiffusionModel
from hiss.rounding import Bits, restored, rounded
from hiss.spec import Spec
from hiss.vocoders import VocoderConfig

FORMAT = 2
"""Version of the folder format; a folder of a newer one is refused. The second has weights of 8 bits, too."""


@dataclass(frozen=True)
class Kind:
    """What can be saved: a module that is built from one configuration and keeps it as `.config`."""

    config: type[Spec]
    build: Callable[[Any], nn.Module]


KINDS: Mapping[str, Kind] = {
    "diffusion": Kind(ModelConfig, AudioDiffusionModel),
    "vae": Kind(VaeConfig, Vae),
    "clap": Kind(ClapConfig, Clap),
    "noised_clap": Kind(NoisedClapConfig, NoisedClap),
    "lora": Kind(LoraConfig, Lora),
    "vocoder": Kind(VocoderConfig, lambda config: cast(nn.Module, config.build())),
}
"""Complete models, parts that are trained before them, and adapters of them. A folder without a kind is the first."""


def write_model(model: nn.Module, folder: Path, *, card: str = "", bits: Bits | None = None) -> None:
    """Writes the folder of a model or a part; a model that was there, and its card, are replaced as a whole.

    Weights are stored in so many `bits`, or as they are: a model cast to half precision makes a file of half the size.

    Raises:
        HissError: the folder cannot be written; what it held before is untouched.
    """
    own = cast(Spec, model.config)
    kind = next(name for name, known in KINDS.items() if isinstance(own, known.config))
    config = {"format": 2 if bits == 8 else 1, "hiss": version("hiss"), "kind": kind, "model": own.to_dict()}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    learned = {name for name, _ in model.named_parameters()}  # scales that were measured are too far apart for 8 bits
    stored = rounded(weights, bits, learned=learned) if bits else weights
    parts = {
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
        "model.safetensors": save(stored, metadata={"format": "hiss"}),
    }
    if card:
        parts = {"README.md": card.encode()} | parts
    old_card = folder / "README.md" if not card and (folder / "config.json").is_file() else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HissError(f"cannot make the folder {folder}: {error.strerror}") from error
    with ExitStack() as written:  # a full disk is met before the first file is replaced, which are the weights
        for name, content in parts.items():
            written.enter_context(replacing(folder / name)).write_bytes(content)
    if old_card is not None and old_card.is_file():
        try:
            old_card.unlink()
        except OSError as error:
            raise HissError(f"cannot remove {old_card}, the card of another model: {error.strerror}") from error


def read_config(folder: Path, kind: str = "diffusion") -> Spec:
    """Returns the configuration in the folder of a model or a part of that kind.

    Raises:
        HissError: it is missing, unreadable, of another kind or a newer format, or has keys or values that this version
            does not know.
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
    if (found := config.get("kind", "diffusion")) != kind:
        raise HissError(f"{folder} holds a model of the kind {found}, where one of the kind {kind} is needed")
    try:
        return KINDS[kind].config.from_dict(config["model"], where="model")
    except UsageError as error:
        raise HissError(f"{path}: {error}") from error


def read_model(folder: Path) -> tuple[AudioDiffusionModel, str]:
    """Returns the diffusion model in a folder, in float32 on the CPU, and its card.

    Raises:
        HissError: a part is missing, damaged, or does not fit the configuration; or it is of another kind.
    """
    model = read_part(folder, "diffusion")
    assert isinstance(model, AudioDiffusionModel)
    return model, card_of(folder)


def card_of(folder: Path) -> str:
    """Returns the card of the model in a folder, in Markdown; empty where it has none.

    Raises:
        HissError: it cannot be read, or is no text in UTF-8.
    """
    card = folder / "README.md"
    try:
        return card.read_text(encoding="utf-8") if card.is_file() else ""
    except OSError as error:
        raise HissError(f"cannot read {card}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HissError(f"cannot read {card}: it is no text in UTF-8; save it as UTF-8 or remove it") from error


def read_part(folder: Path, kind: str) -> nn.Module:
    """Returns the module of one of `KINDS` in a folder, in float32 on the CPU.

    Raises:
        HissError: something is missing, damaged, or does not fit the configuration; or it is of another kind.
    """
    config = read_config(folder, kind)
    path = folder / "model.safetensors"
    try:
        weights = restored(load_file(path))
    except FileNotFoundError as error:
        raise HissError(f"{folder} lacks model.safetensors, the weights of the model") from error
    except (SafetensorError, OSError) as error:
        raise HissError(f"{path} is damaged or no safetensors file: {error}") from error
    with torch.random.fork_rng(devices=[]):  # building draws weights that are replaced at once
        model = KINDS[kind].build(config)
    own = model.state_dict()
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += sorted(name for name in own.keys() & weights.keys() if not _alike(own[name], weights[name]))
    if wrong:
        raise HissError(f"{path} does not fit its config.json: {len(wrong)} weights differ, such as {wrong[0]}")
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in weights.items()})
    return model


def _alike(one: Tensor, other: Tensor) -> bool:
    """Tells whether one tensor can take the place of the other."""
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def summary(card: str) -> str:
    """Returns the first paragraph of a model card, on one line; headings and front matter are no paragraphs."""
    body = card.split("---", 2)[2] if card.startswith("---") and card.count("---") > 1 else card
    paragraphs = (block.strip() for block in body.split("\n\n"))
    lines = (" ".join(line for line in block.splitlines() if not line.startswith("#")) for block in paragraphs)
    return next((line for line in lines if line), "")
