"""Text-to-audio models that diffusers saved: AudioLDM, with any of our samplers."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hiss.autoencoder import VaeConfig
from hiss.clap.towers import transformers_package
from hiss.conditioners.clap_text import ClapText, ClapTextConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.diffusion.schedules import Linear
from hiss.errors import HissError, UsageError
from hiss.interop.speecht5 import read_hifigan
from hiss.model import AudioDiffusionModel
from hiss.networks.diffusers_unet import DECIDED, DiffusersUNet, DiffusersUNetConfig
from hiss.pipeline import Pipeline
from hiss.representations.latent import Latent, LatentConfig
from hiss.signal.mel import MelProfile

PARTS = {
    "vae": "config.json",
    "unet": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
    "vocoder": "config.json",
}
"""The folders in that of a model, and what each must hold besides weights."""

PREDICTED = {"epsilon": "noise", "v_prediction": "v"}
"""What diffusers calls a parameterization -> what we call it."""
_CLAP = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size"),
    *("layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id", "projection_dim", "projection_hidden_act"),
)
"""What decides on the numbers that a text encoder gives."""


def read_audioldm(folder: str | Path, *, mel: MelProfile | None = None) -> Pipeline:
    """Returns the model in a folder that diffusers' `AudioLDMPipeline.save_pretrained` wrote.

    Autoencoder and vocoder become ours; U-Net and text encoder stay those of diffusers and transformers, which it needs
    from then on. `Pipeline.save_pretrained` saves it like any other model.

    Args:
        folder: with the folders in `PARTS`.
        mel: what vocoder and autoencoder were trained to hear, where that is not AudioLDM's.

    Raises:
        HissError: a part is missing, damaged, or no part of an AudioLDM; a package is missing; weights as a pickle are
            not read.
        UsageError: the noise schedule is one that we do not have, or `mel` is not what the folder says.
    """
    folder = Path(folder)
    for part, file in PARTS.items():
        if not (folder / part / file).is_file():
            raise HissError(f"{folder} holds no AudioLDM: it lacks {part}/{file}")
    diffusers, transformers = diffusers_package(), transformers_package()
    schedule, parameterization = read_scheduler(folder / "scheduler" / PARTS["scheduler"])
    vocoder = read_hifigan(folder / "vocoder", mel=mel)
    vae = _read(diffusers.AutoencoderKL, folder / "vae")
    unet = _read(diffusers.UNet2DConditionModel, folder / "unet")
    reader = _read(transformers.ClapTextModelWithProjection, folder / "text_encoder")
    autoencoder = VaeConfig(
        mel=vocoder.config.mel,
        channels=tuple(vae.config.block_out_channels),
        blocks=vae.config.layers_per_block,
        latent=vae.config.latent_channels,
        groups=vae.config.norm_num_groups,
    )
    size = unet.config.sample_size
    frames = (size if isinstance(size, int) else size[0]) * autoencoder.factor
    seconds = frames * vocoder.config.mel.hop / vocoder.config.mel.sample_rate
    config = ModelConfig(
        sample_rate=vocoder.config.mel.sample_rate,
        seconds=seconds,
        representation=LatentConfig(vae=autoencoder, vocoder=vocoder.config),
        network=DiffusersUNetConfig.from_dict(
            {"name": "diffusers_unet", "schedule": schedule.to_dict(), "options": _unet_options(unet)}
        ),
        conditioners=(
            ClapTextConfig(
                tokenizer=_read_tokenizer(folder / "tokenizer", reader.config.max_position_embeddings),
                options={key: getattr(reader.config, key) for key in _CLAP},
            ),
        ),
        parameterization=parameterization,
        training=schedule,
        weighting="uniform_noise",
        # What diffusers makes unless told is half of the 10.24 s that AudioLDM was trained on (Liu et al. 2023).
        sampling=SamplingConfig(schedule=schedule, guidance=2.5, window=2 * seconds),
    )
    with torch.random.fork_rng(devices=[]):
        model = AudioDiffusionModel(config)
    representation, network, conditioner = model.representation, model.denoiser.network, model.conditioners[0]
    assert isinstance(representation, Latent)
    assert isinstance(network, DiffusersUNet)
    assert isinstance(conditioner, ClapText)
    representation.vocoder.load_state_dict(vocoder.state_dict())
    representation.scale.fill_(1 / vae.config.scaling_factor)
    trained = {"trained": torch.ones((), dtype=torch.bool), "mean": torch.zeros(()), "scale": torch.ones(())}
    # There, frames come before bins.
    kernels = {name: w.transpose(-1, -2) if w.ndim == 4 else w for name, w in vae.state_dict().items()}
    _fill(representation.vae, kernels | trained, folder / "vae")
    _fill(network.unet, unet.state_dict(), folder / "unet")
    _fill(conditioner.reader, reader.state_dict(), folder / "text_encoder")
    return Pipeline(model)


def read_scheduler(path: Path) -> tuple[Linear, str]:
    """Returns the noise schedule and the parameterization that the scheduler_config.json of diffusers means.

    Raises:
        HissError: it cannot be read.
        UsageError: it means something that we do not have.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HissError(f"{path} is damaged: {error}") from error
    kind, predicted = said.get("beta_schedule", "linear"), said.get("prediction_type", "epsilon")
    if kind not in ("linear", "scaled_linear") or said.get("trained_betas") or said.get("rescale_betas_zero_snr"):
        raise UsageError(f"{path} describes a noise schedule that is neither linear nor scaled_linear")
    if predicted not in PREDICTED:
        raise UsageError(f"{path} has the prediction_type {predicted!r}; known are {', '.join(PREDICTED)}")
    schedule = Linear(
        beta_start=said.get("beta_start", 1e-4),
        beta_end=said.get("beta_end", 0.02),
        levels=said.get("num_train_timesteps", 1000),
        scaled=kind == "scaled_linear",
    )
    return schedule, PREDICTED[predicted]


def _read(kind: Any, folder: Path) -> Any:
    """Returns the model of a class of diffusers or transformers in a folder."""
    try:
        return kind.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise HissError(f"{folder} holds no {kind.__name__}: {' '.join(str(error).split())}") from error


def _read_tokenizer(folder: Path, positions: int) -> str:
    """Returns the tokenizer in a folder as JSON; two positions of RoBERTa are never used."""
    from tokenizers import Tokenizer

    try:
        found = transformers_package().AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise HissError(f"{folder} holds no tokenizer: {' '.join(str(error).split())}") from error
    tokenizer = Tokenizer.from_str(found.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(found.model_max_length, positions - 2))
    return str(tokenizer.to_str())


def _unet_options(unet: Any) -> dict[str, Any]:
    """Returns the arguments of a `UNet2DConditionModel` that are not as usual and that nothing else decides."""
    usual = inspect.signature(type(unet).__init__).parameters
    said = {key: unet.config[key] for key in usual if key in unet.config and key not in (*DECIDED, "sample_size")}
    return {key: value for key, value in said.items() if value != usual[key].default}


def _fill(module: torch.nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Gives a module its weights.

    Raises:
        HissError: they are those of something else.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise HissError(f"{folder} is not that of an AudioLDM: {' '.join(str(error).split())}") from error


def diffusers_package() -> Any:
    """Returns the package diffusers.

    Raises:
        HissError: it is missing.
    """
    try:
        import diffusers
    except ImportError as error:
        raise HissError(
            f"AudioLDM needs diffusers ({error}); install it with: pip install 'hiss[diffusers]'"
        ) from error
    return diffusers
