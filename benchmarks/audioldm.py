"""Times a step of AudioLDM here and in diffusers: the same random weights in the size of audioldm-s-full-v2.

    OMP_NUM_THREADS=2 python benchmarks/audioldm.py [--seconds 10.24] [--rounds 3] [--threads 2]

Both sample with DDIM and guidance. What a step costs is the difference between a long and a short walk, so that reading
the text, decoding and the vocoder do not count; these are timed as the rest. Rounds alternate between the two, and
medians are compared. It needs an otherwise idle machine, and diffusers (pip install 'hiss[diffusers]').
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hiss.interop.audioldm import read_audioldm

PROMPT, GUIDANCE = "a flute holds one note", 2.5
SHORT, LONG = 2, 6
"""Steps of the two walks."""


def saved(folder: Path) -> Any:
    """Returns an AudioLDM of diffusers with random weights, which it also writes to a folder."""
    import diffusers
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    widths = (128, 256, 384, 640)
    unet = diffusers.UNet2DConditionModel(
        sample_size=128,
        in_channels=8,
        out_channels=8,
        block_out_channels=widths,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
        up_block_types=(*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"),
        cross_attention_dim=widths,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=512,
        class_embeddings_concat=True,
    )
    vae = diffusers.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(128, 256, 512),
        layers_per_block=2,
        latent_channels=8,
        scaling_factor=0.9,
    )
    words = {word: number for number, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", *PROMPT.split()))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=77, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    pipeline = diffusers.AudioLDMPipeline(
        vae=vae.eval(),
        text_encoder=transformers.ClapTextModelWithProjection(
            transformers.ClapTextConfig(vocab_size=len(words))
        ).eval(),
        tokenizer=fast,
        unet=unet.eval(),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195, clip_sample=False
        ),
        vocoder=transformers.SpeechT5HifiGan(
            transformers.SpeechT5HifiGanConfig(
                model_in_dim=64,
                upsample_initial_channel=1024,
                upsample_rates=[5, 4, 2, 2, 2],
                upsample_kernel_sizes=[16, 16, 8, 4, 4],
                normalize_before=False,
            )
        ).eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline


def timed(work: Callable[[], object]) -> float:
    """Returns how many seconds something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.24, help="of sound")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        theirs = saved(Path(folder))
        ours = read_audioldm(folder)
    works: dict[str, Callable[[int], object]] = {
        "diffusers": lambda steps: theirs(
            PROMPT, audio_length_in_s=options.seconds, num_inference_steps=steps, guidance_scale=GUIDANCE
        ),
        "hiss": lambda steps: ours.generate(
            PROMPT, length=options.seconds, steps=steps, sampler="ddim", guidance=GUIDANCE, seed=0
        ),
    }
    steps: dict[str, list[float]] = {name: [] for name in works}
    rests: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(options.rounds + 1):
        for name, work in works.items():
            short, long = (timed(lambda work=work, count=count: work(count)) for count in (SHORT, LONG))  # type: ignore[misc]
            if turn:  # the first round warms up
                steps[name].append((long - short) / (LONG - SHORT))
                rests[name].append(short - SHORT * steps[name][-1])
    print(f"{options.seconds:g} s of sound, {options.threads} threads, medians of {options.rounds} rounds")
    medians = {name: statistics.median(found) for name, found in steps.items()}
    for name, found in medians.items():
        print(f"{name}: {found:.2f} s a step, {statistics.median(rests[name]):.1f} s for the rest")
    print(f"hiss is {medians['diffusers'] / medians['hiss']:.2f} times as fast a step")


if __name__ == "__main__":
    main()
