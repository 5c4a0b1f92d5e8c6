"""Our latent models as folders that diffusers and transformers load, as far as they have classes for the parts."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hiss.autoencoder import Vae
from hiss.clap.towers import transformers_package
from hiss.conditioners.clap_text import ClapText
from hiss.diffusion.schedules import Linear
from hiss.errors import HissError, UsageError
from hiss.interop.audioldm import PARTS, PREDICTED, diffusers_package
from hiss.model import AudioDiffusionModel
from hiss.networks.diffusers_unet import DiffusersUNet
from hiss.pipeline import Pipeline
from hiss.representations.latent import Latent
from hiss.vocoders.hifigan import HifiGan, HifiGanConfig

_LEVELS = ("DownEncoderBlock2D", "UpDecoderBlock2D")
_PREDICTED = {ours: theirs for theirs, ours in PREDICTED.items()}
_CLASSES: dict[str, Any] = {
    "vae": ("diffusers", "AutoencoderKL"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "scheduler": ("diffusers", "DDIMScheduler"),
    "text_encoder": ("transformers", "ClapTextModelWithProjection"),
    "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    "vocoder": ("transformers", "SpeechT5HifiGan"),
}


def write_diffusers(pipeline: Pipeline, folder: str | Path) -> tuple[str, ...]:
    """Returns the names of the parts that were written, each into a folder of its name, and writes them.

    The autoencoder, as `AutoencoderKL`, is always among them; U-Net, text encoder and tokenizer only if they are those
    of diffusers and transformers, the vocoder if it is a HiFi-GAN as there, the scheduler if the noise schedule has
    linear betas. Where all are there, `AudioLDMPipeline.from_pretrained` loads the folder.

    The statistics of spectra and latents become a part of the autoencoder's weights. What it decodes stays the same;
    what it encodes differs at the edges, since diffusers fills up with zeros there and not with the mean.

    Args:
        pipeline: with a latent model.
        folder: new, or empty.

    Raises:
        UsageError: the model is no latent one, or the folder holds something.
        HissError: a package is missing, or the folder cannot be written.
    """
    model, folder = pipeline.model, Path(folder)
    latent = model.representation
    if not isinstance(latent, Latent) or latent.audio_channels != 1:
        raise UsageError("only latent models of mono sound have parts that diffusers knows")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds something already; choose a new folder")
    diffusers_package()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}") as beside:
            place = Path(beside) / folder.name
            written = _write(model, latent, place)
            place.replace(folder)
    except OSError as error:
        raise HissError(f"cannot write {folder}: {error.strerror or error}") from error
    return written


def _write(model: AudioDiffusionModel, latent: Latent, folder: Path) -> tuple[str, ...]:
    """Writes all parts that can be written, and returns their names."""
    schedule, network = model.config.sampling.schedule, model.denoiser.network
    readers = [one for one in model.conditioners if isinstance(one, ClapText)]
    vae = _autoencoder(latent)
    vae.save_pretrained(folder / "vae")
    written = ["vae"]
    if isinstance(network, DiffusersUNet):
        network.unet.register_to_config(sample_size=latent.shape(model.config.samples)[-1])
        network.unet.save_pretrained(folder / "unet")
        written.append("unet")
    predicted = _PREDICTED.get(model.config.parameterization)
    if isinstance(schedule, Linear) and predicted is not None:
        _scheduler(schedule, predicted).save_pretrained(folder / "scheduler")
        written.append("scheduler")
    if len(readers) == len(model.conditioners) == 1:
        reader: Any = readers[0].reader
        reader.save_pretrained(folder / "text_encoder")
        _tokenizer(readers[0]).save_pretrained(folder / "tokenizer")
        written += ["text_encoder", "tokenizer"]
    if isinstance(latent.vocoder, HifiGan) and _known(latent.vocoder.config):
        _vocoder(latent.vocoder).save_pretrained(folder / "vocoder")
        written.append("vocoder")
    if set(written) == set(PARTS):
        index: dict[str, Any] = {
            "_class_name": "AudioLDMPipeline",
            "_diffusers_version": diffusers_package().__version__,
        }
        index |= {name: list(_CLASSES[name]) for name in written}
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return tuple(written)


@torch.no_grad()
def _autoencoder(latent: Latent) -> Any:
    """Returns an `AutoencoderKL` whose latents are those that diffusion runs on."""
    ours, config = latent.vae, latent.config.vae
    levels = len(config.channels)
    mean, scale = latent.mean.flatten(), latent.scale.flatten()
    alike = not bool(mean.any()) and bool((scale == scale[0]).all())  # one number says it, as in AudioLDM
    vae = diffusers_package().AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=_LEVELS[:1] * levels,
        up_block_types=_LEVELS[1:] * levels,
        block_out_channels=config.channels,
        layers_per_block=config.blocks,
        latent_channels=config.latent,
        norm_num_groups=config.groups,
        scaling_factor=float(1 / scale[0]) if alike else 1.0,
    )
    weights = _unscaled(ours)
    if not alike:
        _scale_latents(weights, mean, scale)
    # There, frames come before bins.
    vae.load_state_dict({name: w.transpose(-1, -2).contiguous() if w.ndim == 4 else w for name, w in weights.items()})
    return vae


def _unscaled(vae: Vae) -> dict[str, Tensor]:
    """Returns the weights of an autoencoder that takes and gives log-mels as they are."""
    weights = {name: w.clone() for name, w in vae.state_dict().items() if name not in ("trained", "mean", "scale")}
    first = weights["encoder.conv_in.weight"] / vae.scale
    weights["encoder.conv_in.weight"] = first
    weights["encoder.conv_in.bias"] -= first.sum(dim=(1, 2, 3)) * vae.mean
    weights["decoder.conv_out.weight"] *= vae.scale
    weights["decoder.conv_out.bias"] = weights["decoder.conv_out.bias"] * vae.scale + vae.mean
    return weights


def _scale_latents(weights: dict[str, Tensor], mean: Tensor, scale: Tensor) -> None:
    """Changes weights so that the latents [channels] have zero mean and unit variance."""
    count = len(scale)
    inside, outside = weights["post_quant_conv.weight"], weights["quant_conv.weight"]
    weights["post_quant_conv.bias"] += inside[:, :, 0, 0] @ mean
    weights["post_quant_conv.weight"] = inside * scale[:, None, None]
    outside[:count] /= scale[:, None, None, None]
    bias = weights["quant_conv.bias"]
    bias[:count] = (bias[:count] - mean) / scale
    bias[count:] -= 2 * scale.log()


def _known(config: HifiGanConfig) -> bool:
    """Returns whether transformers has such a vocoder: one kind of block, and nothing that is too long and then cut."""
    even = all((kernel - rate) % 2 == 0 for kernel, rate in zip(config.kernels, config.rates, strict=True))
    return config.resblock == 1 and even


def _vocoder(vocoder: HifiGan) -> Any:
    """Returns a `SpeechT5HifiGan` with the weights of ours."""
    config, transformers = vocoder.config, transformers_package()
    made = transformers.SpeechT5HifiGan(
        transformers.SpeechT5HifiGanConfig(
            model_in_dim=config.mel.bins,
            sampling_rate=config.mel.sample_rate,
            upsample_initial_channel=config.channels,
            upsample_rates=list(config.rates),
            upsample_kernel_sizes=list(config.kernels),
            resblock_kernel_sizes=list(config.resblock_kernels),
            resblock_dilation_sizes=[list(one) for one in config.dilations],
            leaky_relu_slope=config.slope,
            normalize_before=True,
        )
    )
    made.load_state_dict({name: w for name, w in vocoder.state_dict().items() if name != "trained"})
    return made


def _scheduler(schedule: Linear, predicted: str) -> Any:
    """Returns the `DDIMScheduler` of a noise schedule."""
    return diffusers_package().DDIMScheduler(
        num_train_timesteps=schedule.levels,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule="scaled_linear" if schedule.scaled else "linear",
        prediction_type=predicted,
        clip_sample=False,
    )


def _tokenizer(conditioner: ClapText) -> Any:
    """Returns a `PreTrainedTokenizerFast` with the marks of RoBERTa."""
    tokenizer = conditioner.tokenizer
    options: Any = conditioner.reader.config
    marks = {
        f"{name}_token": tokenizer.id_to_token(getattr(options, f"{name}_token_id")) for name in ("bos", "eos", "pad")
    }
    longest = (tokenizer.truncation or {}).get("max_length", options.max_position_embeddings - 2)
    return transformers_package().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=longest, **{name: mark for name, mark in marks.items() if mark}
    )
