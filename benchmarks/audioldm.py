"""Times a step of AudioLDM here and in diffusers: the same random weights in the size of audioldm-s-full-v2.

    OMP_NUM_THREADS=2 python benchmarks/audioldm.py [--seconds 10.24] [--rounds 3] [--threads 2] [--alternatives]

Both sample with DDIM and guidance, and evaluate the network once a step, on a batch of two. A step lasts from one
evaluation to the next; all that is before the first and after the last step, such as decoding and the vocoder, is the
rest. Rounds alternate between the two, and medians are compared. With --alternatives it times only the network: as it
is, channels last, in bfloat16, and compiled with frozen weights, which takes minutes. It needs an otherwise idle
machine, and diffusers (pip install 'hiss[diffusers]').
"""

import argparse
import copy
import statistics
import tempfile
import time
import timeit
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hiss.interop.audioldm import read_audioldm
from hiss.networks.diffusers_unet import DiffusersUNet

PROMPT, GUIDANCE = "a flute holds one note", 2.5
STEPS = 8


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


def timed(work: Callable[[], object], unet: torch.nn.Module) -> tuple[list[float], float]:
    """Returns how many seconds each step takes but for the last, and the rest, with the last step taken as a median."""
    starts: list[float] = []
    hook = unet.register_forward_pre_hook(lambda *_: starts.append(time.perf_counter()))
    begun = time.perf_counter()
    work()
    total = time.perf_counter() - begun
    hook.remove()
    if len(starts) != STEPS:
        raise SystemExit(f"{len(starts)} evaluations of the network are not one a step; give at most 10.24 seconds")
    steps = [after - before for before, after in pairwise(starts)]
    return steps, total - STEPS * statistics.median(steps)


@torch.no_grad()
def alternatives(unet: Any, rounds: int) -> None:
    """Prints how many operations an evaluation of the network takes, and its best time in several forms, in turn."""
    latents, voice = torch.randn(2, 8, 256, 16), torch.randn(2, 512)
    forms = {
        "as it is": unet,
        "channels last": copy.deepcopy(unet).to(memory_format=torch.channels_last),
        "bfloat16": copy.deepcopy(unet).bfloat16(),
        "compiled, frozen": torch.compile(copy.deepcopy(unet), options={"freezing": True}),
    }

    def evaluated(name: str) -> None:
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        told = {"encoder_hidden_states": None, "class_labels": voice.to(dtype)}
        forms[name](latents.to(dtype), torch.tensor(500), **told)

    with FlopCounterMode(display=False) as counter:
        evaluated("as it is")
    print(f"{counter.get_total_flops() / 1e9:.0f} billion operations, attention left out")
    for name in forms:
        evaluated(name)
    turns = [[timeit.timeit(lambda name=name: evaluated(name), number=1) for name in forms] for _ in range(rounds)]  # type: ignore[misc]
    for name, times in zip(forms, zip(*turns, strict=True), strict=True):
        print(f"{name}: {min(times):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.24, help="of sound")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--alternatives", action="store_true", help="time forms of the network instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        theirs = saved(Path(folder))
        ours = read_audioldm(folder)
    if options.alternatives:
        alternatives(theirs.unet, options.rounds)
        return
    network = ours.model.denoiser.network
    assert isinstance(network, DiffusersUNet)
    works: dict[str, tuple[Callable[[], object], torch.nn.Module]] = {
        "diffusers": (
            lambda: theirs(
                PROMPT, audio_length_in_s=options.seconds, num_inference_steps=STEPS, guidance_scale=GUIDANCE
            ),
            theirs.unet,
        ),
        "hiss": (
            lambda: ours.generate(
                PROMPT, length=options.seconds, steps=STEPS, sampler="ddim", guidance=GUIDANCE, seed=0
            ),
            network.unet,
        ),
    }
    steps: dict[str, list[float]] = {name: [] for name in works}
    rests: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(options.rounds + 1):
        for name, (work, unet) in works.items():
            walk, rest = timed(work, unet)
            if turn:  # the first round warms up
                steps[name] += walk
                rests[name].append(rest)
    print(f"{options.seconds:g} s of sound, {options.threads} threads, medians of {options.rounds} rounds")
    medians = {name: statistics.median(found) for name, found in steps.items()}
    for name, found in medians.items():
        print(f"{name}: {found:.2f} s a step, {statistics.median(rests[name]):.1f} s for the rest")
    print(f"hiss is {medians['diffusers'] / medians['hiss']:.2f} times as fast a step")


if __name__ == "__main__":
    main()
