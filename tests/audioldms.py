"""What tests of AudioLDM share: a small one, made and saved by diffusers."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WORDS = ("a", "flute", "drum", "holds", "one", "note", "loud")
PROMPT, NEGATIVE = "a flute holds one note", "a loud drum"
FRAMES, STEPS, GUIDANCE = 8, 10, 2.5
SAMPLES = FRAMES * 4 * 20


def words_tokenizer(folder: Path) -> None:
    """Writes a tokenizer of whole words in the form of RoBERTa's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ("<s>", "<pad>", "</s>", "<unk>")
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate((*marks, *WORDS))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), marks, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=12, **names).save_pretrained(folder)


def theirs(folder: Path, **scheduler: Any) -> Any:
    """Returns a small AudioLDM of diffusers with random weights, saved in a folder."""
    import diffusers
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(
            sample_size=FRAMES,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=(8, 16),
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=12,
            class_embeddings_concat=True,
        )
        vae = diffusers.AutoencoderKL(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 16),
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.9,
        )
        reader = transformers.ClapTextModelWithProjection(
            transformers.ClapTextConfig(
                vocab_size=4 + len(WORDS),
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
                projection_dim=12,
                initializer_factor=30.0,
            )
        )
        vocoder = transformers.SpeechT5HifiGan(
            transformers.SpeechT5HifiGanConfig(
                model_in_dim=16,
                upsample_initial_channel=16,
                upsample_rates=[5, 4],
                upsample_kernel_sizes=[15, 8],
                initializer_range=0.2,
                normalize_before=False,
            )
        )
    words_tokenizer(folder / "tokenizer")
    usual = {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195, "clip_sample": False}
    pipeline = diffusers.AudioLDMPipeline(
        vae=vae.eval(),
        text_encoder=reader.eval(),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder / "tokenizer"),
        unet=unet.eval(),
        scheduler=diffusers.DDIMScheduler(**(usual | scheduler)),
        vocoder=vocoder.eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline


def made(pipeline: Any, start: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the latents [1, channels, bins, frames] and the sound [1, samples] that diffusers makes of noise."""
    latents: list[Tensor] = []
    sound = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        audio_length_in_s=start.shape[-1] / FRAMES * SAMPLES / 16000,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=start.transpose(2, 3),
        callback=lambda step, time, state: latents.append(state),
        output_type="pt",
    ).audios
    return latents[-1].transpose(2, 3), sound
